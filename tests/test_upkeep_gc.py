"""gc: what no repository holds any more goes, record and file; nothing else does."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch import FileStore, MemoryStore, Pool, Recorder, Spec, SpecError, upkeep
from geofetch.errors import StoreError
from geofetch.events import Kept
from geofetch.records import clearing, leftovers
from geofetch.upkeep import collector
from tests.support.mirrors import Mirror
from tests.support.servers import Place
from tests.upkeep_ground import Ground, warm

__all__ = ["warm"]  # a fixture

WEEK_S = 7 * 86_400


@pytest.fixture(params=["path", "digest"])
def ground(request: pytest.FixtureRequest, warm: None, tmp_path: Path, mirror: Mirror) -> Iterator[Ground]:
    made = Ground(tmp_path, mirror, request.param)
    yield made
    made.close()


@pytest.fixture
def by_digest(warm: None, tmp_path: Path, mirror: Mirror, database: Place) -> Iterator[Ground]:
    """On each kind of database."""
    made = Ground(tmp_path, mirror, "digest", database)
    yield made
    made.close()


def listed(ground: Ground, names: list[str], repository: str = "main") -> None:
    """A sync of these alone: whatever else the repository holds is taken off."""
    listing = ground.recorder.listing(repository, ground.store.name)
    specs = [Spec(f"file:///nowhere/{name}", path=name) for name in names]
    list(listing(specs))
    listing.take_off()


def synced(ground: Ground, content: dict[str, bytes], repository: str | None = None) -> None:
    """These files, fetched, or found there."""
    specs = [
        Spec(
            ground.mirror.serves(body).url,
            path=name,
            digests=f"sha256:{hashlib.sha256(body).hexdigest()}",
            repository=repository,
        )
        for name, body in content.items()
    ]
    with Pool(4, store=ground.store, recorder=ground.recorder, progress=False) as pool:
        assert all(outcome.ok for outcome in pool.map(specs))


def gc(ground: Ground, grace_s: float = 0.0, **how: Any) -> upkeep.Collection:
    return upkeep.gc(ground.recorder, ground.store, grace_s=grace_s, **how)


def files(ground: Ground) -> set[str]:
    """What lies in the store, links by their paths."""
    found = (str(path.relative_to(ground.root)) for path in ground.root.rglob("*") if not path.is_dir())
    return {name for name in found if not name.startswith(".geofetch/")}


def key_of(body: bytes) -> str:
    digest = hashlib.sha256(body).hexdigest()
    return f"sha256/{digest[:2]}/{digest}"


def names(ground: Ground) -> set[str]:
    return {unit.path for unit in ground.recorder.units()}


def test_what_no_repository_holds_any_more_goes_record_and_file(ground: Ground) -> None:
    ground.stock(ground.files(6), repository="main")
    all_names = sorted(ground.content)
    before = files(ground)
    listed(ground, all_names[:2])
    done = gc(ground)
    assert (done.ok, done.units, done.missing, done.failed) == (True, 4, 0, 0)
    assert done.freed_bytes == sum(len(ground.content[name]) for name in all_names[2:])
    assert names(ground) == set(all_names[:2])
    gone = before - files(ground)
    assert gone >= set(all_names[2:])
    assert len(gone) == done.removed == (4 if ground.store.address is None else 8)
    ground.assert_whole(all_names[:2])
    assert ground.verify().ok
    again = gc(ground)
    assert (again.units, again.removed, again.gone) == (0, 0, 0)


def test_nothing_goes_before_its_grace_time(ground: Ground) -> None:
    ground.stock(ground.files(3), repository="main")
    listed(ground, sorted(ground.content)[:1])
    before = files(ground)
    done = gc(ground, grace_s=WEEK_S)
    assert (done.units, done.removed) == (0, 0)
    assert files(ground) == before
    assert names(ground) == set(ground.content)


def test_what_never_was_in_a_repository_stays(ground: Ground) -> None:
    ground.stock(ground.files(2))
    assert gc(ground).units == 0
    ground.assert_whole()


def test_what_another_repository_holds_stays(ground: Ground) -> None:
    ground.stock(ground.files(2), repository="main")
    synced(ground, ground.content, "other")
    listed(ground, ["pool/000.rpm"], "main")
    assert gc(ground).units == 0
    listed(ground, ["pool/000.rpm"], "other")
    assert gc(ground).units == 1
    assert names(ground) == {"pool/000.rpm"}


def test_what_is_listed_again_or_fetched_for_itself_stays(ground: Ground) -> None:
    ground.stock(ground.files(3), repository="main")
    first, second, third = sorted(ground.content)
    listed(ground, [first])
    synced(ground, {second: ground.content[second]}, "main")
    synced(ground, {third: ground.content[third]})  # somebody wants it, in no repository
    assert ground.unit(third).unlisted_at is None
    assert gc(ground).units == 0
    ground.assert_whole()


def test_a_shared_file_stays_until_its_last_unit_goes(by_digest: Ground) -> None:
    ground = by_digest
    body = ground.bytes(5000)
    ground.stock({"a": body, "b": body, "c": body, "d": ground.bytes(10)}, repository="main")
    key = key_of(body)
    assert ground.recorder.references(ground.store.name, [key, "no/such"]) == {key: 3}
    listed(ground, ["b", "c", "d"])
    done = gc(ground)
    assert (done.units, done.removed, done.freed_bytes) == (1, 1, 0)  # its link alone
    assert ground.recorder.references(ground.store.name, [key]) == {key: 2}
    assert files(ground) == {"b", "c", "d", key, key_of(ground.content["d"])}
    listed(ground, ["d"])
    done = gc(ground)
    assert (done.units, done.removed, done.freed_bytes) == (2, 3, 5000)
    assert files(ground) == {"d", key_of(ground.content["d"])}
    assert ground.verify().ok
    assert ground.place.rows("SELECT count(*) FROM digests")[0][0] == 1
    assert ground.place.rows("SELECT count(*) FROM sources")[0][0] == 1


def test_an_older_version_goes_when_no_unit_is_in_it_any_more(by_digest: Ground) -> None:
    ground = by_digest
    old, new = ground.bytes(3000), ground.bytes(4000)
    ground.stock({"a": old, "b": old})
    ground.stock({"a": new})
    assert gc(ground).removed == 0
    synced(ground, {"b": new})
    assert gc(ground, grace_s=WEEK_S).removed == 0
    done = gc(ground)
    assert (done.units, done.removed, done.freed_bytes) == (0, 1, 3000)
    assert files(ground) == {"a", "b", key_of(new)}


def test_a_leftover_that_a_unit_takes_again_stays(by_digest: Ground) -> None:
    ground = by_digest
    old, new = ground.bytes(3000), ground.bytes(4000)
    ground.stock({"a": old})
    ground.stock({"a": new})
    synced(ground, {"b": old})
    assert gc(ground).removed == 0
    ground.content["b"] = old
    ground.assert_whole()


def test_a_dry_run_tells_and_does_nothing(ground: Ground) -> None:
    body = ground.bytes(2000)
    ground.stock({**ground.files(3), "x/1": body, "x/2": body}, repository="main")
    listed(ground, ["pool/000.rpm", "x/2"])
    before = files(ground)
    dry = gc(ground, dry_run=True)
    assert files(ground) == before
    assert names(ground) == set(ground.content)
    done = gc(ground)
    assert (dry.dry_run, dry.units, dry.freed_bytes) == (True, 3, done.freed_bytes)
    assert "would be" in str(dry)


def test_a_file_that_was_replaced_is_left(ground: Ground) -> None:
    """By somebody who is no geofetch."""
    ground.stock(ground.files(2), repository="main")
    kept, other = sorted(ground.content)
    path = ground.path(other)
    listed(ground, [kept])
    path.unlink()
    path.write_bytes(b"somebody else's")
    done = gc(ground)
    assert (done.units, done.replaced, done.ok) == (1, 1, True)
    assert path.read_bytes() == b"somebody else's"
    assert gc(ground).replaced == 0


def test_strays_go_by_their_word_alone(ground: Ground) -> None:
    ground.stock(ground.files(2))
    within = ground.root / ("sha256/00" if ground.store.address else "theirs")
    within.mkdir(parents=True)
    old, young = within / "old", within / "young"
    for path in (old, young):
        path.write_bytes(b"nobody's")
    os.utime(old, (1, 1))
    assert gc(ground).removed == 0
    assert old.exists()
    dry = gc(ground, grace_s=3600, strays=True, dry_run=True)
    assert (dry.strays, old.exists()) == (1, True)
    done = gc(ground, grace_s=3600, strays=True)
    assert (done.strays, done.removed, done.freed_bytes) == (1, 1, 8)
    assert (old.exists(), young.exists()) == (False, True)
    assert gc(ground, strays=True).strays == 1
    ground.assert_whole()
    assert ground.verify().ok


def test_what_is_stored_and_not_yet_recorded_is_no_stray_for_long(by_digest: Ground) -> None:
    """A gc takes a file that a download found stored; its record is refused, and it is fetched anew."""
    ground = by_digest
    body = ground.bytes(3000)
    ground.stock({"a": body}, repository="main")
    ground.stock({"b": ground.bytes(10)}, repository="main")
    listed(ground, ["b"])
    seen = ground.store.stat(key_of(body))
    assert seen is not None
    assert gc(ground).units == 1

    class Late:
        """Has found the file before it was removed."""

        name, address, durable = ground.store.name, "sha256", False
        begin, open, stat, keys = ground.store.begin, ground.store.open, ground.store.stat, ground.store.keys
        quarantine, close, ready = ground.store.quarantine, ground.store.close, ground.store.ready

        def have(self, *asked: Any) -> Any:
            from geofetch.events import Found
            from geofetch.spec import Digest

            digests = {"sha256": Digest("sha256", hashlib.sha256(body).digest())}
            return Found(ground.root / "a", 3000, digests, "digest", seen)

    handle = ground.mirror.serves(body)
    spec = Spec(handle.url, path="again", digests=f"sha256:{hashlib.sha256(body).hexdigest()}")
    with Pool(1, store=Late(), recorder=ground.recorder, progress=False) as pool:
        (outcome,) = pool.map([spec])
    assert (outcome.state, handle.hits) == ("stored", 1)
    assert isinstance(outcome.attempts[0].error, leftovers.BeingRemoved)
    assert ground.path("again").read_bytes() == body
    assert ground.unit("again").state == "present"
    assert gc(ground).missing == 0
    assert ground.verify().ok


def test_a_unit_that_is_recorded_while_its_file_is_removed_is_told_as_missing(
    by_digest: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could have refused it: it was recorded after the look, with another stamp than was known."""
    ground = by_digest
    body = ground.bytes(3000)
    ground.stock({"a": body, "b": b"b"}, repository="main")
    listed(ground, ["b"])
    unit = ground.unit("a")
    remove = ground.store.remove

    def slowly(kept: Kept) -> bool:
        from dataclasses import replace

        if kept.key == key_of(body):
            done.append(replace(unit, path="late", key={"path": "late"}, mtime_ns=1, unlisted_at=None))
        return remove(kept)

    done: list[Any] = []
    monkeypatch.setattr(ground.store, "remove", slowly)
    settle = clearing.Clearing.settle

    def settled(self: Any, *told: Any) -> Any:
        for one in done:
            ground.recorder.put_unit(one).get()
        return settle(self, *told)

    monkeypatch.setattr(clearing.Clearing, "settle", settled)
    found = gc(ground)
    assert (found.ok, found.missing) == (False, 1)
    assert ground.unit("late").state == "missing"
    assert "removed by a gc" in str(ground.unit("late").scrub_result)
    assert [one.what for one in found] == ["record"]


