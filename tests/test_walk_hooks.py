"""What hooks may do: answer a failure, fetch on their own, raise anything, end their own greenlet."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

import geofetch
from geofetch.errors import (
    Cancelled,
    DigestMismatch,
    FetchError,
    SourcesExhausted,
    SpecError,
    Stalled,
    Truncated,
    Unauthorized,
)
from geofetch.events import Attempt, Listener, Outcome, Verdict
from geofetch.hooks import Door
from geofetch.spec import Source, Spec
from geofetch.store import MemoryStore
from tests.origin.content import made
from tests.origin.scenes import Scene
from tests.support.diary import REFUSING, WHOLE, Diary, Raising, sha256
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Handle, Mirror
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import in_subprocess, pooled

BODY = made(3_000, "hooks")


# ------------------------------------------------------------------------------------------------ answers to a failure


class Mending:
    """Answers every failure, and writes down which."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.errors: list[FetchError] = []

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        def on_failed(error: FetchError) -> Any:
            self.errors.append(error)
            return self.answer

        return {"failed": on_failed}


def test_a_hook_that_fetched_a_new_token_has_the_same_source_asked_again(mirror: Mirror, spotless: Leftovers) -> None:
    session = geofetch.Session()
    session.headers["Authorization"] = "Bearer old"
    source = mirror.plays([Scene(status=401), Scene(body=BODY)])
    tokens = mirror.serves(b"new")

    def refresh(attempt: Attempt, error: FetchError) -> Verdict | None:
        if not isinstance(error, Unauthorized):
            return None
        session.headers["Authorization"] = f"Bearer {session.get(tokens.url).text}"
        return Verdict.AGAIN

    with pooled(1, session=session, hooks={"failed": refresh}) as pool:
        (outcome,) = pool.map([source.url])
    assert outcome.state == "stored"
    assert [request.header("Authorization") for request in source.requests] == ["Bearer old", "Bearer new"]
    assert [type(attempt.error) for attempt in outcome.attempts] == [Unauthorized, type(None)]


def test_a_hook_answers_once_an_attempt_and_never_past_the_cap(mirror: Mirror) -> None:
    source, mending = mirror.serves(status=401), Mending(Verdict.AGAIN)
    with pooled(retries=2, stages=[mending]) as pool:
        (outcome,) = pool.map([source.url])
    assert isinstance(outcome.error, Unauthorized)
    assert source.hits == 3, "one try and two retries"
    assert mending.errors == [attempt.error for attempt in outcome.attempts]


def test_a_hook_that_answers_next_spares_a_source_its_retries(mirror: Mirror) -> None:
    cut, good = mirror.serves(BODY, cut=10), mirror.serves(BODY)
    spec = Spec(sources=[Source(cut.url, 0), Source(good.url, 1)])
    with pooled() as pool:
        (without,) = pool.map([spec])
    assert [attempt.source for attempt in without.attempts] == [cut, cut, cut, cut, good]
    with pooled(stages=[Mending(Verdict.NEXT)]) as pool:
        (outcome,) = pool.map([spec])
    assert [attempt.source for attempt in outcome.attempts] == [cut, good]


@pytest.mark.parametrize("junk", [True, "AGAIN", 1, object(), [Verdict.AGAIN]], ids=lambda junk: type(junk).__name__)
def test_what_is_no_verdict_is_no_answer(mirror: Mirror, junk: Any) -> None:
    source = mirror.serves(status=404)
    with pooled(stages=[Mending(junk)]) as pool:
        (outcome,) = pool.map([source.url])
    assert (outcome.state, source.hits) == ("failed", 1)


def test_an_answer_changes_nothing_where_a_cancel_ended_the_attempt(mirror: Mirror, spotless: Leftovers) -> None:
    source, mending = mirror.serves(BODY, stall=10), Mending(Verdict.AGAIN)
    with pooled(stages=[mending]) as pool:
        job = pool.spawn(source.url)
        source.arrived()
        job.cancel()
        assert job.get(timeout=10).state == "cancelled"
    assert source.hits == 1
    assert [type(error) for error in mending.errors] == [Cancelled]


# ------------------------------------------------------------------------------------------------------------ observers


