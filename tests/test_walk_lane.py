"""The native lane of a large file: bytes go from the socket into buffers that a thread takes over, whole and in order,
never more of them than a few, and every one comes back.
"""

from __future__ import annotations

import contextlib
import gzip
import time
from collections.abc import Iterator, Mapping
from threading import get_native_id
from typing import Any

import gevent
import pytest

from geofetch import lane, stream
from geofetch.errors import Cancelled, DeadlineExceeded, DigestMismatch, FetchError, SourceError, Stalled
from geofetch.events import Attempt, Outcome
from geofetch.pipeline import LANE_FROM
from geofetch.pool import Pool
from geofetch.session import Session
from geofetch.spec import Profile, Spec
from geofetch.transport import Tap
from geofetch.transport.buffers import BROAD, Buffers, broad_buffers, buffers
from tests.origin.content import made
from tests.origin.scenes import Scene
from tests.support.certs import Authority
from tests.support.diary import sha256
from tests.support.doors import Door
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

BODY = made(12 * BROAD + 12_345, "lane")


def lent() -> tuple[int, int]:
    return broad_buffers().lent, buffers().lent


@pytest.fixture(autouse=True)
def none_is_lent() -> Iterator[None]:
    assert lent() == (0, 0)
    yield
    assert lent() == (0, 0)


class Listening:
    """Chunks as they were heard, each with its thread; and what was there when it failed."""

    def __init__(self, offload: bool, door: Door | None = None) -> None:
        self.offload = offload
        self.got = bytearray()
        self.threads: set[int] = set()
        self.failed_with: bytes | None = None
        self._door = door
        self._hub = get_native_id()

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        return {"chunk": self._on_chunk, "failed": self._on_failed}

    def _on_chunk(self, view: memoryview) -> None:
        assert view.readonly
        if self._door is not None and get_native_id() != self._hub:  # a body of no told length begins on the hub
            self._door.wait()
        self.threads.add(get_native_id())
        self.got += view

    def _on_failed(self, error: FetchError) -> None:
        self.failed_with = bytes(self.got)


@contextlib.contextmanager
def opened(door: Door) -> Iterator[None]:
    """Opened at the end, also of a test that fails: a pool waits for its threads."""
    try:
        yield
    finally:
        door.open()


@pytest.fixture(params=["http", "https"])
def port(request: pytest.FixtureRequest, origins: Origins) -> Mirror:
    mirror: Mirror = getattr(origins, request.param)()
    return mirror


@pytest.fixture(params=["express", "poured", "requests"])
def session(request: pytest.FixtureRequest, ca: Authority, monkeypatch: pytest.MonkeyPatch) -> Session:
    found = Session(Profile(ca=ca.path))
    # Who receives of a body that pours, or does not: the thread or the hub.
    monkeypatch.setattr(stream, "POURING", 1 if request.param == "poured" else len(BODY))
    if request.param == "requests":
        found.params = {"by": "requests"}
    return found


def download(source: Handle, *stages: Any, session: Session | None = None, **how: Any) -> Outcome:
    with pooled(stages=stages, session=session, retries=0, **how) as pool:
        (outcome,) = pool.map([source.url])
        return outcome


FRAMED = [
    pytest.param({}, id="length"),
    pytest.param({"announce": None}, id="close"),
    pytest.param({"chunked": 3_000}, id="small-chunks"),
    pytest.param({"chunked": 700_000}, id="large-chunks"),
    pytest.param({"drip": (150_000, 0.0005)}, id="drip"),
]


@pytest.mark.parametrize("how", FRAMED)
def test_every_byte_is_heard_once_and_in_order_on_both_sides(
    port: Mirror, session: Session, spotless: Leftovers, how: Any
) -> None:
    here, there = Listening(offload=False), Listening(offload=True)
    outcome = download(port.serves(BODY, **how), here, there, session=session)
    outcome.raise_for_error()
    assert here.got == there.got == BODY
    assert outcome.size == len(BODY)
    assert here.threads == {get_native_id()}
    assert there.threads - here.threads


