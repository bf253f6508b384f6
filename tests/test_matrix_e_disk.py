"""Rows E1, E2 and E5 of the fault matrix, end to end: disks that are full, fail, or take no more.

A fault of the store is no source's: its Outcome says STOP, and the second source is never asked.
"""

from __future__ import annotations

import errno
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geofetch.pool import fetch
from geofetch.records import Recorder
from geofetch.spec import Spec
from geofetch.store import FileStore, OneFile
from tests.origin.content import made
from tests.support.apart import *  # noqa: F403 - a fixture of these tests
from tests.support.apart import Disk, client, clients, command, job
from tests.support.diary import sha256
from tests.support.leftovers import Leftovers
from tests.support.matrix import refused_by_the_store, stopped, wanted
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.recorded import recorded
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

SMALL = made(2_000, "small")
#: Large enough for the native lane, and for no disk here.
LARGE = made(3 << 20, "large")


def _two(origins: Origins, body: bytes, **how: Any) -> tuple[Handle, Handle]:
    """The same file at two origins."""
    first, second = (origins.http().serves(body, **how) for _ in range(2))
    return first, second


# ------------------------------------------------------------------------------------------------- E1: full on a write


@pytest.mark.parametrize(
    ("size", "how"),
    [
        pytest.param(3 << 20, {}, id="E1-full-while-a-body-comes-on-the-native-lane"),
        pytest.param(3 << 20, {"announce": None}, id="E1-full-while-a-body-of-no-length-comes"),
        pytest.param(400_000, {}, id="E1-full-while-a-body-comes-on-the-hub"),
    ],
)
def test_a_full_disk_ends_a_download_and_no_other_source_is_asked(
    origins: Origins, disk: Callable[[str], Disk], size: int, how: dict[str, Any]
) -> None:
    small, body = disk("size=256k"), LARGE[:size]
    first, second = _two(origins, body, **how)
    reports = clients(_in_every_way(small.path, wanted("a", (first, second), body)), small.before)
    for told in (report.outcome for report in reports):
        refused_by_the_store(told, errno.ENOSPC)
        assert "free some space" in told["message"]
        assert told["cause"] == "OSError"
        assert 0 < told["fetched"] <= len(body)
    assert (first.hits, second.hits) == (len(reports), 0)
    assert [path for path in small.seen.rglob("*") if not path.is_dir()] == []


def _in_every_way(root: Path, *specs: dict[str, Any]) -> list[dict[str, Any]]:
    """The same job in every layout, durable and not, each in a folder of its own."""
    ways = [(kind, durable) for kind in ("path", "digest", "one") for durable in (False, True)]
    places = [root / f"{kind}-{durable}" / ("a" if kind == "one" else "") for kind, durable in ways]
    return [job(place, specs, kind=way[0], durable=way[1]) for place, way in zip(places, ways, strict=True)]


@pytest.mark.parametrize("durable", [False, True], ids=["E1-others-go-on", "E1-others-go-on-durable"])
def test_a_file_that_is_too_large_for_the_disk_takes_no_place_from_the_others(
    origins: Origins, disk: Callable[[str], Disk], durable: bool, tmp_path: Path
) -> None:
    small = disk("size=256k")
    large, spare = _two(origins, LARGE)
    rest = [origins.http().serves(SMALL, name=str(number)) for number in range(4)]
    specs = [wanted(f"d/{number}", [one], SMALL) for number, one in enumerate(rest)]
    specs.insert(1, wanted("large", (large, spare), LARGE))
    records = f"sqlite:///{tmp_path / 'units.db'}"
    report = client(small.path, specs, small.before, durable=durable, records=records, size=1)
    assert report.states == ["stored", "failed", "stored", "stored", "stored"]
    refused_by_the_store(report.outcomes[1], errno.ENOSPC)
    assert spare.hits == 0
    assert set(report.units) == {f"d/{number}" for number in range(4)}
    assert {path.read_bytes() for path in (small.seen / "d").iterdir()} == {SMALL}
    # Nothing but room is wanted: the next run fetches what failed, and that alone.
    small.remount("size=8m")
    again = client(small.path, specs, small.before, records=records)
    assert again.states == ["adopted", "stored", "adopted", "adopted", "adopted"]
    assert [one.hits for one in (large, *rest)] == [2, 1, 1, 1, 1]


