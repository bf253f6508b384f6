"""What is told of a download, in which order, and what a refusal at each of the facts does."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from threading import get_native_id
from typing import Any

import gevent
import pytest

from geofetch.errors import Cancelled, DigestMismatch, FetchError, NotFound, SizeMismatch
from geofetch.events import Attempt, Head
from geofetch.pipeline import LANE_FROM
from geofetch.spec import Source, Spec
from geofetch.store import FileStore, MemoryStore
from tests.origin.content import made
from tests.support.diary import ADOPTED, REFUSING, WHOLE, Diary, Raising, sha256
from tests.support.doors import Door
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

SMALL = made(5_000, "small")
LARGE = made(2 * LANE_FROM + 12_345, "large")

#: Where chunk hooks run: on the hub (a small body; a large one when it is told so), or on the file's native lane.
LANES = [
    pytest.param(SMALL, True, id="small"),
    pytest.param(LARGE, False, id="large-on-the-hub"),
    pytest.param(LARGE, True, id="large-on-the-lane"),
]


@pytest.mark.parametrize(("body", "offload"), LANES)
def test_a_stored_file_tells_every_fact_once_and_in_order(
    mirror: Mirror, spotless: Leftovers, body: bytes, offload: bool
) -> None:
    here, there = Diary(), Diary(offload=True)
    source = mirror.serves(body)
    with pooled(stages=[here, there], offload=offload) as pool:
        (outcome,) = pool.map([Spec(source.url, digests=sha256(body))])
        assert outcome.state == "stored"
        assert pool.store[outcome.location] == body
    assert here.facts == WHOLE
    assert [fact for fact in there.facts if fact != "chunk"] == [fact for fact in WHOLE if fact != "chunk"]
    assert there.facts.index("headers") < there.facts.index("chunk") < there.facts.index("received")
    assert here.outcomes == [outcome]
    assert here.bound == list(outcome.attempts)
    assert here.watched == [outcome.spec]


def test_all_that_a_download_gives_is_frozen_and_as_if_made_by_its_class(mirror: Mirror, tmp_path: Path) -> None:
    source = mirror.serves(SMALL)
    with pooled(store=FileStore(tmp_path)) as pool:
        (outcome,) = pool.map([Spec(source.url, digests=sha256(SMALL))])
    (attempt,) = outcome.attempts
    (digest,) = outcome.digests.values()
    for value in (outcome, attempt.head, attempt.kept, outcome.source, digest, outcome.spec.digests[0]):
        fields = dataclasses.fields(value)  # type: ignore[arg-type]
        made = type(value)(**{field.name: getattr(value, field.name) for field in fields if field.init})
        assert (made, repr(made)) == (value, repr(value))
        assert all(getattr(made, field.name) == getattr(value, field.name) for field in fields)
        for field in fields:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(value, field.name, None)
        if value not in (outcome, attempt.head):  # attempts are compared as themselves, headers are the transport's
            again = pickle.loads(pickle.dumps(value))
            assert (again, hash(again), repr(again)) == (value, hash(value), repr(value))
    assert repr(pickle.loads(pickle.dumps(outcome))) == repr(outcome)
    assert (outcome.source, outcome.error) == (Source(source.url), None)


def test_a_body_that_tells_no_length_moves_to_the_lane_when_it_has_grown(mirror: Mirror, spotless: Leftovers) -> None:
    source = mirror.serves(LARGE, chunked=True)
    threads: list[int] = []

    class Noting:
        offload = True

        def bind(self, attempt: Attempt) -> Mapping[str, Any]:
            return {"chunk": lambda view: threads.append(get_native_id())}

    with pooled(stages=[Noting()]) as pool:
        (outcome,) = pool.map([Spec(source.url, digests=sha256(LARGE), size=len(LARGE))])
        assert (outcome.state, outcome.verified) == ("stored", "digest")
        assert pool.store[outcome.location] == LARGE
    here = get_native_id()
    assert threads[0] == here
    assert threads[-1] != here
    # On the hub first, then never again: the order of the bytes is the order of the hooks.
    assert [one == here for one in threads] == sorted((one == here for one in threads), reverse=True)


@pytest.mark.parametrize("size", [0, LANE_FROM - 1, LANE_FROM, 5 * LANE_FROM + 1])
def test_both_lanes_give_the_same_bytes_and_the_same_outcome(mirror: Mirror, spotless: Leftovers, size: int) -> None:
    body = made(size, "both")
    source = mirror.serves(body)
    found = []
    for offload in (True, False):
        with pooled(offload=offload) as pool:
            (outcome,) = pool.map([Spec(source.url, digests=[sha256(body), _md5(body)], size=size)])
            assert pool.store[outcome.location] == body
        found.append((outcome.state, outcome.size, dict(outcome.digests), outcome.verified, outcome.fetched))
    assert found[0] == found[1]
    assert found[0][:2] == ("stored", size)
    assert {f"{digest.algorithm}:{digest.hex}" for digest in found[0][2].values()} == {sha256(body), _md5(body)}


def _md5(body: bytes) -> str:
    return f"md5:{hashlib.md5(body).hexdigest()}"


def test_a_large_file_is_hashed_and_written_off_the_hub_and_a_small_one_is_not(mirror: Mirror) -> None:
    threads: dict[str, set[int]] = {}

    class Noting:
        offload = True

        def bind(self, attempt: Attempt) -> Mapping[str, Any]:
            return {"chunk": lambda view: threads.setdefault(attempt.spec.path, set()).add(get_native_id())}

    small, large = mirror.serves(SMALL, name="small"), mirror.serves(LARGE, name="large")
    with pooled(stages=[Noting()]) as pool:
        pool.map([small.url, large.url])
    assert threads["small"] == {get_native_id()}
    assert get_native_id() not in threads["large"]


def test_an_adopted_file_asks_no_source_and_is_accepted_and_stored_like_any_other(
    mirror: Mirror, spotless: Leftovers, tmp_path: Path
) -> None:
    source = mirror.serves(SMALL)
    (tmp_path / "file").write_bytes(SMALL)
    diary = Diary()
    with pooled(store=FileStore(tmp_path), stages=[diary]) as pool:
        (outcome,) = pool.map([Spec(source.url, digests=sha256(SMALL))])
        pool.store.close()
    assert diary.facts == ADOPTED
    assert (outcome.state, outcome.source, outcome.verified, outcome.fetched) == ("adopted", None, "digest", 0)
    assert (outcome.size, outcome.location) == (len(SMALL), tmp_path / "file")
    assert [attempt.source for attempt in outcome.attempts] == [None]
    assert source.hits == 0


def test_a_failed_attempt_is_told_before_the_next_one_starts(mirror: Mirror, spotless: Leftovers) -> None:
    missing, liar, good = mirror.serves(status=404), mirror.serves(b"x" * len(SMALL)), mirror.serves(SMALL)
    diary = Diary()
    spec = Spec(
        sources=[{"url": one.url, "priority": n} for n, one in enumerate((missing, liar, good))], digests=sha256(SMALL)
    )
    with pooled(stages=[diary]) as pool:
        (outcome,) = pool.map([spec])
    assert diary.facts == [
        "planned",
        *("started", "failed"),
        *("started", "headers", "chunk", "failed"),  # our own Proof refused before the diary heard of "received"
        *("started", "headers", "chunk", "received", "accepted", "stored"),
        "finished",
    ]
    assert [type(attempt.error) for attempt in outcome.attempts] == [NotFound, DigestMismatch, type(None)]
    assert outcome.source == good
    assert (missing.hits, liar.hits, good.hits) == (1, 1, 1)
    assert diary.bound == list(outcome.attempts), "stages are bound once an attempt"
    assert diary.watched == [spec], "and watch once a spec"


@pytest.mark.parametrize(("body", "offload"), LANES)
@pytest.mark.parametrize("fact", REFUSING)
def test_a_refusal_ends_the_download_where_it_was_raised(
    mirror: Mirror, spotless: Leftovers, tmp_path: Path, fact: str, body: bytes, offload: bool
) -> None:
    source, diary, cause = mirror.serves(body), Diary(), LookupError("I do not like it")
    store = FileStore(tmp_path)
    # The hook stands before the store's own listeners here: nothing of what it refuses gets a name.
    with pooled(store=store, stages=[diary, Raising(fact, cause)], offload=offload) as pool:
        (outcome,) = pool.map([Spec(source.url, digests=sha256(body))])
    expected = WHOLE[1 : WHOLE.index(fact) + 1]
    assert diary.facts == ["planned", *expected, "failed", "finished"]
    assert outcome.state == "failed"
    assert type(outcome.error) is FetchError
    assert outcome.error.__cause__ is cause
    assert f"refused at {fact!r} by a hook: LookupError: I do not like it" in str(outcome.error)
    assert outcome.error.spec is outcome.spec
    assert source.hits == 1
    # The store hears of "accepted" after the user's hooks: what they refuse gets no name; what has one keeps it.
    published = fact == "stored"
    assert (tmp_path / "file").exists() == published
    assert outcome.location == (tmp_path / "file" if published else None)
    assert list(tmp_path.rglob(".part-*")) == []
    store.close()


@pytest.mark.parametrize("chunks_first", [1, 4])
def test_a_refusal_of_an_offloaded_hook_surfaces(mirror: Mirror, spotless: Leftovers, chunks_first: int) -> None:
    seen = 0

    class Picky:
        offload = True

        def bind(self, attempt: Attempt) -> Mapping[str, Any]:
            def on_chunk(view: memoryview) -> None:
                nonlocal seen
                seen += len(view)
                if seen > chunks_first * LANE_FROM // 2:
                    raise ValueError("too much of it")

            return {"chunk": on_chunk}

    diary = Diary()
    source = mirror.serves(made(4 * LANE_FROM))
    with pooled(stages=[diary, Picky()]) as pool:
        (outcome,) = pool.map([source.url])
        assert len(pool.store) == 0
    assert diary.facts == ["planned", "started", "headers", "chunk", "failed", "finished"]
    assert isinstance(outcome.error, FetchError)
    assert isinstance(outcome.error.__cause__, ValueError)


def test_a_refusal_on_the_lane_at_the_very_last_chunk_still_surfaces(mirror: Mirror, spotless: Leftovers) -> None:
    body = made(LANE_FROM + 1)
    seen = 0

    class LastOne:
        offload = True

        def bind(self, attempt: Attempt) -> Mapping[str, Any]:
            def on_chunk(view: memoryview) -> None:
                nonlocal seen
                seen += len(view)
                if seen == len(body):
                    raise SizeMismatch("not this one")

            return {"chunk": on_chunk}

    diary = Diary()
    with pooled(stages=[diary, LastOne()]) as pool:
        (outcome,) = pool.map([mirror.serves(body).url])
        assert len(pool.store) == 0
    assert diary.facts == ["planned", "started", "headers", "chunk", "failed", "finished"]
    assert isinstance(outcome.error, SizeMismatch)


@pytest.mark.parametrize(("body", "offload"), LANES)
def test_a_cancel_in_mid_body_is_a_failure_told_once_and_leaves_nothing(
    mirror: Mirror, spotless: Leftovers, tmp_path: Path, body: bytes, offload: bool
) -> None:
    source, diary, store = mirror.serves(body, stall=len(body) // 2), Diary(), FileStore(tmp_path)
    with pooled(store=store, stages=[diary], offload=offload) as pool:
        job = pool.spawn(source.url)
        source.arrived()
        while "chunk" not in diary.facts:
            gevent.sleep(0.001)
        job.cancel()
        outcome = job.get(timeout=10)
    assert diary.facts == ["planned", "started", "headers", "chunk", "failed", "finished"]
    assert outcome.state == "cancelled"
    assert type(outcome.error) is Cancelled
    assert isinstance(outcome.error.__cause__, gevent.GreenletExit)
    assert not outcome.ok
    assert outcome.attempts[0].error is outcome.error
    assert 0 < outcome.fetched <= len(body) // 2
    assert list(tmp_path.rglob(".part-*")) == []
    assert not (tmp_path / "file").exists()
    mirror.left()
    store.close()


def test_a_kill_waits_for_the_lane_before_it_is_told(mirror: Mirror, spotless: Leftovers) -> None:
    """When ``failed`` is told no thread has its hands on the attempt any more."""
    door, order = Door(), []

    class Slow:
        offload = True

        def bind(self, attempt: Attempt) -> Mapping[str, Any]:
            def on_chunk(view: memoryview) -> None:
                door.wait()
                order.append("chunk")

            return {"chunk": on_chunk, "failed": lambda error: order.append("failed")}

    with contextlib.closing(door), pooled(stages=[Slow()]) as pool:
        job = pool.spawn(mirror.serves(LARGE).url)
        until(lambda: door.waiting, what="the thread at the door")
        job.cancel()
        gevent.sleep(0.01)
        assert order == []
        door.open()
        assert job.get(timeout=10).state == "cancelled"
        gevent.sleep(0.01)
    assert order[-1] == "failed"
    assert "chunk" in order


def test_validation_comes_before_publishing_and_that_before_the_record_whatever_the_order_of_stages(
    mirror: Mirror,
) -> None:
    """Only what is proven is accepted: a user's stage at "accepted" sees the digests, one at "stored" the location."""
    seen: dict[str, Any] = {}

    class Looking:
        def bind(self, attempt: Attempt) -> Mapping[str, Any]:
            return {
                "accepted": lambda: seen.update(digests=dict(attempt.digests), verified=attempt.verified),
                "stored": lambda location: seen.update(location=location),
            }

    store = MemoryStore()
    with pooled(store=store, stages=[Looking()]) as pool:
        (outcome,) = pool.map([Spec(mirror.serves(SMALL).url, digests=sha256(SMALL))])
    assert seen["verified"] == "digest"
    assert seen["digests"] == outcome.digests
    assert seen["location"] == outcome.location


