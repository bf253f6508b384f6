"""repair: what is wrong, fetched again from the sources that the records know."""

from __future__ import annotations

import errno
import hashlib
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

import geofetch
from geofetch import (
    Digest,
    FileStore,
    MemoryStore,
    NotFound,
    Profile,
    RecordError,
    Source,
    SourcesExhausted,
    SpecError,
    StoreError,
    Unreachable,
)
from geofetch.events import Kept
from geofetch.records import Unit
from geofetch.upkeep import Repair, heal
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.process import ROOT
from tests.support.waiting import until
from tests.test_upkeep import Gated, Hurt, in_memory
from tests.upkeep_ground import Ground, any_ground, appended, deleted, flipped, ground, truncated, warm

__all__ = ["any_ground", "ground", "warm"]


def second(mirror: Mirror, **how: Any) -> Any:
    """A second source that has every file."""
    return lambda name, body: Source(mirror.serves(body, **how).url, priority=1)


def kill(ground: Ground, handles: dict[str, Handle], **how: Any) -> None:
    """From now on these sources answer otherwise."""
    for handle in handles.values():
        ground.mirror.serves(at=handle.path, **{"status": 404, **how})


def quarantine(ground: Ground) -> dict[str, bytes]:
    folder = ground.root / ".geofetch" / "quarantine"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------------------------------------------- healed


def test_everything_that_was_harmed_is_healed(any_ground: Ground, no_leftovers: Leftovers) -> None:
    no_leftovers.first(any_ground.close)
    handles = any_ground.stock(any_ground.files(24))
    names = any_ground.random.sample(sorted(any_ground.content), 8)
    for harm, harmed in (
        (flipped(any_ground.random), names[:3]),
        (truncated, names[3:5]),
        (appended, names[5:6]),
        (deleted, names[6:]),
    ):
        any_ground.harm(harmed, harm)
    found = any_ground.verify()
    assert sorted(one.unit.path for one in found.wrong) == sorted(names)
    done = any_ground.repair(findings=found)
    assert done.ok
    assert (done.repaired, done.tried, done.wrong) == (8, 8, ())
    assert done.fetched_bytes == sum(len(any_ground.content[name]) for name in names)
    any_ground.assert_whole()
    assert any_ground.verify().ok
    assert {name for name, handle in handles.items() if handle.hits == 2} == set(names)
    assert any_ground.repair().tried == 0
    assert quarantine(any_ground) == {}


def test_two_files_that_changed_places_are_both_healed(ground: Ground) -> None:
    ground.stock({"a": ground.bytes(4000), "b": ground.bytes(4000)})
    (ground.root / "a").rename(ground.root / "x")
    (ground.root / "b").rename(ground.root / "a")
    (ground.root / "x").rename(ground.root / "b")
    assert ground.repair(findings=ground.verify()).repaired == 2
    ground.assert_whole()


def test_without_findings_the_records_say_what_is_wrong(ground: Ground) -> None:
    ground.stock({"a": b"1", "b": b"2"}, repository="main")
    ground.stock({"c": b"3"}, repository="extra")
    ground.harm(["a", "b", "c"], deleted)
    assert ground.repair().tried == 0  # nobody has looked yet
    ground.verify()
    assert ground.repair(repository="extra").repaired == 1
    assert ground.states() == {"a": "missing", "b": "missing", "c": "present"}
    assert ground.repair().repaired == 2
    ground.assert_whole()