def test_what_was_decoded_goes_the_same_way(mirror: Mirror, spotless: Leftovers) -> None:
    body = b"many of the same " * 400_000
    here, there = Listening(offload=False), Listening(offload=True)
    source = mirror.serves(gzip.compress(body, 1), headers={"Content-Encoding": "gzip"})
    download(source, here, there, decode=True).raise_for_error()
    assert here.got == there.got == body


def test_more_files_than_threads_all_get_their_turn(mirror: Mirror, spotless: Leftovers) -> None:
    bodies = [made(3 * BROAD + n, f"file {n}") for n in range(3 * lane.THREADS)]
    specs = [Spec(mirror.serves(body, name=f"f{n}").url, digests=sha256(body)) for n, body in enumerate(bodies)]
    with pooled(len(specs)) as pool:
        outcomes = pool.map(specs)
        assert [pool.store[outcome.location] for outcome in outcomes] == bodies


@pytest.mark.parametrize("how", FRAMED[:4])
def test_a_slow_thread_makes_the_receiver_wait_and_memory_is_bounded(
    port: Mirror, session: Session, spotless: Leftovers, how: Any
) -> None:
    door, most = Door(), 0
    here, there = Listening(offload=False), Listening(offload=True, door=door)
    with contextlib.closing(door), pooled(stages=[here, there], session=session) as pool, opened(door):
        job = pool.spawn(port.serves(BODY, **how).url)
        until(lambda: lent()[0] == lane.IN_FLIGHT, what="the lane full")
        for _ in range(20):
            gevent.sleep(0.002)
            most = max(most, len(here.got))
        assert lent()[0] == lane.IN_FLIGHT
        assert most <= lane.IN_FLIGHT * BROAD + LANE_FROM + 256 * 1024
        door.open()
        job.get(timeout=20).raise_for_error()
    assert there.got == BODY