@pytest.mark.parametrize(
    "flags", [pytest.param([], id="E1-command"), pytest.param(["--durable"], id="E1-command-durable")]
)
def test_the_command_keeps_what_fits_and_says_so_also_when_its_records_do_not(
    mirror: Mirror, disk: Callable[[str], Disk], flags: list[str]
) -> None:
    # Records lie beside the files: which of the two meets the end of the disk first is nobody's to say.
    small, tree = disk("size=900k"), mirror.tree(60, 16_000)
    words = ["sync", tree.sums_url, "--into", small.path, "--json", "-j", "2", *flags]
    done = command(words, small.before)
    assert done.returncode in (3, 12, 13), done.stderr
    assert "Traceback" not in done.stderr
    *files, summary = map(json.loads, done.stdout.splitlines())
    assert len(files) == 60
    assert {one["error"]["type"] for one in files if not one["ok"]} <= {"StoreError", "RecordError"}
    assert 0 < summary["files"]["stored"] < 60
    stored = _whole(small, tree.contents)
    assert _recorded(small) <= stored
    assert {one["path"] for one in files if one["ok"]} <= _recorded(small)

    before = tree.hits
    small.remount("size=8m")
    done = command(words, small.before)
    assert done.returncode == 0, done.stderr
    assert _whole(small, tree.contents) == _recorded(small) == set(tree.names)
    assert {name for name in tree.names if tree.hits[name] > before[name]} == set(tree.names) - stored


def _whole(small: Disk, contents: dict[str, bytes]) -> set[str]:
    """The names of the files there; each must be whole, and there must be no part."""
    names = {path.name for path in small.seen.iterdir() if path.name != ".geofetch"}
    assert {name: (small.seen / name).read_bytes() for name in names} == {name: contents[name] for name in names}
    return names


def _recorded(small: Disk) -> set[str]:
    return set(recorded(small.seen))


# -------------------------------------------------------------------- E2: every write succeeded, then it is refused