def test_several_digests_are_proven_in_one_pass_and_each_may_refuse(mirror: Mirror) -> None:
    names = ("md5", "sha1", "sha256", "sha512", "blake2b", "sha3_256")
    good = {name: hashlib.new(name, LARGE).hexdigest() for name in names}
    source = mirror.serves(LARGE)
    with pooled() as pool:
        (outcome,) = pool.map([Spec(source.url, digests=good)])
        assert {name: digest.hex for name, digest in outcome.digests.items()} == good
        assert source.hits == 1
        for name in names:
            wrong = {**good, name: "0" * len(good[name])}
            (outcome,) = pool.map([Spec(source.url, digests=wrong, path="other")])
            assert isinstance(outcome.error, DigestMismatch)
            assert name in str(outcome.error)


def test_a_chunk_is_a_read_only_view_of_what_came(mirror: Mirror) -> None:
    views: list[memoryview] = []
    copies: list[bytes] = []

    def look(attempt: Attempt, view: memoryview) -> None:
        views.append(view)
        copies.append(bytes(view))
        assert isinstance(view, memoryview)
        assert view.readonly
        assert view.nbytes > 0
        with pytest.raises(TypeError):
            view[0] = 0

    for body in (SMALL, LARGE):
        copies.clear()
        with pooled(hooks={"chunk": look}) as pool:
            (outcome,) = pool.map([mirror.serves(body).url])
        outcome.raise_for_error()
        assert b"".join(copies) == body


