"""A drop-in for requests.Session: the same calls, side by side, give the same, ask the same and fail the same way."""

from __future__ import annotations

import io
import json as json_format
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.auth import AuthBase, HTTPBasicAuth, HTTPDigestAuth

import geofetch
from tests.origin.scenes import GATE, Drip, Scene
from tests.support.certs import Authority
from tests.support.mirrors import Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.twins import Call, both

BODY = bytes(range(256)) * 400
CHALLENGE = {"WWW-Authenticate": 'Digest realm="here", nonce="abc", qop="auth", opaque="xyz"'}

CALLS: dict[str, Call] = {}


def call(name: str) -> Callable[[Call], Call]:
    """Adds one to the table."""

    def add(made: Call) -> Call:
        CALLS[name] = made
        return made

    return add


def simple(name: str, made: Callable[..., Any], **scene: Any) -> None:
    """A call of one URL, at which one scene is played."""
    CALLS[name] = lambda session, origins: made(session, origins.http().serves(**scene).url)


# ------------------------------------------------------------------------------------------------------------- answers

simple("get", lambda s, url: s.get(url), body=BODY)
simple("get in chunks", lambda s, url: s.get(url), body=BODY, chunked=1000)
simple("get without a length", lambda s, url: s.get(url), body=BODY, announce=None)
simple("get nothing", lambda s, url: s.get(url))
simple("get gzip", lambda s, url: s.get(url), body=BODY, gzip=True)
simple("get gzip in chunks", lambda s, url: s.get(url), body=BODY, gzip=True, chunked=1000)
simple("get 204", lambda s, url: s.get(url), status=204)
simple("get 304", lambda s, url: s.get(url), status=304)
simple("get 404", lambda s, url: s.get(url), status=404, body=b"no")
simple("get 500", lambda s, url: s.get(url), status=500, body=b"no")
simple("get an odd reason", lambda s, url: s.get(url), status=299, reason="Whatever")
simple("get 999", lambda s, url: s.get(url), status=999)
simple("get HTTP/1.0", lambda s, url: s.get(url), version="HTTP/1.0", body=BODY, then="close")
simple(
    "get text",
    lambda s, url: s.get(url).text,
    body="ä€".encode(),
    headers={"Content-Type": "text/plain; charset=utf-8"},
)
simple("get latin", lambda s, url: s.get(url).text, body=b"\xe4", headers={"Content-Type": "text/html"})
simple("get json", lambda s, url: s.get(url).json(), body=b'{"a": [1, 2]}')
simple("get json that is none", lambda s, url: s.get(url).json(), body=b"{")
simple("get links", lambda s, url: s.get(url), headers={"Link": '<http://x.test/2>; rel="next"'})
simple("get doubled headers", lambda s, url: s.get(url), headers=[("X-A", "1"), ("X-B", "2"), ("X-A", "3")])
simple("get a folded header", lambda s, url: s.get(url), headers={"X-A": "1 \r\n \t 2\r\n 3"})
simple("get latin headers", lambda s, url: s.get(url), headers={"X-A": "é"})
simple("get 100 and 200", lambda s, url: s.get(url), interim=(100, 100), body=BODY)
simple("raise_for_status", lambda s, url: s.get(url).raise_for_status(), status=404)
simple("head", lambda s, url: s.head(url), body=BODY)
simple("head 302", lambda s, url: s.head(url), status=302, headers={"Location": "/elsewhere"})
simple("options", lambda s, url: s.options(url), headers={"Allow": "GET"})
simple("delete", lambda s, url: s.delete(url))
simple("any method", lambda s, url: s.request("PROPFIND", url))
simple("a method in small letters", lambda s, url: s.request("get", url))

# ------------------------------------------------------------------------------------------------------------ streaming

