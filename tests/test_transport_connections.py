"""When a connection is used again, when not, and that its slot is given back on every path.  Counted at the server."""

from __future__ import annotations

import base64
import gc
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import gevent
import pytest
import requests
from gevent.threadpool import ThreadPool
from requests.adapters import HTTPAdapter

import geofetch
from geofetch import limits
from geofetch.errors import BadResponse, Stalled, Unreachable
from geofetch.session import Session
from geofetch.spec import Gate, Ticket
from geofetch.stream import Patience
from geofetch.transport import OpenGate, pools, rest
from geofetch.transport.connection import PlainConnection
from tests.origin.scenes import GATE, Scene, raw
from tests.support.certs import Authority
from tests.support.mirrors import Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded, refused, session_of
from tests.support.waiting import until
from tests.support.walking import in_subprocess

OK = Scene(body=b"x" * 100)
SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origins: Origins) -> Mirror:
    """An HTTP port, and an HTTPS port."""
    return origins.http() if request.param == "http" else origins.https()


@pytest.fixture
def session(ca: Authority) -> Session:
    return session_of(ca=ca.pem)


# ------------------------------------------------------------------------------------------------------- kept alive


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(OK, id="length"),
        pytest.param(OK.but(chunked=40), id="chunks"),
        pytest.param(Scene(), id="nothing"),
        pytest.param(Scene(status=204), id="204"),
        pytest.param(Scene(status=304), id="304"),
        pytest.param(OK.but(status=404), id="404"),
        pytest.param(OK.but(gzip=True), id="gzip"),
        pytest.param(OK.but(times=20_000), id="2-mb"),
        pytest.param(OK.but(interim=(103, 102, 100)), id="interim-answers"),
    ],
)
def test_a_connection_is_used_again(either: Mirror, session: Session, scene: Scene) -> None:
    file = either.plays([scene])
    for _ in range(3):
        assert session.get(file.url).status_code == scene.status
    with session.get(file.url, stream=True) as streamed:
        assert b"".join(streamed.iter_content(1000)) == (
            b"" if scene.status in (204, 304) else scene.body * scene.times
        )
    assert session.head(file.url).status_code == scene.status
    assert either.accepted == 1


def test_a_download_uses_a_connection_again(either: Mirror, session: Session) -> None:
    for scene in (OK, OK.but(chunked=40), Scene()):
        for _ in range(3):
            assert downloaded(either.plays([scene]).url, session)[1] == scene.body
    assert either.accepted == 1


def test_an_idle_connection_that_the_server_closed_is_replaced(either: Mirror, session: Session) -> None:
    file = either.plays([OK])
    for method in ("GET", "POST", "GET"):
        assert session.request(method, file.url, data=b"ab" if method == "POST" else None).content == OK.body
        either.drops()
        either.left()
    assert either.accepted == 3
    assert file.hits == 3


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_closed_as_the_next_request_arrives_it_is_asked_once_more(
    either: Mirror, session: Session, end: Any, method: str
) -> None:
    file = either.plays([OK.but(reused=end)])
    session.get(file.url)
    assert session.request(method, file.url, data=b"body" if method == "PUT" else None).ok
    assert [(request.method, request.connection) for request in file.requests] == [("GET", 1), (method, 1), (method, 2)]
    if method == "PUT":
        assert file.requests[-1].body == b"body"


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize(
    ("method", "data"),
    [
        pytest.param("POST", b"body", id="POST"),
        pytest.param("PATCH", b"body", id="PATCH"),
        pytest.param("PUT", "generator", id="PUT-from-a-generator"),
    ],
)
def test_what_may_not_be_said_twice_is_not(mirror: Mirror, session: Session, end: Any, method: str, data: Any) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"body"

    file = mirror.plays([OK.but(reused=end)])
    session.get(file.url)
    with pytest.raises(requests.ConnectionError):
        session.request(method, file.url, data=pieces() if data == "generator" else data)
    assert file.hits == 2


@pytest.mark.parametrize("cut", [{"cut": "head"}, {"reset": "head"}])
def test_it_is_asked_once_more_and_no_more(mirror: Mirror, session: Session, cut: dict[str, Any]) -> None:
    file = mirror.plays([OK, Scene(**cut)])
    session.get(file.url)
    with pytest.raises(requests.ConnectionError):
        session.get(file.url)
    assert file.hits == 3


