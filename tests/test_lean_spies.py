"""Whoever overrides, patches, wraps or mounts something sees what they would see of requests' own Session.

Each spy watches the same calls of both; what it notes down must be the same, call for call.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import requests
from requests import PreparedRequest, sessions
from requests.adapters import HTTPAdapter

import geofetch
from geofetch.session import Session
from tests.support.apart import environment
from tests.support.mirrors import Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests

METHODS = (
    *("request", "prepare_request", "merge_environment_settings", "send", "get_adapter", "get_redirect_target"),
    *("resolve_redirects", "rebuild_auth", "rebuild_method", "rebuild_proxies", "should_strip_auth"),
)
Diary = list[str]


def _noting(diary: Diary, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def noted(*args: Any, **kwargs: Any) -> Any:
        diary.append(name)
        return function(*args, **kwargs)

    return noted


def _calls(session: requests.Session, origins: Origins) -> None:
    """A plain call, one with everything, a redirect, one that is not followed, one that is sent by hand."""
    server = origins.http()
    plain, cookie = server.serves(b"x"), server.serves(b"x", headers={"Set-Cookie": "a=1; Path=/"})
    moved = server.redirects(plain)
    assert session.get(plain.url).content == b"x"
    session.get(cookie.url, headers={"X-A": "1"}, params={"a": "1"}, auth=("user", "password"))
    assert session.get(moved.url, auth=("user", "password")).history[0].status_code == 302
    assert session.get(moved.url, allow_redirects=False).next is not None
    session.send(session.prepare_request(requests.Request("GET", plain.url)))
    assert [request.header("Cookie") for request in plain.requests][1:] == ["a=1"] * 2


def _both(origins: Origins, spied: Callable[[type[Any], Diary], Any]) -> tuple[Diary, Diary]:
    diaries: list[Diary] = []
    for kind in (requests.Session, Session):
        diary: Diary = []
        with spied(kind, diary) as session:
            _calls(session, origins)
        diaries.append(diary)
    return diaries[0], diaries[1]


@pytest.mark.parametrize("name", METHODS)
def test_a_subclass_sees_each_call_of_what_it_overrides(origins: Origins, name: str) -> None:
    def spied(kind: type[Any], diary: Diary) -> Any:
        return type("Spy", (kind,), {name: _noting(diary, name, getattr(kind, name))})()

    theirs, ours = _both(origins, spied)
    assert ours == theirs != []


@pytest.mark.parametrize("name", METHODS)
def test_what_is_put_on_one_session_sees_each_call(origins: Origins, name: str) -> None:
    def spied(kind: type[Any], diary: Diary) -> Any:
        session = kind()
        setattr(session, name, _noting(diary, name, getattr(session, name)))
        return session

    theirs, ours = _both(origins, spied)
    assert ours == theirs != []


@pytest.mark.parametrize("name", METHODS)
def test_a_mixin_below_geofetch_sees_each_call(origins: Origins, name: str) -> None:
    """It stands between geofetch.Session and requests.Session, and is reached by super() alone."""

    def spied(kind: type[Any], diary: Diary) -> Any:
        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            diary.append(name)
            return getattr(super(mixin, self), name)(*args, **kwargs)

        mixin = type("Mixin", (requests.Session,), {name: noted})
        return type("Mixed", (mixin,) if kind is requests.Session else (kind, mixin), {})()

    theirs, ours = _both(origins, spied)
    assert ours == theirs != []


@pytest.mark.parametrize("name", METHODS)
def test_a_patch_of_requests_own_class_sees_each_call(
    origins: Origins, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    diary: Diary = []
    monkeypatch.setattr(requests.Session, name, _noting(diary, name, getattr(requests.Session, name)))

    def spied(kind: type[Any], _: Diary) -> Any:
        diary.append("begin")
        return kind()

    _both(origins, spied)
    second = diary.index("begin", 1)
    assert diary[:second] == diary[second:] != ["begin"]


#: Functions that a plain call passes by, and where they are known.
FUNCTIONS: list[tuple[Any, str]] = [
    *((HTTPAdapter, name) for name in ("send", "request_url", "build_response")),
    *((PreparedRequest, f"prepare{part}") for part in ("_url", "_headers", "_cookies", "_body", "_auth", "_hooks", "")),
    *((sessions, name) for name in ("get_environ_proxies", "get_netrc_auth", "merge_setting", "merge_hooks")),
    *((sessions, name) for name in ("merge_cookies", "extract_cookies_to_jar", "resolve_proxies", "dispatch_hook")),
    *((requests.utils, name) for name in ("should_bypass_proxies", "getproxies", "proxy_bypass")),
    *((requests.models, name) for name in ("parse_url", "requote_uri", "check_header_validity", "get_cookie_header")),
]


@pytest.mark.parametrize(("where", "name"), FUNCTIONS, ids=[name for _, name in FUNCTIONS])
def test_a_patch_of_a_function_sees_what_it_sees_of_requests(
    origins: Origins, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    diary: Diary = []
    monkeypatch.setattr(where, name, _noting(diary, name, getattr(where, name)))

    def spied(kind: type[Any], _: Diary) -> Any:
        session = kind()
        diary.append("begin")
        return session

    _both(origins, spied)
    second = diary.index("begin", 1)
    assert len(diary[:second]) == len(diary[second:]) > 1


def test_a_wrapper_that_passes_for_what_it_wraps_is_told_apart(
    origins: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tracing does it: a proxy object, whose every attribute is the wrapped function's."""
    diary: Diary = []

    class Bound:
        def __init__(self, method: Any) -> None:
            self.__dict__["method"] = method

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            diary.append("send")
            return self.__dict__["method"](*args, **kwargs)

        @property
        def __class__(self) -> Any:
            return type(self.__dict__["method"])

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__dict__["method"], name)

    class Wrapper:
        def __init__(self, function: Any) -> None:
            self.function = function

        def __get__(self, session: Any, kind: Any = None) -> Any:
            return Bound(self.function.__get__(session, kind))

    monkeypatch.setattr(requests.Session, "send", Wrapper(requests.Session.send))
    session = Session()
    assert session.get(origins.http().serves(b"x").url).content == b"x"
    assert diary == ["send"]


