"""One job: waited for, cancelled wherever it is, killed by others; and where a pool may be used."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.local
import pytest
from gevent.threadpool import ThreadPool

import geofetch
from geofetch import limits
from geofetch.errors import Cancelled, FetchError, NotFound, RecordError, SpecError
from geofetch.events import Verdict
from geofetch.pool import AHEAD
from geofetch.records import Recorder
from geofetch.spec import Spec
from geofetch.transport import Adapter
from geofetch.transport import pools as connections
from tests.origin.content import made
from tests.support.diary import WHOLE, Diary
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import in_subprocess, pooled

BODY = made(500, "jobs")
CANCELLED = ["planned", "finished"]


# ------------------------------------------------------------------------------------------------------- waiting for it


def test_a_job_gives_its_outcome(mirror: Mirror, spotless: Leftovers) -> None:
    with pooled() as pool:
        job = pool.spawn({"source": mirror.serves(BODY).url, "size": len(BODY)})
        assert (job.done, job.outcome) == (False, None)
        outcome = job.get(timeout=10)
        assert (job.done, job.outcome) == (True, outcome)
        assert job.get() is outcome
        assert outcome.state == "stored"
        assert pool.store["file"] == BODY


def test_waiting_in_vain_raises_the_builtin_timeout_and_the_job_goes_on(mirror: Mirror, spotless: Leftovers) -> None:
    held = mirror.serves(BODY, stall=10)
    with pooled() as pool:
        job = pool.spawn(held.url)
        for timeout_s in (0, 0.01):
            with pytest.raises(TimeoutError, match=f"is not done after {timeout_s} s") as caught:
                job.get(timeout=timeout_s)
            assert type(caught.value) is TimeoutError
        assert not job.done
        held.release()
        assert job.get(timeout=10).state == "stored"
    assert held.hits == 1


def test_a_job_of_a_bad_spec_is_refused_at_once() -> None:
    with pooled() as pool, pytest.raises(SpecError, match="unknown scheme"):
        pool.spawn("rsync://here/x")


def test_where_errors_are_raised_a_job_raises_its_own_and_no_other_job_minds(
    mirror: Mirror, spotless: Leftovers
) -> None:
    missing, good = mirror.serves(status=404), mirror.serves(BODY)
    with pooled(on_error="raise") as pool:
        jobs = [pool.spawn(missing.url), pool.spawn(good.url)]
        with pytest.raises(NotFound):
            jobs[0].get(timeout=10)
        assert jobs[0].outcome is not None
        assert jobs[0].outcome.state == "failed"
        assert jobs[1].get(timeout=10).ok


def test_spawning_waits_for_a_place_while_4_times_the_size_are_under_way(mirror: Mirror, spotless: Leftovers) -> None:
    held = mirror.serves(BODY, stall="head")
    with pooled(1) as pool:
        jobs = [pool.spawn(Spec(held.url, path=f"f{n}")) for n in range(AHEAD)]
        one_more = gevent.spawn(pool.spawn, Spec(held.url, path="more"))
        held.arrived()
        assert not one_more.ready()
        held.release()
        assert one_more.get(timeout=10).get(timeout=10).ok
        assert all(job.get(timeout=10).ok for job in jobs)


def test_who_is_killed_while_waiting_for_a_place_takes_none(mirror: Mirror, spotless: Leftovers) -> None:
    held = mirror.serves(BODY, stall="head")
    with pooled(1) as pool:
        jobs = [pool.spawn(Spec(held.url, path=f"f{n}")) for n in range(AHEAD)]
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.05):
            pool.spawn(held.url)
        held.release()
        assert all(job.get(timeout=10).ok for job in jobs)
        again = [pool.spawn(Spec(held.url, path=f"f{n}")) for n in range(AHEAD)]
        assert all(job.get(timeout=10).ok for job in again)


def test_a_progress_that_is_none_takes_no_place(mirror: Mirror, spotless: Leftovers) -> None:
    with pooled(1, progress="bars") as pool:
        for _ in range(AHEAD + 1):
            with gevent.Timeout(10), pytest.raises(SpecError, match="progress"):
                pool.spawn(mirror.serves(BODY).url)


def test_leaving_a_pool_waits_for_its_jobs(mirror: Mirror, spotless: Leftovers) -> None:
    slow = mirror.serves(BODY, latency_s=0.1)
    with pooled() as pool:
        job = pool.spawn(slow.url)
    assert job.outcome is not None
    assert job.outcome.state == "stored"


# ------------------------------------------------------------------------------------------------------------ cancelled


def test_cancelled_before_it_ran(mirror: Mirror, spotless: Leftovers) -> None:
    source, diary = mirror.serves(BODY), Diary()
    with pooled(stages=[diary]) as pool:
        job = pool.spawn(source.url)
        job.cancel()
        outcome = job.get(timeout=10)
    assert (outcome.state, outcome.attempts, outcome.source) == ("cancelled", (), None)
    assert diary.facts == CANCELLED
    assert source.hits == 0
    assert isinstance(outcome.error, Cancelled)
    assert outcome.error.spec is outcome.spec


def test_cancelled_before_it_ran_although_a_stage_is_struck_as_it_hears_of_it(
    mirror: Mirror, spotless: Leftovers
) -> None:
    class Struck:
        def bind(self, attempt: Any) -> dict[str, Any]:
            return {}

        def watch(self, spec: Spec) -> dict[str, Any]:
            raise gevent.GreenletExit

    with pooled(stages=[Struck()]) as pool:
        job = pool.spawn(mirror.serves(BODY).url)
        job.cancel()
        assert job.wait(10)
        assert job.outcome is not None
        assert job.outcome.state == "cancelled"


def test_cancelled_while_waiting_for_a_slot(mirror: Mirror, spotless: Leftovers) -> None:
    held, other, diary = mirror.serves(BODY, stall=10), mirror.serves(BODY, name="other"), Diary()
    with pooled(1, stages=[diary]) as pool:
        first, waiting, last = pool.spawn(held.url), pool.spawn(other.url), pool.spawn(Spec(other.url, path="last"))
        held.arrived()
        waiting.cancel()
        assert waiting.get(timeout=10).state == "cancelled"
        assert diary.of(waiting.spec) == ["planned", "finished"]
        held.release()
        assert first.get(timeout=10).ok
        assert last.get(timeout=10).ok
    assert other.hits == 1


def test_cancelled_in_the_body(mirror: Mirror, spotless: Leftovers) -> None:
    held, diary = mirror.serves(BODY, stall=10), Diary()
    with pooled(stages=[diary]) as pool:
        job = pool.spawn(held.url)
        held.arrived()
        until(lambda: "chunk" in diary.facts, what="the first bytes")
        job.cancel()
        assert job.get(timeout=10).state == "cancelled"
    assert diary.facts == ["planned", "started", "headers", "chunk", "failed", "finished"]
    mirror.left()


def test_cancelled_while_waiting_to_try_again(mirror: Mirror, spotless: Leftovers) -> None:
    source, diary = mirror.serves(status=429, retry_after=100), Diary()
    with pooled(stages=[diary]) as pool:
        job = pool.spawn(source.url)
        until(lambda: "failed" in diary.facts, what="the first try over")
        job.cancel()
        outcome = job.get(timeout=10)
    assert diary.facts == ["planned", "started", "failed", "finished"]
    assert (outcome.state, source.hits) == ("cancelled", 1)
    assert [type(attempt.error).__name__ for attempt in outcome.attempts] == ["RateLimited"]
    assert outcome.error is not None
    assert outcome.error.attempts == outcome.attempts


def test_cancelled_twice_is_cancelled_once(mirror: Mirror, spotless: Leftovers) -> None:
    held, diary = mirror.serves(BODY, stall=10), Diary()
    with pooled(stages=[diary]) as pool:
        job = pool.spawn(held.url)
        held.arrived()
        job.cancel()
        job.cancel()
        outcome = job.get(timeout=10)
        job.cancel()
        gevent.sleep(0)
        assert job.get() is outcome
    assert diary.facts.count("finished") == diary.facts.count("failed") == 1


def test_cancelled_when_it_is_over_stays_what_it_was(mirror: Mirror) -> None:
    with pooled() as pool:
        job = pool.spawn(mirror.serves(BODY).url)
        outcome = job.get(timeout=10)
        job.cancel()
        gevent.sleep(0)
        assert job.get() is outcome
        assert outcome.ok


def test_cancelled_in_a_hook_that_cleans_up(mirror: Mirror, spotless: Leftovers) -> None:
    """A second kill strikes while ``failed`` is told: the others are told all the same, and all is let go."""
    held, told, after = mirror.serves(BODY, stall=10), gevent.event.Event(), Diary()

    def slow(*about: Any) -> None:
        told.set()
        gevent.sleep(10)

    with pooled(stages=[after], hooks={"failed": slow}) as pool:
        job = pool.spawn(held.url)
        held.arrived()
        job.cancel()
        assert told.wait(10)
        job.cancel()
        assert job.get(timeout=5).state == "cancelled"
    assert after.facts[-2:] == ["failed", "finished"]
    mirror.left()


class Slow(Recorder):
    """Records whose commit takes as long as the test wants."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"sqlite:///{path}")
        self.committing, self.go_on = threading.Event(), threading.Event()
        self.error: RecordError | None = None
        write = self._ledger.write

        def held(*about: Any) -> Any:
            self.committing.set()
            assert self.go_on.wait(20)
            return [self.error] if self.error else write(*about)

        self._ledger.write = held  # type: ignore[method-assign]


