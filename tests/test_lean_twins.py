"""The short ways of a Session lead where requests' own go: any session, any call, whatever changes between two calls.

Each example is played to requests.Session and to geofetch.Session, from the same environment; what is prepared, what
arrives and what comes back must be the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import MozillaCookieJar
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import requests
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from requests.cookies import RequestsCookieJar, create_cookie
from requests.structures import CaseInsensitiveDict

from geofetch.session import Session
from tests.support.mirrors import Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.twins import told

Made = tuple[Callable[[Any], None], str]

CHALLENGE = {"WWW-Authenticate": 'Digest realm="here", nonce="abc", qop="auth", opaque="xyz"'}

# ------------------------------------------------------------------------------------------------------------ the URLs

_pieces = st.sampled_from(
    [
        *("/", "//", ".", "..", "/./", "/../", "a", "B", "~", "+", ";", "?", "#", "&", "=", "a=1", "@", ":", "*", "$"),
        *(
            "%41",
            "%7E",
            "%5F",
            "%2f",
            "%2F",
            "%C3%A9",
            "%",
            "%zz",
            "é",
            " ",
            "\t",
            "\n",
            "[",
            "]",
            "\\",
            "|",
            "^",
            '"',
            "<",
        ),
    ]
)
_hosts = st.sampled_from(
    ["a.test", "A.Test", "127.0.0.1", "1.2.3", "[::1]", "[::1", "b_c", "a..b", ".a", "*.a", "bücher.test", "a%2eb", ""]
)
_ports = st.sampled_from(["", "", ":80", ":443", ":0", ":8080", ":99999", ":x", ":"])
_starts = st.sampled_from(["http://", "http://", "https://", "HTTP://", "httpx://", " http://", "ftp://", "http:/", ""])
_userinfo = st.sampled_from(["", "", "", "user@", "user:pass@", ":@"])
urls = st.builds("".join, st.tuples(_starts, _userinfo, _hosts, _ports, st.lists(_pieces, max_size=8).map("".join)))
paths = st.builds("/{}".format, st.lists(_pieces, max_size=6).map("".join))
_texts = st.text(st.sampled_from("ab ~+&=?#%/é\"'"), max_size=4)
params = st.one_of(
    st.none(),
    st.dictionaries(_texts, st.one_of(_texts, st.none(), st.integers(), st.lists(_texts, max_size=2)), max_size=3),
    st.lists(st.tuples(_texts, _texts), max_size=3),
    _texts,
    _texts.map(str.encode),
)


@settings(max_examples=600, deadline=None)
@given(url=urls, given_params=params)
def test_any_url_is_prepared_as_requests_prepares_it(url: str, given_params: Any) -> None:
    theirs, ours = (_prepared(kind(), {"url": url, "params": given_params}) for kind in (requests.Session, Session))
    assert ours == theirs


# ------------------------------------------------------------------------------------- what a session may be told to do

_names = st.sampled_from(["X-A", "x-a", "User-Agent", "ACCEPT", "accept-encoding", "X:B", " X", "Cookie", "Host"])
_values = st.sampled_from(["1", "2", "", "é", " lead", "a\r\nb", b"bytes", None, 5])
headers = st.dictionaries(_names, _values, max_size=3)
sane_headers = st.dictionaries(
    st.sampled_from(["X-A", "x-a", "User-Agent", "Accept", "accept-encoding"]),
    st.sampled_from(["1", "2", "", b"bytes", None]),
    max_size=3,
)


def _signed(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    prepared.headers["X-Signed"] = f"{prepared.method} {len(prepared.headers)}"
    return prepared


def _noting(response: requests.Response, **how: Any) -> None:
    response.headers["X-Noted"] = str(sorted(how))


def _replacing(response: requests.Response, **_: Any) -> requests.Response:
    response.status_code = 299
    return response


auths = st.sampled_from([None, None, "", ("user", "password"), ("us:er", "é"), _signed])
hooks = st.sampled_from([None, {}, {"response": []}, {"response": [_noting]}, {"response": _replacing}])
jars = st.sampled_from([None, {}, {"c": "1"}, {"c": '"2"', "d": "3"}])
bodies = st.sampled_from([None, {}, [], "", b"", {"a": "1"}, "text", b"bytes"])


def _cookie(name: str, **how: Any) -> Callable[[requests.Session], None]:
    return lambda session: _set(session, create_cookie(name, "1", **how))


def _set(session: requests.Session, cookie: Any) -> None:
    if isinstance(session.cookies, RequestsCookieJar):
        session.cookies.set_cookie(cookie)


def _says(name: str, made: Callable[[], Any]) -> Callable[[requests.Session], None]:
    return lambda session: setattr(session, name, made())


def _header(name: str, value: Any) -> Callable[[requests.Session], None]:
    return lambda session: (session.headers or {}).__setitem__(name, value) if session.headers is not None else None


def _no_header(name: str) -> Callable[[requests.Session], None]:
    return lambda session: (session.headers or {}).pop(name, None) and None


def _env(name: str, value: str | None) -> Callable[[requests.Session], None]:
    return lambda session: (
        os.environ.__setitem__(name, value) if value is not None else os.environ.pop(name, None) and None
    )


class Marking(HTTPAdapter):
    """Not ours: it sees every request."""

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        request.headers["X-Marked"] = "yes"
        return super().send(request, *args, **kwargs)


def _steps(header_values: st.SearchStrategy[Any], *more: Callable[[requests.Session], None]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["X-A", "x-a", "User-Agent", "Accept-Encoding"])
    fixed = [
        _says("headers", lambda: CaseInsensitiveDict({"B": "2", "A": "1"})),
        _says("params", lambda: {"z": "0"}),
        _says("params", dict),
        _says("auth", lambda: ("user", "password")),
        _says("auth", lambda: _signed),
        _says("auth", lambda: None),
        _says("hooks", lambda: {"response": [_noting]}),
        _says("hooks", lambda: {"response": []}),
        _says("trust_env", lambda: False),
        _says("trust_env", lambda: True),
        _says("cookies", lambda: requests.cookies.cookiejar_from_dict({"own": "1"})),
        _says("cookies", MozillaCookieJar),
        _cookie("here"),
        _cookie("path", path="/deep"),
        _cookie("domain", domain="a.test"),
        _cookie("old", expires=1),
        _cookie("secure", secure=True),
        lambda session: session.cookies.clear(),
        _env("NO_PROXY", "a.test, 127.0.0.1"),
        _env("no_proxy", "*"),
        _env("NO_PROXY", None),
        _env("no_proxy", None),
        _env("REQUEST_METHOD", "GET"),
        *more,
    ]
    return st.one_of(st.sampled_from(fixed), st.builds(_header, names, header_values), st.builds(_no_header, names))


_PREPARING = (
    _says("headers", lambda: None),
    _says("headers", lambda: {"A": "1"}),
    _says("params", lambda: None),
    _says("params", lambda: [("y", "1")]),
    _says("hooks", lambda: None),
    _says("cookies", dict),
    _says("proxies", lambda: {"http": "http://session.test:1"}),
    _says("proxies", lambda: {"all": "http://session.test:2", "no_proxy": "a.test"}),
    _says("proxies", dict),
    _says("proxies", lambda: None),
    _says("verify", lambda: False),
    _says("verify", lambda: "/session/bundle"),
    _says("cert", lambda: ("/cert", "/key")),
    _says("stream", lambda: True),
    _says("stream", lambda: None),
    _env("HTTP_PROXY", "http://upper.test:1"),
    _env("http_proxy", "http://lower.test:1"),
    _env("http_proxy", ""),
    _env("Http_Proxy", "http://mixed.test:1"),
    _env("all_proxy", "socks5://all.test:1"),
    _env("HTTPS_PROXY", "http://tls.test:1"),
    _env("http_proxy", None),
    _env("REQUESTS_CA_BUNDLE", "/requests/bundle"),
    _env("REQUESTS_CA_BUNDLE", ""),
    _env("CURL_CA_BUNDLE", "/curl/bundle"),
)

calls = st.fixed_dictionaries(
    {"url": st.one_of(st.just("http://a.test/deep/x"), st.just("https://127.0.0.1:8443/x?y=1"), urls)},
    optional={
        "method": st.sampled_from(["GET", "get", "POST", "HEAD", "PUT"]),
        "params": params,
        "headers": st.one_of(st.none(), headers, headers.map(CaseInsensitiveDict), st.just([("X-A", "1")])),
        "auth": auths,
        "cookies": jars,
        "hooks": hooks,
        "data": bodies,
        "json": st.sampled_from([None, {}, {"a": 1}]),
        "files": st.sampled_from([None, {}, []]),  # their boundary is random
    },
)
told_to_send = st.fixed_dictionaries(
    {
        "proxies": st.sampled_from([None, {}, {"http": "http://call.test:1"}, {"no_proxy": "a.test"}, {"https": None}]),
        "stream": st.sampled_from([None, True, False]),
        "verify": st.sampled_from([None, True, False, "/call/bundle"]),
        "cert": st.sampled_from([None, "/call/cert"]),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    own=st.one_of(sane_headers, headers), told_twice=st.lists(st.one_of(sane_headers, headers), min_size=2, max_size=2)
)
def test_any_headers_are_put_together_as_requests_does(own: dict[str, Any], told_twice: list[dict[str, Any]]) -> None:
    def played(session: requests.Session) -> list[Any]:
        session.headers.update(own)
        return [_prepared(session, {"url": "http://a.test/", "headers": one}) for one in told_twice]

    theirs, ours = _each(played)
    assert ours == theirs


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.lists(_steps(_values, *_PREPARING), max_size=4), calls, told_to_send), min_size=1, max_size=4)
)
@example(
    story=[
        (
            [],
            {"url": "ftp://[::1", "auth": ("user", "password")},
            dict.fromkeys(("proxies", "stream", "verify", "cert")),
        )
    ]
)
def test_any_session_prepares_as_requests_own(story: list[tuple[list[Any], dict[str, Any], dict[str, Any]]]) -> None:
    def played(session: requests.Session) -> list[Any]:
        given = []
        for steps, call, sending in story:
            for step in steps:
                step(session)
            given += [_prepared(session, call), _settings(session, call["url"], sending)]
        return given

    theirs, ours = _each(played)
    assert ours == theirs


def _each(played: Callable[[requests.Session], Any]) -> list[Any]:
    """What is played to requests' Session and to ours, each in the environment as it is now."""
    found = []
    for kind in (requests.Session, Session):
        with patch.dict(os.environ):
            found.append(played(kind()))
    return found