simple("iter_content", lambda s, url: list(s.get(url, stream=True).iter_content(1000)), body=BODY)
simple(
    "iter_content of chunks", lambda s, url: list(s.get(url, stream=True).iter_content(None)), body=BODY, chunked=999
)
simple("iter_lines", lambda s, url: list(s.get(url, stream=True).iter_lines()), body=b"a\nb\r\nc\n\nd")
simple("iter_lines decoded", lambda s, url: list(s.get(url, stream=True).iter_lines(decode_unicode=True)), body=b"a\nb")
simple("iterating", lambda s, url: b"".join(s.get(url, stream=True)), body=BODY, gzip=True)
simple("raw.read", lambda s, url: s.get(url, stream=True).raw.read(), body=b"x" * 500, gzip=True)
simple("raw.read decoded", lambda s, url: s.get(url, stream=True).raw.read(decode_content=True), body=BODY, gzip=True)
simple("raw.read some", lambda s, url: [s.get(url, stream=True).raw.read(100)], body=BODY)
simple("raw.read1", lambda s, url: s.get(url, stream=True).raw.read1(1000) != b"", body=BODY)
simple("raw.stream", lambda s, url: b"".join(s.get(url, stream=True).raw.stream(1000)), body=BODY, chunked=777)
simple("raw.tell", lambda s, url: [(r := s.get(url, stream=True)).raw.read(7), r.raw.tell()], body=BODY)
simple("raw as a file", lambda s, url: io.BufferedReader(s.get(url, stream=True).raw).readline(), body=b"a\nb\n")
simple("content twice", lambda s, url: [(r := s.get(url, stream=True)).content, r.content], body=BODY)
simple(
    "content after a part of it",
    lambda s, url: [next((r := s.get(url, stream=True)).iter_content(10)), r.content],
    body=BODY,
)


@call("with block")
def _with(session: requests.Session, origins: Origins) -> Any:
    with session.get(origins.http().serves(BODY).url, stream=True) as response:
        return response.raw.read(10), response.raw.closed


# ------------------------------------------------------------------------------------------------------- what is asked

simple("params", lambda s, url: s.get(url, params={"a": "1 2", "b": ["x", "y"], "c": None, "ü": "€"}))
simple("params beside a query", lambda s, url: s.get(url + "?z=0#part", params="a=1"))
simple("headers", lambda s, url: s.get(url, headers={"X-A": "1", "accept-encoding": "br", "User-Agent": None}))
simple("form", lambda s, url: s.post(url, data={"a": "1 2", "b": ["x", "y"]}))
simple("text as a body", lambda s, url: s.post(url, data="täxt"))
simple("bytes as a body", lambda s, url: s.put(url, data=BODY))
simple("json as a body", lambda s, url: s.patch(url, json={"ü": [None, 1.5]}))
simple("an empty body", lambda s, url: s.post(url))
simple("a file as a body", lambda s, url: s.post(url, data=io.BytesIO(BODY)))
simple("a file that was read as a body", lambda s, url: s.post(url, data=_read_so_far(100)))
simple("a generator as a body", lambda s, url: s.post(url, data=_pieces()))
simple("a list of bytes as a body", lambda s, url: s.post(url, data=iter([b"a", b"", b"bc"])))
simple("files", lambda s, url: s.post(url, files={"f": ("name.txt", b"content", "text/plain"), "g": io.BytesIO(b"x")}))
simple("files and fields", lambda s, url: s.post(url, files={"f": b"content"}, data={"a": "1"}))
simple("a query with spaces", lambda s, url: s.get(url + "?a=b c&d=%20"))
simple("a URL with userinfo", lambda s, url: s.get(url.replace("http://", "http://user:p%40ss@")))


def _pieces() -> Iterator[bytes]:
    yield b"one"
    yield b"two" * 10_000


def _read_so_far(size: int) -> io.BytesIO:
    file = io.BytesIO(BODY)
    file.read(size)
    return file


@call("session's own")
def _own(session: requests.Session, origins: Origins) -> Any:
    session.headers["X-A"] = "1"
    session.params = {"a": "1"}
    session.auth = ("user", "password")
    session.cookies.set("c", "1")
    return session.get(origins.http().serves(BODY).url, headers={"X-B": "2"}, params={"b": "2"}, cookies={"d": "2"})


@call("prepared by hand")
def _prepared(session: requests.Session, origins: Origins) -> Any:
    request = session.prepare_request(requests.Request("POST", origins.http().serves(b"x").url, data={"a": "1"}))
    request.headers["X-A"] = "1"
    return session.send(request, timeout=10)


# ----------------------------------------------------------------------------------------------------------------- auth

simple("basic auth", lambda s, url: s.get(url, auth=("us:er", "pässword")))
simple("HTTPBasicAuth", lambda s, url: s.get(url, auth=HTTPBasicAuth("user", "password")))
simple(
    "basic auth refused",
    lambda s, url: s.get(url, auth=("user", "wrong")),
    status=401,
    headers={"WWW-Authenticate": "Basic"},
)


class Own(AuthBase):
    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers["X-Signed"] = prepared.method or ""
        return prepared


simple("auth of one's own", lambda s, url: s.get(url, auth=Own()))