@pytest.mark.parametrize("by", ["cancel", "kill", "a timeout", "the deadline"])
def test_whoever_is_recorded_was_stored_although_it_was_ended_meanwhile(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, by: str
) -> None:
    source, diary = mirror.serves(BODY), Diary()
    deadline_s = 0.5 if by == "the deadline" else None
    with (
        Slow(tmp_path / "units.db") as recorder,
        pooled(store=tmp_path / "store", recorder=recorder, stages=[diary], deadline=deadline_s) as pool,
    ):
        job = pool.spawn(source.url)
        until(recorder.committing.is_set, 20, "the commit")
        for _ in range(2):
            if by == "cancel":
                job.cancel()
            elif by == "kill":
                job._greenlet.kill(block=False)
            elif by == "a timeout":
                job._greenlet.kill(gevent.Timeout(1), block=False)
            gevent.sleep(0.6 if deadline_s else 0.01)
            assert not job.done, "the commit goes on, so whoever waits for it does"
        recorder.go_on.set()
        outcome = job.get(timeout=20)
        assert (outcome.state, outcome.error) == ("stored", None)
        assert [unit.path for unit in recorder.units()] == [outcome.spec.path]
    assert diary.facts[-2:] == ["stored", "finished"]
    assert "failed" not in diary.facts


