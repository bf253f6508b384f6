"""What is asked of the records, and what upkeep tells them: filters, pages, samples, marks, imports."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from geofetch.errors import RecordError, SpecError
from geofetch.events import Kept
from geofetch.records import Health, Recorder, Unit
from geofetch.records import recorder as recorder_module
from geofetch.spec import Digest, Profile, Source, Spec

from .support.servers import Place
from .test_records import STORE, TABLES, only, sha256, store


def unit(name: str, **told: Any) -> Unit:
    told = {"key": {"name": name}, "path": name, "store": STORE, "store_key": name, "size": 8, "stored_at": 1, **told}
    return Unit("file", **told)


@pytest.fixture
def recorder(database: Place) -> Iterator[Recorder]:
    with Recorder(database.url) as opened:
        yield opened


@pytest.fixture
def full(recorder: Recorder) -> Recorder:
    """Five units that differ in everything that is asked for."""
    recorder.put_unit(unit("a/1.rpm", repositories=("main",), scrubbed_at=5_000_000))
    recorder.put_unit(unit("a/2.rpm", repositories=("main", "extra"), state="missing"))
    recorder.put_unit(replace(unit("b/1.rpm", state="corrupt", scrubbed_at=9_000_000), type="rpm"))
    recorder.put_unit(unit("b/[2].txt", store="memory:"))
    recorder.put_unit(unit("B/1.RPM", state="quarantined"))
    recorder.flush()
    return recorder


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, ["a/1.rpm", "a/2.rpm", "b/1.rpm", "b/[2].txt", "B/1.RPM"]),
        ({"repository": "main"}, ["a/1.rpm", "a/2.rpm"]),
        ({"repository": "extra"}, ["a/2.rpm"]),
        ({"repository": "none"}, []),
        ({"type": "rpm"}, ["b/1.rpm"]),
        ({"state": "missing"}, ["a/2.rpm"]),
        ({"state": ("missing", "corrupt")}, ["a/2.rpm", "b/1.rpm"]),
        ({"state": ()}, []),
        ({"store": "memory:"}, ["b/[2].txt"]),
        ({"scrubbed_before": 9}, ["a/1.rpm", "a/2.rpm", "b/[2].txt", "B/1.RPM"]),
        ({"scrubbed_before": -8e30}, ["a/2.rpm", "b/[2].txt", "B/1.RPM"]),
        ({"scrubbed_before": float("inf")}, ["a/1.rpm", "a/2.rpm", "b/1.rpm", "b/[2].txt", "B/1.RPM"]),
        ({"scrubbed_before": 5.0}, ["a/2.rpm", "b/[2].txt", "B/1.RPM"]),
        ({"path": "a/1.rpm"}, ["a/1.rpm"]),
        ({"path": "*1.rpm"}, ["a/1.rpm", "b/1.rpm"]),
        ({"path": "b/[[]2].txt"}, ["b/[2].txt"]),
        ({"path": "?/1.rpm", "repository": "main"}, ["a/1.rpm"]),
    ],
    ids=str,
)
def test_units_fit_all_that_is_told(full: Recorder, wanted: dict[str, Any], names: list[str]) -> None:
    assert [found.path for found in full.units(**wanted)] == names
    assert full.count(**wanted) == len(names)


def test_a_state_that_there_is_not_is_refused_when_it_is_asked_for(recorder: Recorder) -> None:
    with pytest.raises(SpecError, match="'lost'"):
        recorder.units(state="lost")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="'lost'"):
        recorder.mark(unit("a"), "lost")  # type: ignore[arg-type]


def test_repositories_are_told_by_name(full: Recorder) -> None:
    assert full.repositories() == ["extra", "main"]


def test_a_unit_is_found_by_its_id_its_path_its_place_and_its_key(full: Recorder) -> None:
    wanted = next(full.units(path="b/1.rpm"))
    assert wanted.id == 3
    by = [3, "3", "b/1.rpm", {"type": "rpm", "name": "b/1.rpm"}, '{"name": "b/1.rpm", "type": "rpm"}']
    assert [full.unit(ident) for ident in by] == [wanted] * 5  # type: ignore[arg-type]
    assert [full.unit(ident) for ident in (99, "99", "b", "{", '"b"', "²", {"name": "b/1.rpm"})] == [None] * 7  # type: ignore[arg-type]


def test_a_path_that_several_units_have_is_told_with_their_ids(full: Recorder) -> None:
    full.put_unit(unit("other", path="a/1.rpm")).get()
    with pytest.raises(RecordError, match=r"2 units go by .a/1\.rpm.; ask for one by its id: 1, 6"):
        full.unit("a/1.rpm")


# ------------------------------------------------------------------------------------------------- pages and samples


@pytest.fixture
def many(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Forty units, on pages of seven."""
    monkeypatch.setattr(recorder_module, "PAGE", 7)
    for number in range(40):
        recorder.put_unit(unit(f"{number:02}", repositories=("even",) if number % 2 == 0 else ()))
    recorder.flush()
    return recorder