def test_no_more_buffers_are_lent_than_a_file_may_have(
    mirror: Mirror, spotless: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    take = Buffers.take

    def counting(self: Buffers) -> Any:
        taken = take(self)
        seen.append(self.lent if self is broad_buffers() else 0)
        return taken

    monkeypatch.setattr(Buffers, "take", counting)
    body = made(30 * BROAD)
    there = Listening(offload=True)
    download(mirror.serves(body), there).raise_for_error()
    assert there.got == body
    assert max(seen) <= lane.IN_FLIGHT


CUTS = [LANE_FROM // 2, 3 * BROAD, 3 * BROAD + 777, len(BODY) - 1]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("framed", [{}, {"chunked": 5_000}, {"chunked": 700_000}], ids=["length", "small", "large"])
def test_what_came_before_a_cut_is_there_when_it_has_failed(
    port: Mirror, session: Session, spotless: Leftovers, cut: int, framed: Any
) -> None:
    here, there = Listening(offload=False), Listening(offload=True)
    outcome = download(port.serves(BODY, cut=cut, **framed), here, there, session=session)
    assert isinstance(outcome.error, SourceError)
    assert here.failed_with == there.failed_with
    assert there.failed_with == BODY[: outcome.fetched]
    lines = 0 if not framed else (cut // framed["chunked"] + 2) * 10
    assert cut - lines <= outcome.fetched <= cut


def test_what_came_before_a_silence_is_there_when_it_has_failed(port: Mirror, session: Session) -> None:
    there = Listening(offload=True)
    outcome = download(port.serves(BODY, stall=3_333_333), there, session=session, timeout=(5, 0.2))
    assert isinstance(outcome.error, Stalled)
    assert there.failed_with == BODY[:3_333_333]


@pytest.mark.parametrize("how", [{"reset": 3_000_000}, {"chunked": 100_000, "reset": 3_000_000}])
def test_a_reset_leaves_nothing_lent(port: Mirror, session: Session, spotless: Leftovers, how: Any) -> None:
    there = Listening(offload=True)
    outcome = download(port.serves(BODY, **how), there, session=session)
    assert isinstance(outcome.error, SourceError)
    assert there.failed_with == BODY[: outcome.fetched]


def test_a_refusal_on_the_thread_gives_every_buffer_back(port: Mirror, spotless: Leftovers, session: Session) -> None:
    seen = 0

    class Picky:
        offload = True

        def bind(self, attempt: Attempt) -> Mapping[str, Any]:
            def on_chunk(view: memoryview) -> None:
                nonlocal seen
                seen += 1
                if seen == 2:
                    raise LookupError("enough")

            return {"chunk": on_chunk}

    outcome = download(port.serves(BODY), Picky(), session=session)
    assert isinstance(outcome.error, FetchError)
    assert isinstance(outcome.error.__cause__, LookupError)
    assert seen == 2
    assert lent() == (0, 0)


@pytest.mark.parametrize("session", ["express", "requests"], indirect=True)
def test_a_cancel_waits_for_the_thread_and_gives_every_buffer_back(
    port: Mirror, session: Session, spotless: Leftovers
) -> None:
    door = Door()
    there = Listening(offload=True, door=door)
    with contextlib.closing(door), pooled(stages=[there], session=session) as pool, opened(door):
        job = pool.spawn(port.serves(BODY).url)
        until(lambda: door.waiting and lent()[0] == lane.IN_FLIGHT, what="the lane full, and the thread at the door")
        job.cancel()
        gevent.sleep(0.02)
        assert there.failed_with is None
        door.open()
        assert isinstance(job.get(timeout=10).error, Cancelled)
    assert there.failed_with == BODY[: len(there.got)]
    assert 0 < len(there.got) <= BROAD, "what had not begun was dropped"


def waiting(pool: Pool, source: Handle) -> Any:
    job = pool.spawn(source.url)
    source.arrived()
    for _ in range(100):
        gevent.sleep(0.002)
    return job


def test_whoever_waits_for_the_first_byte_has_no_buffer(port: Mirror, session: Session, spotless: Leftovers) -> None:
    source = port.serves(BODY, stall=0)
    with pooled(session=session) as pool:
        job = waiting(pool, source)
        assert lent() == (0, 0)
        source.release()
        job.get(timeout=10).raise_for_error()


@pytest.mark.parametrize("session", ["express", "requests"], indirect=True)
def test_where_many_wait_none_keeps_one_to_gather_more(
    port: Mirror, session: Session, spotless: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = port.serves(BODY, stall=2 * BROAD + 5_000)
    with pooled(session=session) as pool:
        job = waiting(pool, source)
        until(lambda: lent() == (1, 0), 10.0, "the last bytes before the stall in a buffer")
        gevent.sleep(0.1)
        assert lent() == (1, 0)
        job.cancel()
    monkeypatch.setattr(lane, "MANY", 0)
    with pooled(session=session) as pool:
        job = waiting(pool, source)
        assert lent() == (0, 0)
        source.release()
        job.get(timeout=10).raise_for_error()


def test_a_view_that_is_kept_is_not_filled_with_other_bytes(mirror: Mirror, spotless: Leftovers) -> None:
    kept: list[memoryview] = []
    with pooled(hooks={"chunk": lambda attempt, view: kept.append(view)}) as pool:
        pool.map([mirror.serves(BODY).url])
    with pytest.raises(ValueError, match="released"):
        bytes(kept[0])


def test_a_thousand_tiny_chunks_let_the_others_go_on(port: Mirror, session: Session, spotless: Leftovers) -> None:
    there, turns = Listening(offload=True), 0

    def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    tiny = Scene(body=b"x" * 20_000, times=100, chunked=7, then="close")
    job = gevent.spawn(other)
    try:
        download(port.plays([tiny]), there, session=session).raise_for_error()
    finally:
        job.kill()
    assert len(there.got) == 2_000_000
    assert turns > 10


# ----------------------------------------------------------------------------- bodies that pour: the thread receives


class Drained:
    """Bytes that a native thread has received itself, each time that it was asked to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: list[int] = []
        drain = lane.Lane.drain

        def counting(its: lane.Lane, tap: Tap) -> bool:
            try:
                return drain(its, tap)
            finally:
                self.counts.append(tap.count)

        monkeypatch.setattr(lane.Lane, "drain", counting)


@pytest.fixture
def drained(monkeypatch: pytest.MonkeyPatch) -> Drained:
    monkeypatch.setattr(stream, "POURING", 1)
    return Drained(monkeypatch)


def test_what_pours_is_received_by_the_thread_that_works_on_it(
    mirror: Mirror, spotless: Leftovers, drained: Drained
) -> None:
    sources, there = [mirror.serves(BODY, name=f"f{n}") for n in range(2)], Listening(offload=True)
    tallies: list[int] = []
    with pooled(1, stages=[there], progress=lambda tally: tallies.append(tally.bytes_done)) as pool:
        outcomes = pool.map([Spec(source.url, digests=sha256(BODY), size=len(BODY)) for source in sources])
    assert [(outcome.state, outcome.verified, outcome.size) for outcome in outcomes] == [
        ("stored", "digest", len(BODY)),
        ("stored", "digest", len(BODY)),
    ]
    assert there.got == BODY + BODY
    assert sum(drained.counts) > len(BODY), "most of both"
    assert get_native_id() not in there.threads
    assert tallies[-1] == 2 * len(BODY)
    assert mirror.accepted == 1, "a connection that a thread has read to the end rests as any other"


def test_a_thread_that_receives_gives_others_their_turn(
    mirror: Mirror, spotless: Leftovers, drained: Drained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "TURN_S", 0.0)
    bodies = [made(6 * BROAD + n, f"file {n}") for n in range(3 * lane.THREADS)]
    specs = [Spec(mirror.serves(body, name=f"f{n}").url, digests=sha256(body)) for n, body in enumerate(bodies)]
    with pooled(len(specs)) as pool:
        outcomes = pool.map(specs)
        assert [pool.store[outcome.location] for outcome in outcomes] == bodies
    assert max(drained.counts) <= BROAD
    assert len(drained.counts) > len(bodies)


@pytest.mark.parametrize(
    ("how", "inline"),
    [({"chunked": 700_000}, False), ({"announce": None}, False), ({}, True)],
    ids=["chunks", "no-length", "seen-on-the-hub"],
)
def test_what_the_hub_has_to_see_is_received_by_the_hub(
    mirror: Mirror, spotless: Leftovers, drained: Drained, how: Any, inline: bool
) -> None:
    there = Listening(offload=True)
    stages = [there, Listening(offload=False)] if inline else [there]
    download(mirror.serves(BODY, **how), *stages).raise_for_error()
    assert there.got == BODY
    assert sum(drained.counts) == 0


def test_what_comes_through_tls_is_received_by_the_hub(origins: Origins, ca: Authority, drained: Drained) -> None:
    download(origins.https().serves(BODY), session=Session(Profile(ca=ca.path))).raise_for_error()
    assert sum(drained.counts) == 0


def test_a_cancel_waits_for_the_thread_that_receives(mirror: Mirror, spotless: Leftovers, drained: Drained) -> None:
    door, late = Door(), 3 * BROAD

    class Late(Listening):
        def _on_chunk(self, view: memoryview) -> None:
            self.threads.add(get_native_id())
            self.got += view
            if len(self.got) > late:
                door.wait()

    there = Late(offload=True)
    with contextlib.closing(door), pooled(stages=[there]) as pool, opened(door):
        job = pool.spawn(mirror.serves(BODY).url)
        until(lambda: door.waiting, what="the thread at the door")
        job.cancel()
        gevent.sleep(0.02)
        assert there.failed_with is None
        door.open()
        assert isinstance(job.get(timeout=10).error, Cancelled)
        (attempt,) = job.outcome.attempts
    assert there.failed_with == BODY[: len(there.got)]
    assert len(there.got) <= attempt.received_bytes < len(BODY), "what had not begun was dropped"
    assert mirror.accepted == 1


def test_wrong_bytes_are_found_wherever_they_were_received(mirror: Mirror, drained: Drained) -> None:
    other = BODY[:-1] + bytes([BODY[-1] ^ 1])
    with pooled(retries=0) as pool:
        (outcome,) = pool.map([Spec(mirror.serves(other).url, digests=sha256(BODY))])
    assert isinstance(outcome.error, DigestMismatch)
    assert sum(drained.counts) > 0


def test_what_stands_behind_a_body_is_not_received_with_it(
    mirror: Mirror, spotless: Leftovers, drained: Drained
) -> None:
    smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"
    there = Listening(offload=True)
    sources = [mirror.serves(BODY, extra=smuggled), mirror.serves(b"good", name="next")]
    with pooled(1, stages=[there]) as pool:
        outcomes = pool.map([source.url for source in sources])
    assert [outcome.size for outcome in outcomes] == [len(BODY), 4]
    assert there.got == BODY + b"good"
    assert sum(drained.counts) > 0
    assert mirror.accepted == 2, "that connection is not to be trusted"


def test_a_deadline_strikes_where_the_thread_receives(mirror: Mirror, spotless: Leftovers, drained: Drained) -> None:
    class Slow(Listening):
        def _on_chunk(self, view: memoryview) -> None:
            time.sleep(0.05)
            self.got += view

    there = Slow(offload=True)
    with pooled(stages=[there], deadline=0.3) as pool:
        (outcome,) = pool.map([mirror.serves(BODY, times=20).url])
    assert isinstance(outcome.error, DeadlineExceeded)
    assert there.failed_with == (20 * BODY)[: len(there.got)]
    assert sum(drained.counts) >= len(there.got) - BROAD


def test_what_is_to_be_decoded_is_received_by_the_hub(mirror: Mirror, spotless: Leftovers, drained: Drained) -> None:
    there = Listening(offload=True)
    source = mirror.serves(gzip.compress(BODY, 1), headers={"Content-Encoding": "gzip"})
    download(source, there, decode=True).raise_for_error()
    assert there.got == BODY
    assert sum(drained.counts) == 0


def test_an_exception_from_elsewhere_while_the_thread_is_busy_is_not_lost(
    mirror: Mirror, spotless: Leftovers, drained: Drained
) -> None:
    """It strikes before the thread begins to receive, where what it has is waited for."""
    door, most, now = Door(), 0, 0

    class Slow(Listening):
        def _on_chunk(self, view: memoryview) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            door.wait()
            self.got += view
            now -= 1

    def struck(pool: Pool, there: Slow) -> Any:
        return pool.walk_here(Spec(mirror.serves(BODY).url))

    there = Slow(offload=True)
    with contextlib.closing(door), pooled(stages=[there], retries=0) as pool, opened(door):
        walking = gevent.spawn(struck, pool, there)
        until(lambda: door.waiting, what="the thread at the door")
        gevent.sleep(0.2)
        walking.kill(LookupError("from elsewhere"), block=False)
        gevent.sleep(0.2)
        door.open()
        try:
            ended = walking.get(timeout=10)
        except LookupError:
            ended = None
    assert most == 1, "never two hooks of one file at once"
    assert ended is None or not ended.ok
    assert BODY.startswith(there.got)


def test_a_body_that_drips_while_the_thread_is_slow_is_too_slow(
    mirror: Mirror, spotless: Leftovers, drained: Drained
) -> None:
    class Slow(Listening):
        def _on_chunk(self, view: memoryview) -> None:
            time.sleep(2 * lane.TURN_S)
            self.got += view

    there, drip = Slow(offload=True), Scene(body=BODY, drip=(2, 0.01))
    with pooled(stages=[there], retries=0, low_speed=(100_000, 0.5), deadline=20) as pool:
        (outcome,) = pool.map([mirror.plays([drip]).url])
    assert isinstance(outcome.error, Stalled)
    assert there.failed_with == BODY[: outcome.fetched]


def test_a_refusal_where_the_thread_receives_is_told_before_the_network_is_waited_for(
    mirror: Mirror, spotless: Leftovers, drained: Drained
) -> None:
    class Full(Listening):
        def _on_chunk(self, view: memoryview) -> None:
            self.got += view
            if len(self.got) == 3 * BROAD:
                raise OSError("no space left")

    source = mirror.serves(BODY, stall=3 * BROAD)
    outcome = download(source, Full(offload=True), timeout=(5, 60), deadline=20)
    assert "no space left" in str(outcome.error)
    assert sum(drained.counts) > 0