def test_the_record_of_a_healed_file_says_what_it_said_before(ground: Ground) -> None:
    ground.stock({"a": b"hello"}, second(ground.mirror), repository="main", unit={"type": "rpm", "name": "a"})
    before = ground.unit("a")
    ground.harm(["a"], truncated)
    ground.repair(findings=ground.verify())
    after = ground.unit("a")
    assert after.id == before.id
    for name in ("type", "key", "path", "digests", "trusted", "sources", "repositories", "verified", "state"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.kept == ground.store.stat("a")
    assert after.scrub_result is not None
    assert after.scrub_result.startswith("fetched again from http://")


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"status": 404}, id="gone"),
        pytest.param({"status": 200, "body": b"something else"}, id="lies"),
        pytest.param({"status": 200, "body": b"x", "cut": "head"}, id="breaks"),
    ],
)
def test_a_second_source_heals_what_the_first_cannot(any_ground: Ground, how: dict[str, Any]) -> None:
    handles = any_ground.stock(any_ground.files(3), second(any_ground.mirror))
    kill(any_ground, handles, **how)
    any_ground.harm(any_ground.content, flipped(any_ground.random))
    assert any_ground.repair(findings=any_ground.verify()).repaired == 3
    any_ground.assert_whole()
    assert all(handle.hits for handle in handles.values())
    first, other = any_ground.unit("pool/000.rpm").health
    assert (first.failures, other.failures) == (1, 0)


def test_sources_are_asked_in_their_order(ground: Ground, origins: Origins) -> None:
    first, third = origins.http(), origins.http()
    body = b"hello"
    asked = [first.serves(status=404), third.serves(body)]
    ground.stock(
        {"a": body},
        lambda name, _: Source(asked[1].url, priority=9),
        lambda name, _: Source(asked[0].url, priority=5),
    )
    ground.mirror.serves(status=500, at=ground.unit("a").sources[0].url.removeprefix(ground.mirror.base))
    ground.harm(["a"], deleted)
    (one,) = heal(ground.recorder, ground.store, findings=ground.verify(), retries=0)
    assert one.state == "repaired"
    assert one.source == asked[1]
    assert [handle.hits for handle in asked] == [1, 1]


def test_what_only_the_records_call_wrong_is_not_fetched(any_ground: Ground) -> None:
    handles = any_ground.stock(any_ground.files(2))
    for unit in list(any_ground.recorder.units()):
        any_ground.recorder.mark(unit, "corrupt", result="so they say").get()
    done = any_ground.repair()
    assert (done.present, done.repaired, done.ok) == (2, 0, True)
    assert [handle.hits for handle in handles.values()] == [1, 1]
    assert set(any_ground.states().values()) == {"present"}
    assert any_ground.unit("pool/000.rpm").scrub_result == "it was right"


def test_a_rotten_file_is_not_adopted_because_its_time_and_inode_are_on_record(any_ground: Ground) -> None:
    any_ground.stock({"a": b"hello" * 100})
    any_ground.harm(["a"], flipped(any_ground.random))
    # The record says present still: who repairs it must not believe that.
    done = any_ground.repair(findings=[any_ground.unit("a")])
    assert done.repaired == 1
    any_ground.assert_whole()


def test_bytes_that_many_units_share_are_fetched_once(ground: Ground, tmp_path: Path, mirror: Mirror) -> None:
    shared = Ground(tmp_path / "shared", mirror, "digest")
    handles = shared.stock({"one": b"same bytes", "two": b"same bytes"})
    shared.harm(["one"], flipped(shared.random))
    done = shared.repair(findings=shared.verify(), size=1)
    assert (done.tried, done.ok) == (2, True)
    assert sum(handle.hits for handle in handles.values()) <= 4
    assert done.repaired >= 1
    shared.assert_whole()
    assert shared.verify().ok
    shared.close()


@pytest.mark.parametrize("links", ["symlink", "hardlink", None])
def test_every_path_of_bytes_that_rotted_is_healed(ground: Ground, links: Any) -> None:
    ground.store = FileStore(ground.root, layout="digest", links=links)
    ground.stock({"one": b"same bytes", "two": b"same bytes"})
    ground.harm(["one"], flipped(ground.random))
    assert ground.repair(findings=ground.verify()).ok
    assert ground.path("one").read_bytes() == b"same bytes"
    if links is not None:
        ground.assert_whole()


def test_a_store_in_memory_is_healed_and_recorded(ground: Ground) -> None:
    store = MemoryStore()
    in_memory(ground, "a", b"hello", store)
    store._files["a"] = b"Hello"
    assert geofetch.repair(ground.recorder, store, findings=geofetch.verify(ground.recorder, store)).repaired == 1
    assert store["a"] == b"hello"
    assert ground.states() == {"a": "present"}


