"""Rows E7 and E8 of the fault matrix, end to end: who has the name already, of the file or of its part.

Only a file or a link is ever replaced, in one step; what a link leads to, and what others left, is never written.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geofetch.records import Recorder
from geofetch.store import FileStore
from geofetch.store.running import part_prefix
from tests.support.leftovers import Leftovers
from tests.support.matrix import *  # noqa: F403 - a fixture of these tests
from tests.support.matrix import BODY, KINDS, nobody_was_asked, stopped, stores, wanted
from tests.support.mirrors import Handle
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

NOBODY = 65534

# ------------------------------------------------------------------------ E7: what has the name already is no file


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o020666, os.makedev(1, 3))  # a second /dev/null
    except PermissionError:
        pytest.skip("only root can make a device")


def _folder_with_a_file(path: Path) -> None:
    path.mkdir()
    (path / "theirs").write_bytes(b"mine")


NO_FILES = [
    pytest.param(Path.mkdir, errno.EISDIR, id="E7-folder"),
    pytest.param(_folder_with_a_file, errno.EISDIR, id="E7-folder-that-is-not-empty"),
    pytest.param(os.mkfifo, errno.EEXIST, id="E7-pipe"),
    pytest.param(_socket, errno.EEXIST, id="E7-socket"),
    pytest.param(_device, errno.EEXIST, id="E7-device"),
]


@pytest.mark.parametrize(("make", "number"), NO_FILES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_never_replaced_and_no_byte_is_taken(
    two: tuple[Handle, Handle],
    tmp_path: Path,
    spotless: Leftovers,
    make: Callable[[Path], None],
    number: int,
    kind: str,
) -> None:
    store = stores(kind, tmp_path)  # before: a folder that one file finds at its name is the folder to put it into
    make(tmp_path / "a")
    before = (tmp_path / "a").lstat()
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder, pooled(store=store, recorder=recorder) as pool:
        (outcome,) = pool.map([wanted("a", two)])
        assert recorder.count() == 0
    store.close()
    stopped(outcome, number)
    assert (outcome.location, outcome.fetched) == (None, 0)
    assert (two[0].hits, two[1].mirror.accepted) == (1, 0)
    after = (tmp_path / "a").lstat()
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)


def _to_a_file(path: Path) -> Path:
    path.with_name("victim").write_bytes(b"mine")
    path.symlink_to("victim")
    return path.with_name("victim")


def _to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def _to_a_folder(path: Path) -> None:
    path.with_name("folder").mkdir()
    path.symlink_to("folder")


def _to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def _to_a_device(path: Path) -> None:
    path.symlink_to("/dev/full")


def _hard_link(path: Path) -> None:
    path.with_name("victim").write_bytes(b"mine")
    os.link(path.with_name("victim"), path)


REPLACED = [
    pytest.param(_to_a_file, id="E7-symlink"),
    pytest.param(_to_nothing, id="E7-dangling-symlink"),
    pytest.param(_to_a_folder, id="E7-symlink-to-a-folder"),
    pytest.param(_to_itself, id="E7-symlink-loop"),
    pytest.param(_to_a_device, id="E7-symlink-to-a-device"),
    pytest.param(_hard_link, id="E7-hard-link"),
]


@pytest.mark.parametrize("make", REPLACED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_link_is_replaced_and_what_it_leads_to_is_never_written(
    two: tuple[Handle, Handle], tmp_path: Path, spotless: Leftovers, make: Callable[[Path], Any], kind: str
) -> None:
    store = stores(kind, tmp_path)
    make(tmp_path / "a")
    two[0].release()
    with pooled(store=store) as pool:
        (outcome,) = pool.map([wanted("a", two)])
    store.close()
    assert outcome.state == "stored", outcome.error
    assert outcome.location == tmp_path / "a"
    assert (tmp_path / "a").read_bytes() == BODY
    victim = tmp_path / "victim"
    assert not victim.exists() or victim.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()
    assert not (tmp_path / "folder").exists() or list((tmp_path / "folder").iterdir()) == []


def test_a_folder_on_the_way_that_leads_out_is_refused_and_nothing_is_made_there_e7(
    two: tuple[Handle, Handle], tmp_path: Path, spotless: Leftovers
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv/d").symlink_to(tmp_path / "outside")
    with pooled(store=FileStore(tmp_path / "srv")) as pool:
        outcomes = pool.map([wanted("d/a", two), wanted("d/new/a", two)])
    for outcome in outcomes:
        error = stopped(outcome, errno.ELOOP)
        assert "leads out of the store" in str(error)
    nobody_was_asked(two)
    assert list((tmp_path / "outside").iterdir()) == []


# ----------------------------------------------------------------------------------------E8: planted and foreign parts


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_part_is_never_written_e8(
    two: tuple[Handle, Handle], tmp_path: Path, spotless: Leftovers, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # The name of a part cannot be guessed; here it is, and each guess is taken.
    (tmp_path / "victim").write_bytes(b"mine")
    guessed = iter(["0", "1", "2", "3"])
    monkeypatch.setattr("geofetch.store.filepart.token", lambda: next(guessed))
    folder = tmp_path / ("sha256" if kind in ("digest", "hardlink") else "")
    folder.mkdir(exist_ok=True)
    part = f"{folder}/{part_prefix('a')}"
    Path(f"{part}0").symlink_to(tmp_path / "victim")
    os.link(tmp_path / "victim", f"{part}1")
    os.mkfifo(f"{part}2")
    two[0].release()
    store = stores(kind, tmp_path)
    with pooled(store=store) as pool:
        (outcome,) = pool.map([wanted("a", two)])
    store.close()
    assert outcome.state == "stored", outcome.error
    # One file has no marker of who is at work: it looks at what has its part's name, and drops what is dead.
    assert next(guessed, None) == ("1" if kind == "one" else None)
    assert (tmp_path / "a").read_bytes() == BODY
    assert (tmp_path / "victim").read_bytes() == b"mine"
    for number in range(3):
        Path(f"{part}{number}").unlink(missing_ok=True)


def test_parts_of_other_programs_and_users_stay_and_their_bytes_are_not_taken_e8(
    two: tuple[Handle, Handle], tmp_path: Path, spotless: Leftovers
) -> None:
    theirs = {"a.part", "a.partial", "part-a", ".a.part", "a~"}
    for name in theirs:
        (tmp_path / name).write_bytes(BODY[:100])
    foreign = tmp_path / f"{part_prefix('a')}0123456789abcdef"
    foreign.write_bytes(BODY[:100])
    if os.geteuid() == 0:
        os.chown(foreign, NOBODY, NOBODY)
    # A run that died was at work here: whatever is called a part is looked at.
    (tmp_path / ".geofetch").mkdir()
    (tmp_path / ".geofetch/running-0123456789abcdef").touch()
    two[0].release()
    store = FileStore(tmp_path)
    with pooled(store=store) as pool:
        (outcome,) = pool.map([wanted("a", two)])
    store.close()
    assert (outcome.state, outcome.fetched) == ("stored", len(BODY))
    assert {path.name for path in tmp_path.iterdir() if path.name in theirs} == theirs
    assert not (tmp_path / ".geofetch").exists()
    # Of a dead process of this very user there is nothing to keep; of another user everything is.
    assert foreign.exists() == (os.geteuid() == 0)
    foreign.unlink(missing_ok=True)