def test_a_commit_that_fails_while_its_job_is_cancelled_is_told_and_not_tried_again(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers
) -> None:
    source = mirror.serves(BODY)
    again = {"failed": lambda attempt, error: Verdict.RETRY}
    with (
        Slow(tmp_path / "units.db") as recorder,
        pooled(store=tmp_path / "store", recorder=recorder, hooks=again, retries=3) as pool,
    ):
        recorder.error = RecordError("the disk is full")
        job = pool.spawn(source.url)
        until(recorder.committing.is_set, 20, "the commit")
        job.cancel()
        gevent.sleep(0.01)
        recorder.go_on.set()
        outcome = job.get(timeout=20)
        assert (outcome.state, len(outcome.attempts), source.hits) == ("failed", 1, 1)
        assert isinstance(outcome.error, RecordError)
        assert (tmp_path / "store" / outcome.spec.path).read_bytes() == BODY


# ------------------------------------------------------------------------------------------------- killed from outside


@pytest.mark.parametrize("reason", [gevent.GreenletExit, gevent.GreenletExit("why")], ids=["class", "instance"])
def test_killed_from_outside_is_cancelled(mirror: Mirror, spotless: Leftovers, reason: Any) -> None:
    held, diary = mirror.serves(BODY, stall=10), Diary()
    with pooled(stages=[diary]) as pool:
        jobs = [pool.spawn(Spec(held.url, path=f"f{n}")) for n in range(3)]
        held.arrived(times=3)
        gevent.killall([job._greenlet for job in jobs], reason, timeout=10)
        outcomes = [job.get(timeout=10) for job in jobs]
    assert [outcome.state for outcome in outcomes] == ["cancelled"] * 3
    assert len(diary.outcomes) == 3
    mirror.left()