@call("digest auth")
def _digest(session: requests.Session, origins: Origins) -> Any:
    file = origins.http().plays([Scene(status=401, headers=CHALLENGE, body=b"no"), Scene(body=b"in")], at="/digest")
    auth = HTTPDigestAuth("user", "password")
    return session.get(file.url, auth=auth), session.get(file.url, auth=auth)


@call("digest auth refused")
def _digest_refused(session: requests.Session, origins: Origins) -> Any:
    file = origins.http().serves(b"no", status=401, headers=CHALLENGE, at="/digest")
    return session.get(file.url, auth=HTTPDigestAuth("user", "wrong"))


@call("digest auth of a post")
def _digest_post(session: requests.Session, origins: Origins) -> Any:
    file = origins.http().plays([Scene(status=401, headers=CHALLENGE), Scene(body=b"in")], at="/digest")
    return session.post(file.url, data=io.BytesIO(b"body"), auth=HTTPDigestAuth("user", "password"))


# ---------------------------------------------------------------------------------------------- redirects and cookies

for _status in (301, 302, 303, 307, 308):
    for _method in ("GET", "POST", "HEAD", "PUT"):

        @call(f"{_method} redirected by {_status}")
        def _redirected(s: requests.Session, origins: Origins, status: int = _status, method: str = _method) -> Any:
            server = origins.http()
            there = server.serves(b"x", at="/there")
            data = b"body" if method in ("POST", "PUT") else None
            return s.request(method, server.redirects(there, status, at="/here", body=b"moved").url, data=data)


@call("a chain of redirects")
def _chain(session: requests.Session, origins: Origins) -> Any:
    server = origins.http()
    for number in range(3):
        server.redirects(f"/{number + 1}?a={number}#b", at=f"/{number}", headers={"Set-Cookie": f"c{number}=1; Path=/"})
    server.serves(b"x", at="/3")
    return session.get(server.base + "/0#part"), session.cookies


@call("redirects not followed")
def _not_followed(session: requests.Session, origins: Origins) -> Any:
    server = origins.http()
    server.serves(b"x", at="/there")
    moved = server.redirects("/there", at="/here", body=b"moved")
    first = session.get(moved.url, allow_redirects=False)
    assert first.next is not None
    return first, session.send(first.next)


@call("redirects of a post with a file")
def _rewound(session: requests.Session, origins: Origins) -> Any:
    server = origins.http()
    there = server.serves(b"x", at="/there")
    return session.post(server.redirects(there, 307, at="/here").url, data=io.BytesIO(b"body"))


@call("redirects of a post with a generator")
def _not_rewound(session: requests.Session, origins: Origins) -> Any:
    server = origins.http()
    there = server.serves(b"x", at="/there")
    return session.post(server.redirects(there, 307, at="/here").url, data=_pieces())


@call("streamed after redirects")
def _streamed_redirect(session: requests.Session, origins: Origins) -> Any:
    server = origins.http()
    response = session.get(server.redirects(server.serves(BODY, at="/there"), at="/here").url, stream=True)
    return b"".join(response.iter_content(1000)), response.history


@call("too many redirects")
def _loop(session: requests.Session, origins: Origins) -> Any:
    session.max_redirects = 4
    return session.get(origins.http().loops().url)


@call("redirected to another port with auth")
def _crossing(session: requests.Session, origins: Origins) -> Any:
    there = origins.http().serves(b"x", at="/there")
    return session.get(origins.http().redirects(there, at="/here").url, auth=("user", "password"), headers={"X-A": "1"})