@pytest.mark.parametrize("cut", [{"cut": "head"}, {"reset": "head"}])
def test_a_new_connection_that_closes_is_an_error_at_once(
    mirror: Mirror, session: Session, cut: dict[str, Any]
) -> None:
    file = mirror.serves(**cut)
    with pytest.raises(requests.ConnectionError):
        session.get(file.url)
    assert file.hits == 1


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"H", id="one-byte"),
        pytest.param(b"HTTP/1.1 200 OK", id="status-line-without-end"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="interim-answer"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n", id="part-of-an-interim-answer"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1", id="part-of-the-head"),
    ],
)
@pytest.mark.parametrize("end", ["chop", "reset"])
def test_where_a_byte_of_an_answer_came_nothing_is_asked_again(
    mirror: Mirror, session: Session, part: bytes, end: Any
) -> None:
    file = mirror.plays([OK, raw(part, then=end), OK])
    session.get(file.url)
    with suppress(requests.RequestException):  # a head that is cut between two lines passes, as it does with requests
        session.get(file.url)
    assert file.hits == 2
    assert mirror.accepted == 1


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n", id="status-line-alone"),
        pytest.param(b"HTTP/1.1 200 OK\r\nServer: x\r\n", id="between-two-lines"),
        pytest.param(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 1", id="in-a-line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", id="after-a-length"),
    ],
)
def test_a_head_without_its_end_is_no_empty_file(mirror: Mirror, session: Session, part: bytes) -> None:
    assert "head" in str(refused(Unreachable, mirror.raw(part, then="chop").url, session))
    assert downloaded(mirror.raw(b"HTTP/1.1 200 OK\r\n\r\n", then="chop").url, session)[1] == b""


# --------------------------------------------------------------------------------------------------- not used again


def followed_by(more: bytes, scene: Scene) -> Scene:
    """The scene and what follows it in one piece: whoever has its end has the rest too."""
    script = scene.script()
    steps = [*script["head"], *script["body"]]
    return raw(b"".join(base64.b64decode(data) * times for _, data, times in steps) + more, then="keep").but(
        body=scene.body
    )


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(followed_by(b"more", OK), id="bytes-after-the-end"),
        pytest.param(followed_by(b"more", Scene()), id="bytes-after-nothing"),
        pytest.param(followed_by(b"more", OK.but(chunked=40)), id="bytes-after-the-last-chunk"),
        pytest.param(followed_by(SMUGGLED, OK), id="a-smuggled-answer"),
        pytest.param(followed_by(SMUGGLED, OK.but(chunked=40)), id="a-smuggled-answer-after-chunks"),
        pytest.param(OK.but(headers={"Content-Length": "5"}, chunked=40), id="transfer-encoding-and-length"),
        pytest.param(OK.but(headers={"Connection": "close"}, then="close"), id="connection-close"),
        pytest.param(OK.but(version="HTTP/1.0", then="close"), id="http-1.0"),
        pytest.param(OK.but(announce=None), id="no-length"),
    ],
)
def test_a_connection_that_is_not_used_again(either: Mirror, session: Session, scene: Scene) -> None:
    file = either.plays([scene])
    for _ in range(3):
        assert session.get(file.url).content == scene.body
        assert downloaded(file.url, session)[1] == scene.body
    assert [connection.requests for connection in either.connections] == [1] * 6
    either.left()


def test_bytes_that_follow_later_are_never_an_answer(mirror: Mirror, session: Session) -> None:
    first = mirror.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", GATE, SMUGGLED, then="hang")
    assert session.get(first.url).content == b"x"
    first.release()
    first.arrived()
    (conn,) = resting()
    until(lambda: not conn.is_connected, 5, "the bytes that nobody asked for")
    assert session.get(mirror.plays([OK]).url).content == OK.body
    assert mirror.accepted == 2


def resting() -> list[Any]:
    """The connections of this hub that rest."""
    return list(pools.shared().rest._since)


@pytest.mark.parametrize("scene", [OK.but(stall=50), OK.but(chunked=40, stall=50), OK.but(announce=None, stall=50)])
def test_an_answer_given_up_early_closes_its_connection(either: Mirror, session: Session, scene: Scene) -> None:
    file = either.plays([scene])
    response = session.get(file.url, stream=True)
    assert response.raw.read1(10)
    assert limits.process.used == 1
    response.close()
    assert limits.process.used == 0
    either.left()
    response.close()


def test_an_answer_that_is_dropped_closes_its_connection(either: Mirror, session: Session) -> None:
    file = either.plays([OK.but(stall=50)])
    response = session.get(file.url, stream=True)
    assert limits.process.used == 1
    del response
    gc.collect()
    assert limits.process.used == 0
    either.left()


