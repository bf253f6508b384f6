"""map, imap, imap_unordered: order, laziness, ends of every kind; N specs pulled are N Outcomes."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import gevent
import gevent.event
import pytest

import geofetch
from geofetch.errors import Cancelled, DeadlineExceeded, FetchError, NotFound, SpecError
from geofetch.events import Outcome
from geofetch.jobs import _Greenlet
from geofetch.pool import AHEAD, AHEAD_MOST, Pool
from geofetch.spec import Spec
from tests.origin.content import made
from tests.support.diary import Diary
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

BODY = made(500, "pool")
HOW = ["map", "imap", "imap_unordered"]


def states(outcomes: Any) -> list[str]:
    return [outcome.state for outcome in outcomes]


def paths(outcomes: Any) -> list[str]:
    return [outcome.spec.path for outcome in outcomes]


def specs(source: Handle | str, number: int, first: int = 0) -> list[Spec]:
    """So many specs of one source, each with a path of its own."""
    url = source if isinstance(source, str) else source.url
    return [Spec(url, path=f"f{n}") for n in range(first, first + number)]


class Pulled:
    """A generator of specs that knows how many were pulled, and how it ended."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.number = 0
        self.closed = False

    def __iter__(self) -> Iterator[Spec]:
        try:
            for spec in self.given:
                self.number += 1
                yield spec
        finally:
            self.closed = True


# ---------------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("how", ["map", "imap"])
def test_outcomes_come_in_the_order_of_the_specs(mirror: Mirror, spotless: Leftovers, how: str) -> None:
    slow, quick = mirror.serves(BODY, latency_s=0.05), mirror.serves(BODY)
    wanted = [Spec((slow if n % 3 == 0 else quick).url, path=f"f{n}") for n in range(20)]
    with pooled(4) as pool:
        outcomes = list(getattr(pool, how)(wanted))
    assert [outcome.spec for outcome in outcomes] == wanted
    assert states(outcomes) == ["stored"] * 20


def test_unordered_outcomes_come_as_they_end(mirror: Mirror, spotless: Leftovers) -> None:
    late, quick = mirror.serves(BODY, stall="head", name="late"), mirror.serves(BODY)
    found: list[str] = []
    with pooled(2) as pool:
        for outcome in pool.imap_unordered([Spec(late.url), *specs(quick, 20)]):
            found.append(outcome.spec.path)
            if len(found) == 20:
                late.release()
    assert found[-1] == "late"
    assert sorted(found[:-1]) == sorted(f"f{n}" for n in range(20))


@pytest.mark.parametrize("how", HOW)
def test_nothing_wanted_is_nothing_got(how: str) -> None:
    with pooled() as pool:
        assert list(getattr(pool, how)([])) == []
        assert list(getattr(pool, how)(iter(()))) == []


def test_a_str_and_a_dict_are_specs_too(mirror: Mirror) -> None:
    source = mirror.serves(BODY)
    with pooled() as pool:
        outcomes = pool.map([source.url, {"source": source.url, "path": "b"}, {"sources": [source.url], "path": "c"}])
    assert paths(outcomes) == ["file", "b", "c"]


@pytest.mark.parametrize("how", HOW)
def test_the_same_spec_twice_is_two_outcomes(mirror: Mirror, spotless: Leftovers, how: str, tmp_path: Any) -> None:
    source = mirror.serves(BODY)
    spec = Spec(source.url)
    with pooled(store=tmp_path) as pool:
        outcomes = list(getattr(pool, how)([spec] * 6))
    assert states(outcomes) == ["stored"] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# ------------------------------------------------------------------------------------------------------------- laziness


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
@pytest.mark.parametrize("size", [1, 3])
def test_never_more_than_4_times_the_size_is_pulled_and_not_handed_over(
    mirror: Mirror, spotless: Leftovers, how: str, size: int
) -> None:
    source, ahead, taken = mirror.serves(BODY), [0], 0

    def endless() -> Iterator[Spec]:
        for n in count():
            ahead.append(n + 1 - taken)
            yield Spec(source.url, path=f"f{n}")

    with pooled(size) as pool:
        for _ in getattr(pool, how)(endless()):
            taken += 1
            gevent.sleep(0.002 if taken % 10 == 0 else 0)
            if taken == 60 * size:
                break
    assert max(ahead) == AHEAD * size


