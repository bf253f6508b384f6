"""Units that are wanted and not stored yet, what is owed to them; what sources said; what nobody is in any more."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from geofetch.errors import NotFound, RecordError, SpecError, Stalled
from geofetch.events import Head, Kept
from geofetch.records import Recorder, Unit
from geofetch.records.changes import cooldown_us
from geofetch.records.units import place_hash
from geofetch.spec import Source, Spec

from .support.servers import Place
from .test_records import STORE, attempt, fail, only, sha256, store

FILE = b"the file"
SPEC = Spec(
    "http://a.example/a",
    sources=[Source("http://b.example/a", priority=1, profile="inside", expires_at=2_000_000_000.25)],
    size=8,
    digests=sha256(FILE),
    repository="main",
)


@pytest.fixture
def recorder(database: Place) -> Iterator[Recorder]:
    with Recorder(database.url) as opened:
        yield opened


def want(recorder: Recorder, spec: Spec = SPEC, **told: Any) -> str:
    found: str = recorder.want(spec, STORE, **told).get()
    return found


def facts(unit: Unit) -> Any:
    """What a want may not touch of a stored file."""
    return (
        unit.state, unit.kept, unit.verified, unit.digests, unit.trusted, unit.metadata, unit.stored_at, unit.proven_at,
        unit.scrubbed_at, unit.scrub_result,
    )  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- wanted


def test_a_wanted_file_is_a_unit_with_all_that_was_told_and_no_file(recorder: Recorder) -> None:
    assert want(recorder) == "wanted"
    unit = only(recorder)
    assert (unit.state, unit.size, unit.stored_at, unit.proven_at, unit.kept) == ("missing", 8, None, None, None)
    assert (unit.policy, unit.pending, unit.tries) == ("immediate", None, 0)
    assert (unit.digests, unit.trusted) == (SPEC.digests, {"sha256"})
    assert (unit.sources, unit.repositories) == (SPEC.sources, ("main",))
    assert unit.spec() == SPEC
    assert recorder.recall(STORE, "a") is None


def test_the_same_want_twice_changes_nothing(recorder: Recorder, database: Place) -> None:
    want(recorder, pending=True)
    fail(recorder, SPEC, NotFound("gone"))
    before = only(recorder)
    assert want(recorder, pending=True) == "wanted"
    assert only(recorder) == before
    assert before.tries == 1


def test_nobody_need_know_its_size(recorder: Recorder) -> None:
    spec = Spec("http://a.example/a")
    want(recorder, spec)
    assert only(recorder).size is None
    store(recorder, spec)
    assert (only(recorder).size, only(recorder).state) == (8, "present")


def test_a_want_never_touches_a_stored_file(recorder: Recorder) -> None:
    store(recorder, Spec("http://c.example/a", digests=sha256(FILE)))
    before = only(recorder)
    assert want(recorder, policy="on_demand", pending=True) == "present"
    after = only(recorder)
    assert facts(after) == facts(before)
    assert (after.policy, after.pending, after.repositories) == ("on_demand", None, ("main",))
    assert [source.url for source in after.sources] == [
        "http://c.example/a",
        "http://a.example/a",
        "http://b.example/a",
    ]
    assert after.health[0] == before.health[0]


def test_a_file_that_is_stored_in_another_version_stays_and_its_sources_too(recorder: Recorder) -> None:
    store(recorder, Spec("http://c.example/a", digests=sha256(b"older")), b"older")
    before = only(recorder)
    assert want(recorder, policy="on_demand") == "differs"
    after = only(recorder)
    assert facts(after) == facts(before)
    assert (after.sources, after.health) == (before.sources, before.health)
    assert (after.policy, after.repositories) == ("on_demand", ("main",))


def test_where_the_file_is_gone_the_version_that_is_wanted_now_counts(recorder: Recorder) -> None:
    store(recorder, Spec("http://c.example/a", digests=sha256(b"older")), b"older")
    recorder.mark(only(recorder), "missing").get()
    assert want(recorder) == "wanted"
    unit = only(recorder)
    assert (unit.digests, unit.size, unit.stored_at) == (SPEC.digests, 8, None)
    assert unit.sources == SPEC.sources


def test_a_unit_has_one_of_the_policies(recorder: Recorder) -> None:
    with pytest.raises(SpecError, match="immediate, on_demand, streamed"):
        want(recorder, policy="never")


def test_many_wants_share_a_commit(recorder: Recorder) -> None:
    pending = [recorder.want(Spec(f"http://a.example/{n}"), STORE, policy="streamed") for n in range(300)]
    assert {one.get() for one in pending} == {"wanted"}
    assert recorder.count(policy="streamed") == recorder.count() == 300
    assert recorder.commits < 5


# -------------------------------------------------------------------------------------------------------------- pending


def test_what_is_owed_is_done_with_the_commit_that_records_the_file(recorder: Recorder) -> None:
    want(recorder, policy="immediate", pending=True)
    assert (only(recorder).pending, recorder.count(pending=True)) == ("fetch", 1)
    fail(recorder, SPEC, Stalled("slow"))
    fail(recorder, SPEC, Stalled("slow"), SPEC.sources[1])
    assert only(recorder).tries == 2
    # What cannot be committed clears nothing.
    bad = Spec(SPEC.source, digests=SPEC.digests, repository="bad\udcff")
    with pytest.raises(RecordError):
        store(recorder, bad)
    assert (only(recorder).pending, only(recorder).tries, only(recorder).state) == ("fetch", 2, "missing")
    store(recorder, SPEC)
    unit = only(recorder)
    assert (unit.pending, unit.tries, unit.state, unit.policy) == (None, 0, "present", "immediate")
    assert recorder.count(pending=True) == 0
    assert unit.stored_at is not None


def test_one_that_is_fetched_on_demand_stays_so(recorder: Recorder) -> None:
    want(recorder, policy="on_demand")
    store(recorder, SPEC)
    assert (only(recorder).policy, only(recorder).state) == ("on_demand", "present")


def test_a_failure_of_what_is_not_owed_is_no_try(recorder: Recorder) -> None:
    want(recorder)
    fail(recorder, SPEC, Stalled("slow"))
    assert (only(recorder).tries, only(recorder).health[0].failures) == (0, 1)


def test_an_adopted_file_was_stored_when_it_was_adopted(recorder: Recorder) -> None:
    want(recorder, pending=True)
    store(recorder, SPEC, adopted=True)
    unit = only(recorder)
    assert (unit.pending, unit.stored_at) == (None, unit.proven_at)
    assert unit.stored_at is not None


def test_one_that_was_never_stored_is_marked_only_where_it_is(recorder: Recorder) -> None:
    want(recorder, Spec("http://a.example/a"), pending=True)
    unit = only(recorder)
    assert recorder.mark(unit, "present").get() is False
    assert recorder.mark(unit, "corrupt").get() is False
    assert recorder.mark(unit, "present", kept=Kept(STORE, "a", 8, 1, 7), digests=[sha256(FILE)]).get() is True
    assert (only(recorder).size, only(recorder).pending) == (8, None)


# -------------------------------------------------------------------------------------------------------------- sources


def served(recorder: Recorder, content: bytes, source: Source, **headers: str) -> None:
    spec = Spec(sources=SPEC.sources, digests=sha256(content))
    found = attempt(spec, content, source=source)
    found.head = Head(200, headers, len(content), True, "", source.url)
    recorder.bind(found)["stored"]("anywhere")


def test_what_a_source_said_of_the_file_is_kept_with_it(recorder: Recorder) -> None:
    first, second = SPEC.sources
    served(recorder, FILE, first, ETag='"1"', **{"Last-Modified": "Mon"})
    served(recorder, FILE, second, etag='"x"')
    said = [(one.etag, one.last_modified) for one in only(recorder).health]
    assert said == [('"1"', "Mon"), ('"x"', None)]
    served(recorder, FILE, first)  # the same file without a word
    assert only(recorder).health[0].etag == '"1"'
    served(recorder, b"changed", first, ETag='"2"')
    said = [(one.etag, one.last_modified) for one in only(recorder).health]
    assert said == [('"2"', None), (None, None)]
    served(recorder, b"again", first)
    assert only(recorder).health[0].etag is None


def test_a_validator_that_is_no_text_is_left_out(recorder: Recorder) -> None:
    served(recorder, FILE, SPEC.source, ETag='"\0"')
    assert only(recorder).health[0].etag is None


def test_a_source_that_fails_again_and_again_is_better_left_alone(recorder: Recorder) -> None:
    want(recorder)
    for failures in range(1, 4):
        fail(recorder, SPEC, Stalled("slow"))
        health = only(recorder).health[0]
        assert health.failures == failures
        assert health.cooldown_until is not None
        assert health.last_failed_at is not None
        assert health.cooldown_until - health.last_failed_at == 60_000_000 * 2 ** (failures - 1)
    assert cooldown_us(12) == cooldown_us(2**31 - 1) == 86_400_000_000
    recorder.note(only(recorder), SPEC.source, None).get()
    assert only(recorder).health[0].cooldown_until is None
    fail(recorder, SPEC, Stalled("slow"))
    store(recorder, SPEC)
    assert (only(recorder).health[0].cooldown_until, only(recorder).health[0].failures) == (None, 0)


@pytest.mark.parametrize("adopted", [False, True])
def test_when_a_source_expires_is_remembered(recorder: Recorder, adopted: bool) -> None:
    store(recorder, SPEC, adopted=adopted)
    assert [source.expires_at for source in only(recorder).sources] == [None, 2_000_000_000.25]
    later = Spec(sources=[SPEC.source, Source("http://b.example/a", profile="inside")], digests=SPEC.digests)
    store(recorder, later, adopted=True)
    assert [source.expires_at for source in only(recorder).sources] == [None, None]


def test_expiry_is_a_moment() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    assert Source("http://a.example/a", expires_at=moment).expires_at == moment.timestamp()  # type: ignore[arg-type]
    assert Source("http://a.example/a", expires_at=0).expires_at == 0.0
    for bad in (datetime(2030, 1, 1), "2030", True, -1, float("nan"), float("inf"), 1e300):
        with pytest.raises(SpecError, match="expires_at"):
            Source("http://a.example/a", expires_at=bad)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- repositories, leftovers


def test_since_when_it_is_in_no_repository(recorder: Recorder) -> None:
    for repository in ("main", "extra"):
        store(recorder, Spec("http://a.example/a", digests=sha256(FILE), repository=repository))
    other = Spec("http://a.example/b")

    def listed_without_it(repository: str) -> None:
        listing = recorder.listing(repository, STORE)
        listing([other])
        assert listing.take_off() == 1

    listed_without_it("main")
    assert only(recorder).unlisted_at is None
    listed_without_it("extra")
    since = only(recorder).unlisted_at
    assert since is not None
    # Somebody wants it in no repository: no gc is to take it from him because it once was in one.
    store(recorder, Spec("http://a.example/a", digests=sha256(FILE)))
    assert only(recorder).unlisted_at is None


def leftovers(database: Place) -> set[tuple[str, str]]:
    found = database.rows("SELECT place, store, store_key FROM leftovers")
    assert all(bytes(place) == place_hash(store, key) for place, store, key in found)
    return {(store, key) for _, store, key in found}


def put_at(recorder: Recorder, path: str, content: bytes, key: str) -> None:
    spec = Spec(f"http://a.example/{path}", path=path, digests=sha256(content))
    found = attempt(spec, content)
    found.kept = Kept(STORE, key, len(content), 1, 7)
    recorder.bind(found)["stored"]("anywhere")


def test_what_the_last_unit_leaves_is_a_leftover_until_somebody_takes_it(recorder: Recorder, database: Place) -> None:
    put_at(recorder, "a", b"one", "by/one")
    put_at(recorder, "b", b"one", "by/one")
    put_at(recorder, "a", b"two", "by/two")
    assert leftovers(database) == set()  # b is there
    put_at(recorder, "b", b"two", "by/two")
    assert leftovers(database) == {(STORE, "by/one")}
    put_at(recorder, "c", b"one", "by/one")  # a new unit
    assert leftovers(database) == set()
    put_at(recorder, "c", b"two", "by/two")
    assert leftovers(database) == {(STORE, "by/one")}
    put_at(recorder, "a", b"one", "by/one")  # a known one
    assert leftovers(database) == set()
    (unit,) = recorder.units(path="a")
    put_at(recorder, "a", b"two", "by/two")
    assert leftovers(database) == {(STORE, "by/one")}
    recorder.put_unit(unit).get()  # an import
    assert leftovers(database) == set()


def test_what_was_put_aside_is_no_leftover(recorder: Recorder, database: Place) -> None:
    put_at(recorder, "a", b"one", "by/one")
    aside = Kept(STORE, "aside", 3, 1, 7)
    recorder.mark(only(recorder), "quarantined", kept=aside).get()
    put_at(recorder, "a", b"one", "by/one")
    assert leftovers(database) == set()


def test_a_batch_of_new_files_takes_its_places_off_the_leftovers(recorder: Recorder, database: Place) -> None:
    put_at(recorder, "a", b"one", "by/one")
    put_at(recorder, "a", b"two", "by/two")
    assert leftovers(database) == {(STORE, "by/one")}
    assert recorder._ledger._news in (True, False)
    recorder._ledger._news = True  # as after a batch of new files
    put_at(recorder, "z", b"one", "by/one")
    assert leftovers(database) == set()
