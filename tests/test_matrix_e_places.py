"""Rows E6, E9 and E10 of the fault matrix, end to end: places that take no file, or not this one.

What can be known before is said before: no source is asked, or none gets to send a byte of its body.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from geofetch.pool import fetch
from geofetch.store import FileStore
from tests.support.apart import *  # noqa: F403 - a fixture of these tests
from tests.support.apart import Disk, client, clients, command, job, open_to_all
from tests.support.leftovers import Leftovers
from tests.support.matrix import *  # noqa: F403 - a fixture of these tests
from tests.support.matrix import BODY, KINDS, nobody_was_asked, refused_by_the_store, stopped, stores, wanted
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

NOBODY = 65534

# ------------------------------------------------------------------------- E6: no right, immutable, read-only


def _jobs(root: Path, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Into the root, into one that is to be made in it, in both layouts, as one file."""
    return [
        job(root, [spec]),
        job(root, [spec], durable=True, kind="digest"),
        job(root / "not/there", [spec]),
        job(root / "a", [spec], kind="one"),
        job(root / "folder/", [spec], kind="one"),
    ]


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """A folder that every user may reach."""
    return open_to_all(tmp_path)


def test_without_the_right_to_write_no_source_is_asked_e6(
    mirror: Mirror, two: tuple[Handle, Handle], reachable: Path
) -> None:
    root = reachable / "srv"
    root.mkdir(mode=0o555)
    # What Python imports late must be there before: nobody may not read all that root may.
    limits: dict[str, Any] = {"user": NOBODY, "warm": mirror.serves(b"warm").url} if os.geteuid() == 0 else {}
    for report in clients(_jobs(root, wanted("a", two)), **limits):
        told = refused_by_the_store(report.outcome, errno.EACCES)
        assert "right to write" in told["message"]
        assert str(root) in told["message"]
        assert (told["sources"], told["fetched"]) == ([], 0)
    nobody_was_asked(two)
    assert list(root.iterdir()) == []


def test_in_a_folder_without_the_right_to_write_no_byte_is_taken_e6(
    mirror: Mirror, origins: Origins, two: tuple[Handle, Handle], reachable: Path
) -> None:
    root, other = reachable / "srv", origins.http().serves(BODY)
    root.mkdir(mode=0o777)
    root.chmod(0o777)
    (root / "closed").mkdir(mode=0o555)
    limits: dict[str, Any] = {"user": NOBODY, "warm": mirror.serves(b"warm").url} if os.geteuid() == 0 else {}
    specs = [wanted("closed/a", two), wanted("closed/deeper/a", two), wanted("open/a", [other])]
    (report,) = clients([job(root, specs)], **limits)
    assert report.states == ["failed", "failed", "stored"]
    for told in report.outcomes[:2]:
        assert refused_by_the_store(told, errno.EACCES)["fetched"] == 0
    assert two[1].mirror.accepted == 0
    assert [path for path in root.rglob("*") if path.is_file()] == [root / "open/a"]


