"""Rows E21 to E23 of the fault matrix, end to end: others who are at work in the same place at the same moment."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch import lane, stream
from geofetch.events import Outcome
from geofetch.pool import Pool
from geofetch.records import Recorder
from geofetch.store import FileStore
from tests.origin.content import made
from tests.support.apart import begun, command, commanded, finished, job
from tests.support.diary import sha256
from tests.support.leftovers import Leftovers
from tests.support.matrix import *  # noqa: F403 - a fixture of these tests
from tests.support.matrix import BODY, KINDS, stopped, stores, wanted
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.recorded import recorded
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

# --------------------------------------------------------------------------------- E21: two processes, one destination

ROUNDS = 50


@pytest.mark.parametrize(
    ("kind", "durable"),
    [
        pytest.param("path", False, id="E21-by-path"),
        pytest.param("digest", True, id="E21-by-digest-durable"),
    ],
)
def test_two_processes_with_one_destination_both_succeed_every_time(
    mirror: Mirror, tmp_path: Path, kind: str, durable: bool
) -> None:
    root, records = tmp_path / "srv", f"sqlite:///{tmp_path}/units.db"
    bodies = [made(3_000 + number, f"round {number}") for number in range(ROUNDS)]
    handles = [mirror.serves(body, stall=1_000) for body in bodies]
    specs = [
        wanted(f"{number % 7}/{number}", [handle], body)
        for number, (handle, body) in enumerate(zip(handles, bodies, strict=True))
    ]
    one = job(root, specs, kind=kind, durable=durable, records=records, size=1, retries=0)
    both = [begun([one]) for _ in range(2)]
    for handle in handles:
        # Both have a part of it, and publish it at the same moment.
        handle.arrived(60, times=2)
        handle.release()
    reports = [report for process in both for report in finished(process)]
    assert [report.states for report in reports] == [["stored"] * ROUNDS] * 2
    assert [handle.hits for handle in handles] == [2] * ROUNDS
    found = {
        str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file() and "sha256/" not in str(path)
    }
    assert {name: path.read_bytes() for name, path in found.items()} == {
        spec["path"]: body for spec, body in zip(specs, bodies, strict=True)
    }
    units = recorded(tmp_path, "units.db")
    assert {path: unit.sha256 for path, unit in units.items()} == {
        spec["path"]: spec["digests"].removeprefix("sha256:") for spec in specs
    }
    assert not (root / ".geofetch").exists()


def test_two_commands_on_one_folder_end_as_one_would_e21(mirror: Mirror, tmp_path: Path) -> None:
    tree, root = mirror.tree(100, (0, 5_000)), tmp_path / "store"
    words = ["sync", tree.sums_url, "--into", root, "-q", "--no-progress"]
    both = [commanded(words) for _ in range(2)]
    for process in both:
        with process:
            assert (process.communicate(timeout=100)[1], process.returncode) == ("", 0)
    names = {path.name for path in root.iterdir() if path.name != ".geofetch"}
    assert {name: (root / name).read_bytes() for name in names} == tree.contents
    assert {path: unit.sha256 for path, unit in recorded(root).items()} == tree.digests
    assert [path.name for path in (root / ".geofetch").iterdir()] == ["units.db"]
    assert max(tree.hits[name] for name in tree.names) <= 2
    before = tree.hits
    assert command(words).returncode == 0
    assert {name: tree.hits[name] - before[name] for name in tree.names} == dict.fromkeys(tree.names, 0)


# --------------------------------------------------------------------------------- E22: two greenlets, one destination


@pytest.mark.parametrize("kind", KINDS, ids=[f"E22-{kind}" for kind in KINDS])
def test_two_greenlets_with_one_destination_both_succeed(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, kind: str
) -> None:
    handle = mirror.serves(BODY, stall=10_000)
    store = stores(kind, tmp_path / "srv")
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder, pooled(store=store, recorder=recorder) as pool:
        jobs = [pool.spawn(wanted("a", [handle])) for _ in range(2)]
        handle.arrived(times=2)
        handle.release()
        outcomes = [job.get(timeout=30) for job in jobs]
        assert [(one.state, one.error, one.location) for one in outcomes] == [("stored", None, tmp_path / "srv/a")] * 2
        assert handle.hits == 2
        assert (tmp_path / "srv/a").read_bytes() == BODY
        (unit,) = recorder.units()
        seen = os.stat(tmp_path / "srv/a")
        assert (unit.size, unit.mtime_ns, unit.inode) == (len(BODY), seen.st_mtime_ns, seen.st_ino)
        (again,) = pool.map([wanted("a", [handle])])
        assert (again.state, handle.hits) == ("adopted", 2)
    store.close()


@pytest.mark.parametrize("kind", ["path", "durable", "digest"], ids=lambda kind: f"E22-{kind}")
def test_two_greenlets_with_other_bytes_for_one_destination_leave_one_of_them_and_its_record(
    mirror: Mirror, tmp_path: Path, spotless: Leftovers, kind: str
) -> None:
    bodies = [made(5_000, "one"), made(5_000, "two")]
    store = stores(kind, tmp_path / "srv")
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder, pooled(store=store, recorder=recorder) as pool:
        for _ in range(10):
            handles = [mirror.serves(body, stall=0) for body in bodies]
            jobs = [pool.spawn({"source": handle.url, "path": "a"}) for handle in handles]
            for handle in handles:
                handle.arrived()
                handle.release()
            assert [job.get(timeout=30).state for job in jobs] == ["stored", "stored"]
            assert (tmp_path / "srv/a").read_bytes() in bodies
            (unit,) = recorder.units()
            # By digest both are kept, and the link may lead to the other one: of the file it names the record is true.
            kept = (tmp_path / "srv" / unit.store_key).read_bytes()
            assert {str(digest) for digest in unit.digests} == {sha256(kept)}
    store.close()


# -------------------------------------------------------------- E23: a third party touches the part, or the file


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _made_longer(path: Path) -> None:
    os.truncate(path, path.stat().st_size + 1_000)


def _edited(path: Path) -> None:
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.write(b"!")
    if path.stat().st_mtime_ns == before:  # the file system's clock has not moved on since our own write
        os.utime(path, ns=(before, before + 1))


def _replaced(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


TOUCHED = [
    pytest.param(Path.unlink, id="E23-removed"),
    pytest.param(_cut, id="E23-truncated"),
    pytest.param(_made_longer, id="E23-made-longer"),
    pytest.param(_edited, id="E23-edited"),
    pytest.param(_replaced, id="E23-replaced-by-its-twin"),
]


#: Of the 1.25 MiB that come before the stall the native lane writes so many, two of its pieces, and no more until the
#: stall is over: where no piece is handed over before it is full.
HANDED_OVER = 2 * lane.BATCH

SIZE = 5 * lane.BATCH
#: Bytes that the hub sees at once when it leaves a body to the thread, and what the part has then while all waits.
LANES = {"on-the-native-lane": (sys.maxsize, HANDED_OVER), "received-by-its-thread": (1, SIZE // 2)}

#: Where a native thread writes, an edit may fall between its write and its look at the time: then nothing tells.
ON_A_LANE = [
    pytest.param(*one.values, SIZE, *LANES[name], id=f"{one.id}-{name}")
    for one in TOUCHED
    for name in LANES
    if one.values != (_edited,)
]


@pytest.mark.parametrize(
    ("touch", "size", "pouring", "least"),
    [*(pytest.param(*one.values, 30_000, sys.maxsize, 14_000, id=one.id) for one in TOUCHED), *ON_A_LANE],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_that_someone_else_touched_is_no_success(
    origins: Origins,
    tmp_path: Path,
    spotless: Leftovers,
    monkeypatch: pytest.MonkeyPatch,
    touch: Callable[[Path], None],
    kind: str,
    size: int,
    pouring: int,
    least: int,
) -> None:
    monkeypatch.setattr(lane, "EARLY", lane.BATCH)
    monkeypatch.setattr(stream, "POURING", pouring)
    body, root = made(size, "touched"), tmp_path / "srv"
    root.mkdir()
    first, second = (origins.http().serves(body, stall=size // 2) for _ in range(2))
    store = stores(kind, root)
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder, pooled(store=store, recorder=recorder) as pool:
        under_way = pool.spawn(wanted("a", [first, second], body))
        first.arrived()
        # A native thread in the middle of a write would write over what they add, and be right.
        touch(_part(root, least))
        first.release()
        outcome = under_way.get(timeout=30)
        error = outcome.error
        assert error is not None
        assert "someone else touched" in str(error)
        stopped(outcome, error.errno)  # type: ignore[arg-type]
        assert (outcome.location, second.hits) == (None, 0)
        assert not (root / "a").exists()
        assert recorder.count() == 0
        # Theirs, where they put a file of their own under its name, is dropped as well: it has a part's name.
        assert list(root.rglob(".part-*")) == []
        (again,) = pool.map([wanted("a", [first], body)])
        assert again.state == "stored"
    store.close()
    assert (root / "a").read_bytes() == body


def _part(root: Path, least: int = 1) -> Path:
    """The only part, with at least so many bytes in it."""
    with gevent.Timeout(10):
        while not (found := [path for path in root.rglob(".part-*") if path.stat().st_size >= least]):
            gevent.sleep(0.002)
    (only,) = found
    return only


@pytest.mark.parametrize("touch", TOUCHED)
@pytest.mark.parametrize("kind", ["path", "durable", "one"])
def test_a_file_that_someone_touches_while_its_successor_comes_is_replaced(
    origins: Origins, tmp_path: Path, spotless: Leftovers, touch: Callable[[Path], None], kind: str
) -> None:
    root = tmp_path / "srv"
    old, new = origins.http().serves(b"old" * 2_000), origins.http().serves(BODY, stall=10_000)
    store = stores(kind, root)
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder, pooled(store=store, recorder=recorder) as pool:
        assert pool.map([{"source": old.url, "path": "a"}])[0].ok
        under_way = pool.spawn(wanted("a", [new]))
        new.arrived()
        touch(root / "a")
        new.release()
        assert under_way.get(timeout=30).state == "stored"
        (unit,) = recorder.units()
        assert (unit.size, str(unit.digests[0])) == (len(BODY), sha256(BODY))
    store.close()
    assert (root / "a").read_bytes() == BODY


@pytest.mark.parametrize("touch", TOUCHED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_someone_touched_once_it_was_published_is_never_adopted_as_it_is(
    origins: Origins, tmp_path: Path, spotless: Leftovers, touch: Callable[[Path], None], kind: str
) -> None:
    # Between the publish and the record: nobody can be kept from it, and the next run does not believe the record.
    root, handle = tmp_path / "srv", origins.http().serves(BODY)
    strikes = [lambda: touch(Path(os.path.realpath(root / "a")))]

    def on_stored(attempt: Any, location: Any) -> None:
        if strikes:
            strikes.pop()()

    store = stores(kind, root)
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        with pooled(store=store, recorder=recorder, hooks={"stored": on_stored}) as pool:
            assert pool.map([wanted("a", [handle])])[0].state == "stored"
            assert strikes == []
            (again,) = pool.map([wanted("a", [handle])])
        # The same bytes in another file are read, and found to be right; of two hard links one is enough.
        same = touch is _replaced or (touch is Path.unlink and kind == "hardlink")
        assert (again.state, handle.hits) == (("adopted", 1) if same else ("stored", 2))
        assert (root / "a").read_bytes() == BODY
        (unit,) = recorder.units()
        assert (unit.state, unit.inode) == ("present", os.stat(root / "a").st_ino)
    store.close()


def test_a_folder_that_vanishes_while_a_body_comes_is_told_e23(
    two: tuple[Handle, Handle], tmp_path: Path, spotless: Leftovers
) -> None:
    root = tmp_path / "srv"
    store = FileStore(root)
    with Pool(1, store=store, progress=False, retries=1) as pool:
        under_way = pool.spawn(wanted("d/a", two))
        two[0].arrived()
        gevent.sleep(0)
        _gone(root)
        two[0].release()
        outcome: Outcome = under_way.get(timeout=30)
        assert "someone else touched" in str(outcome.error)
        assert two[1].hits == 0
        assert not root.exists()
        (again,) = pool.map([wanted("d/a", two)])
        assert (again.state, (root / "d/a").read_bytes()) == ("stored", BODY)
    store.close()


def _gone(root: Path) -> None:
    with gevent.Timeout(10):
        while not list(root.rglob(".part-*")):
            gevent.sleep(0.002)
    os.system(f"rm -rf '{root}'")