def test_a_large_pool_pulls_256_more_than_its_size() -> None:
    pulled = Pulled(Spec("http://127.0.0.1:9/never-asked", path=f"f{n}") for n in range(5_000))
    held, reached = gevent.event.Event(), list[Spec]()

    def wait(spec: Spec) -> None:
        reached.append(spec)
        held.wait()

    with pooled(1000, hooks={"planned": wait}) as pool:
        results = pool.imap_unordered(pulled)
        first = gevent.spawn(next, results)
        until(lambda: len(reached) == 1000 + AHEAD_MOST, what="all that may be pulled")
        gevent.sleep(0.05)  # more would come now, if anything came
        assert pulled.number == 1000 + AHEAD_MOST
        first.kill()
        held.set()


def test_a_slow_consumer_is_waited_for(mirror: Mirror, spotless: Leftovers) -> None:
    pulled = Pulled(specs(mirror.serves(BODY), 100))
    with pooled(2) as pool:
        results = pool.imap_unordered(pulled)
        next(results)
        until(lambda: mirror.hits >= 8, what="all that may be fetched")
        gevent.sleep(0.05)  # more would come now, if anything came
        assert pulled.number == 1 + AHEAD * 2
        assert mirror.hits <= 1 + AHEAD * 2
        assert len(list(results)) == 99
    assert pulled.closed


def test_map_holds_no_more_than_4_times_the_size_under_way(mirror: Mirror, spotless: Leftovers) -> None:
    held = mirror.serves(BODY, stall="head")
    pulled = Pulled(specs(held, 50))
    with pooled(2) as pool:
        job = gevent.spawn(pool.map, pulled)
        held.arrived(times=2)
        assert pulled.number == AHEAD * 2
        assert held.hits == 2, "and no more connections than its size"
        held.release()
        assert states(job.get(timeout=20)) == ["stored"] * 50


def test_nothing_happens_before_the_first_outcome_is_asked_for(mirror: Mirror) -> None:
    pulled = Pulled(specs(mirror.serves(BODY), 3))
    with pooled() as pool:
        results = pool.imap(pulled)
        gevent.sleep(0.01)
        assert pulled.number == 0
        assert states(results) == ["stored"] * 3


def test_size_is_how_many_connections_there_are(mirror: Mirror) -> None:
    sources = [mirror.serves(BODY, latency_s=0.005, name=f"n{n}") for n in range(60)]
    with pooled(3) as pool:
        assert states(pool.map([source.url for source in sources])) == ["stored"] * 60
    assert mirror.accepted <= 3


def test_per_host_is_how_many_there_are_to_one_host(origins: Origins) -> None:
    narrow, other = origins.http(), origins.http()
    sources = [port.serves(BODY, latency_s=0.005, name=f"n{n}") for n in range(20) for port in (narrow, other)]
    with pooled(4, per_host=1) as pool:
        assert states(pool.map([Spec(one.url, path=f"f{n}") for n, one in enumerate(sources)])) == ["stored"] * 40
    assert (narrow.accepted, other.accepted) == (1, 1)


# ------------------------------------------------------------------------------------------- generators of every kind


def raising(good: list[Spec], error: BaseException) -> Iterator[Spec]:
    yield from good
    raise error


@pytest.mark.parametrize("how", HOW)
def test_a_generator_that_raises_does_so_after_all_that_was_pulled_has_ended(
    mirror: Mirror, spotless: Leftovers, how: str
) -> None:
    diary, error, found = Diary(), LookupError("no more names"), []
    with pooled(2, stages=[diary]) as pool, pytest.raises(LookupError) as caught:
        for outcome in getattr(pool, how)(raising(specs(mirror.serves(BODY), 11), error)):
            found.append(outcome)
    assert caught.value is error
    assert states(diary.outcomes) == ["stored"] * 11
    assert len(found) == (0 if how == "map" else 11)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("wrong", [5, "no url", {"size": 5}, None], ids=repr)