@pytest.mark.parametrize("fact", ["planned", "started", "finished"])
def test_an_observer_that_raises_is_logged_and_changes_nothing(
    mirror: Mirror, spotless: Leftovers, caplog: pytest.LogCaptureFixture, fact: str
) -> None:
    before, after, source = Diary(), Diary(), mirror.serves(BODY)
    with pooled(stages=[before, Raising(fact, ValueError("my own fault")), after]) as pool:
        (outcome,) = pool.map([source.url])
    assert outcome.state == "stored"
    assert before.facts == after.facts == WHOLE
    (logged,) = [record for record in caplog.records if record.exc_info]
    assert logged.name == "geofetch"
    assert str(logged.exc_info[1] if logged.exc_info else "") == "my own fault"


def test_an_observer_of_a_failure_that_raises_changes_nothing(mirror: Mirror, caplog: pytest.LogCaptureFixture) -> None:
    missing, good = mirror.serves(status=404), mirror.serves(BODY)
    stages = [Raising("failed", ValueError("my own fault")), Mending(None)]
    with pooled(stages=stages) as pool:
        (outcome,) = pool.map([Spec(sources=[Source(missing.url, 0), Source(good.url, 1)])])
    assert (outcome.state, outcome.source) == ("stored", good)
    assert len(stages[1].errors) == 1, "those who come after it are told all the same"
    assert "my own fault" in caplog.text


# -------------------------------------------------------------------------------------------------------- BaseException


@pytest.mark.parametrize("fact", REFUSING)
def test_a_hook_that_ends_its_own_greenlet_ends_that_download_alone(
    mirror: Mirror, spotless: Leftovers, fact: str
) -> None:
    first, others = mirror.serves(BODY, name="first"), [mirror.serves(BODY, name=f"n{n}") for n in range(3)]
    diary = Diary()
    killing = Raising(fact, gevent.GreenletExit(), times=1)
    with pooled(1, stages=[diary, killing]) as pool:
        outcomes = pool.map([first.url, *(other.url for other in others)])
    assert [outcome.state for outcome in outcomes] == ["cancelled", "stored", "stored", "stored"]
    assert diary.of(outcomes[0].spec) == ["planned", *WHOLE[1 : WHOLE.index(fact) + 1], "failed", "finished"]


@pytest.mark.parametrize("fact", ["planned", "started", *REFUSING, "failed", "finished"])
def test_a_foreign_timeout_in_a_hook_is_an_outcome_and_its_siblings_go_on(
    mirror: Mirror, spotless: Leftovers, fact: str
) -> None:
    struck = mirror.serves(BODY) if fact != "failed" else mirror.serves(status=404)
    good = mirror.serves(BODY, name="good")
    diary, timeout = Diary(), gevent.Timeout(99)
    with pooled(1, stages=[Raising(fact, timeout, times=1), diary]) as pool:
        outcomes = pool.map([struck.url, good.url])
    assert len(diary.outcomes) == 2
    assert outcomes[1].state == "stored"
    if fact == "finished":  # it is over: what happens now changes nothing any more
        assert outcomes[0].state == "stored"
    elif fact == "failed":
        assert outcomes[0].state == "failed"
    else:
        assert outcomes[0].state == "failed"
        assert "interrupted by Timeout" in str(outcomes[0].error)
        assert outcomes[0].error is not None
        assert outcomes[0].error.__cause__ is timeout


def test_what_ends_the_process_ends_it_from_a_hook_too(mirror: Mirror, spotless: Leftovers) -> None:
    diary = Diary()
    with pytest.raises(KeyboardInterrupt):
        geofetch.fetch(mirror.serves(BODY).url, stages=[diary, Raising("headers", KeyboardInterrupt())])
    assert diary.facts == ["planned", "started", "headers", "failed", "finished"]
    assert diary.outcomes[0].state == "cancelled"


# ------------------------------------------------------------------------------------------ stages that cannot be bound


class Unbindable:
    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        raise LookupError("no")


class Unwatching:
    def watch(self, spec: Spec) -> Mapping[str, Any]:
        raise LookupError("no")

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        return {}


class Mistaken:
    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        return {"chunks": print}