def test_killed_from_outside_with_something_else_is_failed(mirror: Mirror, spotless: Leftovers) -> None:
    held, reasons = mirror.serves(BODY, stall=10), (ZeroDivisionError("why"), gevent.Timeout(1))
    with pooled() as pool:
        for n, reason in enumerate(reasons):
            job = pool.spawn(held.url)
            held.arrived(times=n + 1)
            job._greenlet.kill(reason)
            outcome = job.get(timeout=10)
            assert outcome.state == "failed"
            assert outcome.error is not None
            assert outcome.error.__cause__ is reason
            assert type(reason).__name__ in str(outcome.error)


def test_killed_before_it_ran_is_cancelled(mirror: Mirror, spotless: Leftovers) -> None:
    with pooled() as pool:
        job = pool.spawn(mirror.serves(BODY).url)
        job._greenlet.kill(block=False)
        assert job.get(timeout=10).state == "cancelled"
        assert "killed before it started" in str(job.get().error)


def test_a_killed_job_counts_in_a_map_like_any_other(mirror: Mirror, spotless: Leftovers) -> None:
    held = mirror.serves(BODY, stall=10)
    with pooled(2) as pool:
        results = gevent.spawn(pool.map, [Spec(held.url, path=f"f{n}") for n in range(4)])
        held.arrived(times=2)
        for job in list(pool._jobs):
            job._greenlet.kill(block=False)
        assert [outcome.state for outcome in results.get(timeout=10)] == ["cancelled"] * 4


# ----------------------------------------------------------------------------------------------------------- one file


def test_fetch_is_one_spec_in_this_very_greenlet(mirror: Mirror, spotless: Leftovers, tmp_path: Path) -> None:
    diary, here = Diary(), gevent.getcurrent()
    seen: list[Any] = []
    outcome = geofetch.fetch(
        mirror.serves(BODY).url,
        to=tmp_path / "x",
        size=len(BODY),
        stages=[diary],
        hooks={"received": lambda attempt: seen.append(gevent.getcurrent())},
    )
    assert (outcome.state, outcome.location) == ("stored", tmp_path / "x")
    assert diary.facts == WHOLE
    assert seen == [here]
    with pytest.raises(NotFound):
        geofetch.fetch(mirror.serves(status=404).url, to=tmp_path / "y")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_timeout_around_a_fetch_is_the_callers(mirror: Mirror, spotless: Leftovers, tmp_path: Path) -> None:
    held, diary = mirror.serves(BODY, stall=10), Diary()
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.1) as own:
        geofetch.fetch(held.url, to=tmp_path / "x", stages=[diary], deadline=60, timeout=60)
    assert caught.value is own
    assert diary.facts[-2:] == ["failed", "finished"]
    assert list(tmp_path.iterdir()) == []
    mirror.left()
    assert diary.outcomes[0].state == "failed"
    assert "interrupted by Timeout" in str(diary.outcomes[0].error)


def test_of_two_timeouts_around_a_fetch_the_inner_one_is_not_taken_for_ours(mirror: Mirror) -> None:
    held = mirror.serves(BODY, stall=10)
    with gevent.Timeout(10) as outer:
        with gevent.Timeout(0.05, False) as inner:
            geofetch.fetch(held.url, deadline=5)
        assert not inner.pending
        assert outer.pending