def test_what_is_no_spec_is_said_when_all_before_it_has_ended(
    mirror: Mirror, spotless: Leftovers, how: str, wrong: Any
) -> None:
    diary = Diary()
    with pooled(2, stages=[diary]) as pool, pytest.raises(SpecError):
        list(getattr(pool, how)(iter([*specs(mirror.serves(BODY), 3), wrong])))
    assert states(diary.outcomes) == ["stored"] * 3


def test_a_list_is_looked_at_before_anything_is_fetched(mirror: Mirror) -> None:
    source, diary = mirror.serves(BODY), Diary()
    with pooled(stages=[diary]) as pool, pytest.raises(SpecError, match="unknown scheme"):
        pool.map([source.url, "rsync://here/x"])
    assert (diary.facts, source.hits) == ([], 0)


def test_two_files_at_one_path_are_refused_before_anything_is_fetched(mirror: Mirror) -> None:
    one, other = mirror.serves(BODY), mirror.serves(BODY + b"!")
    proof = {"sha256": hashlib.sha256(BODY).digest()}
    both = [Spec(one.url, path="a/same", digests=proof), Spec(other.url, path="a/same")]
    with pooled() as pool, pytest.raises(SpecError, match=r"'a/same'.*another path"):
        pool.map(both)
    assert one.hits == other.hits == 0
    with pooled(store=None) as pool:  # temporary files have no path
        for outcome in pool.map(both):
            assert outcome.ok
            outcome.location.close()
    again = [Spec(one.url, path="a/same", digests=proof), Spec(one.url, path="a/same", digests=proof, size=len(BODY))]
    with pooled() as pool:  # the same file twice is no quarrel
        assert all(outcome.ok for outcome in pool.map(again))


def test_what_was_stored_before_a_spec_that_is_none_is_told_with_it(mirror: Mirror, spotless: Leftovers) -> None:
    with pooled(2) as pool, pytest.raises(SpecError) as caught:
        pool.map(iter([*specs(mirror.serves(BODY), 3), "no url"]))
    assert states(caught.value.outcomes) == ["stored"] * 3


@pytest.mark.parametrize("how", HOW)
def test_a_generator_that_waits_holds_up_nothing(mirror: Mirror, spotless: Leftovers, how: str) -> None:
    diary, going = Diary(), gevent.event.Event()
    first, last = specs(mirror.serves(BODY), 3), specs(mirror.serves(BODY), 1, 3)

    def waiting() -> Iterator[Spec]:
        yield from first
        going.wait(10)
        yield from last

    with pooled(2, stages=[diary]) as pool:
        job = gevent.spawn(lambda: list(getattr(pool, how)(waiting())))
        until(lambda: len(diary.outcomes) == 3, what="what was pulled has ended")
        assert not job.ready()
        going.set()
        assert states(job.get(timeout=10)) == ["stored"] * 4


def test_a_generator_that_fetches_its_own_next_spec_is_fine(mirror: Mirror, spotless: Leftovers) -> None:
    names = [mirror.serves(mirror.serves(BODY).url.encode()) for _ in range(6)]

    def told() -> Iterator[Spec]:
        for n, name in enumerate(names):
            yield Spec(geofetch.get(name.url).text, path=f"f{n}")

    with pooled(1) as pool:
        assert states(pool.map(told())) == ["stored"] * 6


# --------------------------------------------------------------------------------------------- consumers of every kind


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
@pytest.mark.parametrize("leave", ["break", "raise", "close", "drop"])
def test_a_consumer_that_stops_early_cancels_the_rest(
    mirror: Mirror, spotless: Leftovers, how: str, leave: str
) -> None:
    quick, held = mirror.serves(BODY), mirror.serves(BODY, stall=100)
    pulled, diary = Pulled([*specs(quick, 1), *specs(held, 100, 1)]), Diary()
    with pooled(2, stages=[diary]) as pool:
        results = getattr(pool, how)(pulled)
        LEAVING[leave](results)
        del results
        gc.collect()
        until(lambda: pulled.closed, what="the generator closed")
        assert len(diary.outcomes) == pulled.number, "each that was pulled has its Outcome"
        assert states(diary.outcomes) == ["stored"] + ["cancelled"] * (pulled.number - 1)
    assert pulled.number <= 1 + AHEAD * 2
    until(lambda: not any(connection.open for connection in held.connections), what="what was cut off closed")


