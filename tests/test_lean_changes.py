"""What a Session keeps in mind of itself and of the environment is forgotten the moment it changes.

And nothing of it is worked out again where nothing changed: a plain call runs none of requests' functions for it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

import geofetch
from geofetch.lean import environment as around
from geofetch.session import Session
from tests.origin.wire import Request
from tests.support.certs import Authority
from tests.support.mirrors import Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests

BASIC = "Basic dXNlcjpwYXNzd29yZA=="  # user:password


class Marking(HTTPAdapter):
    """Not ours."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        request.headers["X-Marked"] = "yes"
        return super().send(request, *args, **kwargs)


def _signed(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    prepared.headers["X-Signed"] = "yes"
    return prepared


def _noted(response: requests.Response, **_: Any) -> None:
    response.headers["X-Noted"] = "yes"


def _jar() -> MozillaCookieJar:
    jar = MozillaCookieJar()
    jar.set_cookie(requests.cookies.create_cookie("c", "moz"))
    return jar


#: What is changed in a session; what of the request, or of the answer, is looked at; before and after.
CHANGES: dict[str, tuple[Callable[[Session], Any], str, Any, Any]] = {
    "a header is added": (lambda s: s.headers.update({"X-A": "1"}), "X-A", None, "1"),
    "a header is changed": (lambda s: s.headers.update({"Accept": "a/b"}), "Accept", "*/*", "a/b"),
    "a header is changed in another case": (lambda s: s.headers.update({"ACCEPT": "*/*"}), "names", "Accept", "ACCEPT"),
    "a header is taken away": (lambda s: s.headers.pop("Accept"), "Accept", "*/*", None),
    "a header is None": (lambda s: s.headers.update({"Accept": None}), "Accept", "*/*", None),
    "headers are others": (lambda s: setattr(s, "headers", {"X-A": "1"}), "X-A", None, "1"),
    "params are added": (lambda s: s.params.update(a="1"), "query", "", "?a=1"),
    "params are others": (lambda s: setattr(s, "params", {"a": "1"}), "query", "", "?a=1"),
    "auth is given": (lambda s: setattr(s, "auth", ("user", "password")), "Authorization", None, BASIC),
    "auth is a function": (lambda s: setattr(s, "auth", _signed), "X-Signed", None, "yes"),
    "a cookie is set": (lambda s: s.cookies.set("c", "1"), "Cookie", None, "c=1"),
    "cookies are others": (lambda s: setattr(s, "cookies", _jar()), "Cookie", None, "c=moz"),
    "a hook is added": (lambda s: s.hooks["response"].append(_noted), "noted", None, "yes"),
    "hooks are others": (lambda s: setattr(s, "hooks", {"response": [_noted]}), "noted", None, "yes"),
    "an adapter is mounted": (lambda s: s.mount("http://127", Marking()), "X-Marked", None, "yes"),
    "an adapter is put in": (lambda s: s.adapters.update({"http://": Marking()}), "X-Marked", None, "yes"),
}


def _seen(request: Request, response: requests.Response, what: str) -> Any:
    if what == "query":
        return request.target.partition("/file")[2]
    if what == "noted":
        return response.headers.get("X-Noted")
    if what == "names":
        return next(name for name, _ in request.headers if name.lower() == "accept")
    return request.header(what)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_the_session_is_seen_by_the_next_call(mirror: Mirror, name: str) -> None:
    change, what, before, after = CHANGES[name]
    file, session = mirror.serves(b"x"), Session()
    responses = [session.get(file.url), session.get(file.url)]
    change(session)
    responses.append(session.get(file.url))
    assert [_seen(*pair, what) for pair in zip(file.requests, responses, strict=True)] == [before, before, after]


def test_a_change_of_how_it_sends_is_seen_by_the_next_call(origins: Origins, ca: Authority) -> None:
    secure, server, way = origins.https(), origins.http(), origins.proxy()
    file, loop, plain = secure.serves(b"x"), server.loops(), server.serves(b"x")
    session = Session()
    with pytest.raises(requests.exceptions.SSLError):
        session.get(file.url)
    session.verify = str(ca.path)
    assert session.get(file.url).content == b"x"
    session.max_redirects = 3
    with pytest.raises(requests.TooManyRedirects, match="3"):
        session.get(loop.url)
    assert server.hits == 4
    assert session.get(plain.url)._content is not False
    session.stream = True
    assert session.get(plain.url)._content is False
    session.proxies["http"] = way.url
    assert session.get(plain.url).content == b"x"
    assert [one.target for one in way.requests] == [plain.url]
    session.proxies = {}
    assert session.get(plain.url).content == b"x"
    assert len(way.requests) == 1


def test_a_change_of_the_client_certificate_is_seen_by_the_next_call(mutual: Mirror, ca: Authority) -> None:
    file, session = mutual.serves(b"x"), Session()
    session.verify = str(ca.path)
    for who in ("alice", "bob"):
        session.cert = (str(ca.client(who).cert), str(ca.client(who).key))
        session.get(file.url)
    assert [one.client for one in file.connections] == ["alice", "bob"]


# ----------------------------------------------------------------------------------------------------- the environment


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "Http_Proxy", "all_proxy", "ALL_PROXY"])
def test_a_proxy_that_comes_and_goes_in_the_environment_is_seen(
    origins: Origins, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ways, file, session = [origins.proxy(), origins.proxy()], origins.http().serves(b"x"), Session()
    for value in (None, ways[0].url, ways[1].url, "", ways[0].url):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
        assert session.get(file.url).content == b"x"
        # Sent as it was prepared, and on from a redirect, it goes the same way.
        prepared = session.prepare_request(requests.Request("GET", file.url))
        assert session.send(prepared).content == b"x"
    assert [way.hits for way in ways] == [4, 2]


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_what_needs_no_proxy_may_change_in_the_environment(
    origins: Origins, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    way, file, session = origins.proxy(), origins.http().serves(b"x"), Session()
    monkeypatch.setenv("http_proxy", way.url)
    for value, hits in (("elsewhere.test", 1), ("127.0.0.0/8", 1), ("other.test", 2), ("*", 2)):
        monkeypatch.setenv(name, value)
        assert session.get(file.url).content == b"x"
        assert way.hits == hits


def test_the_environment_counts_again_when_it_is_trusted_again(
    origins: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, file, session = origins.proxy(), origins.http().serves(b"x"), Session()
    monkeypatch.setenv("http_proxy", way.url)
    for trust in (True, False, True):
        session.trust_env = trust
        assert session.get(file.url).content == b"x"
    assert way.hits == 2


def test_redirects_take_the_ways_that_requests_takes(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    hits = []
    monkeypatch.setenv("no_proxy", "localhost")
    for kind in (requests.Session, Session):
        way, server, session = origins.proxy(auth=("user", "password")), origins.http(), kind()
        monkeypatch.setenv("http_proxy", way.url)
        there = server.serves(b"x")
        assert session.get(server.redirects(there.via("localhost")).url).content == b"x"
        assert session.get(server.redirects(there).via("localhost")).content == b"x"
        last = session.get(server.redirects(there).url)
        assert last.request.headers["Proxy-Authorization"] == BASIC
        hits.append(way.hits)
        session.close()
    assert hits[0] == hits[1] > 3


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_that_comes_and_goes_in_the_environment_is_seen(
    secure: Mirror, ca: Authority, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, session = secure.serves(b"x"), Session()
    for _ in range(2):
        monkeypatch.delenv(name, raising=False)
        with pytest.raises(requests.exceptions.SSLError):
            session.get(file.url)
        monkeypatch.setenv(name, str(ca.path))
        assert session.get(file.url).content == b"x"


def test_an_environment_that_was_replaced_as_a_whole_is_read_as_it_is(
    origins: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, file, session = origins.proxy(), origins.http().serves(b"x"), Session()
    session.get(file.url)
    monkeypatch.setattr(os, "environ", {**os.environ, "http_proxy": way.url})
    session.get(file.url)
    assert way.hits == 1


# --------------------------------------------------------------------------------------------------------------- netrc


def _told(login: str) -> str:
    return f"machine 127.0.0.1 login {login} password p\n"


def _head(login: str) -> str:
    return requests.auth._basic_auth_str(login, "p")


@pytest.fixture(params=["read-each-time", "remembered"])
def memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a netrc file counts as settled, however young it is."""
    if request.param == "remembered":
        monkeypatch.setattr(around, "SETTLED_S", -60.0)
    return bool(request.param == "remembered")


def test_an_edit_of_the_netrc_file_is_seen_by_the_next_call(mirror: Mirror, memory: bool) -> None:
    file, session = mirror.serves(b"x"), Session()
    netrc = Path(os.environ["HOME"], ".netrc")
    seen: list[str | None] = []

    def asked(expected: str | None) -> None:
        session.get(file.url)
        session.get(file.url)
        seen.extend([expected, expected])

    asked(None)
    netrc.write_text(_told("first"))
    asked(_head("first"))
    kept = netrc.stat()
    fresh = netrc.with_name("fresh")  # as careful editors do it: another file in its place, of the same age and size
    fresh.write_text(_told("other"))
    os.utime(fresh, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    fresh.rename(netrc)
    asked(_head("other"))
    netrc.write_text(_told("longer"))
    asked(_head("longer"))
    netrc.write_text("machine 127.0.0.1 nonsense")
    asked(None)
    netrc.rename(netrc.with_name("_netrc"))
    netrc.with_name("_netrc").write_text(_told("second"))
    asked(_head("second"))
    netrc.with_name("_netrc").unlink()
    asked(None)
    assert [request.header("Authorization") for request in file.requests] == seen


def test_two_edits_within_one_tick_of_the_clock_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same file, same size, same times, as where a clock counts seconds: a file that young is read each time."""
    state = around._state
    second = 10**9
    monkeypatch.setattr(
        around, "_state", lambda found: (*state(found)[:3], *(one // second * second for one in state(found)[3:]))
    )
    session, netrc = Session(), Path(os.environ["HOME"], ".netrc")
    for number in range(100, 200):
        netrc.write_text(_told(f"user{number}"))
        prepared = session.prepare_request(requests.Request("GET", "http://127.0.0.1/"))
        assert prepared.headers["Authorization"] == _head(f"user{number}")


def test_another_netrc_or_home_in_the_environment_is_seen(
    mirror: Mirror, memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, session = mirror.serves(b"x"), Session()
    homes = [Path(tempfile.mkdtemp(dir=os.environ["HOME"])) for _ in range(2)]
    for number, home in enumerate(homes):
        (home / ".netrc").write_text(_told(f"home{number}"))
    for home in homes:
        monkeypatch.setenv("HOME", str(home))
        session.get(file.url)
    monkeypatch.setenv("NETRC", str(homes[0] / ".netrc"))
    session.get(file.url)
    monkeypatch.setenv("NETRC", str(homes[0] / "none"))
    session.get(file.url)
    assert [request.header("Authorization") for request in file.requests] == [
        *map(_head, ["home0", "home1", "home0"]),
        None,
    ]


def test_a_netrc_file_that_is_left_alone_is_read_once(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(around, "SETTLED_S", -60.0)
    Path(os.environ["HOME"], ".netrc").write_text(_told("me"))
    file, session = mirror.serves(b"x"), Session()
    assert [_ran(session, file.url, "_parse") for _ in range(3)] == [1, 0, 0]
    assert [request.header("Authorization") for request in file.requests] == [_head("me")] * 3


# ------------------------------------------------------------------------------------- and what is not worked out again


def _ran(session: requests.Session, url: str, *names: str) -> int:
    """How many calls of functions of these names a GET made."""
    count = 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        if event == "call" and frame.f_code.co_name in names:
            count += 1

    sys.setprofile(profile)
    try:
        session.get(url, timeout=10, headers={"X-A": "1"}, params={"a": "1"})
    finally:
        sys.setprofile(None)
    return count


#: What requests does for each request, and what hardly ever changes.
EACH_TIME = (
    *("getproxies_environment", "should_bypass_proxies", "get_netrc_auth", "prepare_url", "prepare_headers"),
    *("prepare_auth", "prepare_hooks", "add_cookie_header", "resolve_redirects"),
)


def test_a_plain_call_works_nothing_out_that_did_not_change(mirror: Mirror) -> None:
    file = mirror.serves(b"x")
    theirs, ours = requests.Session(), Session()
    with theirs:
        assert _ran(theirs, file.url, *EACH_TIME) > len(EACH_TIME)
    ours.get(file.url)
    assert _ran(ours, file.url, *EACH_TIME) == 0
    assert {request.target.partition("?")[2] for request in file.requests} == {"a=1", ""}


def test_a_function_of_geofetch_is_as_lean(mirror: Mirror) -> None:
    file = mirror.serves(b"x")
    geofetch.get(file.url)

    class Calls:
        get = staticmethod(geofetch.get)

    assert _ran(Calls(), file.url, "getproxies_environment", "prepare_headers", "prepare_url") == 0  # type: ignore[arg-type]