def test_a_timeout_that_is_an_error_of_the_callers_comes_as_it_is(mirror: Mirror, spotless: Leftovers) -> None:
    class TooLate(Exception):
        pass

    held, diary = mirror.serves(BODY, stall=10), Diary()
    with pytest.raises((TooLate, FetchError)) as caught, gevent.Timeout(0.05, TooLate("mine")):
        geofetch.fetch(held.url, stages=[diary])
    causes = [caught.value, caught.value.__cause__]
    assert any(isinstance(one, TooLate) for one in causes)
    assert diary.facts[-1] == "finished"


def test_killing_the_greenlet_that_fetches_ends_it_and_cleans_up(
    mirror: Mirror, spotless: Leftovers, tmp_path: Path
) -> None:
    """A kill is no error of a download: a worker that catches those and goes on to the next file ends all the same."""
    held, tries = mirror.serves(BODY, stall=10), 0

    def work() -> None:
        nonlocal tries
        while True:
            tries += 1
            with contextlib.suppress(FetchError):
                geofetch.fetch(held.url, to=tmp_path / "x")

    job = gevent.spawn(work)
    held.arrived()
    job.kill(timeout=10)
    assert isinstance(job.value, gevent.GreenletExit)
    assert tries == 1
    assert list(tmp_path.iterdir()) == []
    mirror.left()


# ------------------------------------------------------------------------------------------ other threads, other worlds


def test_a_pool_works_in_a_native_thread_of_its_own(mirror: Mirror, spotless: Leftovers) -> None:
    sources = [mirror.serves(BODY, name=f"n{n}") for n in range(12)]

    def work() -> list[str]:
        with pooled(3) as pool:
            found = [outcome.state for outcome in pool.map([source.url for source in sources])]
        connections.shared().close()
        return found

    threads = ThreadPool(2)
    try:
        running = [threads.spawn(work) for _ in range(2)]
        with pooled(3) as pool:
            assert [outcome.state for outcome in pool.map([source.url for source in sources])] == ["stored"] * 12
        assert [one.get() for one in running] == [["stored"] * 12] * 2
    finally:
        threads.kill()
    assert limits.process.used == 0
    # No connection serves two hubs, so there are at most so many as all pools may hold.
    assert mirror.accepted <= 9


def test_a_thread_waits_for_the_slot_of_another_one(mirror: Mirror, spotless: Leftovers) -> None:
    """Caps are the process': what one hub gives back, another one gets."""
    source, shared = mirror.serves(BODY), limits.process.narrowed(1)

    def work() -> str:
        session = geofetch.Session(gate=shared)
        with pooled(4, session=session) as pool:
            (outcome,) = pool.map([source.url])
        connections.shared().close()
        return outcome.state

    threads = ThreadPool(1)
    try:
        held = shared.take("elsewhere:80")
        running = threads.spawn(work)
        until(lambda: limits._waiting, what="the thread waits for its turn")
        assert source.hits == 0
        held.leave()
        assert running.get() == "stored"
    finally:
        threads.kill()


def test_a_forked_child_downloads_over_connections_of_its_own(mirror: Mirror) -> None:
    source = mirror.serves(BODY)
    said = in_subprocess(
        """
        import os
        def states(number):
            with geofetch.Pool(2, store=geofetch.MemoryStore(), progress=False) as pool:
                return sorted({outcome.state for outcome in pool.map([url] * number)})
        print(states(4), flush=True)
        child = gevent.os.fork()
        if not child:
            print(states(4), flush=True)
            os._exit(0)
        assert gevent.os.waitpid(child, 0)[1] == 0
        print(states(4))
        """,
        url=source.url,
    )
    assert said == "['stored']\n" * 3
    assert len(source.requests) == 12
    before, inside, after = (
        {request.connection for request in source.requests[first : first + 4]} for first in (0, 4, 8)
    )
    assert not before & inside, "the child uses none of its parent's connections"
    assert after <= before, "and the parent's are as good as before"


# ------------------------------------------------------------------------------------- one greenlet for many of a run's