@call("cookies")
def _cookies(session: requests.Session, origins: Origins) -> Any:
    server = origins.http()
    cookies = [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/only"), ("Set-Cookie", "c=3; Max-Age=0")]
    server.serves(headers=cookies, at="/set")
    server.serves(b"x", at="/only/here")
    first = session.get(server.base + "/set")
    return first, session.get(server.base + "/only/here"), session.get(server.base + "/set"), session.cookies


# ---------------------------------------------------------------------------------------------------------------- hooks


@call("hooks")
def _hooks(session: requests.Session, origins: Origins) -> Any:
    seen: list[Any] = []

    def note(response: requests.Response, **how: Any) -> None:
        seen.append((response.status_code, sorted(how), how["timeout"], how["stream"]))

    def replace(response: requests.Response, **_: Any) -> requests.Response:
        response.status_code = 299
        return response

    server = origins.http()
    session.hooks["response"].append(note)
    there = server.serves(b"x", at="/there")
    url = server.redirects(there, at="/here").url
    return session.get(url, hooks={"response": [note, replace]}, timeout=(5, 6)).status_code, seen


# ------------------------------------------------------------------------------------------------------------- failures

FAULTY: dict[str, Callable[[Origins], str]] = {
    "refused": lambda origins: origins.refusing().url,
    "reset": lambda origins: origins.resetting().url,
    "closed": lambda origins: origins.hanging_up().url,
    "no such name": lambda origins: "http://nowhere.invalid/",
    "untrusted certificate": lambda origins: origins.https().url,
    "http where https is asked": lambda origins: origins.http(greets=["garbage"]).url.replace("http:", "https:"),
    "bad status line": lambda origins: origins.http().raw(b"hello\r\n\r\n").url,
    "another protocol": lambda origins: origins.http().raw(b"220 mail ESMTP\r\n").url,
    "status 1000": lambda origins: origins.http().raw(b"HTTP/1.1 1000 Odd\r\n\r\n").url,
    "two lengths": lambda origins: origins.http().serves(b"x", announce=(1, 2)).url,
    "cut": lambda origins: origins.http().serves(b"x" * 100, cut=50).url,
    "reset in the body": lambda origins: origins.http().serves(b"x" * 100, reset=50).url,
    "cut in a chunk": lambda origins: origins.http().serves(b"x" * 100, chunked=40, cut=60).url,
    "no last chunk": lambda origins: (
        origins.http().raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n").url
    ),
    "chunk size that is none": lambda origins: (
        origins.http().raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").url
    ),
    "gzip that is none": lambda origins: origins.http().serves(b"x", headers={"Content-Encoding": "gzip"}).url,
    "gzip that is cut": lambda origins: (
        origins.http().serves(b"\x1f\x8b\x08\x00", headers={"Content-Encoding": "gzip"}).url
    ),
    "too many headers": lambda origins: origins.http().serves(headers=[("X-A", "1")] * 200).url,
    "a header without end": lambda origins: origins.http().serves(headers={"X-A": "a" * 70_000}).url,
    "negative length": lambda origins: origins.http().serves(b"x", announce=-1, then="close").url,
    "a length in words": lambda origins: origins.http().serves(b"x", announce="many", then="close").url,
    "a header without a colon": lambda origins: (
        origins.http().raw(b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 1\r\n\r\nx").url
    ),
    "lines that end in LF": lambda origins: origins.http().raw(b"HTTP/1.1 200 OK\nContent-Length: 1\n\nx").url,
    "a cut head": lambda origins: origins.http().raw(b"HTTP/1.1 200 OK\r\nServer: x\r\n", then="chop").url,
    "no scheme": lambda origins: "127.0.0.1/x",
    "an unknown scheme": lambda origins: "ftp://127.0.0.1/x",
    "no host": lambda origins: "http:///x",
    "a bad host": lambda origins: "http://*/x",
    "a bad port": lambda origins: "http://127.0.0.1:99999/",
    "a bad address": lambda origins: "http://[::1/",
    "no URL at all": lambda origins: "",
    "redirect to a bad URL": lambda origins: origins.http().redirects("http://*/").url,
    "redirect without Location": lambda origins: origins.http().serves(b"x", status=302).url,
}
for _name, _url in FAULTY.items():
    CALLS[f"fault: {_name}"] = lambda session, origins, url=_url: session.get(url(origins), timeout=10)


@call("fault: no answer in time")
def _silent(session: requests.Session, origins: Origins) -> Any:
    return session.get(origins.silent().url, timeout=(5, 0.1))


@call("fault: no connection in time")
def _full(session: requests.Session, origins: Origins) -> Any:
    return session.get(origins.full().url, timeout=(0.1, 5))


@call("fault: the body stops")
def _stops(session: requests.Session, origins: Origins) -> Any:
    return session.get(origins.http().serves(b"x" * 100, stall=50).url, timeout=(5, 0.1))


@call("fault: the streamed body stops")
def _stream_stops(session: requests.Session, origins: Origins) -> Any:
    file = origins.http().raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nx", GATE)
    return list(session.get(file.url, timeout=(5, 0.1), stream=True).iter_content(1))


@call("a body slower than the timeout of one read")
def _drips(session: requests.Session, origins: Origins) -> Any:
    file = origins.http().raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Drip(b"0123456789", 1, 0.02))
    return session.get(file.url, timeout=(5, 0.15))


for _timeout in ("soon", (1, 2, 3), -1, 0, (None, None)):
    CALLS[f"timeout={_timeout!r}"] = lambda session, origins, given=_timeout: session.get(
        origins.http().serves(b"x").url, timeout=given
    )


@call("fault: no proxy")
def _no_proxy(session: requests.Session, origins: Origins) -> Any:
    return session.get(origins.http().url, proxies={"http": origins.refusing().url})


@call("fault: no tunnel")
def _no_tunnel(session: requests.Session, origins: Origins) -> Any:
    return session.get(origins.https().url, proxies={"https": origins.proxy(connect=403).url})


@call("fault: a proxy without a host")
def _bad_proxy(session: requests.Session, origins: Origins) -> Any:
    return session.get(origins.http().url, proxies={"http": "http://"})


@call("through a proxy")
def _through(session: requests.Session, origins: Origins) -> Any:
    way, file = origins.proxy(auth=("user", "pass@word")), origins.http().serves(BODY)
    return session.get(file.url, proxies={"http": way.url}), [one.headers for one in way.requests]


for _bad in (" leading", "line\r\nbreak", 5):
    CALLS[f"fault: header {_bad!r}"] = lambda session, origins, value=_bad: session.get(
        origins.http().serves(b"x").url, headers={"X-A": value}
    )


@pytest.mark.parametrize("name", CALLS)
def test_the_same_call_gives_the_same(origins: Origins, name: str) -> None:
    theirs, ours = both(CALLS[name], origins)
    assert ours == theirs


@pytest.mark.parametrize("how", ["path", "environment", "session", "nobody"])
def test_tls_in_requests_ways(origins: Origins, ca: Authority, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    def calls(session: requests.Session, origins: Origins) -> Any:
        url = origins.https(wants=ca).serves(BODY).url
        session.cert = (str(ca.client("alice").cert), str(ca.client("alice").key))
        if how == "environment":
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.path))
        if how == "session":
            session.verify = str(ca.path)
        return session.get(url, verify={"path": str(ca.path), "nobody": False}.get(how))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs, ours = both(calls, origins)
    assert ours == theirs
    assert ours[0]["content"] == BODY