def test_a_store_that_was_moved_heals_under_its_old_name(ground: Ground, tmp_path: Path) -> None:
    ground.stock({"a": b"hello", "b": b"world"})
    ground.root.rename(tmp_path / "moved")
    moved = FileStore(tmp_path / "moved")
    deleted(tmp_path / "moved" / "a")
    stores = {ground.store.name: moved}
    done = geofetch.repair(ground.recorder, stores, findings=geofetch.verify(ground.recorder, stores))
    assert done.repaired == 1
    assert sorted((unit.path, unit.store, unit.state) for unit in ground.recorder.units()) == [
        ("a", ground.store.name, "present"),
        ("b", ground.store.name, "present"),
    ]


# ---------------------------------------------------------------------------------------------------------- what proves


def test_digests_that_were_only_observed_prove_it_where_none_was_told(any_ground: Ground) -> None:
    handles = any_ground.stock({"a": b"hello"}, second(any_ground.mirror), prove=False)
    assert not any_ground.unit("a").trusted
    kill(any_ground, handles, status=200, body=b"jello")
    any_ground.harm(["a"], flipped(any_ground.random))
    assert any_ground.repair(findings=any_ground.verify()).repaired == 1
    any_ground.assert_whole()
    assert not any_ground.unit("a").trusted  # that it was used as a proof does not make it one


def test_a_digest_that_was_told_is_enough(ground: Ground) -> None:
    ground.stock({"a": b"hello"})
    unit = ground.unit("a")
    (told,) = unit.digests
    odd = Digest("md5", hashlib.md5(b"something that was observed").digest())
    ground.recorder.put_unit(replace(unit, digests=(told, odd))).get()
    ground.harm(["a"], deleted)
    assert ground.repair(findings=ground.verify()).repaired == 1


def test_without_any_digest_the_size_proves_it(ground: Ground) -> None:
    handles = ground.stock({"a": b"hello"}, second(ground.mirror))
    kill(ground, handles, status=200, body=b"hello!")
    ground.recorder.put_unit(replace(ground.unit("a"), digests=(), trusted=frozenset())).get()
    ground.harm(["a"], truncated)
    assert ground.repair(findings=ground.verify()).repaired == 1
    ground.assert_whole()


# ------------------------------------------------------------------------------------------------------ what nobody has


def test_a_corrupt_file_that_no_source_has_is_put_aside(ground: Ground) -> None:
    handles = ground.stock({"a": b"hello", "b": b"world"})
    kill(ground, handles)
    ground.harm(["a"], appended)
    done = ground.repair(findings=ground.verify())
    assert (done.quarantined, done.ok) == (1, False)
    (one,) = done.wrong
    assert isinstance(one.error, NotFound)
    assert Path(one.aside).read_bytes() == b"hello!"
    assert not (ground.root / "a").exists()
    assert quarantine(ground) == {"a": b"hello!"}
    unit = ground.unit("a")
    assert unit.state == "quarantined"
    assert str(one.aside) in (unit.scrub_result or "")
    assert "404" in (unit.scrub_result or "")
    assert ground.repair().tried == 0
    assert quarantine(ground) == {"a": b"hello!"}


def test_corrupt_bytes_in_a_store_by_digest_are_put_aside(any_ground: Ground) -> None:
    handles = any_ground.stock({"a": b"hello"})
    kill(any_ground, handles)
    blob = any_ground.path("a")
    any_ground.harm(["a"], flipped(any_ground.random))
    assert any_ground.repair(findings=any_ground.verify()).quarantined == 1
    assert not blob.exists()
    assert not (any_ground.root / "a").exists()
    assert len(quarantine(any_ground)) == 1


def test_a_missing_file_that_no_source_has_stays_missing(ground: Ground) -> None:
    handles = ground.stock({"a": b"hello"}, lambda name, body: ground.mirror.serves(b"lies").url)
    kill(ground, handles)
    ground.harm(["a"], deleted)
    done = ground.repair(findings=ground.verify())
    (one,) = done.wrong
    assert one.state == "missing"
    assert isinstance(one.error, SourcesExhausted)
    assert len(one.error.errors) == 2
    assert ground.states() == {"a": "missing"}
    assert "not repaired" in (ground.unit("a").scrub_result or "")
    assert ground.repair().missing == 1  # it is tried again: a source may come back