def _prepared(session: requests.Session, call: dict[str, Any]) -> Any:
    try:
        found = session.prepare_request(requests.Request(**{"method": "GET", **call}))
    except (requests.RequestException, ValueError, TypeError, AttributeError) as exc:
        return type(exc), str(exc)
    jar: Any = found._cookies  # type: ignore[attr-defined]
    return (
        (type(found), found.method, found.url, found.body, found.hooks),
        (type(found.headers), [*found.headers.items()], found.headers.get("x-a")),
        (type(jar), sorted((one.name, one.value, one.domain, one.path) for one in jar)),
        found._body_position,  # type: ignore[attr-defined]
        sorted(vars(found)),
        [*found.copy().headers],
    )


def _settings(session: requests.Session, url: str, sending: dict[str, Any]) -> Any:
    given = {**sending, "proxies": dict(sending["proxies"] or {})}
    try:
        found = session.merge_environment_settings(url, **given)
    except (ValueError, TypeError, AttributeError) as exc:
        return type(exc), str(exc)
    proxies = found.pop("proxies")
    # geofetch decides one thing otherwise: what the session says of trust is stronger than the environment.
    if sending["verify"] is None and session.verify is not True:
        found["verify"] = session.verify
    # Looked up by name: their order is that in which an environment was filled, and says nothing.
    return found, None if proxies is None else sorted(proxies.items())