@pytest.mark.parametrize(
    ("stage", "error", "words"),
    [
        pytest.param(Unbindable(), FetchError, "refused at 'bind' by a hook: LookupError: no", id="bind-raises"),
        pytest.param(Unwatching(), FetchError, "refused at 'bind' by a hook: LookupError: no", id="watch-raises"),
        pytest.param(Mistaken(), SpecError, "listens to 'chunks'", id="unknown-fact"),
    ],
)
def test_a_stage_that_cannot_take_part_refuses_the_download(
    mirror: Mirror, spotless: Leftovers, stage: Any, error: type[FetchError], words: str
) -> None:
    source = mirror.serves(BODY)
    with pooled(stages=[stage]) as pool:
        (outcome,) = pool.map([source.url])
        job = pool.spawn(source.url)
        job.cancel()  # before it ever ran
        assert job.get(timeout=5).state == "cancelled"
    assert outcome.state == "failed"
    assert type(outcome.error) is error
    assert words in str(outcome.error)
    assert source.hits == 0


def test_what_is_no_stage_is_refused_at_once() -> None:
    with pytest.raises(SpecError, match="is no stage"):
        pooled(stages=[print])
    with pytest.raises(SpecError, match="no fact is called 'chunks'"):
        pooled(hooks={"chunks": print})
    with pytest.raises(SpecError, match="cannot be called"):
        pooled(hooks={"chunk": 5})


# --------------------------------------------------------------------------------------------------- user's validators


class NoZip:
    """A validator of a user's: refuses content as the wrong bytes."""

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        def on_chunk(view: memoryview) -> None:
            if bytes(view[:2]) == b"PK":
                raise DigestMismatch("a zip file")

        return {"chunk": on_chunk}


def test_a_validator_that_calls_the_bytes_wrong_has_the_next_source_asked(mirror: Mirror, spotless: Leftovers) -> None:
    zipped, good = mirror.serves(b"PK\3\4"), mirror.serves(BODY)
    spec = Spec(sources=[Source(zipped.url, 0), Source(good.url, 1)])
    with pooled(stages=[NoZip()]) as pool:
        outcome, exhausted = pool.map([spec, Spec(sources=[zipped.url, zipped.url + "?again"], path="other")])
    assert outcome.source == good
    first = outcome.attempts[0].error
    assert first is not None
    assert (first.source, first.spec) == (zipped, spec)
    assert isinstance(exhausted.error, SourcesExhausted)


# ------------------------------------------------------------------------------------------------- hooks that fetch


def fetching(inner: Handle, found: list[bytes]) -> Any:
    def fetch(*about: Any) -> None:
        with geofetch.fetch(inner.url).location as file:
            found.append(file.read())

    return fetch


@pytest.mark.parametrize("fact", ["planned", "started", *REFUSING, "finished"])
def test_a_hook_that_fetches_borrows_its_own_slot(mirror: Mirror, spotless: Leftovers, fact: str) -> None:
    found: list[bytes] = []
    outer, inner = mirror.serves(BODY), mirror.serves(b"inner")
    with pooled(1, per_host=1, hooks={fact: fetching(inner, found)}, deadline=20) as pool:
        outcomes = pool.map([outer.url, {"source": outer.url, "path": "2"}])
    assert [outcome.state for outcome in outcomes] == ["stored", "stored"]
    assert found == [b"inner"] * 2


@pytest.mark.parametrize("fact", ["headers", "received", "stored"])
def test_a_hook_that_maps_over_its_own_pool_never_deadlocks(mirror: Mirror, spotless: Leftovers, fact: str) -> None:
    outer = mirror.serves(BODY)
    inner = [mirror.serves(BODY, name=f"inner{n}") for n in range(9)]  # more than 4 x size, and than any slot
    seen: list[list[str]] = []

    def nested(attempt: Attempt, *told: Any) -> None:
        if attempt.source == outer:
            seen.append([outcome.state for outcome in pool.map([one.url for one in inner])])

    with pooled(1, hooks={fact: nested}, deadline=20) as pool:
        (outcome,) = pool.map([outer.url])
    assert outcome.state == "stored"
    assert seen == [["stored"] * 9]


def test_a_hook_that_spawns_into_its_own_full_pool_never_deadlocks(mirror: Mirror, spotless: Leftovers) -> None:
    outer, inner = [mirror.serves(BODY, name=f"outer{n}") for n in range(8)], mirror.serves(BODY, name="inner")
    states: list[str] = []

    def nested(attempt: Attempt, *told: Any) -> None:
        if attempt.source != inner:
            states.append(pool.spawn(inner.url).get(timeout=10).state)

    with pooled(1, hooks={"received": nested}) as pool:
        jobs = [pool.spawn(one.url) for one in outer]
        assert [job.get(timeout=20).state for job in jobs] == ["stored"] * 8
    assert states == ["stored"] * 8