def test_what_was_put_aside_is_healed_when_a_source_has_come_back(ground: Ground) -> None:
    handles = ground.stock({"a": b"hello"})
    kill(ground, handles)
    ground.harm(["a"], truncated)
    ground.repair(findings=ground.verify())
    ground.mirror.serves(b"hello", at=handles["a"].path)
    assert ground.repair().tried == 0
    assert ground.repair(findings=ground.verify()).repaired == 1
    ground.assert_whole()
    assert quarantine(ground) == {"a": b"he"}


def test_a_corrupt_file_stays_where_it_is_until_its_replacement_is_proven(ground: Ground) -> None:
    handles = ground.stock({"a": b"hello"})
    slow = ground.mirror.serves(b"hello", at=handles["a"].path, stall=3)
    ground.harm(["a"], appended)
    found = ground.verify()
    run = gevent.spawn(ground.repair, findings=found)
    slow.arrived()
    assert (ground.root / "a").read_bytes() == b"hello!"
    assert ground.states() == {"a": "corrupt"}
    slow.release()
    assert run.get(timeout=10).repaired == 1
    ground.assert_whole()


def test_a_unit_without_a_source_is_put_aside_and_says_so(ground: Ground) -> None:
    ground.stock({"a": b"hello", "b": b"world"})
    for unit in list(ground.recorder.units()):
        ground.recorder.put_unit(replace(unit, sources=(), health=())).get()
    ground.harm(["a"], appended)
    ground.harm(["b"], deleted)
    done = ground.repair(findings=ground.verify())
    assert {one.unit.path: one.state for one in done.wrong} == {"a": "quarantined", "b": "missing"}
    assert all("no source" in str(one.error) for one in done.wrong)


class Full(FileStore):
    def begin(self, attempt: Any, head: Any) -> Any:
        raise StoreError("no space left on the device", errno=errno.ENOSPC)


def test_an_error_that_is_no_source_s_leaves_the_file_where_it_is(ground: Ground) -> None:
    ground.stock({"a": b"hello"})
    ground.harm(["a"], appended)
    found = ground.verify()
    done = geofetch.repair(ground.recorder, Full(ground.root), findings=found)
    (one,) = done.wrong
    assert one.state == "corrupt"
    assert isinstance(one.error, StoreError)
    assert (ground.root / "a").read_bytes() == b"hello!"
    assert ground.states() == {"a": "corrupt"}


def test_a_deadline_leaves_the_file_where_it_is(ground: Ground) -> None:
    handles = ground.stock({"a": b"hello"})
    ground.mirror.serves(b"hello", at=handles["a"].path, stall="head")
    ground.harm(["a"], appended)
    done = ground.repair(findings=ground.verify(), deadline=0.2)
    assert done.corrupt == 1
    assert isinstance(done.wrong[0].error, geofetch.DeadlineExceeded)
    assert (ground.root / "a").exists()


class Stuck(FileStore):
    def quarantine(self, key: str, seen: Kept | None = None) -> Path:
        raise StoreError("it is immutable", errno=errno.EPERM)


def test_a_file_that_cannot_be_put_aside_stays_corrupt(ground: Ground) -> None:
    kill(ground, ground.stock({"a": b"hello"}))
    ground.harm(["a"], appended)
    done = geofetch.repair(ground.recorder, Stuck(ground.root), findings=ground.verify(), retries=0)
    assert done.corrupt == 1
    assert "it is immutable" in (ground.unit("a").scrub_result or "")
    assert ground.states() == {"a": "corrupt"}


def test_a_file_that_became_right_meanwhile_is_not_put_aside(ground: Ground) -> None:
    handles = ground.stock({"a": b"hello"})
    kill(ground, handles)
    ground.harm(["a"], appended)
    found = ground.verify()

    def mended(attempt: Any, error: Any) -> None:
        (ground.root / "a").write_bytes(b"hello")

    done = ground.repair(findings=found, hooks={"failed": mended})
    assert (done.present, done.ok) == (1, True)
    assert ground.states() == {"a": "present"}
    assert quarantine(ground) == {}