def test_an_answer_in_a_with_block_is_closed_at_its_end(mirror: Mirror, session: Session) -> None:
    with pytest.raises(ZeroDivisionError), session.get(mirror.plays([OK.but(stall=50)]).url, stream=True):
        raise ZeroDivisionError
    assert limits.process.used == 0
    mirror.left()


@pytest.mark.parametrize("when", ["head", 50])
def test_a_kill_closes_the_connection_and_gives_the_slot_back(either: Mirror, session: Session, when: Any) -> None:
    file = either.plays([OK.but(stall=when)])
    job = gevent.spawn(session.get, file.url)
    file.arrived()
    assert limits.process.used == 1
    job.kill()
    assert limits.process.used == 0
    either.left()


# ------------------------------------------------------------------------------------------------------ interim answers


@pytest.mark.parametrize("status", [100, 102, 103])
def test_interim_answers_are_read_past_and_bounded(mirror: Mirror, session: Session, status: int) -> None:
    assert session.get(mirror.plays([OK.but(interim=(status,) * 16)]).url).content == OK.body
    for scene in (OK.but(interim=(status,) * 17), Scene(storm=status)):
        with pytest.raises(requests.ConnectionError, match="interim answers"):
            session.get(mirror.plays([scene]).url)
        refused(BadResponse, mirror.plays([scene]).url, session)
    mirror.left()


# ----------------------------------------------------------------------------------------------------------------- caps


def held_back(mirror: Mirror, at_once: int, calls: list[Callable[[str], Any]]) -> None:
    """All calls at one stalled file: so many come at once and no more, all of them in the end."""
    file = mirror.plays([OK.but(stall="head")])
    jobs = [gevent.spawn(call, file.url) for call in calls]
    file.arrived(times=at_once)
    # Whoever could come has: everybody else waits at the gate, and this many turns show it.
    for _ in range(50):
        gevent.idle()
    assert (file.hits, mirror.open, mirror.accepted) == (at_once, at_once, at_once)
    file.release()
    gevent.joinall(jobs, timeout=20, raise_error=True)
    assert (file.hits, mirror.accepted) == (len(calls), at_once)


def test_a_sessions_cap_by_host(origins: Origins) -> None:
    session = Session(per_host=2)
    held_back(origins.http(), 2, [session.get] * 7)
    one, other = origins.http().plays([OK.but(stall="head")]), origins.http().plays([OK.but(stall="head")])
    jobs = [gevent.spawn(session.get, file.url) for file in (one, other) for _ in range(2)]
    one.arrived(times=2)
    other.arrived(times=2)  # another host has places of its own
    one.release()
    other.release()
    gevent.joinall(jobs, timeout=20, raise_error=True)


def test_a_sessions_cap_over_all_hosts(mirror: Mirror) -> None:
    held_back(mirror, 3, [Session(max_connections=3, per_host=5).get] * 6)