def test_units_come_in_pages_each_once_and_in_order(many: Recorder) -> None:
    assert [found.path for found in many.units()] == [f"{number:02}" for number in range(40)]
    assert [found.path for found in many.units(path="*5")] == ["05", "15", "25", "35"]
    assert many.count(path="*5") == 4


def test_a_page_is_read_when_it_is_reached(many: Recorder) -> None:
    units = many.units()
    first = next(units)
    many.put_unit(unit("39", state="corrupt")).get()
    many.put_unit(unit(first.path, state="corrupt")).get()
    assert [found.path for found in units if found.state == "corrupt"] == ["39"]


@pytest.mark.parametrize(
    ("sample", "count"),
    [(0, 0), (0.0, 0), (1, 1), (13, 13), (40, 40), (1000, 40), (0.5, 20), (0.01, 1), (0.26, 11), (1.0, 40)],
)
def test_a_sample_has_the_size_that_was_asked_for(many: Recorder, sample: float, count: int) -> None:
    found = [one.path for one in many.units(sample=sample)]
    assert len(set(found)) == len(found) == count
    assert found == sorted(found)


def test_a_sample_is_taken_from_what_fits_and_by_chance(many: Recorder) -> None:
    seen = set()
    for _ in range(60):
        found = [int(one.path) for one in many.units(sample=5, repository="even")]
        assert len(found) == 5
        seen.update(found)
    # Each of the twenty is left out of all sixty samples with a chance of 3 in 100 million.
    assert seen == set(range(0, 40, 2))


@pytest.mark.parametrize("sample", [-1, 1.5, -0.1, float("nan"), True, "5"])
def test_a_sample_that_cannot_be_is_refused(recorder: Recorder, sample: Any) -> None:
    with pytest.raises(SpecError, match="a sample is"):
        recorder.units(sample=sample)


# ------------------------------------------------------------------------------------------------------------- marks