class Overtaken(FileStore):
    """Another process puts the right file there, after the last look and before the wrong one is put aside."""

    def quarantine(self, key: str, seen: Kept | None = None) -> Path:
        (self.root / "new").write_bytes(b"hello")
        (self.root / "new").rename(self.root / key)
        return super().quarantine(key, seen)


def test_a_right_file_that_came_at_the_last_moment_is_not_put_aside(ground: Ground) -> None:
    kill(ground, ground.stock({"a": b"hello"}))
    ground.harm(["a"], appended)
    done = geofetch.repair(ground.recorder, Overtaken(ground.root), findings=ground.verify(), retries=0)
    assert (ground.root / "a").read_bytes() == b"hello"
    assert quarantine(ground) == {}
    assert done.corrupt == 1
    assert "it was replaced while it was to be put aside" in (ground.unit("a").scrub_result or "")


def test_a_finding_that_a_sync_has_overtaken_fetches_nothing_old(ground: Ground) -> None:
    old = ground.stock({"a": b"the old one"})
    ground.harm(["a"], deleted)
    found = ground.verify()
    ground.stock({"a": b"the new one!"})
    done = ground.repair(findings=found)
    assert done.present == 1
    assert old["a"].hits == 1
    ground.assert_whole()


def test_a_source_that_the_records_learnt_since_is_asked_too(ground: Ground) -> None:
    kill(ground, ground.stock({"a": b"hello"}))
    ground.harm(["a"], deleted)
    found = ground.verify()
    unit = ground.unit("a")
    better = ground.mirror.serves(b"hello").source
    ground.recorder.put_unit(replace(unit, sources=(*unit.sources, better), health=())).get()
    assert ground.repair(findings=found).repaired == 1


def test_the_file_of_another_unit_is_neither_replaced_nor_put_aside(ground: Ground) -> None:
    old = ground.stock({"a.rpm": b"version 1"}, unit={"type": "rpm", "version": 1})
    ground.stock({"a.rpm": b"version two"}, unit={"type": "rpm", "version": 2})
    done = ground.repair(findings=ground.verify())
    assert done.missing == 1
    assert "another unit's file" in str(done.wrong[0].error)
    assert old["a.rpm"].hits == 1
    kill(ground, old)
    assert ground.repair().missing == 1
    ground.assert_whole()


def test_what_could_not_be_read_is_left_alone_and_still_wrong(ground: Ground) -> None:
    handles = ground.stock({"a": b"1" * 100, "b": b"2" * 100})
    store = Hurt(ground.root)
    store.opening["b"] = errno.EACCES
    found = geofetch.verify(ground.recorder, store)
    done = geofetch.repair(ground.recorder, store, findings=found)
    assert (done.unknown, done.ok) == (1, False)
    assert handles["b"].hits == 1


# ------------------------------------------------------------------------------------------------- profiles and secrets


def guarded(mirror: Mirror, token: str) -> Any:
    """A source that wants the profile "corp"."""
    return lambda name, body: Source(mirror.serves(body).url, priority=1, profile="corp")


def test_a_source_is_asked_with_its_own_profile(ground: Ground, origins: Origins) -> None:
    inside = origins.http()
    kill(ground, ground.stock({"a": b"hello"}, guarded(inside, "t")))
    before = ground.unit("a").sources
    ground.harm(["a"], deleted)
    done = ground.repair(findings=ground.verify(), profiles={"corp": Profile(headers={"X-Token": "canary"})})
    assert done.repaired == 1
    (request,) = inside.requests
    assert dict(request.headers)["X-Token"] == "canary"
    assert ground.unit("a").sources == before