def test_greenlets_of_a_run_serve_one_job_after_the_other(mirror: Mirror, spotless: Leftovers) -> None:
    source, seen = mirror.serves(BODY), set()
    with pooled(2) as pool:
        for outcome in pool.imap_unordered(Spec(source.url, path=str(number)) for number in range(60)):
            assert outcome.ok
            seen |= {id(job._greenlet) for job in pool._jobs if job._greenlet is not None}
    assert 0 < len(seen) <= AHEAD * 2


@pytest.mark.parametrize("where", ["session", "profile", "source", "name", "hook", "adapter"])
def test_what_a_users_code_leaves_behind_meets_no_other_download(
    mirror: Mirror, spotless: Leftovers, where: str
) -> None:
    source, met, own = mirror.serves(BODY, drip=(100, 0.002)), [], gevent.local.local()

    def leaves(request: Any, *args: Any, **more: Any) -> Any:
        met.append((request.url, vars(own).get("mark", request.url)))  # of one job it may be asked twice
        own.mark = request.url
        gevent.Timeout.start_new(0.02)
        return request

    session, how, given = geofetch.Session(), {}, {}
    if where == "session":
        session.auth = leaves
    elif where == "hook":
        session.hooks["response"].append(leaves)
    elif where == "adapter":
        session.mount("http://", _Leaving(leaves))
    elif where == "name":
        how, given = {"profiles": {"me": geofetch.Profile(auth=leaves)}}, {"profile": "me"}
    else:
        given = {"profile": geofetch.Profile(auth=leaves)}
    wanted = []
    for number in range(12):
        one = {"url": f"{source.url}?{number}"}
        wanted.append(
            Spec(
                {**one, **given} if where == "source" else one, path=str(number), **({} if where == "source" else given)
            )
        )
    with pooled(2, session=session, **how) as pool:
        pool.map(wanted)
    assert len({url for url, _ in met}) == len(wanted)
    assert all(url == mark for url, mark in met)


class _Leaving(Adapter):
    """An adapter of somebody's."""

    def __init__(self, leaves: Any) -> None:
        super().__init__()
        self._leaves = leaves

    def send(self, request: Any, *args: Any, **more: Any) -> Any:
        self._leaves(request)
        return super().send(request, *args, **more)


def test_a_forked_childs_copies_of_downloads_end_there(mirror: Mirror, tmp_path: Path) -> None:
    source, told = mirror.serves(BODY, stall=100), tmp_path / "told"
    with pooled(2, store=tmp_path / "srv", retries=0, timeout=20) as pool:
        jobs = [pool.spawn(Spec(source.url, path=str(number))) for number in range(6)]
        source.arrived()
        gevent.sleep(0.05)  # two of them wait for bytes, four for a slot
        child = gevent.os.fork()  # a fork that gevent knows of: the loop of the child is its own
        if not child:
            try:
                with gevent.Timeout(10):
                    gevent.sleep(0.3)
                    told.write_text(" ".join(job.outcome.state if job.outcome else "under way" for job in jobs))
            finally:
                os._exit(0)
        gevent.sleep(0.1)
        source.release()
        until(lambda: told.exists() and told.read_text(), 20)
        assert gevent.os.waitpid(child, 0)[1] == 0
        assert [(job.get(timeout=20).state, job.outcome.error) for job in jobs] == [("stored", None)] * 6
    assert "stored" not in told.read_text()
    assert sorted(path.name for path in (tmp_path / "srv").iterdir()) == [*map(str, range(6))]


def test_who_keeps_a_job_that_has_ended_does_not_keep_what_its_stages_held(mirror: Mirror) -> None:
    class Held:
        """What a stage remembers of one spec."""

    class Watching:
        def bind(self, attempt: Any) -> None:
            return None

        def watch(self, spec: Spec) -> dict[str, Any]:
            held = Held()
            holding.append(weakref.ref(held))
            return {"finished": lambda outcome: bool(held)}

    holding: list[weakref.ref[Held]] = []
    with pooled(1, stages=[Watching()]) as pool:
        job = pool.spawn(mirror.serves(b"x").url)
        assert job.get(timeout=10).ok
    gc.collect()
    assert job.done
    assert [one() for one in holding] == [None]