@pytest.fixture
def immutable() -> Iterator[Callable[[Path], None]]:
    """Makes a file or folder immutable until the test is over."""
    made_so: list[Path] = []

    def make(path: Path) -> None:
        if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", path], capture_output=True).returncode:
            pytest.skip("immutable files need root, chattr and a file system that knows them")
        made_so.append(path)

    yield make
    for path in made_so:
        subprocess.run(["chattr", "-i", path], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_an_immutable_folder_is_refused_and_no_source_is_asked_e6(
    two: tuple[Handle, Handle], tmp_path: Path, spotless: Leftovers, immutable: Callable[[Path], None], kind: str
) -> None:
    root = tmp_path / "srv"
    root.mkdir()
    immutable(root)
    store = stores(kind, root)
    with pooled(store=store) as pool:
        outcomes = pool.map([wanted("a", two), wanted("d/b", two)])
    store.close()
    for outcome in outcomes:
        error = stopped(outcome, errno.EPERM)
        assert "lsattr" in str(error)
        assert outcome.attempts == ()
    nobody_was_asked(two)
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_immutable_file_is_not_replaced_e6(
    two: tuple[Handle, Handle], tmp_path: Path, spotless: Leftovers, immutable: Callable[[Path], None], kind: str
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    immutable(tmp_path / "a")
    two[0].release()
    store = stores(kind, tmp_path)
    with pooled(store=store) as pool:
        (outcome,) = pool.map([wanted("a", two)])
    store.close()
    stopped(outcome, errno.EPERM)
    assert two[1].hits == 0
    assert (tmp_path / "a").read_bytes() == b"old"


def test_on_a_read_only_file_system_no_source_is_asked_e6(
    two: tuple[Handle, Handle], disk: Callable[[str], Disk]
) -> None:
    small = disk("ro")
    for report in clients(_jobs(small.path, wanted("a", two)), small.before):
        told = refused_by_the_store(report.outcome, errno.EROFS)
        assert "read-only" in told["message"]
        assert told["sources"] == []
    nobody_was_asked(two)


def test_a_file_system_that_turns_read_only_stops_what_comes_then_e6(
    origins: Origins, two: tuple[Handle, Handle], disk: Callable[[str], Disk], tmp_path: Path
) -> None:
    small, before = disk("size=8m"), origins.http().serves(BODY)
    records = f"sqlite:///{tmp_path}/units.db"
    assert client(small.path, [wanted("before", [before])], small.before, records=records).states == ["stored"]
    small.remount("ro")
    report = client(small.path, [wanted("before", [before]), wanted("a", two)], small.before, records=records)
    # A root that takes no files is said to be one for every spec: also for those that are there already.
    for told in report.outcomes:
        refused_by_the_store(told, errno.EROFS)
    nobody_was_asked(two)
    assert (set(report.units), before.hits) == ({"before"}, 1)


def test_the_command_says_it_by_its_code_and_asks_nobody_e6(mirror: Mirror, disk: Callable[[str], Disk]) -> None:
    small, tree = disk("ro"), mirror.tree(3)
    done = command(["get", tree.urls[0], "-d", small.path, "--json"], small.before)
    assert done.returncode == 12, done.stderr
    assert "read-only" in done.stderr
    assert tree.hits == {}


# ---------------------------------------------------------------------------------------- E9: more than one file system


def test_a_folder_that_is_another_file_system_takes_files_as_any_e9(
    origins: Origins, disk: Callable[[str], Disk], tmp_path: Path
) -> None:
    small = disk("size=4m")
    small.does("mkdir", f"{small.path}/other", f"{small.path}/links")
    small.mount(small.path / "other")
    handles = [origins.http().serves(BODY) for _ in range(2)]
    specs = [wanted(path, [handle]) for path, handle in zip(("a", "other/b"), handles, strict=True)]
    records = f"sqlite:///{tmp_path}/units.db"
    for durable in (False, True):
        report = client(small.path / str(durable), specs, small.before, durable=durable)
        assert report.states == ["stored", "stored"]
    report = client(small.path, specs, small.before, records=records)
    assert report.states == ["stored", "stored"]
    found = small.does("find", str(small.path / "other"), str(small.path / "a"), "-type", "f")
    assert set(found.split()) == {f"{small.path}/a", f"{small.path}/other/b"}
    assert set(report.units) == {"a", "other/b"}


def test_a_hard_link_to_another_file_system_is_refused_and_a_symbolic_one_made_e9(
    origins: Origins, disk: Callable[[str], Disk]
) -> None:
    small, (one, two) = disk("size=4m"), [origins.http().serves(BODY) for _ in range(2)]
    small.does("mkdir", f"{small.path}/other")
    small.mount(small.path / "other")
    jobs = [
        job(small.path, [wanted("other/a", (one, two))], kind="digest", links="hardlink"),
        job(small.path, [wanted("other/a", (one, two))], kind="digest", links="symlink"),
    ]
    hard, soft = clients(jobs, small.before)
    told = refused_by_the_store(hard.outcome, errno.EXDEV)
    assert "must lie on one" in told["message"]
    # The bytes are there, proven, under their digest: the link was all that failed.
    assert soft.states == ["adopted"]
    assert (one.hits, two.hits) == (1, 0)
    assert small.does("find", str(small.path / "other"), "-name", ".part-*") == ""


def test_where_temporary_files_go_does_not_matter_to_a_target_e9(
    origins: Origins, disk: Callable[[str], Disk], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, handle = disk("size=16k,ro"), origins.http().serves(BODY)
    monkeypatch.setenv("TMPDIR", str(small.path))
    report = client(tmp_path / "srv", [wanted("a", [handle])], small.before)
    assert report.states == ["stored"]
    assert (tmp_path / "srv/a").read_bytes() == BODY


# ------------------------------------------------------------------------------E10: names that this file system refuses


def test_a_path_that_is_too_long_here_is_refused_before_any_byte_e10(
    two: tuple[Handle, Handle], tmp_path: Path, spotless: Leftovers
) -> None:
    # Names of every kind go through tests/test_matrix_g.py; this one is good anywhere else.
    above = "/".join(["d" * 200] * 25)[: 4050 - len(os.fsencode(tmp_path))].rstrip("/")
    store = FileStore(tmp_path / above)
    with pooled(store=store) as pool:
        outcomes = pool.map([wanted("n" * 60, two), wanted("n" * 200, two), wanted("d/" * 40 + "n", two)])
    store.close()
    for outcome in outcomes:
        error = stopped(outcome, errno.ENAMETOOLONG)
        assert "shorter path" in str(error)
        assert outcome.fetched == 0
    assert two[1].mirror.accepted == 0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_one_file_with_a_name_that_is_too_long_is_refused_before_any_io_e10(
    two: tuple[Handle, Handle], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="longer than 255 bytes"):
        fetch(two[0].url, to=tmp_path / ("n" * 256))
    nobody_was_asked(two)
