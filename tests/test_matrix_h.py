"""The fault matrix, part H: greenlets, hooks, cancellation.  The ids are its rows.

H1 kills a download in each state that it can be in, from outside, several at once.  Whatever state that is: one
Outcome and one ``finished`` each, no descriptor, greenlet, slot or part left, nothing under a final name that is not
whole, and the next run ends complete with a record for every file.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

import geofetch
from geofetch import limits
from geofetch.errors import DeadlineExceeded, FetchError
from geofetch.events import Attempt, Outcome, Verdict
from geofetch.hubs import own
from geofetch.pipeline import LANE_FROM
from geofetch.pool import AHEAD, Pool
from geofetch.records import Recorder
from geofetch.spec import Spec
from geofetch.store import FileStore, native
from geofetch.transport import pools as connections
from geofetch.transport.resolve import _Names
from tests.origin.content import made
from tests.origin.scenes import GATE, Scene
from tests.support.diary import REFUSING, Diary, Raising, sha256
from tests.support.doors import Door
from tests.support.leftovers import Leftovers, descriptors, greenlets
from tests.support.mirrors import Mirror, Origins
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import in_subprocess, pooled

BODY = made(3_000, "matrix")
LARGE = made(3 * LANE_FROM, "matrix")
#: Downloads that are killed at the same moment.
AT_ONCE = 3


@dataclass
class Bench:
    """What a state needs to be brought about, and what is put away afterwards."""

    origins: Origins
    mirror: Mirror
    folder: Path
    patch: pytest.MonkeyPatch
    pool: dict[str, Any] = field(default_factory=dict)
    after: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def door(self) -> Door:
        door = Door()
        self.after.callback(door.close)
        return door


#: What the specs ask, and how to wait until all of them are in that state.
State = Callable[[Bench], tuple[list[str], Callable[[], object]]]


def at_once(url: str) -> list[str]:
    return [url] * AT_ONCE


def queued(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    return at_once(bench.mirror.serves(BODY).url), lambda: None


def waiting_for_a_slot(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    held = bench.mirror.serves(BODY, stall="head")
    bench.pool["size"] = 1
    first = held.url
    return [first, *at_once(bench.mirror.serves(BODY).url)], held.arrived


def looking_up_its_host(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    """The resolver's threads are all taken, so that no answer comes."""
    door, threads = bench.door(), gevent.get_hub().threadpool
    taken = [threads.spawn(door.wait) for _ in range(threads.maxsize)]
    bench.after.callback(lambda: (door.open(), [one.get() for one in taken]))
    names = [f"http://n{n}-{next(NUMBERS)}.localhost:{bench.mirror.port}/x" for n in range(AT_ONCE)]
    return names, lambda: until(lambda: len(threads) >= threads.maxsize and len(_asking()) == AT_ONCE)


def _asking() -> Mapping[Any, Any]:
    return own("names", _Names).asking


