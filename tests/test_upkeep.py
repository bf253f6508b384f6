"""verify: what is stored, read again and held against the records."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import statistics
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import gevent
import pytest
from gevent.event import Event

import geofetch
from geofetch import Digest, FileStore, MemoryStore, RecordError, Spec, SpecError, StoreError
from geofetch.records import Unit
from geofetch.upkeep import Finding, heal, scrub, verify
from geofetch.upkeep.abreast import abreast
from geofetch.upkeep.inspector import Inspector
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror
from tests.support.ticking import Ticker
from tests.support.waiting import until
from tests.upkeep_ground import (
    Ground,
    any_ground,
    appended,
    deleted,
    flipped,
    ground,
    touched,
    truncated,
    warm,
)

__all__ = ["any_ground", "ground", "warm"]


def wrong(found: Any) -> list[str]:
    return sorted(one.unit.path for one in found.wrong)


# -------------------------------------------------------------------------------------------------------- what it finds


def test_a_store_that_is_right_is_found_right(any_ground: Ground) -> None:
    any_ground.stock(any_ground.files(8))
    found = any_ground.verify()
    assert found.ok
    assert found.counts == {"present": 8, "missing": 0, "corrupt": 0, "quarantined": 0, "unknown": 0}
    assert found.wrong == ()
    assert found.read_bytes == sum(map(len, any_ground.content.values()))
    assert {unit.scrub_result for unit in any_ground.recorder.units()} == {"proven by sha256"}


def test_exactly_the_files_with_one_flipped_bit_are_found(any_ground: Ground) -> None:
    any_ground.stock(any_ground.files(30))
    harmed = any_ground.harm(any_ground.random.sample(sorted(any_ground.content), 7), flipped(any_ground.random))
    found = any_ground.verify()
    assert wrong(found) == harmed
    assert (found.corrupt, found.present, found.ok) == (7, 23, False)
    assert {path for path, state in any_ground.states().items() if state == "corrupt"} == set(harmed)
    assert all("sha256" in one.why for one in found.wrong)


@pytest.mark.parametrize(
    ("harm", "state"),
    [
        pytest.param(truncated, "corrupt", id="truncated"),
        pytest.param(appended, "corrupt", id="appended"),
        pytest.param(deleted, "missing", id="deleted"),
    ],
)
def test_a_harmed_file_is_found_and_marked(any_ground: Ground, harm: Any, state: str) -> None:
    any_ground.stock(any_ground.files(5))
    any_ground.harm(["pool/003.rpm"], harm)
    found = any_ground.verify()
    assert [(one.unit.path, one.state, one.was) for one in found.wrong] == [("pool/003.rpm", state, "present")]
    unit = any_ground.unit("pool/003.rpm")
    assert unit.state == state
    assert unit.scrub_result == found.wrong[0].why
    assert unit.scrubbed_at is not None


def test_two_files_that_changed_places_are_both_found(ground: Ground) -> None:
    one, other, third = (ground.bytes(4000) for _ in range(3))
    ground.stock({"a": one, "b": other, "c": third})
    (ground.root / "a").rename(ground.root / "x")
    (ground.root / "b").rename(ground.root / "a")
    (ground.root / "x").rename(ground.root / "b")
    assert wrong(ground.verify()) == ["a", "b"]


def test_what_is_no_file_any_more_is_missing(ground: Ground) -> None:
    ground.stock({"link": b"one", "folder": b"two", "pipe": b"three", "under/it": b"four"})
    ground.harm(ground.content, deleted)
    (ground.root / "link").symlink_to("/etc/hostname")
    (ground.root / "folder").mkdir()
    os.mkfifo(ground.root / "pipe")
    (ground.root / "under").rmdir()
    (ground.root / "under").write_bytes(b"a file where a folder was")
    assert ground.verify().missing == 4


def test_a_file_that_was_only_touched_is_right_and_adopted_unread_from_then_on(ground: Ground) -> None:
    handles = ground.stock(ground.files(3))
    ground.harm(ground.content, touched)
    assert ground.verify().ok
    remembered = ground.recorder.recall(ground.store.name, "pool/001.rpm")
    assert remembered is not None
    assert remembered[0] == ground.store.stat("pool/001.rpm")
    flipped(ground.random)(ground.root / "pool/001.rpm")  # whoever reads it now sees that it is wrong
    body = ground.content["pool/001.rpm"]
    spec = Spec(handles["pool/001.rpm"].url, path="pool/001.rpm", digests=f"sha256:{hashlib.sha256(body).hexdigest()}")
    assert ground.store.have(spec, ground.recorder.recall) is not None
    assert ground.store.have(spec, ground.recorder.recall, reread=True) is None


def test_what_only_the_records_call_wrong_is_right_again(ground: Ground) -> None:
    ground.stock(ground.files(4))
    for unit, state in zip(
        list(ground.recorder.units()), ["corrupt", "missing", "quarantined", "present"], strict=True
    ):
        ground.recorder.mark(unit, state, result="so they say").get()
    found = ground.verify()
    assert found.ok
    assert set(ground.states().values()) == {"present"}


def test_every_digest_of_the_record_must_hold(ground: Ground) -> None:
    ground.stock({"a": b"hello"})
    unit = ground.unit("a")
    wrong_md5 = Digest("md5", hashlib.md5(b"other").digest())
    ground.recorder.put_unit(replace(unit, digests=(*unit.digests, wrong_md5))).get()
    (finding,) = ground.verify().wrong
    assert finding.state == "corrupt"
    assert "md5" in finding.why
    assert "sha256" not in finding.why


def test_digests_of_any_length_are_computed_as_they_were_recorded(ground: Ground) -> None:
    ground.stock({"a": b"hello"})
    shake = Digest("shake_128", hashlib.shake_128(b"hello").digest(20))
    short = Digest("blake2b-256", hashlib.blake2b(b"hello", digest_size=32).digest())
    ground.recorder.put_unit(replace(ground.unit("a"), digests=(shake, short), trusted=frozenset())).get()
    assert ground.verify().ok
    assert ground.unit("a").scrub_result == "proven by blake2b-256 and shake_128"


def test_a_file_without_a_digest_is_judged_by_its_size_and_gets_one(ground: Ground) -> None:
    ground.stock({"a": b"hello", "b": b"world"})
    for unit in list(ground.recorder.units()):
        ground.recorder.put_unit(replace(unit, digests=(), trusted=frozenset())).get()
    appended(ground.root / "b")
    found = ground.verify()
    assert (found.present, found.corrupt, wrong(found)) == (1, 1, ["b"])
    unit = ground.unit("a")
    assert "size is right" in (unit.scrub_result or "")
    assert unit.digest_map["sha256"].value == hashlib.sha256(b"hello").digest()
    assert not unit.trusted
    flipped(ground.random)(ground.root / "a")
    assert wrong(ground.verify()) == ["a", "b"]


def test_an_empty_file_is_a_file(any_ground: Ground) -> None:
    any_ground.stock({"empty": b""})
    assert any_ground.verify().ok
    any_ground.harm(["empty"], appended)
    assert any_ground.verify().corrupt == 1


def test_units_that_share_their_bytes_are_all_found(tmp_path: Path, any_ground: Ground) -> None:
    any_ground.stock({"one": b"same", "two": b"same", "other": b"else"})
    assert any_ground.verify().present == 3
    any_ground.harm(["one"], touched)
    assert any_ground.verify().ok
    any_ground.harm(["one"], flipped(any_ground.random))
    shared = any_ground.store.address is not None
    assert wrong(any_ground.verify()) == (["one", "two"] if shared else ["one"])


def test_bytes_that_a_unit_shares_with_one_that_was_proven_later_are_its_own(tmp_path: Path, mirror: Mirror) -> None:
    ground = Ground(tmp_path, mirror, "digest")
    ground.stock({"one": b"same bytes", "two": b"same bytes"})
    ground.harm(["one"], touched)
    assert ground.verify(path="one").ok
    ground.harm(["one"], flipped(ground.random))
    assert ground.verify(path="two").corrupt == 1
    ground.close()


def test_the_file_of_another_unit_that_took_the_place_is_not_called_corrupt(ground: Ground) -> None:
    ground.stock({"a.rpm": b"version 1"}, unit={"type": "rpm", "version": 1})
    ground.stock({"a.rpm": b"version two"}, unit={"type": "rpm", "version": 2})
    found = ground.verify()
    assert (found.present, found.missing, found.corrupt) == (1, 1, 0)
    assert "another unit's file" in found.wrong[0].why
    (ground.root / "a.rpm").write_bytes(b"version 2!!")
    found = ground.verify(state="present")
    assert found.corrupt == 1


# ----------------------------------------------------------------------------------------------------- what it looks at


def test_one_repository_alone(ground: Ground) -> None:
    ground.stock({"a": b"1", "b": b"2"}, repository="main")
    ground.stock({"c": b"3"}, repository="extra")
    ground.harm(["a", "c"], deleted)
    found = ground.verify(repository="main")
    assert (found.checked, wrong(found)) == (2, ["a"])
    assert ground.states()["c"] == "present"


def test_only_what_was_not_verified_for_so_long(ground: Ground) -> None:
    ground.stock(ground.files(4))
    assert ground.verify(path="pool/00[12].rpm").checked == 2
    assert ground.verify(older_than_s=3600).checked == 2
    assert ground.verify(older_than_s=3600).checked == 0
    assert ground.verify(older_than_s=0).checked == 4


@pytest.mark.parametrize(("sample", "checked"), [(3, 3), (0.5, 5), (1.0, 10), (0, 0), (99, 10)])
def test_a_sample(ground: Ground, sample: float, checked: int) -> None:
    ground.stock(ground.files(10, 10))
    assert ground.verify(sample=sample).checked == checked


def test_units_in_one_state(ground: Ground) -> None:
    ground.stock(ground.files(4, 10))
    ground.harm(["pool/001.rpm"], deleted)
    ground.verify()
    assert ground.verify(state=["missing", "corrupt"]).checked == 1


def test_units_of_other_stores_are_passed_over_and_counted(ground: Ground, tmp_path: Path) -> None:
    ground.stock(ground.files(3, 10))
    other = FileStore(tmp_path / "elsewhere")
    found = verify(ground.recorder, other)
    assert (found.checked, found.passed_over, found.ok) == (0, 3, True)
    both = verify(ground.recorder, {other.name: other, ground.store.name: ground.store})
    assert (both.present, both.passed_over) == (3, 0)


def test_a_store_that_was_moved_goes_by_its_old_name(ground: Ground, tmp_path: Path) -> None:
    ground.stock(ground.files(2, 10))
    ground.root.rename(tmp_path / "moved")
    moved = FileStore(tmp_path / "moved")
    assert verify(ground.recorder, {ground.store.name: moved}).present == 2
    assert {unit.store for unit in ground.recorder.units()} == {ground.store.name}


def in_memory(ground: Ground, name: str, body: bytes, store: MemoryStore) -> Unit:
    """Bytes in a store that has no name, and a unit for them, as an import brings it."""
    handle = ground.mirror.serves(body)
    geofetch.fetch(handle.url, to=store)
    store._files[name] = store._files.pop("file")
    unit = Unit(
        type="file",
        key={"store": "", "path": name},
        path=name,
        store="",
        store_key=name,
        size=len(body),
        digests=(Digest("sha256", hashlib.sha256(body).digest()),),
        sources=(handle.source,),
    )
    ground.recorder.put_unit(unit).get()
    return unit


def test_a_store_in_memory_is_held_against_its_records_too(ground: Ground) -> None:
    store = MemoryStore()
    for name in ("a", "b", "c"):
        in_memory(ground, name, name.encode() * 1000, store)
    store._files["b"] = b"B" * 1000
    del store._files["c"]
    found = verify(ground.recorder, store)
    assert {one.unit.path: one.state for one in found.wrong} == {"b": "corrupt", "c": "missing"}


@pytest.mark.parametrize("called", [geofetch.verify, geofetch.repair, scrub, heal], ids=lambda one: one.__name__)
def test_a_url_or_a_path_is_no_recorder_and_no_store_and_the_cure_is_named(ground: Ground, called: Any) -> None:
    for recorder in ("mysql://u:canary@h/db", ground.root):
        with pytest.raises(SpecError, match=r"Recorder\('sqlite:///…'\)") as caught:
            called(recorder, ground.store)
        assert "canary" not in str(caught.value)
    for store in ("srv", Path("srv"), {"file:///srv": "srv"}):
        with pytest.raises(SpecError, match=r"FileStore\('srv'\)"):
            called(ground.recorder, store)


# -------------------------------------------------------------------------------------------------- what cannot be read


class Hurt(FileStore):
    """A folder on a disk that refuses to read some files: opening, or after the first piece."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opening: dict[str, int] = {}
        self.reading: dict[str, int] = {}

    def open(self, key: str) -> BinaryIO:
        if key in self.opening:
            raise StoreError(f"opening {key}: {os.strerror(self.opening[key])}", errno=self.opening[key])
        return HurtFile(self.reading[key]) if key in self.reading else super().open(key)