def test_a_table_that_compares_tells_a_difference(origins: Origins) -> None:
    """The control: a session that differs in one header, one status or one error is found out."""

    def different(session: requests.Session, origins: Origins) -> Any:
        if type(session) is not requests.Session:
            session.headers["X-A"] = "1"
        return session.get(origins.http().serves(b"x").url)

    theirs, ours = both(different, origins)
    assert ours != theirs

    def failing(session: requests.Session, origins: Origins) -> Any:
        where = origins.refusing() if type(session) is requests.Session else origins.silent()
        return session.get(where.url, timeout=0.1)

    theirs, ours = both(failing, origins)
    assert ours != theirs


def test_where_it_differs_and_why(origins: Origins) -> None:
    """Two answers that requests gets wrong; each error is still one of the same family."""
    hints = origins.http().serves(b"x", interim=(103,))
    assert requests.get(hints.url).status_code == 103
    assert geofetch.get(hints.url).status_code == 200
    silent = origins.silent("https")
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(silent.url, timeout=0.1)
    with pytest.raises(requests.exceptions.ConnectTimeout):  # a handshake is part of connecting
        geofetch.get(silent.url, timeout=0.1)


def test_the_functions_are_requests_own(origins: Origins) -> None:
    for name in ("get", "options", "head", "post", "put", "patch", "delete"):
        server = origins.http()
        file, other = server.serves(BODY, at="/a"), server.serves(BODY, at="/b")
        ours, theirs = getattr(geofetch, name)(file.url), getattr(requests, name)(other.url)
        assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content)
        assert [(one.method, one.headers) for one in file.requests] == [
            (one.method, one.headers) for one in other.requests
        ]


def test_json_comes_back_as_it_went(origins: Origins) -> None:
    file = origins.http().serves(b"{}")
    assert geofetch.post(file.url, json={"a": 1}).json() == {}
    assert json_format.loads(file.request.body) == {"a": 1}


def test_a_file_on_disk_is_uploaded_from_where_it_stands(origins: Origins, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(BODY)
    file = origins.http().serves(b"x")
    with (tmp_path / "f").open("rb") as body:
        body.seek(1000)
        geofetch.put(file.url, data=body)
    assert file.request.body == BODY[1000:][:65536]
    assert file.request.header("Content-Length") == str(len(BODY) - 1000)
