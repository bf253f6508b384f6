"""The express lane is not another way to download: the same requests, the same Outcomes, and nobody passed by."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import requests
from gevent.threadpool import ThreadPool
from requests.adapters import HTTPAdapter
from requests.auth import HTTPBasicAuth

import geofetch
from geofetch import express, limits
from geofetch.events import Outcome
from geofetch.session import Session
from geofetch.spec import Profile, Source, Spec
from geofetch.stream import opened
from geofetch.transport import Adapter, pools
from tests.origin.faults import FAULTS
from tests.origin.scenes import raw
from tests.support.certs import Authority
from tests.support.diary import sha256
from tests.support.lanes import *  # noqa: F403 - the fixtures of these tests
from tests.support.lanes import Lanes
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import PATIENT
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

BODY = b"a file " * 100


def download(session: Session, url: str) -> bytes:
    with opened(session, Source(url), PATIENT) as body:
        return b"".join(body)


# ------------------------------------------------------------------------------------------------------------- the same

SESSIONS: dict[str, Callable[[], Session]] = {
    "as it comes": Session,
    "without an environment": lambda: _with(trust_env=False),
    "with a profile": lambda: Session(Profile(headers={"X-Key": "secret"}, auth=("me", "pass word"))),
    "with headers": lambda: _with(headers={"B": "2", "a": "1", "User-Agent": "mine", "Accept": "x/y"}),
    "without some of requests' own": lambda: _with(headers={"Accept": None, "Connection": None}),
    "with auth": lambda: _with(auth=("me", "secret")),
    "with a token of its own": lambda: Session(Profile(headers={"Authorization": "Bearer abc"})),
}


LEFT_TO_REQUESTS = {"without some of requests' own"}


def _with(**settings: Any) -> Session:
    session = Session()
    session.headers.update(settings.pop("headers", {}))
    for name, value in settings.items():
        setattr(session, name, value)
    return session


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.parametrize("target", ["/a.rpm", "/a%20b/c%3A.deb?x=1&y=%C3%A9&z"])
def test_the_origin_sees_the_same_request_on_both_lanes(
    origins: Origins, ca: Authority, lanes: Lanes, name: str, target: str, secure: bool
) -> None:
    port = origins.https() if secure else origins.http()
    file = port.serves(BODY, at=target.partition("?")[0])
    for closed in (False, True):
        session = SESSIONS[name]()
        session.verify = str(ca.path) if secure else True
        lanes.closed = closed
        assert download(session, port.base.rstrip("/") + target) == BODY
    first, second = file.requests
    assert (first.method, first.target, first.headers) == (second.method, second.target, second.headers)
    assert lanes.taken == ["requests" if name in LEFT_TO_REQUESTS else "express", "requests"]


@pytest.mark.parametrize("url", ["http://me:pass@{}/a", "http://{}/a b", "http://{}/a#part", "http://{}/%7ea"])
def test_a_url_that_requests_would_write_otherwise_is_written_by_requests(
    mirror: Mirror, lanes: Lanes, url: str
) -> None:
    mirror.serves(BODY, at="/~a")
    for path in ("/a", "/a%20b"):
        mirror.serves(BODY, at=path)
    assert download(Session(), url.format(mirror.base.partition("://")[2].rstrip("/"))) == BODY
    assert lanes.taken == ["requests"]


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "endless-body"])
def test_the_same_fault_has_the_same_outcome_on_both_lanes(
    mirror: Mirror, lanes: Lanes, tmp_path: Path, spotless: Leftovers, name: str
) -> None:
    seen = []
    for closed in (False, True):
        lanes.closed = closed
        url = mirror.plays([FAULTS[name]], at=f"/{closed}/file").url
        if closed:  # a connection of its own: what a server sends behind an answer may come when the next is awaited
            url = url.replace("127.0.0.1", "localhost")
        with pooled(store=tmp_path / str(closed), retries=0, timeout=5) as pool:
            (outcome,) = pool.map([Spec(url)])
        seen.append(_told(outcome))
    assert seen[0] == seen[1]
    assert lanes.taken.count("express") == 1


def _told(outcome: Outcome) -> tuple[Any, ...]:
    (attempt,) = outcome.attempts
    head = attempt.head
    return (
        outcome.state,
        type(outcome.error),
        outcome.verified,
        outcome.size,
        outcome.fetched,
        None if head is None else (head.status, head.length, head.framed, head.encoding),
        outcome.location.read_bytes() if outcome.ok else None,
    )


def test_one_connection_serves_many_files_and_the_sessions_own_calls(mirror: Mirror, lanes: Lanes) -> None:
    file, session = mirror.serves(BODY), Session()
    for _ in range(5):
        assert download(session, file.url) == BODY
        assert session.get(file.url).content == BODY
    assert mirror.accepted == 1
    assert lanes.taken == ["express"] * 5


def test_an_error_is_kept_with_its_answer_and_its_cookies(mirror: Mirror, lanes: Lanes) -> None:
    refused = mirror.serves(b"sorry", status=403, headers={"Set-Cookie": "a=1", "X-Why": "because"})
    session = Session()
    with pytest.raises(geofetch.Unauthorized) as caught:
        download(session, refused.url)
    assert caught.value.response is not None
    assert (caught.value.response.text, caught.value.response.headers["X-Why"]) == ("sorry", "because")
    assert session.cookies.get_dict() == {"a": "1"}
    with pytest.raises(geofetch.Unauthorized):
        download(session, refused.url)
    assert refused.requests[1].header("Cookie") == "a=1"
    assert lanes.taken == ["express", "requests"]


ODD = {
    "204": b"204 No Content",
    "302": b"302 Found\r\nLocation: /x",
    "404": b"404 Not Found",
    "500": b"500 Oh\r\nSet-Cookie: a=b",
    "200 with a cookie": b"200 OK\r\nSet-Cookie: a=b",
}


@pytest.mark.parametrize("closed", [False, True], ids=["express", "requests"])
@pytest.mark.parametrize("name", ODD)
def test_an_answer_that_urllib3_refuses_leaves_no_connection(
    mirror: Mirror, lanes: Lanes, name: str, closed: bool
) -> None:
    """Two lengths that are not the same: an error that comes when a Response is made, behind the head."""
    answer = b"HTTP/1.1 " + ODD[name] + b"\r\nContent-Length: 5\r\nContent-Length: 300\r\n\r\nabcdefgh"
    play, lanes.closed = mirror.plays([raw(answer, then="keep")]), closed
    with pytest.raises(geofetch.FetchError, match="Content-Length"):
        download(Session(), play.url)
    assert limits.process.used == 0
    assert pools.shared().connections() == 0


def test_an_answer_that_nobody_can_build_leaves_no_connection(
    mirror: Mirror, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session()
    file = mirror.plays([raw(b"HTTP/1.1 404 No\r\nContent-Length: 3\r\n\r\nabc", then="keep")])

    def broken(*args: Any) -> None:
        raise RuntimeError("this jar is broken")

    monkeypatch.setattr(express, "extract_cookies_to_jar", broken)
    with pytest.raises(RuntimeError, match="this jar is broken") as caught:
        download(session, file.url)
    assert limits.process.used == 0  # although the traceback still holds the answer
    del caught
    assert lanes.taken == ["express"]


def test_a_cookie_of_a_file_is_sent_with_the_next_one(mirror: Mirror, lanes: Lanes) -> None:
    file, session = mirror.serves(BODY, headers={"Set-Cookie": "a=1"}), Session()
    for _ in range(2):
        assert download(session, file.url) == BODY
    assert file.requests[1].header("Cookie") == "a=1"


def test_a_redirect_is_followed_from_either_lane(mirror: Mirror, lanes: Lanes) -> None:
    file = mirror.serves(BODY, at="/there")
    moved = mirror.serves(status=302, headers={"Location": "/there"}, at="/here")
    assert download(Session(), moved.url) == BODY
    assert (moved.hits, file.hits) == (1, 1)
    assert lanes.taken == ["express", "express"]


# ----------------------------------------------------------------------------------------------------- nobody passed by


class Mine(Session):
    """Anybody's subclass."""