class _Refusing:
    """From now on ``os`` refuses one call where it is about this folder; ``struck`` counts how often."""

    def __init__(self, patch: pytest.MonkeyPatch, call: str, number: int, folder: Path, parts: bool) -> None:
        self.struck, self._over = 0, False
        self._call, self._real = call, getattr(os, call)
        self._number, self._folder, self._parts = number, str(folder), parts
        patch.setattr(os, call, self._called)

    def _called(self, what: Any, *more: Any, **named: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else str(what)
        if not self._over and f"{path}/".startswith(f"{self._folder}/") and (".part-" in path) == self._parts:
            self.struck += 1
            if self._call == "close":  # as the system does: told once, and the descriptor is gone
                self._over = True
                self._real(what)
            raise OSError(self._number, os.strerror(self._number))
        return self._real(what, *more, **named)


REFUSED = [
    pytest.param("fsync", errno.ENOSPC, True, True, id="E2-fsync-of-the-file-disk-full"),
    pytest.param("fsync", errno.EIO, True, True, id="E2-fsync-of-the-file-io-error"),
    pytest.param("close", errno.ENOSPC, True, False, id="E2-close-disk-full"),
    pytest.param("close", errno.EDQUOT, True, True, id="E2-close-quota-durable"),
    pytest.param("rename", errno.ENOSPC, True, False, id="E2-rename-disk-full"),
    pytest.param("rename", errno.EDQUOT, True, True, id="E2-rename-quota-durable"),
]


@pytest.mark.parametrize(("call", "number", "parts", "durable"), REFUSED)
@pytest.mark.parametrize("kind", ["path", "digest", "one"])
def test_what_is_refused_when_all_is_written_is_told_and_leaves_the_old_file(
    origins: Origins,
    tmp_path: Path,
    spotless: Leftovers,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    parts: bool,
    durable: bool,
    kind: Any,
) -> None:
    root = tmp_path / "srv"
    old, (first, second) = origins.http().serves(b"old"), _two(origins, SMALL)
    with Recorder(f"sqlite:///{tmp_path}/units.db", durable=durable) as recorder:
        store = OneFile(root / "a", durable=durable) if kind == "one" else FileStore(root, layout=kind, durable=durable)
        with pooled(store=store, recorder=recorder) as pool:
            assert pool.map([Spec(old.url, path="a")])[0].ok
            with monkeypatch.context() as patch:
                refusing = _Refusing(patch, call, number, root, parts)
                (outcome,) = pool.map([wanted("a", (first, second), SMALL)])
            stopped(outcome, number)
            assert outcome.location is None
            assert outcome.fetched == len(SMALL)
            # An fsync that failed says nothing of the pages the second time.
            assert refusing.struck == 1
            assert (first.hits, second.hits) == (1, 0)
            assert (root / "a").read_bytes() == b"old"
            (unit,) = recorder.units()
            assert (unit.size, unit.state) == (3, "present")
            (again,) = pool.map([wanted("a", (first, second), SMALL)])
            assert again.state == "stored"
        store.close()
    assert (root / "a").read_bytes() == SMALL


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["E2-fsync-of-the-folder-full", "E2-…-io-error"])
def test_a_folder_that_does_not_sync_is_told_and_what_is_published_is_whole_and_adopted(
    origins: Origins, tmp_path: Path, spotless: Leftovers, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    root = tmp_path / "srv"
    first, second = _two(origins, SMALL)
    with Recorder(f"sqlite:///{tmp_path}/units.db", durable=True) as recorder:
        store = FileStore(root, durable=True)
        with pooled(store=store, recorder=recorder) as pool:
            with monkeypatch.context() as patch:
                _Refusing(patch, "fsync", number, root, parts=False)
                (outcome,) = pool.map([wanted("a", (first, second), SMALL)])
            stopped(outcome, number)
            assert second.hits == 0
            # It has its name, and was not promised to keep it: no record says so.
            assert (root / "a").read_bytes() == SMALL
            assert recorder.count() == 0
            (again,) = pool.map([wanted("a", (first, second), SMALL)])
            assert (again.state, first.hits, recorder.count()) == ("adopted", 1, 1)
        store.close()


def test_a_disk_without_inodes_takes_no_byte_e2(origins: Origins, disk: Callable[[str], Disk]) -> None:
    small = disk("nr_inodes=8")
    # The root of a tmpfs is an inode, too; a client wants at least one for a part.
    small.does("sh", "-c", f'for one in 1 2 3 4 5 6 7; do : > "{small.path}/filler$one"; done')
    first, second = _two(origins, LARGE, stall=0)
    jobs = [
        job(small.path / ("a" if kind == "one" else ""), [wanted("a", (first, second), LARGE)], kind=kind)
        for kind in ("path", "digest", "one")
    ]
    for report in clients(jobs, small.before):
        told = refused_by_the_store(report.outcome, errno.ENOSPC)
        assert "inodes" in told["message"]
        assert told["fetched"] == 0
    assert second.hits == 0
    assert all(path.name.startswith("filler") for path in small.seen.iterdir())


# ----------------------------------------------------------------------------------- E5: short writes, limits of a file


@pytest.mark.parametrize("size", [2_000, 3 << 20], ids=["E5-limit-on-the-hub", "E5-limit-on-the-native-lane"])
def test_a_limit_on_files_is_told_after_a_short_write(origins: Origins, tmp_path: Path, size: int) -> None:
    body = made(size, "limit")
    first, second = _two(origins, body)
    small = made(1_000, "small enough")
    other = origins.http().serves(small)
    jobs = _in_every_way(tmp_path, wanted("a", (first, second), body))
    jobs.append(job(tmp_path / "b", [wanted("b", [other], small)]))
    *reports, fits = clients(jobs, file_limit=1_000)
    for report in reports:
        told = refused_by_the_store(report.outcome, errno.EFBIG)
        assert "ulimit -f" in told["message"]
    assert (first.hits, second.hits) == (len(reports), 0)
    assert fits.states == ["stored"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "b/b"]


def test_writes_that_are_short_are_gone_on_with_e5(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, short = os.write, []

    def some(fd: int, view: Any) -> int:
        if ".part-" in os.readlink(f"/proc/self/fd/{fd}"):
            short.append(len(view))
            return write(fd, view[:777])
        return write(fd, view)

    monkeypatch.setattr(os, "write", some)
    body = made(20_000, "short")
    outcome = fetch(mirror.serves(body).url, to=tmp_path / "a", digests=sha256(body))
    assert (outcome.state, outcome.location.read_bytes()) == ("stored", body)
    assert len(short) >= 20_000 // 777


def test_a_spool_that_meets_a_limit_is_a_store_error_too_e5(mirror: Mirror, tmp_path: Path) -> None:
    # The limit is this process's own while it lasts: nothing else is written meanwhile.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handle = mirror.serves(LARGE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    try:
        with pooled(store=None, retries=1) as pool:
            (outcome,) = pool.map([handle.url])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    stopped(outcome, errno.EFBIG)
    assert handle.hits == 1