def connecting(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    before = descriptors()
    return at_once(bench.origins.full().source.url), lambda: until(lambda: len(descriptors()) >= len(before) + AT_ONCE)


def shaking_hands(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    silent = bench.origins.silent("https")
    return at_once(silent.base + "/x"), lambda: until(lambda: silent.accepted == AT_ONCE)


def waiting_for_an_answer(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    held = bench.mirror.serves(BODY, stall="head")
    return at_once(held.url), lambda: held.arrived(times=AT_ONCE)


def in_the_head(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    held = bench.mirror.raw(b"HTTP/1.1 200 OK\r\nContent-", GATE)
    return at_once(held.url), lambda: held.arrived(times=AT_ONCE)


def waiting_for_the_body(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    held = bench.mirror.serves(BODY, stall=1_000)
    return at_once(held.url), lambda: held.arrived(times=AT_ONCE)


def between_two_reads(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    return _in_a_hook(bench, "chunk")


def in_a_hook(fact: str) -> State:
    return lambda bench: _in_a_hook(bench, fact)


def _in_a_hook(bench: Bench, fact: str) -> tuple[list[str], Callable[[], object]]:
    arrived: list[Any] = []

    def wait(*about: Any) -> None:
        arrived.append(about)
        gevent.event.Event().wait()

    bench.pool["hooks"] = {fact: wait}
    source = bench.mirror.serves(BODY) if fact != "failed" else bench.mirror.serves(status=404)
    return at_once(source.url), lambda: until(lambda: len(arrived) == AT_ONCE)


class Gated:
    """Chunk hooks that wait behind a door, on the lane."""

    offload = True

    def __init__(self, door: Door) -> None:
        self.door = door

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        return {"chunk": lambda view: self.door.wait()}


def hashing_and_writing(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    door = bench.door()
    bench.pool["stages"] = [Gated(door)]
    bench.after.callback(door.open)
    # Who is killed waits for its thread: the door opens a moment after the kill, from another greenlet.
    return at_once(bench.mirror.serves(LARGE).url), lambda: (
        until(lambda: door.waiting == AT_ONCE),
        gevent.spawn_later(0.05, door.open),
    )


def _behind_a_call(bench: Bench, name: str, durable: bool) -> tuple[list[str], Callable[[], object]]:
    """On a native thread, in a call to the system that does not return."""
    door, call = bench.door(), getattr(os, name)

    def slow(*arguments: Any, **more: Any) -> Any:
        door.wait()
        return call(*arguments, **more)

    bench.patch.setattr(os, name, slow)
    bench.pool["durable"] = durable
    return at_once(bench.mirror.serves(BODY).url), lambda: (
        until(lambda: door.waiting),
        gevent.spawn_later(0.05, door.open),
    )


def syncing(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    return _behind_a_call(bench, "fsync", durable=True)


def renaming(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    return _behind_a_call(bench, "rename", durable=True)


def being_recorded(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    """Another process writes to the records, and takes its time."""
    with Recorder(f"sqlite:///{bench.folder}/units.db") as recorder:
        assert list(recorder.units()) == []  # which makes the database
    other = sqlite3.connect(bench.folder / "units.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench.after.callback(other.close)
    arrived: list[Any] = []
    bench.pool["hooks"] = {"stored": lambda *about: arrived.append(about)}
    return at_once(bench.mirror.serves(BODY).url), lambda: (
        until(lambda: len(arrived) == AT_ONCE),
        gevent.sleep(0.02),  # so that they are with the writer's thread, which waits for the lock
        gevent.spawn_later(0.05, other.execute, "ROLLBACK"),
    )


def waiting_to_try_again(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    limited = bench.mirror.serves(status=429, retry_after=100)
    failed: list[Any] = []
    bench.pool["hooks"] = {"failed": lambda *about: failed.append(about)}
    return at_once(limited.url), lambda: until(lambda: len(failed) == AT_ONCE and not limits.process.used)


def reading_what_is_there(bench: Bench) -> tuple[list[str], Callable[[], object]]:
    """All threads that read are taken: whoever looks at a file that is there waits for one."""
    root = bench.folder / "store"
    root.mkdir()
    for n in range(AT_ONCE):
        (root / f"f{n}").write_bytes(BODY)
    door = bench.door()
    taken = [gevent.spawn(native.call, door.wait) for _ in range(native.THREADS)]
    bench.after.callback(lambda: (door.open(), gevent.joinall(taken)))
    return at_once(bench.mirror.serves(BODY).url), lambda: until(lambda: door.waiting == native.THREADS)


NUMBERS = count()

STATES: dict[str, State] = {
    "queued": queued,
    "slot-wait": waiting_for_a_slot,
    "dns": looking_up_its_host,
    "connect": connecting,
    "handshake": shaking_hands,
    "request-sent": waiting_for_an_answer,
    "headers": in_the_head,
    "body-read": waiting_for_the_body,
    "between-reads": between_two_reads,
    "hashing-and-writing": hashing_and_writing,
    "adopting": reading_what_is_there,
    "fsync": syncing,
    "rename": renaming,
    "record-queue": being_recorded,
    "retry-sleep": waiting_to_try_again,
    **{f"hook-{fact}": in_a_hook(fact) for fact in ("planned", "started", *REFUSING, "failed", "finished")},
}


@pytest.fixture
def bench(origins: Origins, mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(origins, mirror, tmp_path, monkeypatch)
    yield bench
    bench.after.close()


def run(bench: Bench, size: int = AT_ONCE, durable: bool = False, **how: Any) -> tuple[Pool, FileStore, Recorder]:
    store = FileStore(bench.folder / "store", durable=durable)
    recorder = Recorder(f"sqlite:///{bench.folder}/units.db")
    return pooled(size, store=store, recorder=recorder, retries=2, **how), store, recorder


@pytest.mark.parametrize("state", STATES, ids=[f"H1-killed-in-{name}" for name in STATES])
def test_killed(bench: Bench, spotless: Leftovers, state: str) -> None:
    urls, there = STATES[state](bench)
    body = LARGE if state == "hashing-and-writing" else BODY
    specs = [Spec(url, path=f"f{n}", size=len(body), digests=sha256(body)) for n, url in enumerate(urls)]
    diary = Diary()
    pool, store, recorder = run(bench, **{**bench.pool, "stages": [*bench.pool.get("stages", ()), diary]})
    jobs = [pool.spawn(spec) for spec in specs]
    if state != "queued":
        there()
    gevent.killall([job._greenlet for job in jobs], block=False)
    outcomes = [job.get(timeout=20) for job in jobs]
    pool.close()
    recorder.close()
    store.close()
    bench.after.close()
    bench.patch.undo()
    check_killed(state, outcomes, diary)
    whole_or_absent(store.root, body)
    again(bench, specs, body)


def check_killed(state: str, outcomes: list[Outcome], diary: Diary) -> None:
    # At "finished" it was over; being named and recorded goes on without whoever waits for it, so the kill waits, too.
    # Of a group on its way to the disk those that have no name yet are let go.
    allowed = {
        "rename": {"stored", "cancelled"},
        "record-queue": {"stored"},
        "hook-finished": {"stored"},
    }.get(state, {"cancelled"})
    states = {outcome.state for outcome in outcomes}
    assert states <= allowed
    assert "stored" in states or "stored" not in allowed
    assert {id(outcome) for outcome in diary.outcomes} == {id(outcome) for outcome in outcomes}
    assert len(diary.outcomes) == len(outcomes)
    for outcome in outcomes:
        told = diary.of(outcome.spec)
        assert told.count("started") == len(outcome.attempts)
        assert told.count("failed") == (len(outcome.attempts) if outcome.state == "cancelled" else 0)


def whole_or_absent(root: Path, body: bytes) -> None:
    for path in root.rglob("*") if root.exists() else ():
        assert not path.name.startswith(".part-")
        assert path.is_dir() or path.read_bytes() == body


def again(bench: Bench, specs: list[Spec], body: bytes) -> None:
    """The next run, over a source that is fine, ends complete; and remembers every file, also one found there."""
    good = bench.mirror.serves(body)
    wanted = [Spec(good.url, path=spec.path, size=spec.size, digests=spec.digests) for spec in specs]
    pool, store, recorder = run(bench)
    with store_and(recorder, store), pool:
        assert all(outcome.ok for outcome in pool.map(wanted))
        assert sorted(unit.path for unit in recorder.units(state="present")) == sorted(spec.path for spec in specs)
    whole_or_absent(store.root, body)


@contextlib.contextmanager
def store_and(*what: Any) -> Iterator[None]:
    try:
        yield
    finally:
        for one in what:
            one.close()


# ------------------------------------------------------------------------------------------------------------------- H2


def test_H2_a_timeout_of_the_callers_is_not_eaten_by_ours(mirror: Mirror, spotless: Leftovers) -> None:
    held = mirror.serves(BODY, stall=10)
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.05) as own:
        geofetch.fetch(held.url, deadline=5)
    assert caught.value is own
    with pytest.raises(DeadlineExceeded), gevent.Timeout(5) as own:
        geofetch.fetch(held.url, deadline=0.05)
    mirror.left()


# ------------------------------------------------------------------------------------------------------------------- H3

RAISED = {
    "exception": ValueError("a hook's own"),
    "error": FetchError("a hook's own"),
    "timeout": gevent.Timeout(1),
    "kill": gevent.GreenletExit("a hook's own"),
}


@pytest.mark.parametrize("fact", ["planned", "started", *REFUSING, "failed", "finished"])
@pytest.mark.parametrize("raised", RAISED, ids=[f"H3-a-hook-raises-{name}" for name in RAISED])
def test_a_hook_that_raises(mirror: Mirror, spotless: Leftovers, tmp_path: Path, raised: str, fact: str) -> None:
    good = [mirror.serves(BODY, name=f"n{n}") for n in range(3)]
    struck = mirror.serves(BODY, name="struck") if fact != "failed" else mirror.serves(status=404, name="struck")
    diary, store = Diary(), FileStore(tmp_path)
    hook = Raising(fact, RAISED[raised], times=1)
    with pooled(1, store=store, stages=[hook, diary], retries=0) as pool:
        outcomes = pool.map([struck.url, *(one.url for one in good)])
    store.close()
    refuses = fact in REFUSING or (raised in ("timeout", "kill") and fact != "finished")
    assert outcomes[0].ok != (refuses or fact == "failed")
    assert [outcome.state for outcome in outcomes[1:]] == ["stored"] * 3, "its siblings go on"
    assert len(diary.outcomes) == 4
    if fact in REFUSING and raised == "exception":
        assert outcomes[0].error is not None
        assert outcomes[0].error.__cause__ is RAISED[raised]
    published = outcomes[0].location is not None
    assert (tmp_path / "struck").exists() == published
    assert published == (fact in ("stored", "finished") or outcomes[0].ok)


@pytest.mark.parametrize("fact", ["planned", "started", *REFUSING, "failed", "finished"])
@pytest.mark.parametrize(
    "junk", [False, 0, "STOP", object(), Verdict, ...], ids=[f"H3-returns-junk-{n}" for n in range(6)]
)
def test_what_a_hook_returns_means_nothing(mirror: Mirror, fact: str, junk: Any) -> None:
    source = mirror.plays([Scene(status=503), Scene(body=BODY)])
    with pooled(hooks={fact: lambda *about: junk}) as pool:
        (outcome,) = pool.map([source.url])
    assert outcome.state == "stored"
    assert len(outcome.attempts) == 2


# ------------------------------------------------------------------------------------------------------------------- H4


def test_H4_a_hook_that_waits_lets_the_others_go_on(mirror: Mirror, spotless: Leftovers) -> None:
    slow, quick, going = mirror.serves(BODY, name="slow"), mirror.serves(BODY), gevent.event.Event()

    def wait(attempt: Attempt, *told: Any) -> None:
        if attempt.source == slow:
            going.wait(10)

    with pooled(2, hooks={"chunk": wait}) as pool:
        late = pool.spawn(slow.url)
        assert all(outcome.ok for outcome in pool.map([Spec(quick.url, path=f"f{n}") for n in range(10)]))
        assert not late.done
        going.set()
        assert late.get(timeout=10).ok


def test_H4_a_hook_that_works_hard_holds_up_nobody_when_it_is_offloaded(mirror: Mirror, spotless: Leftovers) -> None:
    door = Door()
    slow, quick = mirror.serves(LARGE, name="slow"), mirror.serves(BODY)
    with contextlib.closing(door), pooled(2, stages=[Gated(door)]) as pool:
        # Small bodies pass their chunks on the hub; they would wait at the door as well.
        late = pool.spawn(slow.url)
        until(lambda: door.waiting)
        with pooled(2) as other:
            assert all(outcome.ok for outcome in other.map([Spec(quick.url, path=f"f{n}") for n in range(10)]))
        assert not late.done
        door.open()
        assert late.get(timeout=10).ok


# ------------------------------------------------------------------------------------------------------------------- H5


def test_H5_a_hook_that_fetches_into_its_own_pool_of_one(mirror: Mirror, spotless: Leftovers) -> None:
    outer, inner = mirror.serves(BODY), mirror.serves(BODY, name="inner")
    found: list[str] = []

    def again(attempt: Attempt, *told: Any) -> None:
        if attempt.source == outer:
            found.extend(outcome.state for outcome in pool.map([inner.url] * 2))

    with pooled(1, hooks={"headers": again}, deadline=20) as pool:
        assert pool.map([outer.url])[0].ok
    assert found == ["stored"] * 2


def test_H5_a_hook_that_cancels_its_own_job(mirror: Mirror, spotless: Leftovers) -> None:
    source, diary = mirror.serves(BODY), Diary()

    def leave(attempt: Attempt, *told: Any) -> None:
        jobs[0].cancel()
        gevent.sleep(0)  # where the kill strikes

    with pooled(hooks={"headers": leave}, stages=[diary]) as pool:
        jobs = [pool.spawn(source.url)]
        assert jobs[0].get(timeout=10).state == "cancelled"
    assert diary.facts == ["planned", "started", "headers", "failed", "finished"]


def test_H5_a_spec_cannot_be_changed_by_a_hook(mirror: Mirror) -> None:
    source = mirror.serves(BODY)

    def change(attempt: Attempt, *told: Any) -> None:
        attempt.spec.size = 5  # type: ignore[misc]

    with pooled(hooks={"started": change, "headers": change}) as pool:
        (outcome,) = pool.map([Spec(source.url, size=len(BODY))])
    assert outcome.spec.size == len(BODY)
    assert type(outcome.error) is FetchError
    assert isinstance(outcome.error.__cause__, AttributeError)


# -------------------------------------------------------------------------------------------------------------- H6, H7


@pytest.mark.parametrize(
    "how", ["map", "imap", "imap_unordered"], ids=[f"H6-{name}" for name in ("map", "imap", "any")]
)
def test_a_generator_that_raises_in_the_middle(mirror: Mirror, spotless: Leftovers, how: str) -> None:
    diary = Diary()

    def specs() -> Iterator[Spec]:
        for n in range(7):
            yield Spec(mirror.serves(BODY).url, path=f"f{n}")
        raise LookupError("no more")

    with pooled(2, stages=[diary]) as pool, pytest.raises(LookupError, match="no more"):
        list(getattr(pool, how)(specs()))
    assert [outcome.state for outcome in diary.outcomes] == ["stored"] * 7


def test_H7_a_consumer_that_stops_early_leaves_nothing(mirror: Mirror, spotless: Leftovers) -> None:
    held, diary = mirror.serves(BODY, stall=10), Diary()
    good = mirror.serves(BODY, name="good")

    def endless() -> Iterator[Spec]:
        yield Spec(good.url)
        for n in count():
            yield Spec(held.url, path=f"f{n}")

    with pooled(2, stages=[diary]) as pool:
        results = pool.imap(endless())
        for _ in results:
            break
        results.close()
        assert len(diary.outcomes) == len(diary.watched) <= 1 + AHEAD * 2
        assert not pool._jobs


# ------------------------------------------------------------------------------------------------------------------- H8


def test_H8_a_thousand_mixed_outcomes_leave_no_greenlet_no_descriptor_no_watcher(
    origins: Origins, mirror: Mirror, spotless: Leftovers, tmp_path: Path
) -> None:
    sources = [
        mirror.serves(BODY),
        mirror.serves(status=404),
        mirror.serves(BODY, cut=100),
        mirror.serves(BODY, reset=100),
        mirror.serves(b"x" * len(BODY)),
        origins.refusing().source,
        mirror.redirects(mirror.serves(BODY)),
        mirror.serves(BODY, chunked=100),
    ]

    def batch(number: int, first: int) -> set[str]:
        store = FileStore(tmp_path / "store")
        with pooled(8, store=store, retries=1) as pool:
            specs = (
                Spec(sources[n % len(sources)].url, path=f"f{first + n}", digests=sha256(BODY)) for n in range(number)
            )
            found = {outcome.state for outcome in pool.imap_unordered(specs)}
        store.close()
        connections.shared().close()
        return found

    batch(40, 0)
    before = counted()
    assert batch(1_000, 40) == {"stored", "failed"}
    until(lambda: counted() == before, 5, "as it was before")


def counted() -> tuple[int, int, int]:
    gc.collect()
    return len(descriptors()), len(greenlets()), gevent.get_hub().loop.activecnt


# -------------------------------------------------------------------------------------------------------------- H9, H10


def test_H9_before_and_after_a_patch_and_a_fork(mirror: Mirror) -> None:
    """A pool made before the process is patched works after it, and in a child of the fork."""
    source = mirror.serves(BODY)
    said = in_subprocess(
        """
        store = geofetch.MemoryStore()
        pool = geofetch.Pool(2, store=store, progress=False)
        def states():
            return {outcome.state for outcome in pool.map([url] * 3)}
        print(states())
        geofetch.patch_all()
        print(states(), flush=True)
        import os
        child = os.fork()
        if not child:
            print(states(), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        pool.close()
        """,
        url=source.url,
    )
    assert said == "{'stored'}\n" * 3


def test_H10_garbage_collected_at_any_time_nothing_deadlocks(mirror: Mirror, ca: Any, secure: Mirror) -> None:
    plain, tls = mirror.serves(BODY), secure.serves(BODY)
    said = in_subprocess(
        """
        import gc
        gc.set_threshold(5, 2, 2)
        profile = geofetch.Profile(ca=ca)
        for _ in range(3):
            with geofetch.Pool(8, store=geofetch.MemoryStore(), progress=False, deadline=20) as pool:
                specs = [{"source": url, "path": f"f{n}", "profile": profile} for n in range(40) for url in urls]
                print({outcome.state for outcome in pool.imap_unordered(specs)})
        """,
        urls=[plain.url, tls.url],
        ca=str(ca.path),
    )
    assert said == "{'stored'}\n" * 3
