"""Redirects: what goes along to where, and where nobody goes.  Seen at the server that was redirected to."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.auth import AuthBase, HTTPDigestAuth

import geofetch
from geofetch.errors import BadResponse, BadStatus, RedirectLoop, RedirectRefused
from geofetch.session import Session
from geofetch.spec import Profile
from geofetch.transport import Adapter
from tests.origin.scenes import Scene
from tests.origin.wire import Request
from tests.support.certs import Authority
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded, refused, session_of
from tests.support.waiting import until

CANARY = "canary-77ab"
BASIC = "Basic " + base64.b64encode(f"user:{CANARY}".encode()).decode()

Call = Callable[[Session, str], bytes]
CALLS: dict[str, Call] = {
    "download": lambda session, url: downloaded(url, session)[1],
    "get": lambda session, url: session.get(url, timeout=10).content,
    "post": lambda session, url: session.post(url, data=b"body", timeout=10).content,
}


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest) -> Call:
    """A download by the walk's own loop, and a Session's calls by requests' rules."""
    return CALLS[request.param]


def tell_tale(request: Request) -> list[tuple[str, str]]:
    """The headers of a request that say who asks."""
    harmless = {"host", "user-agent", "accept", "accept-encoding", "connection", "content-length", "content-type"}
    return [(name, value) for name, value in request.headers if name.lower() not in harmless]


class OwnHeader(AuthBase):
    """Auth that many hosts want: a header of their own."""

    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        prepared.headers["X-Api-Key"] = CANARY
        return prepared


WHO: dict[str, dict[str, Any]] = {
    "auth": {"auth": ("user", CANARY)},
    "header Authorization": {"headers": {"Authorization": f"Bearer {CANARY}"}},
    "header authorization": {"headers": {"authorization": f"Bearer {CANARY}"}},
    "header Cookie": {"headers": {"Cookie": f"a={CANARY}"}},
    "header Proxy-Authorization": {"headers": {"Proxy-Authorization": f"Bearer {CANARY}"}},
    "header of the user's": {"headers": {"Private-Token": CANARY}},
    "auth and headers": {"auth": ("user", CANARY), "headers": {"X-A": CANARY}},
}


@pytest.mark.parametrize("who", WHO)
def test_another_port_is_another_origin(origins: Origins, call: Call, who: str) -> None:
    home, abroad = origins.http(), origins.http()
    session = session_of(**WHO[who])
    there = abroad.serves(b"x")
    moved = home.redirects(there)
    assert call(session, moved.url) == b"x"
    assert CANARY in str(moved.request.headers) or BASIC in str(moved.request.headers)
    assert tell_tale(there.request) == []


def test_another_host_is_another_origin(mirror: Mirror, call: Call) -> None:
    there = mirror.serves(b"x")
    moved = mirror.redirects(there.via("localhost"))
    assert call(session_of(auth=("user", CANARY), headers={"X-A": CANARY}), moved.url) == b"x"
    assert tell_tale(there.request) == []
    assert there.request.header("Host") == f"localhost:{mirror.port}"


def test_another_scheme_is_another_origin(origins: Origins, ca: Authority, call: Call) -> None:
    home, abroad = origins.http(), origins.https()
    there = abroad.serves(b"x")
    session = session_of(auth=("user", CANARY), headers={"X-A": CANARY}, ca=ca.pem, cert=ca.client("alice").pem)
    assert call(session, home.redirects(there).url) == b"x"
    assert tell_tale(there.request) == []


def test_the_same_origin_is_told_again(mirror: Mirror, call: Call) -> None:
    there = mirror.serves(b"x")
    session = session_of(auth=("user", CANARY), headers={"X-A": CANARY})
    assert call(session, mirror.chain(there, 2).url) == b"x"
    assert sorted(tell_tale(there.request)) == [("Authorization", BASIC), ("X-A", CANARY)]


def test_back_at_the_first_origin_nothing_returns(origins: Origins, call: Call) -> None:
    home, abroad = origins.http(), origins.http()
    there = home.serves(b"x")
    away = abroad.redirects(there)
    session = session_of(auth=("user", CANARY), headers={"X-A": CANARY})
    assert call(session, home.redirects(home.redirects(away)).url) == b"x"
    assert tell_tale(away.request) == []
    assert tell_tale(there.request) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed_and_tells_nothing(origins: Origins, call: Call, status: int) -> None:
    there = origins.http().serves(b"x")
    moved = origins.http().redirects(there, status)
    assert call(session_of(auth=("user", CANARY)), moved.url) == b"x"
    assert tell_tale(there.request) == []