def test_a_profile_that_is_not_given_is_that_source_s_failure(ground: Ground, origins: Origins) -> None:
    inside = origins.http()
    handles = ground.stock({"a": b"hello", "b": b"world"}, guarded(inside, "t"))
    ground.harm(["a", "b"], deleted)
    ground.mirror.serves(status=404, at=handles["b"].path)
    done = ground.repair(findings=ground.verify())
    assert (done.repaired, done.missing) == (1, 1)  # the other source of "a" has it
    assert inside.hits == 0
    (one,) = done.wrong
    assert isinstance(one.error, SourcesExhausted)
    assert "profiles={'corp': Profile(…)}" in str(one.error.errors[0][1])
    assert isinstance(one.error.errors[1][1], NotFound)
    assert len(ground.unit("a").sources) == 2


def test_where_only_the_profile_is_missing_the_error_says_just_that(ground: Ground) -> None:
    ground.stock({"a": b"hello"})
    source = replace(ground.unit("a").sources[0], profile="corp")
    ground.recorder.put_unit(replace(ground.unit("a"), sources=(source,))).get()
    ground.harm(["a"], deleted)
    (one,) = ground.repair(findings=ground.verify()).wrong
    assert type(one.error) is SpecError
    assert "names the profile 'corp'" in str(one.error)


@pytest.mark.parametrize("others", [False, True], ids=["the-only-source", "another-one-failed"])
def test_a_corrupt_file_stays_where_it_is_while_a_source_was_not_asked(ground: Ground, others: bool) -> None:
    handles = ground.stock({"a": b"hello"})
    inside = ground.mirror.serves(b"hello")
    source = Source(inside.url, priority=1, profile="inside")
    unit = ground.unit("a")
    ground.recorder.put_unit(replace(unit, sources=(*unit.sources, source) if others else (source,), health=())).get()
    kill(ground, handles)
    ground.harm(["a"], appended)
    done = ground.repair(findings=ground.verify())
    assert (done.corrupt, done.quarantined, done.ok) == (1, 0, False)
    assert (ground.root / "a").read_bytes() == b"hello!"
    assert quarantine(ground) == {}
    assert (handles["a"].hits, inside.hits) == (int(others), 0)
    assert ground.states() == {"a": "corrupt"}
    assert "not repaired" in (ground.unit("a").scrub_result or "")
    error: Any = done.wrong[0].error
    errors = [each for _, each in error.errors] if others else [error]
    assert [type(each) for each in errors] == [SpecError, *([NotFound] if others else [])]
    assert "profiles={'inside': Profile(…)}" in str(errors[0])
    assert ground.repair(profiles={"inside": Profile()}).repaired == 1
    ground.assert_whole()


def test_a_source_whose_query_was_secret_says_so_when_it_fails(ground: Ground) -> None:
    body = b"hello"
    handle = ground.mirror.serves(body)
    ground.stock({"a": body}, lambda *_: Source(handle.url + "?token=canary", priority=1))
    kept = ground.unit("a").sources[1]
    assert "canary" not in kept.url
    ground.mirror.serves(status=404, at=ground.unit("a").sources[0].url.removeprefix(ground.mirror.base))
    ground.mirror.serves(status=403, at=handle.path)
    ground.harm(["a"], deleted)
    (one,) = ground.repair(findings=ground.verify()).wrong
    assert isinstance(one.error, SourcesExhausted)
    first, last = (str(error) for _, error in one.error.errors)
    assert "carried a secret" not in first
    assert "carried a secret: only a Profile can bring it back" in last
    assert "carried a secret" in (ground.unit("a").scrub_result or "")


# ------------------------------------------------------------------------------------------------- cut short, or killed


def test_whoever_stops_taking_repairs_cancels_the_rest(ground: Ground, no_leftovers: Leftovers) -> None:
    no_leftovers.first(ground.close)
    handles = ground.stock(ground.files(6, 100))
    slow = [ground.mirror.serves(ground.content[name], at=handle.path, stall=10) for name, handle in handles.items()]
    slow[0].release()
    ground.harm(ground.content, appended)
    repairs = heal(ground.recorder, ground.store, findings=ground.verify(), size=8, retries=0)
    first = next(repairs)
    assert isinstance(first, Repair)
    assert first.state == "repaired"
    repairs.close()  # type: ignore[attr-defined]
    states = ground.states()
    assert [path for path, state in states.items() if state == "present"] == [first.unit.path]
    for name in ground.content:
        assert (ground.root / name).read_bytes() == ground.content[name] + (b"" if name == first.unit.path else b"!")
    assert quarantine(ground) == {}


