"""Acceptance 4: whatever happens to a batch, N specs pulled are N Outcomes, and nothing but proven bytes is kept.

Batches come from hypothesis: specs of one to three sources each, over a real origin that serves, refuses, resets,
stalls, truncates and lies; hooks raise, jobs and pools are cancelled, generators raise, consumers leave.  The same
batches come in every run; GEOFETCH_TEST_EXAMPLES=1000 asks for so many, and new ones each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from geofetch import lane, limits
from geofetch import pool as pools
from geofetch.errors import FetchError
from geofetch.events import ATTEMPT_FACTS, Attempt, Outcome
from geofetch.names import OURS, PART_PREFIX
from geofetch.pool import AHEAD, Pool
from geofetch.records import Recorder
from geofetch.spec import Source, Spec
from geofetch.store import FileStore
from geofetch.transport import pools as connections
from tests.origin.content import made
from tests.origin.scenes import Scene
from tests.support.diary import Diary, sha256
from tests.support.leftovers import descriptors, greenlets
from tests.support.mirrors import Mirror, Origins
from tests.support.servers import Server
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

ASKED_FOR = os.environ.get("GEOFETCH_TEST_EXAMPLES")
EXAMPLES = int(ASKED_FOR or 60)

#: Sizes of files: nothing, little, and enough for the native lane (which begins earlier here).
SIZES = (0, 1, 3_000, 50_000)
LANE_FROM = 20_000
PATHS = 6


@cache
def content(path: int) -> bytes:
    return made(SIZES[path % len(SIZES)], f"batch {path}")


#: How a source answers who wants these bytes.
KINDS: dict[str, Any] = {
    "good": lambda body: Scene(body=body),
    "good-in-chunks": lambda body: Scene(body=body, chunked=1_000),
    "good-without-length": lambda body: Scene(body=body, announce=None, then="close"),
    "good-and-gone": lambda body: Scene(body=body, then="close"),
    "reset-at-once": lambda body: Scene(reset="head"),
    "closed-at-once": lambda body: Scene(cut="head"),
    "reset": lambda body: Scene(body=body + b"x", reset=len(body) // 2),
    "cut": lambda body: Scene(body=body + b"x", cut=len(body) // 2),
    "cut-in-chunks": lambda body: Scene(body=body + b"x", chunked=700, cut=len(body) // 2),
    "stalls-before": lambda body: Scene(body=body, stall="head"),
    "stalls": lambda body: Scene(body=body + b"x", stall=len(body) // 2),
    "lies-in-digest": lambda body: Scene(body=bytes(len(body))) if body else Scene(body=b"x"),
    "lies-longer": lambda body: Scene(body=body + b"more"),
    "lies-longer-in-chunks": lambda body: Scene(body=body + b"more", chunked=1_000),
    "lies-shorter": lambda body: Scene(body=body[:-1]) if body else Scene(status=204),
    "404": lambda body: Scene(status=404),
    "429": lambda body: Scene(status=429, retry_after=0),
    "500": lambda body: Scene(status=500, body=b"oh no"),
    "gzip": lambda body: Scene(body=body, gzip=True),
    "garbage": lambda body: Scene(body=body, announce="many", then="close"),
}
GOOD = [kind for kind in KINDS if kind.startswith("good")]
#: On a port of their own.
ELSEWHERE = ("refuses", "redirects", "flaky")


@dataclass(frozen=True)
class Wanted:
    """One spec of a batch."""

    path: int
    kinds: tuple[str, ...]
    sized: bool


@dataclass(frozen=True)
class Mischief:
    """What goes wrong on our side: at the n-th time that a fact is told."""

    fact: str
    at: int
    what: str  # "raise", "kill" (the job that is told), "cancel" (any job), "cancel-all"


@dataclass(frozen=True)
class Batch:
    wanted: tuple[Wanted, ...]
    how: str
    size: int
    raises: bool
    retries: int
    mischief: tuple[Mischief, ...]
    generator_raises: bool
    leaves_after: int | None


kinds = st.sampled_from([*KINDS, *ELSEWHERE, *GOOD * 3])
wanted = st.builds(
    Wanted,
    path=st.integers(0, PATHS - 1),
    kinds=st.lists(kinds, min_size=1, max_size=3).map(tuple),
    sized=st.booleans(),
)
mischief = st.builds(
    Mischief,
    fact=st.sampled_from(["planned", *ATTEMPT_FACTS, "finished"]),
    at=st.integers(0, 12),
    what=st.sampled_from(["raise", "kill", "cancel", "cancel-all"]),
)
batches = st.builds(
    Batch,
    wanted=st.lists(wanted, max_size=14).map(tuple),
    how=st.sampled_from(["map", "list", "imap", "imap_unordered", "spawn"]),
    size=st.integers(1, 4),
    raises=st.sampled_from([False, False, True]),
    retries=st.integers(0, 2),
    mischief=st.lists(mischief, max_size=3).map(tuple),
    generator_raises=st.sampled_from([False, False, True]),
    leaves_after=st.one_of(st.none(), st.none(), st.integers(0, 5)),
)


class Odd(Exception):
    """What the generator of a batch, or a hook in it, raises."""


class Making:
    """Mischief as a stage."""

    def __init__(self, plan: tuple[Mischief, ...]) -> None:
        self._plan = plan
        self._told: Counter[str] = Counter()
        self.pool: Any = None

    def watch(self, spec: Spec) -> Mapping[str, Any]:
        return {fact: lambda *about, fact=fact: self._make(fact) for fact in ("planned", "finished")}

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        return {fact: lambda *about, fact=fact: self._make(fact) for fact in ATTEMPT_FACTS}

    def _make(self, fact: str) -> None:
        at, self._told[fact] = self._told[fact], self._told[fact] + 1
        for one in self._plan:
            if (one.fact, one.at) == (fact, at):
                getattr(self, "_" + one.what.replace("-", "_"))(at)

    def _raise(self, at: int) -> None:
        raise Odd("a hook")

    def _kill(self, at: int) -> None:
        gevent.getcurrent().kill(block=False)
        gevent.sleep(0)

    def _cancel(self, at: int) -> None:
        jobs = sorted(self.pool._jobs, key=lambda job: job.spec.path)
        if jobs:
            jobs[at % len(jobs)].cancel()

    def _cancel_all(self, at: int) -> None:
        self.pool.cancel()


class World:
    """The origin of all batches: every file in every kind, made once; and a port for each other kind of failure."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins
        self._mirror: Mirror = origins.http()
        self._refusing = origins.refusing()
        self._urls: dict[tuple[int, str], str] = {}

    def url(self, path: int, kind: str) -> str:
        key = path, kind
        if kind == "flaky" or key not in self._urls:  # the flaky one is new each time: it remembers what it was asked
            self._urls[key] = self._made(content(path), kind)
        return self._urls[key]

    def _made(self, body: bytes, kind: str) -> str:
        if kind == "refuses":
            return self._refusing.url + "x"
        if kind == "redirects":
            return self._mirror.redirects(self._mirror.serves(body)).url
        if kind == "flaky":
            return self._mirror.plays([Scene(status=503), Scene(body=body)]).url
        return self._mirror.plays([KINDS[kind](body)]).url

    def spec(self, one: Wanted) -> Spec:
        body = content(one.path)
        return Spec(
            sources=[Source(self.url(one.path, kind), n // 2) for n, kind in enumerate(one.kinds)],
            path=f"d{one.path % 2}/f{one.path}",
            size=len(body) if one.sized else None,
            digests=sha256(body),
        )

    def idle(self) -> None:
        connections.shared().close()
        self._mirror.left()


@pytest.fixture
def world(origins: Origins, warm: None, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(pools, "LANE_FROM", LANE_FROM)
    monkeypatch.setattr(lane, "BATCH", 8_192)
    return World(origins)


@given(batch=batches, seed=st.integers(0, 3))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=ASKED_FOR is None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@pytest.mark.timeout(1200)
def test_every_spec_that_was_pulled_has_one_outcome_and_only_proven_bytes_stay(
    world: World, tmp_path_factory: pytest.TempPathFactory, batch: Batch, seed: int
) -> None:
    note(f"outcomes: {run_and_check(world, tmp_path_factory.mktemp('batch'), batch, seed)}")


@given(batch=batches, seed=st.integers(0, 3))
@settings(
    max_examples=max(EXAMPLES // 5, 1),
    deadline=None,
    database=None,
    derandomize=ASKED_FOR is None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@pytest.mark.timeout(1200)
def test_so_it_is_with_records_on_a_server(
    world: World, tmp_path_factory: pytest.TempPathFactory, postgresql: Server, batch: Batch, seed: int
) -> None:
    url = postgresql.place().url
    note(f"outcomes: {run_and_check(world, tmp_path_factory.mktemp('batch'), batch, seed, url)}")


def run_and_check(world: World, folder: Path, batch: Batch, seed: int, url: str | None = None) -> list[Outcome]:
    before = left_open()
    specs = [world.spec(one) for one in batch.wanted]
    run = Running(batch, specs, folder, url)
    run.pool._kit.dice.seed(seed)  # type: ignore[attr-defined]
    with run:
        run.go()
    check_outcomes(run)
    check_files(run)
    world.idle()
    until(lambda: not left_open() - before, 5, f"nothing left over, but there is {left_open() - before}")
    assert (limits.process.used, limits.process.used_by) == (0, {})
    return run.diary.outcomes


def left_open() -> Counter[str]:
    return Counter([*descriptors().values(), *greenlets()])


class Running:
    """One batch on its way: what was pulled, what was handed over, what was raised."""

    def __init__(self, batch: Batch, specs: list[Spec], folder: Path, url: str | None = None) -> None:
        self.batch = batch
        self.specs = specs
        self.pulled: list[Spec] = []
        self.handed_over: list[Outcome] = []
        self.raised: BaseException | None = None
        self.diary = Diary()
        self.store = FileStore(folder / "store")
        self.recorder = Recorder(url or f"sqlite:///{folder}/units.db")
        making = Making(batch.mischief)
        self.pool: Pool = pooled(
            batch.size,
            store=self.store,
            recorder=self.recorder,
            stages=[self.diary, making],
            retries=batch.retries,
            timeout=(5, 0.15),
            on_error="raise" if batch.raises else "collect",
        )
        making.pool = self.pool

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *failed: Any) -> None:
        self.pool.close()
        self.units = {unit.path: unit for unit in self.recorder.units()}
        self.recorder.close()
        self.store.close()

    def go(self) -> None:
        with gevent.Timeout(60):
            try:
                getattr(self, "_" + self.batch.how)()
            except (FetchError, Odd) as exc:
                self.raised = exc

    def _given(self) -> Iterator[Spec]:
        for spec in self.specs:
            self.pulled.append(spec)
            yield spec
        if self.batch.generator_raises:
            raise Odd("the generator")

    def _map(self) -> None:
        self.handed_over += self.pool.map(self._given())

    def _list(self) -> None:
        self.pulled = self.specs
        self.handed_over += self.pool.map(self.specs)

    def _imap(self) -> None:
        self._taken(self.pool.imap(self._given()))

    def _imap_unordered(self) -> None:
        self._taken(self.pool.imap_unordered(self._given()))

    def _taken(self, results: Any) -> None:
        with contextlib.closing(results):
            for outcome in results:
                self.handed_over.append(outcome)
                if len(self.handed_over) == self.batch.leaves_after:
                    return

    def _spawn(self) -> None:
        jobs = []
        with contextlib.suppress(Odd):
            for spec in self._given():
                jobs.append(self.pool.spawn(spec))
        for n, job in enumerate(jobs):
            if n == self.batch.leaves_after:
                job.cancel()
            with contextlib.suppress(FetchError):
                job.get()
            assert job.outcome is not None
            self.handed_over.append(job.outcome)


def check_outcomes(run: Running) -> None:
    diary, batch = run.diary, run.batch
    # Exactly one for each that was pulled; and each was told of once, by "planned" and by "finished".
    assert Counter(map(id, (outcome.spec for outcome in diary.outcomes))) == Counter(map(id, run.pulled))
    for spec in run.pulled:
        told = diary.of(spec)
        assert (told[0], told[-1]) == ("planned", "finished")
        assert told.count("planned") == told.count("finished") == 1
        check_order(told)
    told_of = {id(outcome) for outcome in diary.outcomes}
    assert all(id(outcome) in told_of for outcome in run.handed_over)
    if run.raised is None and (batch.leaves_after is None or batch.how in ("map", "list", "spawn")):
        assert len(run.handed_over) == len(run.pulled)
        if batch.how != "imap_unordered":
            assert [outcome.spec for outcome in run.handed_over] == run.pulled
    check_raised(run)
    for outcome in diary.outcomes:
        check_outcome(outcome)


def check_order(told: list[str]) -> None:
    """Attempts one after the other, their facts in order, each ended by "failed" but for the last one."""
    order = {fact: n for n, fact in enumerate(ATTEMPT_FACTS)}
    for before, after in pairwise(told[1:-1]):
        assert order[before] < order[after] or (before == "failed" and after == "started")


def check_raised(run: Running) -> None:
    batch = run.batch
    failed = [outcome for outcome in run.diary.outcomes if not outcome.ok]
    if batch.how in ("map", "list"):
        if batch.raises and failed:
            assert isinstance(run.raised, FetchError)
            assert [outcome.spec for outcome in run.raised.outcomes] == run.pulled
        else:
            assert isinstance(run.raised, Odd) == (batch.generator_raises and batch.how == "map" and exhausted(run))
    if not batch.raises:
        assert not isinstance(run.raised, FetchError)


def exhausted(run: Running) -> bool:
    """Whether the generator came to its end: a pool that is cancelled asks for no more."""
    return not any(one.what == "cancel-all" for one in run.batch.mischief) or isinstance(run.raised, Odd)


def check_outcome(outcome: Outcome) -> None:
    assert outcome.ok == (outcome.state in ("stored", "adopted")) == (outcome.error is None)
    if outcome.ok:
        assert outcome.verified == "digest"
        assert str(outcome.digests["sha256"]) == str(outcome.spec.digests[0])
    else:
        assert outcome.error is not None
        assert outcome.error.spec is outcome.spec
        assert outcome.error.attempts == outcome.attempts
    assert outcome.fetched == sum(attempt.received_bytes for attempt in outcome.attempts)


def check_files(run: Running) -> None:
    root = run.store.root
    found = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()} if root.exists() else {}
    for name, path in found.items():
        assert not path.name.startswith(PART_PREFIX)
        assert not name.startswith(OURS)
        assert path.read_bytes() == content(int(name[-1]))
    for outcome in run.diary.outcomes:
        assert not outcome.ok or outcome.spec.path in found
        assert not outcome.ok or outcome.spec.path in run.units
    for name, unit in run.units.items():
        if unit.state == "present":
            body = found[name].read_bytes()
            assert unit.size == len(body)
            assert hashlib.sha256(body).hexdigest() in {digest.hex for digest in unit.digests}


def test_a_big_batch_of_everything_at_once(world: World, tmp_path: Path) -> None:
    """Every kind with every other one, many at once: what small batches do not come to."""
    dice = Random(4)
    every = [*KINDS, *ELSEWHERE]
    batch = Batch(
        wanted=tuple(
            Wanted(dice.randrange(PATHS), tuple(dice.choices(every, k=dice.randint(1, 3))), dice.random() < 0.5)
            for _ in range(150)
        ),
        how="imap_unordered",
        size=12,
        raises=False,
        retries=1,
        mischief=tuple(
            Mischief(dice.choice(ATTEMPT_FACTS), dice.randrange(60), dice.choice(["raise", "kill", "cancel"]))
            for _ in range(20)
        ),
        generator_raises=True,
        leaves_after=None,
    )
    run_and_check(world, tmp_path, batch, 1)
    assert AHEAD * batch.size < len(batch.wanted)