def _own_adapter(session: Session) -> None:
    class Other(Adapter):
        pass

    session.mount("http://", Other())


MEDDLED: dict[str, Callable[[Session], object]] = {
    "a cookie": lambda session: session.cookies.set("a", "1"),
    "params": lambda session: session.params.update(a="1"),  # type: ignore[union-attr]
    "a hook": lambda session: session.hooks["response"].append(lambda response, **how: None),
    "auth of its own kind": lambda session: setattr(session, "auth", HTTPBasicAuth("a", "b")),
    "an adapter": _own_adapter,
    "an adapter of requests": lambda session: session.mount("http://", HTTPAdapter()),
    "send": lambda session: setattr(session, "send", session.send),
    "get_adapter": lambda session: setattr(session, "get_adapter", session.get_adapter),
    "the adapter's send": lambda session: setattr(
        session.get_adapter("http://a"), "send", session.get_adapter("http://a").send
    ),
    "a proxy": lambda session: session.proxies.update(http="http://127.0.0.1:9"),
}


@pytest.mark.parametrize("name", MEDDLED)
def test_whatever_wants_a_say_has_it_from_the_next_file_on(mirror: Mirror, lanes: Lanes, name: str) -> None:
    file, session = mirror.serves(BODY), Session()
    assert download(session, file.url) == BODY
    MEDDLED[name](session)
    if name == "a proxy":
        with pytest.raises(geofetch.ProxyFailure):
            download(session, file.url)
    else:
        assert download(session, file.url) == BODY
    assert lanes.taken == ["express", "requests"]