class HurtFile(io.BytesIO):
    def __init__(self, number: int) -> None:
        super().__init__(b"first piece")
        self._number = number

    def readinto(self, buffer: Any) -> int:
        if self.tell():
            raise OSError(self._number, os.strerror(self._number))
        return super().readinto(buffer)


@pytest.fixture
def hurt(ground: Ground) -> Iterator[Hurt]:
    ground.stock({"a": b"1" * 100, "b": b"2" * 100, "c": b"3" * 100})
    store = Hurt(ground.root)
    yield store
    store.close()


def test_a_read_error_of_the_disk_is_corrupt_and_says_which(ground: Ground, hurt: Hurt) -> None:
    hurt.reading["b"] = errno.EIO
    (finding,) = verify(ground.recorder, hurt).wrong
    assert (finding.unit.path, finding.state) == ("b", "corrupt")
    assert "EIO" in (ground.unit("b").scrub_result or "")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.ESTALE], ids=errno.errorcode.get)
def test_a_file_that_may_not_be_read_is_unknown_and_its_record_left_alone(
    ground: Ground, hurt: Hurt, number: int
) -> None:
    hurt.opening["b"] = number
    before = ground.unit("b")
    found = verify(ground.recorder, hurt)
    assert (found.present, found.unknown, found.ok) == (2, 1, False)
    assert isinstance(found.wrong[0].error, StoreError)
    assert found.wrong[0].error.errno == number
    assert ground.unit("b") == before