def _break(results: Iterator[Outcome]) -> None:
    for outcome in results:
        assert outcome.ok
        break
    results.close()  # type: ignore[attr-defined]


def _raise(results: Iterator[Outcome]) -> None:
    with pytest.raises(ZeroDivisionError):
        for outcome in results:
            assert 1 / 0, outcome
    results.close()  # type: ignore[attr-defined]


def _close(results: Iterator[Outcome]) -> None:
    next(results)
    results.close()  # type: ignore[attr-defined]


def _drop(results: Iterator[Outcome]) -> None:
    next(results)


LEAVING: dict[str, Callable[[Iterator[Outcome]], None]] = {
    "break": _break,
    "raise": _raise,
    "close": _close,
    "drop": _drop,
}


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
def test_a_consumer_that_is_killed_leaves_no_greenlet(mirror: Mirror, how: str) -> None:
    """Its frame held the iterator: that is closed in the hub, which cannot wait for anything."""
    file, going = mirror.serves(BODY), gevent.event.Event()
    with pooled(4) as pool:
        pool.map(specs(file, 1))
        leftovers = _crews()

        def consume() -> None:
            results = getattr(pool, how)(specs(file, 40))
            next(results)
            going.set()
            gevent.sleep(100)
            results.close()  # it is not reached, and keeps the iterator until then

        consumer = gevent.spawn(consume)
        assert going.wait(10)
        until(lambda: not pool._jobs, what="all that may be pulled ahead done")
        consumer.kill()
        del consumer
        until(lambda: _crews() <= leftovers, what="every greenlet of the run ended")


def _crews() -> int:
    """Greenlets that walk jobs, or wait for one."""
    gc.collect()
    return sum(type(each) is _Greenlet and not each.dead for each in gc.get_objects())


def test_a_pool_that_is_left_with_an_iterator_half_way_ends_it(mirror: Mirror, spotless: Leftovers) -> None:
    pulled, diary = Pulled(specs(mirror.serves(BODY), 100)), Diary()
    with pooled(2, stages=[diary]) as pool:
        results = pool.imap(pulled)
        next(results)
    rest = list(results)
    assert states(rest) == ["stored"] * len(rest), "the pool waited for what was under way"
    assert len(diary.outcomes) == 1 + len(rest) == pulled.number <= 2 + AHEAD * 2
    assert pulled.closed
    with pytest.raises(Cancelled, match="this pool is closed"):
        next(pool.imap(specs(mirror.serves(BODY), 1)))


def test_a_pool_that_is_left_as_a_place_becomes_free_pulls_no_more(mirror: Mirror, spotless: Leftovers) -> None:
    pulled, diary = Pulled(specs(mirror.serves(BODY), 100)), Diary()
    with pooled(2, stages=[diary]) as pool:
        results = pool.imap(pulled)
        next(results)
        until(
            lambda: len(diary.outcomes) == pulled.number == 1 + AHEAD * 2, what="no place left, and nothing under way"
        )
        next(results)  # a place is free; who pulls has heard of it, and runs when the pool has closed
    rest = list(results)
    assert states(rest) == ["stored"] * (AHEAD * 2 - 1)
    assert pulled.number == 1 + AHEAD * 2


def test_leaving_a_pool_waits_for_a_map_of_another_greenlet(mirror: Mirror, spotless: Leftovers) -> None:
    diary, going = Diary(), gevent.event.Event()

    def waiting() -> Iterator[Spec]:
        yield from specs(mirror.serves(BODY), 1)
        going.wait(10)
        yield from specs(mirror.serves(BODY), 1, 1)

    with pooled(stages=[diary]) as pool:
        job = gevent.spawn(pool.map, waiting())
        until(lambda: diary.outcomes, what="the first one stored")
        gevent.spawn_later(0.05, going.set)  # long after the pool began to close
    assert states(job.get(timeout=10)) == ["stored"] * 2


