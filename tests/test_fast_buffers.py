"""Large buffers are lent while a body flows and come back whatever happens; and a body that flows lets others go on."""

from __future__ import annotations

import gc
import socket
from typing import Any

import gevent
import gevent.socket
import pytest
import requests

from geofetch.errors import FetchError
from geofetch.session import Session
from geofetch.transport.buffers import LARGE, Buffers, buffers
from geofetch.transport.inflow import PIECE, Inflow
from tests.origin.scenes import Scene
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded
from tests.support.waiting import until

SIZE = 2_000_000
BODY = bytes(range(256)) * 100
BIG = Scene(body=BODY, times=SIZE // len(BODY))


def lent() -> int:
    return buffers().lent


@pytest.fixture(autouse=True)
def none_is_lent() -> Any:
    assert lent() == 0
    yield
    assert lent() == 0


def begun(session: Session, url: str) -> requests.Response:
    """A response that has a large buffer with something in it."""
    response = session.get(url, stream=True)
    for _ in range(2 + PIECE // 10_000):
        assert len(response.raw.read(10_000)) == 10_000
    assert lent() == 1
    return response


def test_a_buffer_is_lent_while_a_body_flows_and_used_again(mirror: Mirror) -> None:
    session, file = Session(), mirror.plays([BIG])
    whole = BODY * BIG.times
    for _ in range(3):
        response = begun(session, file.url)
        assert response.raw.read() == whole[10_000 * (2 + PIECE // 10_000) :]
        assert lent() == 0
    assert downloaded(file.url)[1] == whole
    assert len(buffers()._free) == 1
    assert mirror.accepted == 1


def test_a_small_body_needs_none(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Buffers, "take", lambda self: pytest.fail("a buffer was lent"))
    for how in ({}, {"chunked": 1000}, {"chunked": 100_000}):
        file = mirror.serves(b"x" * 30_000, drip=(3000, 0.001), **how)  # type: ignore[arg-type]
        assert len(Session().get(file.url).content) == 30_000
        assert len(downloaded(file.url)[1]) == 30_000


@pytest.mark.parametrize("stall", ["head", 0, 1_000_000])
def test_whoever_waits_has_none(mirror: Mirror, stall: Any) -> None:
    file = mirror.plays([BIG.but(stall=stall)])
    jobs = [gevent.spawn(lambda: Session().get(file.url).content) for _ in range(5)]
    file.arrived(times=5)
    until(lambda: lent() == 0, 5, "everybody waiting")
    for _ in range(50):
        gevent.idle()
    assert lent() == 0
    file.release()
    assert [len(content) for content in (gevent.joinall(jobs, 30), [job.get(False) for job in jobs])[1]] == [
        BIG.times * len(BODY)
    ] * 5


def test_it_comes_back_when_a_body_is_given_up(mirror: Mirror) -> None:
    file = mirror.plays([BIG])
    for end in ("close", "drop", "release"):
        response = begun(Session(), file.url)
        if end == "close":
            response.close()
        elif end == "release":
            response.raw.release_conn()
        del response
        gc.collect()
        assert lent() == 0, end
    mirror.left()


@pytest.mark.parametrize("how", [{"cut": 1_000_000}, {"reset": 1_000_000}])
@pytest.mark.parametrize("chunked", [False, 300_000])
def test_it_comes_back_after_an_error(mirror: Mirror, how: Any, chunked: Any) -> None:
    file = mirror.serves(BODY * BIG.times, chunked=chunked, **how)
    with pytest.raises(requests.RequestException):
        Session().get(file.url)
    assert lent() == 0
    with pytest.raises(FetchError):
        downloaded(file.url)


def test_it_comes_back_from_a_greenlet_that_is_killed(mirror: Mirror) -> None:
    file = mirror.plays([BIG])

    def slow() -> None:
        with begun(Session(), file.url):
            gevent.sleep(60)

    job = gevent.spawn(slow)
    until(lambda: lent() == 1, 10, "a buffer lent")
    job.kill()
    del job
    gc.collect()
    assert lent() == 0
    mirror.left()


def test_it_comes_back_after_a_timeout_and_what_it_held_is_not_lost(mirror: Mirror) -> None:
    whole = BODY * BIG.times
    file = mirror.serves(whole, stall=1_000_000)
    with Session().get(file.url, stream=True, timeout=(5, 0.2)) as response:
        got = b""
        with pytest.raises(Exception, match="timed out"):
            while True:
                got += response.raw.read(70_000)
        assert got == whole[:1_000_000]


def test_the_free_list_is_short() -> None:
    mine = Buffers()
    held = [mine.take() for _ in range(50)]
    assert len({id(buffer.bytes) for buffer in held}) == 50
    assert all(len(buffer.bytes) == LARGE for buffer in held)
    for buffer in held:
        mine.give(buffer)
    assert (mine.lent, len(mine._free)) == (0, 8)


@pytest.mark.parametrize("large", [False, True])
def test_whoever_finds_something_each_time_lets_the_others_go_on(large: bool) -> None:
    """There is always something to be read, so nothing waits, and nothing would switch."""
    ours, theirs = gevent.socket.socketpair()
    flow, turns = Inflow(ours), 0

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    job = gevent.spawn(other)
    try:
        for _ in range(1_000_000):
            assert socket.socket.send(theirs._sock, b"x" * 1000) == 1000
            assert flow.more(large)
            assert flow.take(PIECE) == b"x" * 1000
            if turns >= 3:
                break
        else:
            pytest.fail("nobody else ever ran")
    finally:
        job.kill()
        flow.drop()
        ours.close()
        theirs.close()