def test_a_bug_of_a_store_is_raised_and_not_called_corrupt(ground: Ground, hurt: Hurt) -> None:
    hurt.open = lambda key: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises(ZeroDivisionError):
        verify(ground.recorder, hurt)
    assert set(ground.states().values()) == {"present"}


def test_records_that_cannot_be_written_end_it(ground: Ground) -> None:
    ground.stock(ground.files(3, 10))
    ground.recorder.close()
    with pytest.raises(RecordError):
        ground.verify()


# ----------------------------------------------------------------------------------------------- what happens meanwhile


class Gated(FileStore):
    """Tells when a file is opened, and what is to be done then."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.opened: list[str] = []
        self.then: Any = lambda key: None

    def open(self, key: str) -> BinaryIO:
        self.opened.append(key)
        self.then(key)
        return super().open(key)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(ground: Ground) -> None:
    ground.stock({"a": b"right"})
    store = Gated(ground.root)

    def replaced_once(key: str) -> None:
        if len(store.opened) == 1:
            (ground.root / "new").write_bytes(b"right")
            (ground.root / "new").rename(ground.root / "a")

    store.then = replaced_once
    assert verify(ground.recorder, store).ok
    assert store.opened == ["a", "a"]


def test_a_file_that_is_replaced_each_time_is_unknown(ground: Ground) -> None:
    ground.stock({"a": b"right"})
    store = Gated(ground.root)

    def replaced(key: str) -> None:
        (ground.root / "new").write_bytes(b"right")
        (ground.root / "new").rename(ground.root / "a")

    store.then = replaced
    found = verify(ground.recorder, store)
    assert found.unknown == 1
    assert ground.states() == {"a": "present"}


def test_what_a_sync_recorded_meanwhile_is_not_overwritten(ground: Ground) -> None:
    ground.stock({"a": b"the old one"})
    old = ground.unit("a")
    ground.stock({"a": b"the new one!"})
    with Inspector(ground.recorder, {ground.store.name: ground.store}) as inspector:
        found = inspector.examine(old)
    assert found is not None
    assert found.state == "present"
    assert ground.unit("a").size == len(b"the new one!")
    assert ground.unit("a").state == "present"


def test_whoever_stops_taking_findings_ends_the_reading(ground: Ground) -> None:
    ground.stock(ground.files(30, 100))
    findings = scrub(ground.recorder, ground.store, jobs=1)
    first = next(findings)
    assert isinstance(first, Finding)
    findings.close()  # type: ignore[attr-defined]
    assert set(ground.states().values()) == {"present"}


def test_a_run_that_is_killed_leaves_a_record_that_is_true(ground: Ground, no_leftovers: Leftovers) -> None:
    no_leftovers.first(ground.close)
    ground.stock(ground.files(40, 100))
    harmed = ground.harm(["pool/000.rpm", "pool/039.rpm"], deleted)
    store = Gated(ground.root)
    run = gevent.spawn(verify, ground.recorder, store, jobs=1)
    until(lambda: len(store.opened) >= 3)
    run.kill()
    assert {path for path, state in ground.states().items() if state != "present"} <= set(harmed)
    assert wrong(ground.verify()) == harmed


def test_files_are_read_several_at_once(ground: Ground) -> None:
    ground.stock(ground.files(4, 10))
    store = Gated(ground.root)
    # Each waits, in its native thread, until all have come: one after the other they would wait in vain.
    all_here = threading.Barrier(4)
    store.then = lambda key: all_here.wait(timeout=10)
    assert verify(ground.recorder, store, jobs=4).ok


def test_no_native_thread_is_left(ground: Ground) -> None:
    ground.stock(ground.files(4, 10))
    before = set(os.listdir("/proc/self/task"))
    ground.verify(jobs=3)
    until(lambda: set(os.listdir("/proc/self/task")) <= before)


def test_memory_holds_few_of_many_units(ground: Ground) -> None:
    units: list[int] = []

    def counted() -> Iterator[int]:
        for number in range(500):
            units.append(number)
            yield number

    results = abreast(lambda number: number, counted(), 10)
    assert next(results) in range(11)
    assert len(units) <= 11
    assert len(list(results)) == 499


def test_what_ends_while_the_input_is_asked_for_more_is_not_lost() -> None:
    def slow_input() -> Iterator[int]:
        for number in range(3):
            yield number
            gevent.idle()  # whatever was started has ended when this goes on

    with gevent.Timeout(10):
        assert sorted(abreast(lambda number: number, slow_input(), 5)) == [0, 1, 2]


def test_an_error_ends_the_others(green_errors_are_fatal: Any) -> None:
    ended = []

    def work(number: int) -> int:
        try:
            if number == 3:
                raise ValueError("number 3")
            Event().wait()
        finally:
            ended.append(number)
        return number

    with pytest.raises(ValueError, match="number 3"):
        list(abreast(work, range(10), 5))
    assert sorted(ended) == [0, 1, 2, 3, 4]


def test_the_hub_goes_on_while_a_large_file_is_read(ground: Ground, ticker: Ticker) -> None:
    size = 200 << 20
    ground.root.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    with (ground.root / "large").open("wb") as file:
        for number in range(200):
            piece = bytes([number]) * (1 << 20)
            file.write(piece)
            digest.update(piece)
    seen = (ground.root / "large").stat()
    unit = Unit(
        type="file",
        key={"store": ground.store.name, "path": "large"},
        path="large",
        store=ground.store.name,
        store_key="large",
        size=size,
        mtime_ns=seen.st_mtime_ns,
        inode=seen.st_ino,
        digests=(Digest("sha256", digest.digest()),),
    )
    ground.recorder.put_unit(unit).get()
    worst_s = []
    for _ in range(3):
        with ticker:
            found = ground.verify()
        assert found.ok
        assert found.read_bytes == size
        worst_s.append(ticker.worst_s)
    assert statistics.median(worst_s) < 0.1


# --------------------------------------------------------------------------------------------------------- what it says


def test_findings_say_it_in_a_line_and_in_json(ground: Ground) -> None:
    ground.stock(ground.files(4, 10))
    ground.harm(["pool/002.rpm"], deleted)
    found = ground.verify()
    assert found.summary().startswith("4 files checked: 3 present, 1 missing (")
    told = json.loads(json.dumps(found.as_dict()))
    assert (told["ok"], told["checked"], told["missing"]) == (False, 4, 1)
    assert [one["path"] for one in told["wrong"]] == ["pool/002.rpm"]
    assert told["wrong"][0]["state"] == "missing"
    assert [one.unit.path for one in found] == ["pool/002.rpm"]


def test_the_list_of_what_is_wrong_has_an_end(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geofetch.upkeep.results.LISTED", 2)
    ground.stock(ground.files(5, 10))
    ground.harm(ground.content, deleted)
    found = ground.verify()
    assert (found.missing, len(found.wrong), found.unlisted) == (5, 2, 3)


def test_progress_is_told_and_ends(ground: Ground) -> None:
    ground.stock(ground.files(5, 10))
    ground.harm(["pool/002.rpm"], deleted)
    tallies: list[geofetch.Tally] = []
    ground.verify(progress=tallies.append)
    assert [tally.final for tally in tallies][-1:] == [True]
    last = tallies[-1]
    assert (last.stored, last.failed, last.items_total) == (4, 1, 5)


def test_a_sink_that_fails_harms_nobody(ground: Ground, caplog: pytest.LogCaptureFixture) -> None:
    ground.stock(ground.files(2, 10))
    assert ground.verify(progress=lambda tally: 1 / 0).ok
    assert "its sink failed" in caplog.text


@pytest.mark.parametrize(
    "asked",
    [{"jobs": 0}, {"older_than_s": -1}, {"sample": 1.5}, {"state": "rotten"}, {"progress": 3}],
    ids=lambda asked: next(iter(asked)),
)
def test_what_cannot_be_asked_is_refused(ground: Ground, asked: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        ground.verify(**asked)


def test_a_store_must_be_one(ground: Ground) -> None:
    with pytest.raises(SpecError, match="Store"):
        verify(ground.recorder, "srv")  # type: ignore[arg-type]


def test_nothing_is_written_and_no_file_is_left(ground: Ground) -> None:
    ground.stock(ground.files(4))
    ground.harm(["pool/001.rpm"], flipped(ground.random))
    before = {path: path.stat().st_mtime_ns for path in ground.root.rglob("*")}
    ground.verify()
    assert {path: path.stat().st_mtime_ns for path in ground.root.rglob("*")} == before


def test_what_was_put_aside_stays_so_until_its_file_is_there_again(ground: Ground) -> None:
    ground.stock({"a": b"right"})
    (ground.root / "a").rename(ground.root / "b")
    ground.recorder.mark(ground.unit("a"), "quarantined", result="put aside: there").get()
    (finding,) = ground.verify().wrong
    assert (finding.state, finding.why) == ("quarantined", "put aside: there")
    (ground.root / "b").rename(ground.root / "a")
    assert ground.verify().ok
    assert ground.states() == {"a": "present"}