def test_a_client_certificate_is_shown_to_its_own_origin_alone(origins: Origins, ca: Authority, call: Call) -> None:
    # This server would take any certificate of the CA: the one that is not shown is not there.
    home, abroad = origins.https(wants=ca), origins.https()
    there = abroad.serves(b"x")
    session = session_of(ca=ca.pem, cert=ca.client("alice").pem)
    assert call(session, home.redirects(there).url) == b"x"
    assert [connection.client for connection in home.connections] == ["alice"]
    assert [connection.client for connection in abroad.connections] == [None]
    with pytest.raises(requests.RequestException):
        call(session, home.redirects(origins.https(wants=ca).serves(b"x")).url)


def test_a_certificate_that_would_be_shown_is_shown_where_it_may_be(origins: Origins, ca: Authority) -> None:
    """The control of the test above: asked directly, that server sees it."""
    abroad = origins.https(wants=ca)
    session_of(ca=ca.pem, cert=ca.client("alice").pem).get(abroad.serves(b"x").url)
    assert [connection.client for connection in abroad.connections] == ["alice"]


def test_auth_that_sets_a_header_of_its_own_sets_none_abroad(origins: Origins, call: Call) -> None:
    home, abroad = origins.http(), origins.http()
    there = abroad.serves(b"x")
    moved = home.redirects(there)
    assert call(session_of(auth=OwnHeader()), home.redirects(moved).url) == b"x"
    assert tell_tale(moved.request) == [("X-Api-Key", CANARY)]
    assert tell_tale(there.request) == []


def test_auth_that_answers_challenges_answers_none_abroad(origins: Origins, call: Call) -> None:
    challenge = {"WWW-Authenticate": 'Digest realm="here", nonce="abc", qop="auth"'}
    home, abroad = origins.http(), origins.http()
    there = abroad.serves(b"who are you?", status=401, headers=challenge)
    moved = home.plays([Scene(status=401, headers=challenge), Scene(status=302, headers={"Location": there.url})])
    with suppress(BadStatus):  # what a download makes of the 401
        assert call(session_of(auth=HTTPDigestAuth("user", CANARY)), moved.url) == b"who are you?"
    assert [len(tell_tale(request)) for request in moved.requests] == [0, 1]
    assert tell_tale(there.request) == []


def test_a_session_that_was_told_by_hand_follows_requests_own_rules(origins: Origins) -> None:
    """Without a Profile it is requests' Session: a header of the user's crosses, Authorization does not."""
    for kind in (requests.Session, Session):
        there = origins.http().serves(b"x")
        session = kind()
        session.headers["X-A"] = "1"
        session.auth = ("user", CANARY)
        session.get(origins.http().redirects(there).url)
        assert tell_tale(there.request) == [("X-A", "1")]


def test_a_download_takes_nothing_of_the_session_to_another_origin(origins: Origins) -> None:
    session = Session()
    session.headers["X-A"] = CANARY
    session.auth = ("user", CANARY)
    session.params = {"token": CANARY}
    session.cookies.set("a", CANARY)
    there = origins.http().serves(b"x")
    between = origins.http().redirects(there, headers={"Set-Cookie": "b=2; Path=/"})
    moved = origins.http().redirects(between, headers={"Set-Cookie": "c=3; Path=/"})
    assert downloaded(moved.url, session)[1] == b"x"
    assert CANARY in str(moved.request.headers)
    assert CANARY in moved.request.target
    for hop in (between, there):  # cookies know no ports: all three are one host to them
        assert tell_tale(hop.request) == []
    assert there.request.target == there.path