def test_an_exception_in_the_block_of_a_pool_cancels_its_jobs(mirror: Mirror, spotless: Leftovers) -> None:
    held = mirror.serves(BODY, stall=10)
    with pytest.raises(ZeroDivisionError), pooled() as pool:
        job = pool.spawn(held.url)
        held.arrived()
        assert 1 / 0
    assert job.outcome is not None
    assert job.outcome.state == "cancelled"
    mirror.left()


def test_a_timeout_of_the_caller_is_the_callers(mirror: Mirror, spotless: Leftovers) -> None:
    held, diary = mirror.serves(BODY, stall=10), Diary()
    with pooled(2, stages=[diary]) as pool:
        with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.1) as own:
            pool.map(specs(held, 20))
        assert caught.value is own
        assert len(diary.outcomes) == len(diary.watched) == AHEAD * 2
        assert set(states(diary.outcomes)) == {"cancelled"}
        assert states(pool.map(specs(mirror.serves(BODY), 3))) == ["stored"] * 3, "the pool is as good as before"


def test_two_maps_at_once_on_one_pool(mirror: Mirror, spotless: Leftovers) -> None:
    first, second = mirror.serves(BODY, latency_s=0.01), mirror.serves(BODY)
    with pooled(3) as pool:
        jobs = [gevent.spawn(pool.map, specs(one, 30, 100 * n)) for n, one in enumerate((first, second))]
        found = [job.get(timeout=20) for job in jobs]
    assert [states(one) for one in found] == [["stored"] * 30] * 2
    assert [paths(one) for one in found] == [[f"f{n}" for n in range(30)], [f"f{n}" for n in range(100, 130)]]
    assert mirror.accepted <= 3


# ------------------------------------------------------------------------------------------------------ the first error


def test_collecting_goes_on_whatever_fails(mirror: Mirror) -> None:
    missing, good = mirror.serves(status=404), mirror.serves(BODY)
    with pooled() as pool:
        outcomes = pool.map([*specs(good, 2), *specs(missing, 1, 2), *specs(good, 2, 3)])
    assert states(outcomes) == ["stored", "stored", "failed", "stored", "stored"]


def test_raising_cancels_the_rest_and_tells_of_all_in_order(mirror: Mirror, spotless: Leftovers) -> None:
    good, missing, held = mirror.serves(BODY), mirror.serves(status=404), mirror.serves(BODY, stall=10)
    diary = Diary()
    wanted = [*specs(good, 3), *specs(held, 2, 3), *specs(missing, 1, 5), *specs(good, 30, 6)]
    with pooled(3, on_error="raise", stages=[diary]) as pool:
        with pytest.raises(NotFound) as caught:
            pool.map(wanted)
        outcomes = caught.value.outcomes
        assert [outcome.spec for outcome in outcomes] == wanted
        assert paths(outcomes) == [f"f{n}" for n in range(36)]
        assert states(outcomes[:6]) == ["stored"] * 3 + ["cancelled"] * 2 + ["failed"]
        assert states(outcomes[20:]) == ["cancelled"] * 16, "what was never started is told of too"
        assert outcomes[5].error is caught.value
        # Waited for: nothing of it is under way any more, and each has been told of once.
        assert not pool._jobs
        assert sorted(outcome.spec.path for outcome in diary.outcomes) == sorted(paths(outcomes))
    until(lambda: not any(connection.open for connection in held.connections), what="what was cut off closed")


def test_each_that_was_cancelled_has_an_error_of_its_own(mirror: Mirror) -> None:
    missing, held = mirror.serves(status=404), mirror.serves(BODY, stall="head")
    with pooled(4, on_error="raise") as pool, pytest.raises(NotFound) as caught:
        pool.map([*specs(held, 3), *specs(missing, 1, 3), *specs(held, 20, 4)])
    errors = [outcome.error for outcome in caught.value.outcomes]
    assert len({id(error) for error in errors}) == len(errors)
    assert [error.spec.path for error in errors if error and error.spec] == [f"f{n}" for n in range(24)]
    assert [error.attempts for error in errors if error] == [outcome.attempts for outcome in caught.value.outcomes]