def test_a_repair_that_is_killed_can_be_done_again(ground: Ground, no_leftovers: Leftovers) -> None:
    no_leftovers.first(ground.close)
    handles = ground.stock(ground.files(4, 100))
    slow = [ground.mirror.serves(ground.content[name], at=handle.path, stall=10) for name, handle in handles.items()]
    ground.harm(ground.content, truncated)
    run = gevent.spawn(ground.repair, findings=ground.verify())
    slow[2].arrived()
    run.kill()
    assert set(ground.states().values()) == {"corrupt"}
    for one in slow:
        one.release()
    assert ground.repair().repaired == 4
    ground.assert_whole()


def test_a_second_kill_leaves_no_store_s_file_under_way(ground: Ground, tmp_path: Path, mirror: Mirror) -> None:
    first, other = ground.store, FileStore(tmp_path / "other")
    slow = {}
    for name, store in (("a", first), ("b", other)):
        ground.store = store
        (handle,) = ground.stock({name: b"hello " * 100}).values()
        slow[name] = mirror.serves(ground.content[name], at=handle.path, stall=10)
        deleted(store.root / name)
    held, let_go = Event(), Event()

    def holds(attempt: geofetch.Attempt, error: geofetch.FetchError) -> None:
        if attempt.source == slow["a"]:
            held.set()
            let_go.wait()

    stores = {store.name: store for store in (first, other)}
    run = gevent.spawn(geofetch.repair, ground.recorder, stores, state=["present"], hooks={"failed": holds})
    for handle in slow.values():
        handle.arrived()
    run.kill(block=False)
    assert held.wait(timeout=10)
    run.kill(timeout=10)
    assert run.dead
    mirror.left()
    let_go.set()
    other.close()


def test_a_kill_while_a_file_is_read_once_more_puts_nothing_aside(ground: Ground) -> None:
    kill(ground, ground.stock({"a": b"hello"}))
    (ground.root / "a").write_bytes(b"jello")  # of the right size, so that it must be read
    found = ground.verify()
    store, killed = Gated(ground.root), threading.Event()
    store.then = lambda key: killed.wait(timeout=10)  # in the native thread that reads
    run = gevent.spawn(geofetch.repair, ground.recorder, store, findings=found, retries=0)
    until(lambda: store.opened)
    run.kill(block=False)
    gevent.sleep(0)
    killed.set()
    run.join(timeout=10)
    assert run.dead
    assert ground.states() == {"a": "corrupt"}
    assert (ground.root / "a").read_bytes() == b"jello"
    assert ground.repair().quarantined == 1
    assert quarantine(ground) == {"a": b"jello"}