def test_hooks_that_fetch_never_open_more_than_one_connection_beside_their_downloads(mirror: Mirror) -> None:
    outer = mirror.serves(BODY)
    inner = [mirror.serves(BODY, latency_s=0.02, name=f"inner{n}") for n in range(6)]
    most = 0

    def nested(attempt: Attempt, *told: Any) -> None:
        nonlocal most
        if attempt.source == outer:
            jobs = [pool.spawn(one.url) for one in inner]
            while not all(job.done for job in jobs):
                most = max(most, mirror.open)
                gevent.sleep(0.001)

    with pooled(1, hooks={"headers": nested}, deadline=20) as pool:
        pool.map([outer.url])[0].raise_for_error()
    assert most == 2


def test_with_one_connection_in_the_whole_process_a_hook_may_still_fetch(mirror: Mirror) -> None:
    outer, inner = mirror.serves(BODY), mirror.serves(b"inner")
    said = in_subprocess(
        """
        geofetch.configure(max_connections=1)
        def nested(attempt, *told):
            with geofetch.fetch(inner).location as file:
                print(fact, file.read().decode(), geofetch.get(inner).text)
        for fact in ("started", "headers", "chunk", "received", "accepted", "stored"):
            with geofetch.Pool(1, store=geofetch.MemoryStore(), hooks={fact: nested}, progress=False) as pool:
                (outcome,) = pool.map([outer])
            print(outcome.raise_for_error().state)
        """,
        outer=outer.url,
        inner=inner.url,
    )
    facts = ("started", "headers", "chunk", "received", "accepted", "stored")
    assert said.split() == [word for fact in facts for word in (fact, "inner", "inner", "stored")]


def test_a_hook_may_fetch_when_its_download_failed(mirror: Mirror, spotless: Leftovers) -> None:
    found: list[bytes] = []
    source = mirror.serves(status=404)
    with pooled(1, hooks={"failed": fetching(mirror.serves(b"inner"), found)}) as pool:
        (outcome,) = pool.map([source.url])
    assert (outcome.state, found) == ("failed", [b"inner"])


def test_what_a_hook_fetched_and_failed_at_refuses_as_what_it_is(mirror: Mirror) -> None:
    outer, gone = mirror.serves(BODY), mirror.serves(BODY, cut=10)
    with pooled(retries=0, hooks={"received": lambda attempt: geofetch.fetch(gone.url, retries=0)}) as pool:
        (outcome,) = pool.map([outer.url])
    assert isinstance(outcome.error, Truncated)
    assert outcome.error.source == gone


# ------------------------------------------------------------------------------------------------------------ the rest


def test_a_slow_hook_holds_up_its_own_download_alone(mirror: Mirror, spotless: Leftovers) -> None:
    slow, quick = mirror.serves(BODY, name="slow"), mirror.serves(BODY, name="quick")
    going = gevent.event.Event()

    def wait(attempt: Attempt, *told: Any) -> None:
        if attempt.source == slow:
            going.wait(10)

    with pooled(2, hooks={"received": wait}) as pool:
        late = pool.spawn(slow.url)
        assert pool.spawn(quick.url).get(timeout=10).state == "stored"
        assert not late.done
        going.set()
        assert late.get(timeout=10).state == "stored"


def test_a_hook_after_received_holds_no_slot(mirror: Mirror, spotless: Leftovers) -> None:
    slow, quick = mirror.serves(BODY, name="slow"), mirror.serves(BODY, name="quick")
    going = gevent.event.Event()

    def wait(attempt: Attempt, *told: Any) -> None:
        if attempt.source == slow:
            going.wait(10)

    with pooled(1, hooks={"accepted": wait}) as pool:
        late = pool.spawn(slow.url)
        assert pool.spawn(quick.url).get(timeout=10).state == "stored"
        assert not late.done
        going.set()
        assert late.get(timeout=10).state == "stored"