def test_an_adapter_of_a_class_above_ours_sees_each_request(mirror: Mirror) -> None:
    seen: Diary = []

    class Seeing(geofetch.transport.Adapter):
        def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
            seen.append(request.url or "")
            return super().send(request, *args, **kwargs)

    file, session = mirror.serves(b"x"), Session()
    session.get(file.url)
    session.mount("http://", Seeing())
    moved = mirror.redirects(file)
    session.get(moved.url)
    assert seen == [moved.url, file.url]


@pytest.mark.parametrize("how", ["mounted", "patched", "put on the adapter"])
def test_cookies_are_stored_of_an_answer_that_somebody_changed(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """requests looks for them in the answer as it was parsed, and not where somebody may have struck them out."""
    sends = HTTPAdapter.send

    def struck(self: Any, *args: Any, **kwargs: Any) -> requests.Response:
        response = sends(self, *args, **kwargs)
        del response.raw.headers["Set-Cookie"]
        return response

    file, session = mirror.serves(b"x", headers={"Set-Cookie": "a=1"}), Session()
    adapter = session.get_adapter(file.url)
    if how == "mounted":
        session.mount("http://", type("Striking", (type(adapter),), {"send": struck})())
    elif how == "patched":
        monkeypatch.setattr(HTTPAdapter, "send", struck)
    else:
        monkeypatch.setattr(adapter, "send", lambda *args, **kwargs: struck(adapter, *args, **kwargs))
    session.get(file.url)
    assert session.cookies.get_dict() == {"a": "1"}


def test_who_patched_before_geofetch_was_imported_sees_each_call(mirror: Mirror) -> None:
    program = f"""
import requests, requests.sessions
from requests.adapters import HTTPAdapter
seen = []
def spy(where, name):
    function = getattr(where, name)
    def spied(*args, **kwargs):
        seen.append(name)
        return function(*args, **kwargs)
    setattr(where, name, spied)
for where, name in ((requests.Session, "send"), (requests.Session, "get_adapter"), (HTTPAdapter, "send"),
                    (requests.PreparedRequest, "prepare_headers"), (requests.sessions, "extract_cookies_to_jar"),
                    (requests.sessions, "get_environ_proxies"), (requests.sessions, "get_netrc_auth")):
    spy(where, name)
import geofetch
for _ in range(2):
    assert geofetch.get({mirror.serves(b"x").url!r}).content == b"x"
print(*sorted({{(name, seen.count(name)) for name in seen}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    expected = {"send": 4, "get_adapter": 2, "prepare_headers": 2, "extract_cookies_to_jar": 2}
    expected |= {"get_environ_proxies": 2, "get_netrc_auth": 2}
    assert done.stdout.strip() == " ".join(map(str, sorted(expected.items())))


# ------------------------------------------------------------------------------------------- the mocks that people have


def test_responses_answers_instead_of_the_network(mirror: Mirror) -> None:
    responses = pytest.importorskip("responses")
    file, session = mirror.serves(b"network"), Session()
    assert session.get(file.url).content == b"network"
    with responses.RequestsMock() as mock:
        mock.get(file.url, body=b"mock", headers={"Set-Cookie": "a=1; Path=/"})
        mock.get("http://moved.test/", status=302, headers={"Location": file.url})
        assert session.get(file.url).content == b"mock"
        assert session.cookies.get("a") == "1"
        assert session.get("http://moved.test/").history[0].status_code == 302
        with pytest.raises(requests.ConnectionError, match="refused by Responses"):
            session.get("http://unknown.test/")
        assert [call.request.url for call in mock.calls][:3] == [file.url, "http://moved.test/", file.url]
        assert mock.calls[2].request.headers["Cookie"] == "a=1"
    assert session.get(file.url).content == b"network"


def test_responses_answers_a_pool_too(mirror: Mirror) -> None:
    responses = pytest.importorskip("responses")
    file = mirror.serves(b"network")
    with responses.RequestsMock() as mock:
        mock.get(file.url, body=b"mock")
        mock.get("http://other.test/", body=b"")
        with geofetch.Pool(2, store=geofetch.MemoryStore(), progress=False, retries=0) as pool:
            outcomes = pool.map([geofetch.Spec(file.url, path="a"), geofetch.Spec("http://other.test/", path="b")])
            assert [pool.store[outcome.raise_for_error().location] for outcome in outcomes] == [b"mock", b""]


def test_requests_mock_answers_instead_of_the_network(mirror: Mirror) -> None:
    requests_mock = pytest.importorskip("requests_mock")
    file, session = mirror.serves(b"network"), Session()
    assert session.get(file.url).content == b"network"
    with requests_mock.Mocker() as mock:
        mock.get(file.url, content=b"mock", cookies={"a": "1"})
        assert session.get(file.url, headers={"X-A": "1"}).content == b"mock"
        assert session.get(file.url).content == b"mock"
        assert [(one.url, one.headers.get("X-A")) for one in mock.request_history] == [
            (file.url, "1"),
            (file.url, None),
        ]
        with pytest.raises(requests_mock.NoMockAddress):
            session.get("http://unknown.test/")
    adapter = requests_mock.Adapter()
    adapter.register_uri("GET", "mock://x/y", text="mounted")
    session.mount("mock://", adapter)
    assert session.get("mock://x/y").text == "mounted"
    assert session.get(file.url).content == b"network"
    assert file.hits == 2