KILLED = """
import sys, geofetch
root, url = sys.argv[1:]
store, recorder = geofetch.FileStore(root), geofetch.Recorder(url)
print(geofetch.repair(recorder, store, findings=geofetch.verify(recorder, store), size=2, retries=0), flush=True)
"""


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_process_that_dies_in_a_repair_leaves_records_that_are_true(ground: Ground, after: int) -> None:
    handles = ground.stock(ground.files(8, 100))
    for handle in list(handles.values())[6:]:
        ground.mirror.serves(status=404, at=handle.path)
    hang = list(handles)[after]
    ground.mirror.serves(ground.content[hang], at=handles[hang].path, stall=10)
    ground.harm(ground.content, appended)
    ground.recorder.close()
    command = [sys.executable, "-c", KILLED, str(ground.root), ground.url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        handles[hang].arrived(30)
    finally:
        process.kill()
        process.communicate()
    for path, state, size in _rows(ground):
        there = (ground.root / path).read_bytes() if (ground.root / path).exists() else None
        if state == "present":
            assert there == ground.content[path], path
            assert size == len(there)
        elif state == "quarantined":
            assert there is None
        else:
            # At worst the right file is there, and the record does not know it yet.
            assert there in (ground.content[path], ground.content[path] + b"!") or path in quarantine(ground)
    ground.mirror.serves(ground.content[hang], at=handles[hang].path)
    ground.recorder = geofetch.Recorder(ground.url)
    geofetch.repair(ground.recorder, ground.store, findings=ground.verify(), retries=0)
    found = ground.verify()
    assert (found.present, found.corrupt, found.quarantined + found.missing) == (6, 0, 2)
    assert len(quarantine(ground)) == 2


def _rows(ground: Ground) -> list[tuple[str, str, int]]:
    return ground.place.rows("select path, state, size_bytes from units")


def test_records_that_cannot_be_written_end_it(ground: Ground) -> None:
    ground.stock({"a": b"hello"})
    ground.harm(["a"], deleted)
    found = ground.verify()
    ground.recorder.close()
    with pytest.raises(RecordError):
        ground.repair(findings=found)
    assert not (ground.root / "a").exists()


# --------------------------------------------------------------------------------------------------------- what it says


def test_repairs_say_it_in_a_line_and_in_json(ground: Ground) -> None:
    handles = ground.stock({"a": b"1", "b": b"2", "c": b"3"})
    ground.mirror.serves(status=404, at=handles["c"].path)
    ground.harm(["a"], deleted)
    ground.harm(["c"], appended)
    done = ground.repair(findings=ground.verify())
    assert done.summary() == "2 files to repair: 1 repaired, 1 quarantined"
    told = json.loads(json.dumps(done.as_dict()))
    assert (told["ok"], told["tried"], told["repaired"], told["quarantined"]) == (False, 2, 1, 1)
    (one,) = told["wrong"]
    assert (one["path"], one["state"]) == ("c", "quarantined")
    assert "404" in one["error"]
    assert one["aside"].endswith("/quarantine/c")


def test_what_is_not_listed_is_healed_all_the_same(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geofetch.upkeep.results.LISTED", 1)
    ground.stock(ground.files(4, 10))
    ground.harm(ground.content, deleted)
    found = ground.verify()
    assert found.unlisted == 3
    assert ground.repair(findings=found).repaired == 4
    ground.assert_whole()


def test_findings_may_come_one_by_one(ground: Ground) -> None:
    ground.stock(ground.files(5, 10))
    ground.harm(["pool/001.rpm", "pool/003.rpm"], deleted)
    findings = geofetch.upkeep.scrub(ground.recorder, ground.store)
    done = ground.repair(findings=(one for one in findings if not one.ok))
    assert done.repaired == 2
    ground.assert_whole()


def test_units_of_other_stores_are_passed_over_and_counted(ground: Ground, tmp_path: Path) -> None:
    ground.stock({"a": b"1"})
    ground.harm(["a"], deleted)
    found = ground.verify()
    other = FileStore(tmp_path / "other")
    done = geofetch.repair(ground.recorder, other, findings=found)
    assert (done.tried, done.passed_over) == (0, 1)
    assert not (tmp_path / "other").exists()


def test_a_unit_that_the_records_forgot_is_nobody_s(ground: Ground) -> None:
    ground.stock({"a": b"1"})
    stranger = Unit(type="file", key={"path": "x"}, path="x", store=ground.store.name, store_key="x", size=1)
    assert ground.repair(findings=[stranger]).tried == 0


def test_an_unreachable_source_is_told_as_requests_tells_it(ground: Ground, origins: Origins) -> None:
    refusing = origins.refusing()
    ground.stock({"a": b"1"})
    source = Source(f"{refusing.base}/a")
    ground.recorder.put_unit(replace(ground.unit("a"), sources=(source,), health=())).get()
    ground.harm(["a"], deleted)
    (one,) = ground.repair(findings=ground.verify()).wrong
    assert isinstance(one.error, Unreachable)


@pytest.mark.parametrize("setting", [{"size": 0}, {"jobs": 0}, {"retries": -1}, {"deadline": 0}])
def test_what_cannot_be_set_is_refused_at_once(ground: Ground, setting: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        ground.repair(**setting)


def test_a_setting_that_no_pool_has_is_refused_at_once(ground: Ground) -> None:
    with pytest.raises(TypeError, match="retires"):
        ground.repair(retires=3)