# -------------------------------------------------------------------------------------------------- what really arrives

_real_calls = st.fixed_dictionaries(
    {
        "at": st.sampled_from(
            ["/plain", "/plain", "/deep/cookie", "/moved", "/away", "/digest", "/no", "/chunks", "/nothing"]
        )
    },
    optional={
        "method": st.sampled_from(["GET", "POST", "HEAD"]),
        "params": st.one_of(st.none(), st.dictionaries(_texts, _texts, max_size=2)),
        "headers": st.one_of(st.none(), sane_headers),
        "cookies": jars,
        "hooks": hooks,
        "stream": st.booleans(),
        "allow_redirects": st.booleans(),
        "auth": st.sampled_from([None, ("user", "password"), _signed]),
        "data": bodies,
        "query": st.sampled_from(["", "?a=1", "?a=b c", "#part", "/../x", "%2f", "?%41=~"]),
    },
)
_real_steps = _steps(
    st.sampled_from(["1", "", b"bytes"]),
    _says("max_redirects", lambda: 0),
    _says("verify", lambda: False),
    _says("stream", lambda: True),
    _says("auth", lambda: HTTPDigestAuth("user", "password")),
    lambda session: session.mount("http://127.0.0.1", Marking()),
    lambda session: session.adapters.pop("http://127.0.0.1", None) and None,
    lambda session: session.proxies.update(http=os.environ["PROXY"]),
    lambda session: session.proxies.clear(),
    lambda session: os.environ.update(HTTP_PROXY=os.environ["PROXY"]),
    lambda session: os.environ.update(all_proxy=os.environ["PROXY"]),
    lambda session: Path(os.environ["HOME"], ".netrc").write_text("machine 127.0.0.1 login net password rc\n") and None,
    lambda session: Path(os.environ["HOME"], ".netrc").write_text("machine 127.0.0.1 login net password rx\n") and None,
    lambda session: Path(os.environ["HOME"], ".netrc").unlink(missing_ok=True),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=st.lists(st.tuples(st.lists(_real_steps, max_size=3), _real_calls), min_size=1, max_size=4))