def test_a_mark_says_what_was_found_and_when(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a", digests=sha256(b"the file")))
    before, now = only(recorder), time.time_ns() // 1000
    assert recorder.mark(before, "corrupt", result="sha256 differs").get() is True
    after = only(recorder)
    assert (after.state, after.scrub_result, after.proven_at) == ("corrupt", "sha256 differs", before.proven_at)
    assert after.scrubbed_at is not None
    assert after.scrubbed_at >= now
    assert recorder.mark(after, "present", result=None).get() is True
    healed = only(recorder)
    assert (healed.state, healed.scrub_result, healed.proven_at) == ("present", None, healed.scrubbed_at)


def test_a_mark_on_a_file_that_was_replaced_meanwhile_is_left_out(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a"))
    before = only(recorder)
    store(recorder, Spec("http://a.example/a"), mtime=2)
    assert recorder.mark(before, "corrupt").get() is False
    assert only(recorder).state == "present"
    assert recorder.mark(unit("nobody"), "missing").get() is False


def test_a_mark_may_tell_where_the_file_is_now_and_what_it_is(recorder: Recorder) -> None:
    md5, other = Digest("md5", bytes(16)), sha256(b"other")
    store(recorder, Spec("http://a.example/a", digests=sha256(b"the file")))
    kept = Kept(STORE, ".geofetch/quarantine/a", 9, 3, 4)
    assert recorder.mark(only(recorder), "quarantined", kept=kept, digests=[md5, other]).get()
    after = only(recorder)
    assert (after.state, after.kept) == ("quarantined", kept)
    assert after.digest_map == {"md5": md5, "sha256": sha256(b"the file")}
    assert after.trusted == {"sha256"}


def test_marks_that_nobody_waits_for_are_committed_together(many: Recorder) -> None:
    before = many.commits
    for found in list(many.units()):
        many.mark(found, "missing")
    many.flush()
    assert many.count(state="missing") == 40
    assert many.commits - before == 1


# ------------------------------------------------------------------------------------------------------------ import


def test_an_imported_unit_takes_the_place_of_what_was_known(recorder: Recorder) -> None:
    store(recorder, Spec(sources=["http://a.example/a", "http://b.example/a"], repository="main"))
    sources = (Source("http://c.example/a"), Source("http://a.example/a", weight=0))
    told = replace(
        only(recorder),
        sources=sources,
        health=(Health(1, 2, 3, "Stalled"), Health()),
        repositories=("extra",),
        digests=(Digest("md5", bytes(16)),),
        trusted=frozenset({"md5"}),
        state="corrupt",
        stored_at=-5,
    )
    for _ in range(2):
        recorder.put_unit(told).get()
        assert only(recorder) == told
        assert only(recorder).id == 1


def test_an_import_never_brings_a_secret_in(recorder: Recorder, database: Place, tmp_path: Path) -> None:
    secret = Source("https://user:canary@a.example/a?token=canary", profile=Profile(name="in", auth=("a", "canary")))
    recorder.put_unit(unit("a", sources=(secret,))).get()
    assert only(recorder).sources == (Source("https://a.example/a", profile="in", secret_query=True),)
    assert "canary" not in str([database.rows(f"SELECT * FROM {table}") for table in TABLES])
    for file in tmp_path.iterdir():
        assert b"canary" not in file.read_bytes()


def test_an_import_takes_no_place_from_a_file_that_is_there(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a"))
    recorder.put_unit(unit("a", size=99)).get()
    assert [found.state for found in recorder.units()] == ["present", "present"]


def test_a_damaged_row_is_an_error_that_names_its_id(full: Recorder, database: Place) -> None:
    database.rows("INSERT INTO digests SELECT id, 'sha256', identity, 1 = 1 FROM units WHERE id = 2")
    with pytest.raises(RecordError, match=r"unit 2 is damaged: .*sha256"):
        list(full.units())


def test_an_algorithm_that_is_not_known_here_proves_nothing(recorder: Recorder, database: Place) -> None:
    store(recorder, Spec("http://a.example/a"))
    database.rows("INSERT INTO digests SELECT unit_id, 'sha9000', value, trusted FROM digests")
    assert recorder.recall(STORE, "a") == (Kept(STORE, "a", 8, 1, 7), {"sha256": sha256(b"the file")})


def test_the_spec_of_a_unit_fetches_that_very_file(recorder: Recorder) -> None:
    inside = Profile(name="inside", auth=("a", "b"))
    named = Spec(
        sources=[Source("http://a.example/a", profile="inside"), Source("http://b.example/a?token=1", 3, 4)],
        path="x/a",
        size=8,
        digests=sha256(b"the file"),
        unit={"type": "rpm", "name": "a"},
        repository="main",
    )
    store(recorder, named)
    again = only(recorder).spec({"inside": inside})
    assert again.sources == (
        Source("http://a.example/a", profile=inside),
        Source("http://b.example/a", 3, 4, secret_query=True),
    )
    for field in ("path", "size", "digests", "unit", "repository"):
        assert getattr(again, field) == getattr(named, field)


def test_the_spec_of_a_plain_file_has_no_unit_and_records_the_same_one(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a"))
    again = only(recorder).spec()
    assert again.unit is None
    store(recorder, again)
    assert recorder.count() == 1


@pytest.mark.parametrize(
    "told",
    [
        {"state": "lost"},
        {"verified": "luck"},
        {"trusted": frozenset({"md5"})},
        {"digests": (sha256(b"1"), sha256(b"2"))},
        {"sources": (Source("http://a.example/a"), Source("http://u:p@a.example/a"))},
        {"health": (Health(),)},
    ],
    ids=lambda told: next(iter(told)),
)
def test_a_unit_that_contradicts_itself_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        unit("a", **told)