def test_a_subclass_is_asked(mirror: Mirror, lanes: Lanes) -> None:
    assert download(Mine(), mirror.serves(BODY).url) == BODY
    assert lanes.taken == ["requests"]


@pytest.mark.parametrize("owner", [HTTPAdapter, requests.Session, Session, Adapter], ids=lambda owner: owner.__module__)
def test_who_wraps_send_sees_every_download(
    mirror: Mirror, lanes: Lanes, monkeypatch: pytest.MonkeyPatch, owner: Any
) -> None:
    file, session, seen = mirror.serves(BODY), Session(), []
    assert download(session, file.url) == BODY
    send = owner.send

    def wrapped(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(request.url)
        return send(self, request, *args, **kwargs)

    monkeypatch.setattr(owner, "send", wrapped)
    assert download(session, file.url) == BODY
    assert seen == [file.url]
    monkeypatch.undo()
    assert lanes.taken == ["express", "requests"]


def test_what_a_session_says_now_is_sent(mirror: Mirror, lanes: Lanes) -> None:
    file, session = mirror.serves(BODY), Session()
    for change in (
        lambda: session.headers.update({"X-A": "1"}),
        lambda: setattr(session, "auth", ("me", "secret")),
        lambda: session.headers.pop("X-A"),
        lambda: setattr(session, "auth", None),
    ):
        download(session, file.url)
        change()
    download(session, file.url)
    told = [(each.header("X-A"), each.header("Authorization") is not None) for each in file.requests]
    assert told == [(None, False), ("1", False), ("1", True), (None, True), (None, False)]
    assert set(lanes.taken) == {"express"}


def test_a_change_of_the_environment_counts_for_the_next_file(
    mirror: Mirror, origins: Origins, lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, session, way = mirror.serves(BODY), Session(), origins.proxy()
    download(session, file.url)
    monkeypatch.setenv("http_proxy", way.url)
    monkeypatch.setenv("no_proxy", "")
    download(session, file.url)
    monkeypatch.delenv("http_proxy")
    download(session, file.url)
    assert lanes.taken == ["express", "requests", "express"]
    assert len(way.requests) == 1


def test_a_change_of_netrc_counts_after_a_moment(
    mirror: Mirror, lanes: Lanes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(express, "SETTLED_S", 0.0)
    file, session = mirror.serves(BODY), Session()
    download(session, file.url)
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    download(session, file.url)
    assert [each.header("Authorization") is not None for each in file.requests] == [False, True]
    assert set(lanes.taken) == {"express"}


def test_the_caps_of_pool_and_process_count_on_the_express_lane(
    mirror: Mirror, lanes: Lanes, spotless: Leftovers
) -> None:
    files = [mirror.serves(BODY, name=f"f{number}") for number in range(40)]
    with pooled(8, per_host=3) as pool:
        outcomes = pool.map([Spec(file.url, digests=sha256(BODY)) for file in files])
    assert all(outcome.ok for outcome in outcomes)
    assert set(lanes.taken) == {"express"}
    assert mirror.accepted <= 3


def test_a_session_in_two_native_threads_has_connections_of_each(mirror: Mirror, lanes: Lanes) -> None:
    file, session = mirror.serves(BODY), Session()
    threads = ThreadPool(1)
    for _ in range(3):
        assert download(session, file.url) == BODY
        assert [threads.apply(download, (session, file.url)) for _ in range(2)] == [BODY, BODY]
    threads.kill()
    assert set(lanes.taken) == {"express"}
    assert len({each.connection for each in file.requests}) == 2


def test_a_pool_that_was_thrown_away_is_asked_for_anew(mirror: Mirror, lanes: Lanes) -> None:
    file, session = mirror.serves(BODY), Session()
    for _ in range(3):
        assert download(session, file.url) == BODY
        pools.shared().close()
    assert set(lanes.taken) == {"express"}


def test_who_asks_http_client_to_print_sees_every_download(
    mirror: Mirror, lanes: Lanes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, session = mirror.serves(BODY), Session()
    download(session, file.url)
    monkeypatch.setattr(HTTPConnection, "debuglevel", 1)
    pools.shared().close()
    assert download(session, file.url) == BODY
    assert "send: b'GET " in capsys.readouterr().out
    assert lanes.taken == ["express", "requests"]