def test_plain_hooks_are_given_what_they_are_about(mirror: Mirror) -> None:
    told: list[tuple[Any, ...]] = []
    facts = ("planned", "started", "headers", "chunk", "received", "accepted", "stored", "failed", "finished")

    def noting(fact: str) -> Any:
        return lambda *given: told.append((fact, *given))

    missing, good = mirror.serves(status=404), mirror.serves(SMALL)
    spec = Spec(sources=[{"url": missing.url, "priority": 0}, {"url": good.url, "priority": 1}])
    with pooled(hooks={fact: noting(fact) for fact in facts}) as pool:
        (outcome,) = pool.map([spec])
    first, second = outcome.attempts
    (chunk,) = [given for given in told if given[0] == "chunk"]
    (headers,) = [given for given in told if given[0] == "headers"]
    assert isinstance(headers[2], Head)
    assert told == [
        ("planned", spec),
        ("started", first),
        ("failed", first, first.error),
        ("started", second),
        ("headers", second, second.head),
        ("chunk", second, chunk[2]),
        ("received", second),
        ("accepted", second),
        ("stored", second, outcome.location),
        ("finished", outcome),
    ]


def test_several_plain_hooks_of_one_fact_are_told_in_order(mirror: Mirror) -> None:
    order: list[int] = []
    hooks = {"stored": [lambda *_: order.append(1), lambda *_: order.append(2)], "finished": lambda _: order.append(3)}
    with pooled(hooks=hooks) as pool:
        pool.map([mirror.serves(SMALL).url])
    assert order == [1, 2, 3]


def test_an_empty_file_is_a_download_too(mirror: Mirror) -> None:
    diary = Diary()
    with pooled(stages=[diary]) as pool:
        (outcome,) = pool.map([Spec(mirror.serves(b"").url, size=0, digests=sha256(b""))])
        assert pool.store[outcome.location] == b""
    assert diary.facts == [fact for fact in WHOLE if fact != "chunk"]
    assert (outcome.state, outcome.size, outcome.verified) == ("stored", 0, "digest")