def test_raising_from_a_generator_tells_of_what_was_pulled(mirror: Mirror, spotless: Leftovers) -> None:
    pulled = Pulled(
        [*specs(mirror.serves(BODY), 2), *specs(mirror.serves(status=404), 1, 2), *specs("http://x/", 99, 3)]
    )
    with pooled(1, on_error="raise") as pool, pytest.raises(NotFound) as caught:
        pool.map(pulled)
    assert len(caught.value.outcomes) == pulled.number
    assert states(caught.value.outcomes[:3]) == ["stored", "stored", "failed"]
    assert pulled.closed


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
def test_iterating_raises_the_first_error_too(mirror: Mirror, spotless: Leftovers, how: str) -> None:
    missing, held, diary = mirror.serves(status=404), mirror.serves(BODY, stall=10), Diary()
    pulled = Pulled([*specs(held, 2), *specs(missing, 1, 2), *specs(held, 30, 3)])
    with pooled(3, on_error="raise", stages=[diary]) as pool:
        with pytest.raises(NotFound):
            list(getattr(pool, how)(pulled))
        assert not pool._jobs
    assert len(diary.outcomes) == pulled.number
    assert pulled.closed


def test_an_error_of_a_download_stands_before_one_of_the_generator(mirror: Mirror, spotless: Leftovers) -> None:
    given = raising([*specs(mirror.serves(BODY), 1), *specs(mirror.serves(status=404), 1, 1)], LookupError("later"))
    with pooled(1, on_error="raise") as pool, pytest.raises(NotFound) as caught:
        pool.map(given)
    assert states(caught.value.outcomes) == ["stored", "failed"]


# ------------------------------------------------------------------------------------------------------------ deadlines


def test_a_deadline_of_the_whole_run_ends_it(mirror: Mirror, spotless: Leftovers) -> None:
    good, held = mirror.serves(BODY), mirror.serves(BODY, stall=10)
    with pooled(2) as pool:
        outcomes = pool.map([*specs(good, 2), *specs(held, 30, 2)], deadline=0.3)
    assert states(outcomes) == ["stored"] * 2 + ["failed"] * 30
    errors = [outcome.error for outcome in outcomes[2:]]
    assert {type(error) for error in errors} == {DeadlineExceeded}
    assert [error.spec for error in errors if error] == [outcome.spec for outcome in outcomes[2:]]
    assert "the whole run was not done within 0.3 s" in str(errors[0])


@pytest.mark.parametrize("how", ["imap", "imap_unordered"])
def test_a_deadline_of_an_iteration_ends_it(mirror: Mirror, spotless: Leftovers, how: str) -> None:
    pulled, diary = Pulled(specs(mirror.serves(BODY, stall=10), 30)), Diary()
    with pooled(2, stages=[diary]) as pool:
        outcomes = list(getattr(pool, how)(pulled, deadline=0.2))
    assert len(outcomes) == pulled.number == AHEAD * 2
    assert {type(outcome.error) for outcome in outcomes} == {DeadlineExceeded}
    assert pulled.closed


def test_a_deadline_strikes_a_generator_that_never_goes_on(mirror: Mirror, spotless: Leftovers) -> None:
    def stuck() -> Iterator[Spec]:
        yield from specs(mirror.serves(BODY), 2)
        gevent.event.Event().wait()

    with pooled(2) as pool:
        assert states(pool.map(stuck(), deadline=0.2)) == ["stored"] * 2


@pytest.mark.parametrize("how", HOW)
def test_a_deadline_raises_where_errors_do(mirror: Mirror, spotless: Leftovers, how: str) -> None:
    wanted = specs(mirror.serves(BODY, stall=10), 30)
    with pooled(2, on_error="raise") as pool:
        with pytest.raises(DeadlineExceeded) as caught:
            list(getattr(pool, how)(wanted, deadline=0.2))
        assert not pool._jobs
    if how == "map":
        assert [outcome.spec for outcome in caught.value.outcomes] == wanted


def test_a_deadline_of_one_spec_is_its_own(mirror: Mirror, spotless: Leftovers) -> None:
    held, good = mirror.serves(BODY, stall=10), mirror.serves(BODY)
    with pooled(4, deadline=0.3) as pool:
        outcomes = pool.map([*specs(held, 2), *specs(good, 5, 2)])
    assert states(outcomes) == ["failed"] * 2 + ["stored"] * 5
    assert {type(outcome.error) for outcome in outcomes[:2]} == {DeadlineExceeded}
    assert len({id(outcome.error) for outcome in outcomes[:2]}) == 2