def test_meta_is_the_callers_own_and_may_be_changed_by_hooks(mirror: Mirror) -> None:
    seen: dict[str, Any] = {}
    spec = Spec(mirror.serves(BODY).url, meta=seen)
    with pooled(hooks={"headers": lambda attempt, head: attempt.spec.meta.update(status=head.status)}) as pool:
        (outcome,) = pool.map([spec])
    assert outcome.spec.meta is seen
    assert seen == {"status": 200}


def test_hooks_of_a_failed_try_are_bound_anew(mirror: Mirror) -> None:
    source = mirror.plays([Scene(body=BODY, cut=1_000), Scene(body=BODY)])
    counts: list[int] = []

    class Counting:
        def bind(self, attempt: Attempt) -> Mapping[str, Any]:
            seen = 0

            def on_chunk(view: memoryview) -> None:
                nonlocal seen
                seen += len(view)

            return {"chunk": on_chunk, "failed": lambda _: counts.append(seen), "received": lambda: counts.append(seen)}

    with pooled(stages=[Counting()]) as pool:
        (outcome,) = pool.map([Spec(source.url, digests=sha256(BODY), size=len(BODY))])
    assert counts == [1_000, len(BODY)]
    assert outcome.fetched == 1_000 + len(BODY)
    assert outcome.size == len(BODY)


def test_an_internal_error_is_told_as_one_and_keeps_its_cause(
    mirror: Mirror, spotless: Leftovers, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(MemoryStore):
        def have(self, *about: Any) -> Any:
            raise ZeroDivisionError("a bug")

    with pooled(store=Broken()) as pool:
        (outcome,) = pool.map([mirror.serves(BODY).url])
    assert type(outcome.error) is FetchError
    assert "internal error: ZeroDivisionError: a bug" in str(outcome.error)
    assert isinstance(outcome.error.__cause__, ZeroDivisionError)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_stall_in_a_hook_is_no_stall_of_the_source(mirror: Mirror) -> None:
    """Low speed counts what the source sends while it is asked, not how long a hook thinks about it."""
    body = made(40_000)
    source = mirror.serves(body)
    with pooled(low_speed=(1e9, 0.05), hooks={"headers": lambda *_: gevent.sleep(0.1)}) as pool:
        (outcome,) = pool.map([source.url])
    assert not isinstance(outcome.error, Stalled)
    assert outcome.state == "stored"


def test_an_outcome_says_how_it_ended(mirror: Mirror, tmp_path: Path) -> None:
    outcome = geofetch.fetch(mirror.serves(BODY).url, to=tmp_path / "x", size=len(BODY))
    assert isinstance(outcome, Outcome)
    assert outcome.raise_for_error() is outcome
    assert outcome.elapsed_s > 0
    assert 0 < outcome.attempts[0].elapsed_s <= outcome.elapsed_s


# ------------------------------------------------------------------------------------------------- what a stage binds


class Counted(Listener):
    """The bytes of one attempt, told to its stage."""

    def __init__(self, counting: Counting, attempt: Attempt) -> None:
        self.counting, self.attempt, self.count = counting, attempt, 0

    def on_chunk(self, view: memoryview) -> None:
        self.count += len(view)

    def on_received(self) -> None:
        self.counting.told.append((self.attempt.source, "received", self.count))

    def on_failed(self, error: FetchError) -> None:
        self.counting.told.append((self.attempt.source, type(error).__name__, self.count))


class Counting:
    def __init__(self, offload: bool = False) -> None:
        self.offload = offload
        self.told: list[Any] = []

    def bind(self, attempt: Attempt) -> Listener:
        return Counted(self, attempt)


@pytest.mark.parametrize("offload", [False, True])
def test_hooks_may_be_the_methods_of_a_listener_of_its_own_for_each_attempt(mirror: Mirror, offload: bool) -> None:
    cut, good = mirror.serves(BODY, cut=10), mirror.serves(BODY)
    counting = Counting(offload)
    with pooled(stages=[counting], retries=0) as pool:
        (outcome,) = pool.map([Spec(sources=[Source(cut.url, 0), Source(good.url, 1)])])
    assert outcome.state == "stored"
    assert counting.told == [(cut, "Truncated", 10), (good, "received", len(BODY))]


def test_a_listener_with_a_method_for_no_fact_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"Misspelt has on_chunks; there are on_planned, .*on_chunk, "):
        type("Misspelt", (Listener,), {"on_chunks": lambda self, view: None, "on_chunk": lambda self, view: None})