def test_a_cap_of_the_process_holds_for_all_sessions(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("total", "per_host"):
        monkeypatch.setattr(limits.process, name, getattr(limits.process, name))
    geofetch.configure(per_host=2)
    held_back(mirror, 2, [Session().get, Session(per_host=9).get, geofetch.get] * 2)


def test_a_session_is_never_wider_than_the_process(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("total", "per_host"):
        monkeypatch.setattr(limits.process, name, getattr(limits.process, name))
    geofetch.configure(max_connections=1)
    held_back(mirror, 1, [Session(max_connections=9, per_host=9).get] * 3)


class Doorman:
    """A gate that lets everybody through and remembers whom."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def enter(self, host: str, timeout_s: float | None = None) -> Ticket:
        self.hosts.append(host)
        return OpenGate().enter(host, timeout_s)

    def narrowed(self, total: int | None = None, per_host: int | None = None) -> Gate:
        return self


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://LOCALHOST:{port}/", "localhost:{port}"),
        ("http://user:secret@localhost:{port}/", "localhost:{port}"),
        ("http://localhost/", "localhost:80"),
        ("http://localhost:80/", "localhost:80"),
        ("https://localhost/", "localhost:443"),
    ],
)
def test_a_host_is_counted_once_however_it_is_written(origins: Origins, url: str, host: str) -> None:
    """The walk takes its slots by host and port (stream.host_of); a Session's own must be the same ones."""
    doorman, port = Doorman(), str(origins.refusing().port)
    session = Session(gate=doorman)
    session.trust_env = False
    with pytest.raises(requests.ConnectionError):
        session.get(url.format(port=port), proxies={"all": f"http://localhost:{port}"})
    assert doorman.hosts == [host.format(port=port)]


# ----------------------------------------------------------------------------------------------------- slots come back


def no_hook(response: Any, **_: Any) -> None:
    raise LookupError("a hook's own")


FAILING: dict[str, Callable[[Origins, Session], Any]] = {
    "refused": lambda origins, session: session.get(origins.refusing().url),
    "no name": lambda origins, session: session.get("http://nowhere.invalid/"),
    "reset": lambda origins, session: session.get(origins.resetting().url),
    "closed": lambda origins, session: session.get(origins.hanging_up().url),
    "silent": lambda origins, session: session.get(origins.silent().url, timeout=0.05),
    "silent TLS": lambda origins, session: session.get(origins.silent("https").url, timeout=0.05),
    "full": lambda origins, session: session.get(origins.full().url, timeout=0.05),
    "untrusted": lambda origins, session: Session().get(origins.https().url),
    "cut": lambda origins, session: session.get(origins.http().serves(b"x" * 100, cut=50).url),
    "bad chunk": lambda origins, session: session.get(
        origins.http().raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").url
    ),
    "bad status line": lambda origins, session: session.get(origins.http().raw(b"hello\r\n").url),
    "no gzip": lambda origins, session: session.get(
        origins.http().serves(b"x" * 100, headers={"Content-Encoding": "gzip"}).url
    ),
    "two lengths": lambda origins, session: session.get(origins.http().serves(b"x", announce=(1, 2)).url),
    "too many redirects": lambda origins, session: session.get(origins.http().loops().url),
    "redirect to a file": lambda origins, session: session.get(
        origins.http().redirects("file:///etc/passwd", stall=0, body=b"x").url
    ),
    "redirect to nowhere": lambda origins, session: session.get(origins.http().redirects("http://[::1").url),
    "proxy refuses": lambda origins, session: session.get(origins.http().url, proxies={"all": origins.refusing().url}),
    "no tunnel": lambda origins, session: session.get(
        origins.https().url, proxies={"all": origins.proxy(connect=403).url}
    ),
    "hook": lambda origins, session: session.get(
        origins.http().serves(b"x" * 100, stall=50).url, hooks={"response": no_hook}
    ),
    "bad URL": lambda origins, session: session.get("http://:80/"),
    "unfinished upload": lambda origins, session: session.post(
        origins.http().serves(b"x").url, data=(1 // 0 for _ in range(3))
    ),
}


@pytest.mark.parametrize("how", FAILING)
def test_a_slot_comes_back_whatever_fails(origins: Origins, session: Session, how: str) -> None:
    """At once, with the exception and its traceback still held; with one slot the next call would wait for ever."""
    with pytest.raises((requests.RequestException, LookupError, ZeroDivisionError)) as caught:
        FAILING[how](origins, session)
    assert limits.process.used == 0, caught.value


class Choosy(DefaultCookiePolicy):
    def set_ok(self, cookie: Any, request: Any) -> bool:
        raise LookupError("a policy's own")


def refused_by_a_policy(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.cookies.set_policy(Choosy())


def refused_by_every_policy(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DefaultCookiePolicy, "set_ok", Choosy.set_ok)


def refused_by_a_hand_on_the_adapter(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def chokes(*_: Any) -> requests.Response:
        raise LookupError("a hand's own")

    monkeypatch.setattr(HTTPAdapter, "build_response", chokes)


@pytest.mark.parametrize("how", [refused_by_a_policy, refused_by_every_policy, refused_by_a_hand_on_the_adapter])
@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda session, url: session.get(url), id="session"),
        pytest.param(lambda session, url: downloaded(url, session), id="download"),
    ],
)
def test_an_answer_that_somebody_chokes_on_is_closed(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, how: Any, call: Any
) -> None:
    """With its traceback still held: an open connection that no cap counts."""
    session = Session()
    how(session, monkeypatch)
    file = mirror.serves(b"x" * 100, stall=50, headers={"Set-Cookie": "a=b"})
    with pytest.raises(LookupError, match="'s own") as caught:
        call(session, file.url)
    assert limits.process.used == 0
    until(lambda: mirror.open == 0, 5, f"closed, {caught.value!r}")


@pytest.mark.parametrize("cookie", [{}, {"Set-Cookie": "a=b"}], ids=["no-cookie", "a-cookie"])
@pytest.mark.parametrize("fast", [True, False], ids=["our-way", "http.client's"])
def test_a_charset_without_a_value_is_no_charset(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, cookie: dict[str, str], fast: bool
) -> None:
    """requests takes it for True up to 2.33.0, and fails over that."""
    monkeypatch.setattr(requests.utils, "_parse_content_type_header", lambda told: ("text/html", {"charset": True}))
    monkeypatch.setattr(PlainConnection, "fast", fast)
    file = mirror.serves(b"x", headers={"Content-Type": "text/html; charset", **cookie})
    session = Session()
    response = session.get(file.url)
    assert (response.content, response.encoding) == (b"x", None)
    assert dict(response.cookies) == dict(session.cookies) == ({"a": "b"} if cookie else {})
    assert downloaded(file.url)[1] == b"x"


def test_a_handshake_that_drips_ends_in_time(origins: Origins, session: Session) -> None:
    """A byte each 20 ms: no single read takes long, and the handshake as a whole would take minutes."""
    dripping = origins.https(greets=["drip"])
    with pytest.raises(requests.exceptions.ConnectTimeout):
        session.get(dripping.url, timeout=(0.2, 5))
    refused(Stalled, dripping.url, session, Patience(connect_s=0.2))
    dripping.left()


def test_one_slot_serves_call_after_call(mirror: Mirror) -> None:
    session = Session(max_connections=1)
    file, moved = mirror.plays([OK]), mirror.chain(mirror.plays([OK]), 3)
    with gevent.Timeout(10):
        for _ in range(3):
            assert session.get(file.url).content == OK.body
            assert session.get(moved.url).content == OK.body
            assert session.head(file.url).ok
            with session.get(file.url, stream=True) as response:
                assert next(response.iter_content(10))
            assert downloaded(moved.url, session)[1] == OK.body


def test_connections_at_rest_have_an_end(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "AT_REST", 3)
    file = mirror.plays([OK.but(stall="head")])
    jobs = [gevent.spawn(Session().get, file.url) for _ in range(6)]
    file.arrived(times=6)
    file.release()
    gevent.joinall(jobs, timeout=10, raise_error=True)
    until(lambda: mirror.open == 3, 5, "all but three closed")
    monkeypatch.setattr(rest, "REST_S", 0.0)
    assert Session().get(file.url).content == OK.body
    until(lambda: mirror.open <= 1, 5, "those that rested too long closed")


def test_a_socket_belongs_to_the_hub_that_made_it(mirror: Mirror) -> None:
    """Another native thread opens its own connection, and closes one that was handed to it."""
    file = mirror.plays([OK])
    session = Session()
    session.get(file.url)
    elsewhere = gevent.get_hub().threadpool
    assert elsewhere.apply(lambda: session.get(file.url).content) == OK.body
    assert mirror.accepted == 2
    streamed = session.get(file.url, stream=True)
    assert mirror.accepted == 2
    session.get(file.url)
    assert mirror.accepted == 3
    streamed.close()


def test_an_answer_that_outlives_its_thread_is_closed_all_the_same(either: Mirror, session: Session) -> None:
    file = either.plays([OK.but(stall=50)])
    thread = ThreadPool(1)
    response = thread.apply(lambda: session.get(file.url, stream=True))
    thread.kill()
    response.close()
    assert limits.process.used == 0
    either.left()


def test_what_an_ended_thread_left_open_is_closed_by_the_next(mirror: Mirror, secure: Mirror, session: Session) -> None:
    files = [mirror.plays([OK]), secure.plays([OK])]

    def calls() -> None:
        for file in files:
            assert session.get(file.url).content == OK.body

    for _ in range(3):
        thread = ThreadPool(1)
        thread.apply(calls)
        assert (mirror.open, secure.open) == (1, 1)  # its own, and nobody's before it
        thread.kill()
    calls()
    assert (mirror.accepted, secure.accepted) == (4, 4)


def test_no_thread_says_a_word_when_the_process_ends(mirror: Mirror) -> None:
    code = """
        import sys
        from gevent.threadpool import ThreadPool
        session, before = geofetch.Session(), len(sys._current_frames())
        ended = ThreadPool(1)
        assert ended.apply(lambda: session.get(url).ok)
        ended.kill()
        while len(sys._current_frames()) > before:  # gevent 26.9 crashes where a thread ends with the process
            gevent.sleep(0.001)
        assert gevent.get_hub().threadpool.apply(lambda: session.get(url).ok)
        print("done")
    """
    assert in_subprocess(code, url=mirror.plays([OK]).url) == "done\n"


def test_no_delay_for_small_writes(mirror: Mirror) -> None:
    """A head and a body in two packets meet the peer's delayed acknowledgement otherwise: 40 ms a call."""
    Session().get(mirror.plays([OK]).url)
    (conn,) = resting()
    assert conn.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
