"""What a repository no longer lists is taken off it: by the records, by the library, by ``sync --mirror``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import geofetch
from geofetch.errors import RecordError, SpecError
from geofetch.events import Kept
from geofetch.records import Recorder, listing
from geofetch.spec import Spec

from .support.mirrors import Mirror
from .support.servers import Place
from .test_cli import run
from .test_records import STORE, store


@pytest.fixture
def recorder(database: Place) -> Iterator[Recorder]:
    with Recorder(database.url) as opened:
        yield opened


def spec(name: str, repository: str | None = "main", **told: Any) -> Spec:
    return Spec(f"http://a.example/{name}", path=name, repository=repository, **told)


def held(recorder: Recorder, repository: str = "main") -> list[str]:
    return [unit.path for unit in recorder.units(repository=repository)]


@pytest.mark.parametrize("kind", [list, iter], ids=["list", "iterator"])
def test_what_is_not_listed_any_more_leaves_the_repository_and_nothing_else(
    recorder: Recorder, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "AT_ONCE", 3)
    specs = [spec(f"{number:03}") for number in range(700)]
    for one in specs:
        store(recorder, one)
    store(recorder, spec("010", "other"))
    store(recorder, spec("alone", None))
    listed = recorder.listing("main", STORE)
    passed = listed(kind(specs[:300] + specs[310:]))
    assert list(passed) == specs[:300] + specs[310:]
    assert len(listed) == 690
    assert listed.take_off() == 10
    assert held(recorder) == [one.path for one in specs[:300] + specs[310:]]
    assert held(recorder, "other") == ["010"]
    assert recorder.count() == 701
    assert recorder.unit("305").repositories == ()  # type: ignore[union-attr]
    assert listed.take_off() == 0


def test_a_unit_with_a_key_of_its_own_is_listed_whatever_its_path(recorder: Recorder) -> None:
    known = {"type": "rpm", "name": "a", "version": "1"}
    store(recorder, spec("old/a.rpm", unit=known))
    store(recorder, spec("b.rpm", unit={**known, "version": "2"}))
    listed = recorder.listing("main", STORE)
    list(listed([spec("new/a.rpm", unit=known)]))
    assert listed.take_off() == 1
    assert held(recorder) == ["old/a.rpm"]


def test_the_same_path_in_another_store_is_another_unit(recorder: Recorder) -> None:
    store(recorder, spec("a"))
    listed = recorder.listing("main", "file:///elsewhere")
    list(listed([spec("a")]))
    assert listed.take_off() == 1


def test_a_listing_that_was_cut_short_takes_nothing_off(recorder: Recorder) -> None:
    store(recorder, spec("a"))
    store(recorder, spec("b"))
    listed = recorder.listing("main", STORE)
    passing = iter(listed(iter([spec("b"), spec("c")])))
    next(passing)
    with pytest.raises(RecordError, match="not read to its end"):
        listed.take_off()

    def broken() -> Iterator[Spec]:
        yield spec("b")
        raise OSError("cut")

    other = recorder.listing("main", STORE)
    with pytest.raises(OSError, match="cut"):
        list(other(broken()))
    with pytest.raises(RecordError, match="not read to its end"):
        other.take_off()
    assert held(recorder) == ["a", "b"]


@pytest.mark.parametrize("specs", [[], iter([])], ids=["list", "iterator"])
def test_an_empty_listing_takes_nothing_off(recorder: Recorder, specs: Any) -> None:
    store(recorder, spec("a"))
    listed = recorder.listing("main", STORE)
    list(listed(specs))
    with pytest.raises(RecordError, match="is empty"):
        listed.take_off()
    assert held(recorder) == ["a"]


def test_two_lists_of_one_repository_count_together(recorder: Recorder) -> None:
    for name in "abc":
        store(recorder, spec(name))
    listed = recorder.listing("main", STORE)
    list(listed([spec("a")]))
    list(listed(iter([spec("b")])))
    assert listed.take_off() == 1
    assert held(recorder) == ["a", "b"]


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_listing_wants_a_name(recorder: Recorder, name: Any) -> None:
    with pytest.raises(SpecError, match="its name is wanted"):
        recorder.listing(name, STORE)


def test_a_pool_fetches_what_a_listing_passes_on(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(6, (0, 3000))
    files = geofetch.FileStore(tmp_path / "srv")
    with geofetch.Recorder(f"sqlite:///{tmp_path}/srv/.geofetch/units.db") as recorder:
        for names in (tree.names, tree.names[2:]):
            listed = recorder.listing("main", files.name)
            specs = [
                geofetch.Spec(
                    tree.urls[tree.names.index(name)],
                    path=name,
                    digests=f"sha256:{tree.digests[name]}",
                    repository="main",
                )
                for name in names
            ]
            with geofetch.Pool(4, store=files, recorder=recorder) as pool:
                assert all(outcome.ok for outcome in pool.imap_unordered(listed(iter(specs))))
            gone = listed.take_off()
        assert gone == 2
        assert sorted(held(recorder)) == sorted(tree.names[2:])


def sync(folder: Path, base: str, *more: str) -> Any:
    return run("sync", "SUMS", "--into", "srv", "--repository", "main", "--base", base, *more, cwd=folder)


def members(folder: Path) -> list[str]:
    done = run("units", "list", "--json", "--repository", "main", "--into", "srv", cwd=folder)
    assert done.code == 0, done.err
    return sorted(one["stored"]["path"] for one in done.objects)


def test_sync_mirror_takes_off_what_the_manifest_no_longer_lists(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(5, (1, 3000))
    lines = tree.sums.splitlines(keepends=True)
    sums = tmp_path / "SUMS"
    sums.write_text("".join(lines))
    first = sync(tmp_path, tree.base, "--mirror")
    assert (first.code, len(members(tmp_path))) == (0, 5), first.err
    sums.write_text("".join(lines[2:]))
    assert sync(tmp_path, tree.base).code == 0
    assert len(members(tmp_path)) == 5  # not without --mirror

    # A file that cannot be had: what is not listed stays, since what takes its place is not there.
    sums.write_text("".join([*lines[2:], f"{'0' * 64}  {tree.names[0]}\n"]))
    failed = sync(tmp_path, tree.base, "--mirror", "--retries", "0")
    assert failed.code != 0
    assert "nothing is taken off" in failed.err
    assert len(members(tmp_path)) == 5

    sums.write_text("".join(lines[2:]))
    again = sync(tmp_path, tree.base, "--mirror", "--json")
    assert again.code == 0, again.err
    assert again.objects[-1]["taken_off"] == 2
    assert "2 units" in again.err
    assert len(members(tmp_path)) == 3
    assert all((tmp_path / "srv" / name).exists() for name in tree.names)

    sums.write_text("\n")
    empty = sync(tmp_path, tree.base, "--mirror")
    assert empty.code == 2
    assert "is empty; nothing is taken off" in empty.err
    assert "geofetch repositories remove main" in empty.err
    assert len(members(tmp_path)) == 3
    assert run("repositories", "remove", "main", "--into", "srv", cwd=tmp_path).code == 0
    left = run("repositories", "list", "--into", "srv", cwd=tmp_path)
    assert (left.code, left.out) == (0, "")


def test_sync_mirror_takes_nothing_off_by_a_manifest_that_may_have_been_cut(mirror: Mirror, tmp_path: Path) -> None:
    tree = mirror.tree(5, (1, 3000))
    lines = tree.sums.splitlines(keepends=True)
    into = ("--into", "srv", "--repository", "main", "--base", tree.base)
    whole = mirror.serves(tree.sums.encode(), name="SHA256SUMS")
    assert run("sync", whole.url, *into, "--mirror", cwd=tmp_path).code == 0
    # No length is told, and the connection ends between two lines: nobody can see that it is not all.
    cut = mirror.serves(tree.sums.encode(), name="SHA256SUMS", announce=None, cut=len("".join(lines[:2])))
    done = run("sync", cut.url, *into, "--mirror", cwd=tmp_path)
    assert (done.code, len(members(tmp_path))) == (4, 5), done.err
    assert "whether all of it came cannot be told" in done.err
    assert run("sync", cut.url, *into, cwd=tmp_path).code == 0  # what it lists may be fetched


def test_sync_mirror_wants_a_repository(tmp_path: Path) -> None:
    done = run("sync", "SUMS", "--into", "srv", "--mirror", cwd=tmp_path)
    assert done.code == 2
    assert "--mirror" in done.err
    assert "--repository" in done.err


def test_the_stores_that_units_lie_in_are_told_once_each(recorder: Recorder) -> None:
    for name, place in (("a", STORE), ("b", STORE), ("c", "s3://bucket/prefix")):
        store(recorder, spec(name), kept=Kept(place, name, 8))
    assert recorder.stores() == sorted([STORE, "s3://bucket/prefix"])