@pytest.mark.parametrize("settled", [False, True], ids=["taken", "removed"])
def test_the_next_gc_goes_on_where_one_ended(settled: bool, by_digest: Ground) -> None:
    """And finds a unit that was recorded meanwhile: of its file it says what is true."""
    ground = by_digest
    bodies = {name: ground.bytes(2000) for name in ("a", "b", "c", "d")}
    ground.stock(bodies, repository="main")
    units = {name: ground.unit(name) for name in bodies}
    listed(ground, ["d"])
    records = clearing.Clearing(ground.recorder, [ground.store.name])
    (some,) = records.unlisted(4e9)
    assert {unit.path for unit in records.forget(some, 4e9, [])} == {"a", "b", "c"}
    (page,) = records.left(4e9)
    taken = records.take(page).free
    assert len(taken) == 3
    for name in ("a", "b") if settled else ("a",):
        ground.store.remove(units[name].kept)
    # Both were recorded anew after the lease was over; the file of one is gone.
    from dataclasses import replace

    for name in ("a", "c"):
        ground.recorder.put_unit(replace(units[name], unlisted_at=None, repositories=("main",))).get()
    done = gc(ground)
    assert (done.missing, done.shared, done.removed + done.gone) == (1, 2, 1)
    assert {name: ground.unit(name).state for name in ("a", "c", "d")} == {
        "a": "missing",
        "c": "present",
        "d": "present",
    }
    assert ground.recorder.count() == 3
    assert ground.verify(state="present").ok
    assert list(records.left(4e9)) == []