def test_any_calls_arrive_and_come_back_as_with_requests_own(origins: Origins, story: list[Any]) -> None:
    theirs, ours = _each(lambda session: told(lambda it, there: _played(it, there, story), session, origins))
    assert ours == theirs
    origins.__exit__()


def _played(session: requests.Session, origins: Origins, story: list[Any]) -> Any:
    server, way = origins.http(), origins.proxy()
    server.serves(b"plain", at="/plain")
    server.serves(b"set", at="/deep/cookie", headers=[("Set-Cookie", "s=1; Path=/deep"), ("Set-Cookie", "t=2")])
    server.redirects("/deep/cookie", at="/moved", headers={"Set-Cookie": "u=3; Path=/"})
    server.redirects(origins.http().serves(b"away"), 307, at="/away")
    server.serves(b"no", status=401, headers=CHALLENGE, at="/digest")
    server.serves(b"no", status=404, at="/no")
    server.serves(b"x" * 3000, chunked=1000, at="/chunks")
    server.serves(status=204, at="/nothing")
    os.environ["PROXY"] = way.url
    given: list[Any] = []
    with _home():
        for steps, call in story:
            for step in steps:
                step(session)
            how = dict(call)
            url, method = server.base + how.pop("at") + how.pop("query", ""), how.pop("method", "GET")
            try:
                given.append(session.request(method, url, timeout=10, **how))
            except requests.RequestException as exc:
                given.append(type(exc).__name__)
            given.append(sorted((one.name, one.value, one.domain, one.path) for one in session.cookies))
    return given, [(one.method, sorted(name for name, _ in one.headers)) for one in way.requests]


@contextmanager
def _home() -> Iterator[None]:
    try:
        yield
    finally:
        Path(os.environ["HOME"], ".netrc").unlink(missing_ok=True)


# --------------------------------------------------------------------------------------------------------- the control


@pytest.mark.parametrize("what", ["header", "url"])
def test_a_difference_would_be_told(what: str) -> None:
    session = Session()
    before = _prepared(session, {"url": "http://a.test/x"})
    session.headers["X-A"] = "1"
    after = _prepared(session, {"url": "http://a.test/x" if what == "header" else "http://a.test/y"})
    assert (before[1] == after[1], before[0] == after[0]) == (False, what == "header")