class Slotted(Listener):
    """Without attributes of its own that could stand before its class' methods."""

    __slots__ = ("told",)

    def __init__(self, told: list[Any]) -> None:
        self.told = told

    def on_started(self) -> None:
        self.told.append("a method")

    @staticmethod
    def on_stored(location: Any) -> None:
        location.append("of nobody")


class Open(Slotted):
    """With attributes of its own."""


@pytest.mark.parametrize("kind", [Slotted, Open])
def test_a_listener_hears_with_the_methods_of_its_class(kind: type[Slotted]) -> None:
    told: list[Any] = []
    bound = Door([Binding(kind(told))]).bound(ATTEMPT)
    bound.tell("started")
    bound.ask("stored", told)
    for hook in bound["started"]:
        hook()
    assert told == ["a method", "of nobody", "a method"]


def test_a_listener_hears_with_what_it_has_itself_where_it_has_that() -> None:
    told: list[Any] = []
    usual, odd = Open(told), Open(told)
    odd.on_started = lambda: told.append("its own")  # type: ignore[method-assign]
    binding = Binding(usual)
    door = Door([binding])
    for listener in (usual, odd, usual):
        binding.offered = listener
        door.bound(ATTEMPT).tell("started")
    assert told == ["a method", "its own", "a method"]


def test_a_kill_in_the_log_of_what_an_observer_raised_leaves_no_other_observer_out(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def struck(record: logging.LogRecord) -> None:
        raise gevent.GreenletExit

    answers: list[Any] = []
    monkeypatch.setattr(caplog.handler, "emit", struck)
    door = Door([Binding({"failed": lambda error: 1 / 0}), Binding({"failed": lambda error: "told"})])
    killed = door.bound(ATTEMPT).tell_all("failed", answers, FetchError("gone"))
    assert (type(killed), answers) == (gevent.GreenletExit, ["told"])


class Binding:
    """Gives whatever it was given."""

    def __init__(self, offered: Any) -> None:
        self.offered = offered

    def bind(self, attempt: Attempt) -> Any:
        return self.offered


ATTEMPT = Attempt(Spec("http://h.example/a"), None)


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_stage_may_bind_nothing(nothing: Any) -> None:
    told: list[str] = []
    bound = Door([Binding(nothing), Binding({"started": lambda: told.append("started")})]).bound(ATTEMPT)
    for hook in bound["started"]:
        hook()
    assert (told, [*bound["chunk"]]) == (["started"], [])


@pytest.mark.parametrize("junk", [7, ["started"], print])
def test_a_stage_that_binds_no_mapping_is_named(junk: Any) -> None:
    with pytest.raises(
        SpecError, match=r"bind\(\) of <.*Binding .* gives a mapping of hooks, not " + type(junk).__name__
    ):
        Door([Binding(junk)]).bound(ATTEMPT)


def test_a_fact_that_there_is_not_is_named_each_time() -> None:
    door = Door([Binding({"chunks": print})])
    for _ in range(2):
        with pytest.raises(SpecError, match="listens to 'chunks'; there are started, "):
            door.bound(ATTEMPT)
    with pytest.raises(SpecError, match="listens to 'planned'"):
        Door([Binding({"planned": print})]).bound(ATTEMPT)


def test_what_a_stage_does_to_its_mapping_later_concerns_the_next_attempt_alone() -> None:
    told: list[str] = []
    mapping = {"started": lambda: told.append("before"), "received": lambda: told.append("received")}
    door = Door([Binding(mapping)])
    first = door.bound(ATTEMPT)
    del mapping["received"]
    mapping["started"] = lambda: told.append("after")
    second = door.bound(ATTEMPT)
    for fact in ("started", "received"):
        for bound in (first, second):
            for hook in bound[fact]:
                hook()
    assert told == ["before", "after", "received"]


def test_a_stage_that_binds_another_set_of_facts_every_time_is_not_remembered_for_ever() -> None:
    binding = Binding(None)
    door = Door([binding, binding, binding])
    facts = [*geofetch.events.ATTEMPT_FACTS]
    for number in range(3 * 2 ** len(facts)):
        binding.offered = {fact: print for at, fact in enumerate(facts) if number >> at & 1}
        assert all(len(door.bound(ATTEMPT)[fact]) == 3 for fact in binding.offered)
    assert len(door._plans) <= 64