def test_a_deadline_counts_from_the_specs_own_start_and_so_with_its_wait_for_a_slot(
    mirror: Mirror, spotless: Leftovers
) -> None:
    source = mirror.serves(BODY)
    with pooled(1, deadline=0.1) as pool:
        slot = pool._kit.slots.take("elsewhere:80")
        outcomes = pool.map(specs(source, 2))
        slot.leave()
    assert {type(outcome.error) for outcome in outcomes} == {DeadlineExceeded}
    assert source.hits == 0


# ------------------------------------------------------------------------------------------------- the end of a pool


@pytest.mark.parametrize("how", HOW)
def test_a_pool_that_is_cancelled_reports_all_that_was_pulled(mirror: Mirror, spotless: Leftovers, how: str) -> None:
    held, diary = mirror.serves(BODY, stall=10), Diary()
    pulled = Pulled(specs(held, 30))
    with pooled(2, stages=[diary]) as pool:
        job = gevent.spawn(lambda: list(getattr(pool, how)(pulled)))
        held.arrived(times=2)
        pool.cancel()
        outcomes = job.get(timeout=10)
    assert states(outcomes) == ["cancelled"] * pulled.number == ["cancelled"] * AHEAD * 2
    assert len(diary.outcomes) == pulled.number


def test_a_pool_that_is_cancelled_before_anything_ran(mirror: Mirror, spotless: Leftovers) -> None:
    source = mirror.serves(BODY)
    with pooled(2) as pool:
        job = gevent.spawn(pool.map, specs(source, 5))
        job.rawlink(lambda _: None)
        gevent.get_hub().loop.run_callback(lambda: gevent.spawn(pool.cancel))
        outcomes = job.get(timeout=10)
    assert len(outcomes) == 5


def test_a_run_that_is_stopped_before_its_feeder_ran_ends(mirror: Mirror, spotless: Leftovers) -> None:
    wanted = specs(mirror.serves(BODY), 5)
    with pooled(2) as pool:
        run = pool._run(pool._kit, wanted, ordered=True, deadline=None, keep=True)
        run.stop()
        with gevent.Timeout(5):
            assert states(run.all()) == ["cancelled"] * 5


def test_cancelling_raises_where_errors_do(mirror: Mirror, spotless: Leftovers) -> None:
    held = mirror.serves(BODY, stall=10)
    with pooled(2, on_error="raise") as pool:
        gevent.spawn(lambda: (held.arrived(times=2), pool.cancel()))
        with pytest.raises(Cancelled) as caught:
            pool.map(specs(held, 20))
    assert states(caught.value.outcomes) == ["cancelled"] * 20


def test_a_closed_pool_takes_nothing_more(mirror: Mirror) -> None:
    source = mirror.serves(BODY)
    pool = pooled()
    pool.close()
    pool.close()
    for call in (lambda: pool.map([source.url]), lambda: pool.spawn(source.url), lambda: list(pool.imap([source.url]))):
        with pytest.raises(Cancelled, match="this pool is closed"):
            call()
    assert source.hits == 0


def test_a_pool_may_be_used_again_and_again(mirror: Mirror, spotless: Leftovers) -> None:
    source = mirror.serves(BODY)
    with pooled(2) as pool:
        for n in range(5):
            assert states(pool.map(specs(source, 4, 4 * n))) == ["stored"] * 4
            assert not pool._runs
    assert mirror.accepted <= 2


def test_one_failed_pool_is_no_other_ones_trouble(mirror: Mirror, spotless: Leftovers) -> None:
    held, good = mirror.serves(BODY, stall=10), mirror.serves(BODY)
    with pooled(1) as one, pooled(1) as other:
        job = one.spawn(held.url)
        held.arrived()
        assert states(other.map(specs(good, 5))) == ["stored"] * 5
        job.cancel()
        assert isinstance(job.get(timeout=10).error, FetchError)
    assert isinstance(one, Pool)