def test_netrc_is_not_asked_for_where_a_download_is_redirected(
    origins: Origins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {CANARY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    there = origins.http().serves(b"x")
    moved = origins.http().redirects(there)
    assert downloaded(moved.url)[1] == b"x"
    assert moved.request.header("Authorization") == BASIC
    assert tell_tale(there.request) == []


@pytest.mark.parametrize("profile", [{"auth": ("me", "mine")}, {"headers": {"Authorization": "Bearer mine"}}])
def test_netrc_counts_only_where_a_profile_leaves_auth_open(
    mirror: Mirror, call: Call, profile: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {CANARY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    there = mirror.serves(b"x")
    moved = mirror.redirects(there)
    call(session_of(**profile), moved.url)
    for request in (moved.request, there.request):
        assert request.header("Authorization") in ("Bearer mine", "Basic bWU6bWluZQ==")
    open_to_it = mirror.serves(b"x")
    call(session_of(headers={"X-A": "1"}), open_to_it.url)
    assert open_to_it.request.header("Authorization") == BASIC


def test_the_environments_proxy_does_not_take_over_on_the_way(
    origins: Origins, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign, own = origins.proxy(), origins.proxy()
    monkeypatch.setenv("http_proxy", foreign.url)
    for proxies in ("", own.url, {"http": own.url}):
        there = origins.http().serves(b"x")
        moved = origins.http().redirects(there)
        before = own.hits
        assert call(session_of(proxies=proxies), moved.url) == b"x"
        assert own.hits - before == (2 if proxies else 0)
    assert foreign.hits == 0
    session = session_of(proxies=own.url)
    assert session.send(session.prepare_request(requests.Request("GET", moved.url))).content == b"x"
    assert foreign.hits == 0
    assert call(session_of(headers={"X-A": "1"}), moved.url) == b"x"
    assert foreign.hits == 2


# ---------------------------------------------------------------------------------------------------- where nobody goes


def test_a_download_does_not_step_down_from_https(origins: Origins, ca: Authority) -> None:
    there = origins.http().serves(b"x")
    error = refused(RedirectRefused, origins.https().redirects(there).url, session_of(ca=ca.pem))
    assert "https" in str(error)
    assert there.hits == 0


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        " file:///etc/passwd",
        "file:/etc/passwd",
        "file://localhost/etc/passwd",
        "ftp://127.0.0.1/x",
        "data:,x",
        "gopher://127.0.0.1/",
        "javascript:alert(1)",
        "http://[::1",
        "http://127.0.0.1:99999/",
        "http://:80/",
    ],
)
def test_only_http_and_https_are_followed(mirror: Mirror, session_or_function: Any, target: str) -> None:
    with pytest.raises(requests.exceptions.InvalidURL):
        session_or_function(mirror.redirects(target).url)
    refused(RedirectRefused, mirror.redirects(target).url)
    refused(RedirectRefused, mirror.chain(mirror.redirects(target), 2).url)


@pytest.fixture(params=["session", "with-profile", "function"])
def session_or_function(request: pytest.FixtureRequest) -> Any:
    return {
        "session": Session().get,
        "with-profile": session_of(auth=("user", CANARY)).get,
        "function": geofetch.get,
    }[request.param]


def test_a_file_is_never_reached_by_a_redirect(mirror: Mirror, tmp_path: Path, session_or_function: Any) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the file's content")
    for moved in (mirror.redirects(secret.as_uri()), mirror.chain(mirror.redirects(secret.as_uri()), 2)):
        with pytest.raises(RedirectRefused, match="only http and https are followed"):
            session_or_function(moved.url)
    # The control: asked for by name, it is there.
    assert Session().get(secret.as_uri()).text == "the file's content"


def test_a_redirect_that_is_not_followed_is_an_answer_like_any_other(mirror: Mirror, tmp_path: Path) -> None:
    """As with requests; but there is no next request that would open the file."""
    moved = mirror.redirects("file:///etc/passwd")
    for response in (Session().get(moved.url, allow_redirects=False), Session().head(moved.url)):
        assert response.status_code == 302
        assert response.headers["Location"] == "file:///etc/passwd"
        assert response.next is None
    there = mirror.serves(b"x")
    following = Session().get(mirror.redirects(there).url, allow_redirects=False).next
    assert following is not None
    assert following.url == there.url


def test_a_location_that_is_no_utf_8_is_read_as_headers_are(mirror: Mirror, call: Call) -> None:
    there = mirror.serves(b"x")
    assert call(Session(), mirror.redirects(f"{there.path}?q=\xe9").url) == b"x"
    assert there.request.target == f"{there.path}?q=%C3%A9"


def test_a_location_that_is_no_utf_8_and_is_not_followed(mirror: Mirror) -> None:
    moved = mirror.redirects("/\xe9")
    for response in (Session().get(moved.url, allow_redirects=False), Session().head(moved.url)):
        assert response.next is not None
        assert response.next.url == f"{mirror.base}/%C3%A9"
    with pytest.raises(RedirectRefused, match="'ftp'"):
        Session().get(mirror.redirects("ftp://127.0.0.1/\xe9").url)


GZIPPED = gzip.compress(b"".join(b"%x\n" % (number * 7919) for number in range(50_000)), mtime=0)
DAMAGED = GZIPPED[:50_000] + bytes(100) + GZIPPED[50_100:]
NO_GZIP = b"no gzip " * 10_000
BREAKS: dict[str, Scene] = {
    "no-gzip": Scene(body=NO_GZIP),
    "no-gzip-and-cut": Scene(body=NO_GZIP, cut=70_000),
    "no-gzip-in-chunks-and-cut": Scene(body=NO_GZIP, chunked=1000, cut=70_000),
    "gzip-damaged": Scene(body=DAMAGED),
    "gzip-damaged-and-cut": Scene(body=DAMAGED, cut=90_000),
    "gzip-damaged-in-chunks-and-cut": Scene(body=DAMAGED, chunked=1000, cut=90_000),
    "gzip-cut": Scene(body=GZIPPED, cut=50_000),
    "gzip-in-chunks-and-cut": Scene(body=GZIPPED, chunked=1000, cut=50_000),
    "gzip-reset": Scene(body=GZIPPED, reset=50_000),
}


def requests_own() -> requests.Session:
    """What patch_requests() makes of a session: requests' own, over our connections."""
    session = requests.Session()
    session.mount("http://", Adapter())
    return session


@pytest.mark.parametrize("kind", [Session, requests_own])
@pytest.mark.parametrize("what", BREAKS)
def test_a_redirects_body_that_breaks_or_does_not_decode_is_dropped(mirror: Mirror, kind: Any, what: str) -> None:
    there = mirror.serves(b"x")

    def moved(to: Handle) -> Handle:
        return mirror.plays([BREAKS[what].but(status=302, headers={"Location": to.url, "Content-Encoding": "gzip"})])

    response = kind().get(mirror.redirects(moved(moved(there))).url, timeout=10)
    assert (response.content, [one.content for one in response.history]) == (b"x", [b"", b"", b""])
    alone = kind().get(moved(there).url, timeout=10, allow_redirects=False)
    assert (alone.status_code, alone.content, alone.next and alone.next.url) == (302, b"", there.url)


# ------------------------------------------------------------------------------------------------ a download's own loop


def test_the_number_of_redirects_is_bounded_exactly(mirror: Mirror) -> None:
    session = Session()
    session.max_redirects = 3
    there = mirror.serves(b"x")
    assert downloaded(mirror.chain(there, 3).url, session)[1] == b"x"
    refused(RedirectLoop, mirror.chain(there, 4).url, session)
    assert there.hits == 1
    around = mirror.loops()
    assert "more than 3 redirects" in str(refused(RedirectLoop, around.url, session))
    assert around.hits == 4


def test_a_redirects_body_is_not_read(mirror: Mirror) -> None:
    there = mirror.serves(b"x")
    endless = mirror.redirects(there, body=b"x" * 1000, endless=True)
    assert downloaded(endless.url)[1] == b"x"
    assert [connection.requests for connection in endless.connections] == [1]
    until(lambda: not endless.connections[0].open, 5, "closed, not drained")


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        pytest.param([], "no Location", id="none"),
        pytest.param([("Location", "")], "unclear Location", id="empty"),
        pytest.param([("Location", "/a"), ("Location", "/b")], "unclear Location", id="two"),
    ],
)
def test_a_redirect_to_nowhere(mirror: Mirror, headers: list[tuple[str, str]], words: str) -> None:
    assert words in str(refused(BadResponse, mirror.serves(status=302, headers=headers).url))


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        pytest.param("{path}", "{path}", id="path"),
        pytest.param("//{netloc}{path}", "{path}", id="no-scheme"),
        pytest.param("{path}?a=b", "{path}?a=b", id="query"),
        pytest.param("{path}#part", "{path}", id="fragment"),
        pytest.param("{path}?q=two words", "{path}?q=two%20words", id="space"),
        pytest.param("{path}?q=é", "{path}?q=%C3%A9", id="utf-8"),
        pytest.param("HTTP://{netloc}{path}", "{path}", id="capitals"),
    ],
)
def test_a_location_in_any_writing(mirror: Mirror, location: str, asked: str) -> None:
    there = mirror.serves(b"x")
    netloc = there.mirror.base.partition("//")[2]
    text = location.format(path=there.path, netloc=netloc).encode().decode("latin-1")
    assert downloaded(mirror.redirects(text).url)[1] == b"x"
    assert there.request.target == asked.format(path=there.path)


def test_the_hosts_on_the_way_are_told(origins: Origins) -> None:
    there = origins.http().serves(b"x")
    middle = origins.http().redirects(there)
    hosts: list[str] = []
    downloaded(origins.http().redirects(middle).url, moved=hosts.append)
    assert hosts == [f"127.0.0.1:{handle.mirror.port}" for handle in (middle, there)]


def test_the_sources_profile_follows_within_its_origin(mirror: Mirror) -> None:
    def asked(handle: Handle) -> str | None:
        return handle.request.header("X-A")

    there = mirror.serves(b"x")
    moved = mirror.redirects(there)
    downloaded(moved.url, Session(Profile(headers={"X-A": "1"})))
    assert (asked(moved), asked(there)) == ("1", "1")