def test_a_file_that_cannot_be_removed_is_told_and_tried_again(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground.stock(ground.files(3), repository="main")
    listed(ground, ["pool/000.rpm"])
    broken = ground.unit("pool/001.rpm").store_key
    remove = ground.store.remove

    def refusing(kept: Kept) -> bool:
        if kept.key == broken:
            raise StoreError("removing it: read-only", errno=30)
        return remove(kept)

    with monkeypatch.context() as patched:
        patched.setattr(ground.store, "remove", refusing)
        done = gc(ground)
    assert (done.ok, done.failed, done.units) == (False, 1, 2)
    assert "read-only" in str(next(iter(done)))
    again = gc(ground, grace_s=0)
    assert (again.ok, again.failed, again.removed) == (True, 0, 1)
    assert not (ground.root / broken).exists()


def test_a_store_that_cannot_remove_is_named_and_left(ground: Ground) -> None:
    ground.stock(ground.files(2), repository="main")
    listed(ground, ["pool/000.rpm"])

    class Old:
        """A plugin's, from before stores could."""

        name, address = ground.store.name, None
        ready, have, begin, open = ground.store.ready, ground.store.have, ground.store.begin, ground.store.open
        stat, quarantine = ground.store.stat, ground.store.quarantine
        keys, close = ground.store.keys, ground.store.close

    done = upkeep.gc(ground.recorder, Old(), grace_s=0, strays=True)
    assert (done.ok, done.unable, done.units, done.removed) == (False, (ground.store.name,), 0, 0)
    ground.assert_whole()
    assert names(ground) == set(ground.content)


def test_other_stores_are_not_touched(ground: Ground, tmp_path: Path) -> None:
    ground.stock(ground.files(2), repository="main")
    listed(ground, ["pool/000.rpm"])
    other = FileStore(tmp_path / "other")
    assert upkeep.gc(ground.recorder, other, grace_s=0).units == 0
    other.close()
    ground.assert_whole()


@pytest.mark.parametrize(
    "wrong", [{"grace_s": -1}, {"grace_s": True}, {"grace_s": "7d"}, {"grace_s": float("nan")}, {"jobs": 0}]
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with Recorder("sqlite:///:memory:") as recorder, pytest.raises(SpecError):
        upkeep.gc(recorder, MemoryStore(), **wrong)


def test_a_consumer_that_stops_ends_it_and_the_next_one_goes_on(ground: Ground) -> None:
    ground.stock(ground.files(8), repository="main")
    listed(ground, ["pool/000.rpm"])
    found = upkeep.collect(ground.recorder, ground.store, grace_s=0)
    for one in found:
        if isinstance(one, upkeep.Collected) and one.what != "unit":
            break
    found.close()
    gc(ground)
    assert names(ground) == {"pool/000.rpm"}
    assert len(files(ground)) == (1 if ground.store.address is None else 2)
    assert ground.verify().ok


def test_a_kill_while_files_are_removed_leaves_what_the_next_one_goes_on_with(
    by_digest: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ground = by_digest
    ground.stock(ground.files(40), repository="main")
    listed(ground, ["pool/000.rpm"])
    remove, begun = ground.store.remove, []

    def slowly(kept: Kept) -> bool:
        import time

        begun.append(kept.key)
        time.sleep(0.02)  # on a native thread
        return remove(kept)

    monkeypatch.setattr(ground.store, "remove", slowly)
    job = gevent.spawn(gc, ground, jobs=2)
    while not begun:
        gevent.sleep(0.005)
    job.kill()
    count = len(begun)
    gevent.sleep(0.1)
    assert len(begun) <= count + 2
    monkeypatch.undo()
    # None of them is taken any more: those that were not begun are free at once.
    under_way = "SELECT count(*) FROM leftovers WHERE taken_at_us IS NOT NULL AND removed_at_us IS NULL"
    assert ground.place.rows(under_way) == [(0,)]
    gc(ground)
    assert files(ground) == {"pool/000.rpm", key_of(ground.content["pool/000.rpm"])}
    assert [one for one in caplog.records if one.levelno >= logging.ERROR] == []


def test_what_was_removed_is_forgotten_after_a_while(by_digest: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = by_digest
    ground.stock(ground.files(3), repository="main")
    listed(ground, ["pool/000.rpm"])
    gc(ground)
    assert ground.place.rows("SELECT count(*) FROM leftovers") == [(4,)]
    gc(ground)
    assert ground.place.rows("SELECT count(*) FROM leftovers") == [(4,)]
    monkeypatch.setattr(collector, "REMEMBERED_S", 0.0)
    gc(ground)
    assert ground.place.rows("SELECT count(*) FROM leftovers") == [(0,)]


def test_it_tells_how_far_it_is(ground: Ground) -> None:
    ground.stock(ground.files(4), repository="main")
    listed(ground, ["pool/000.rpm"])
    told: list[Any] = []
    done = gc(ground, progress=told.append)
    assert told[-1].final
    assert (told[-1].stored, told[-1].bytes_done) == (done.removed, done.freed_bytes)
