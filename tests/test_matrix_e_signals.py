"""Rows E11 and E12 of the fault matrix, end to end: signals, once and twice; E13, SIGKILL, is tests/test_kill.py.

Whatever ends a run: files under final names are whole, what is done is recorded, the next run fetches the rest alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.apart import command, commanded, environment
from tests.support.mirrors import Handle, Mirror, Tree
from tests.support.process import ROOT
from tests.support.recorded import recorded

GATED = b"x" * 50_000
#: What the command promises for an end in good order, and some for a busy machine to notice.
IN_GOOD_ORDER_S = 2.5


@dataclass
class Sync:
    """A manifest of ten files that come, and of one that waits at its gate in the middle of its body."""

    tree: Tree
    gated: Handle
    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "store"

    @property
    def words(self) -> list[str | Path]:
        return ["sync", self.folder / "list", "--into", self.root, "--json", "--no-progress"]

    def begun(self) -> subprocess.Popen[str]:
        """The command, under way up to its middle: ten files done, the last one half there."""
        process = commanded(self.words)
        assert process.stdout is not None
        # A record is committed before its file is told of: a signal in between would call a stored file cancelled.
        told = [json.loads(process.stdout.readline()) for _ in self.tree.names]
        assert {one["path"]: one["state"] for one in told} == dict.fromkeys(self.tree.names, "stored")
        self.gated.arrived(30)
        return process

    def is_consistent(self, *, parts: bool) -> None:
        """What a run that was ended leaves; ``parts``: a part of the eleventh file may be left."""
        names = {path.name for path in self.root.iterdir() if path.is_file()}
        left = {name for name in names if name.startswith(".part-")}
        assert parts or not left
        assert {name: (self.root / name).read_bytes() for name in names - left} == self.tree.contents
        assert set(recorded(self.root)) == set(self.tree.names)

    def goes_on(self) -> None:
        """The next run: it removes what is left over, and asks for the eleventh file alone."""
        before = self.tree.hits
        self.gated.release()
        done = command(self.words)
        assert done.returncode == 0, done.stderr
        *_, summary = map(json.loads, done.stdout.splitlines())
        assert summary["files"] == {"stored": 1, "adopted": 10, "failed": 0, "cancelled": 0}
        assert (self.tree.hits, self.gated.hits) == (before, 2)
        assert {path.name for path in self.root.iterdir()} == {*self.tree.names, "gated", ".geofetch"}
        assert {path.name for path in (self.root / ".geofetch").iterdir()} == {"units.db"}
        assert recorded(self.root)["gated"].size == len(GATED)


@pytest.fixture
def sync(mirror: Mirror, tmp_path: Path) -> Sync:
    tree, gated = mirror.tree(10, 5_000), mirror.serves(GATED, stall=20_000, name="gated")
    digests = {**tree.digests, "gated": hashlib.sha256(GATED).hexdigest()}
    specs = [
        {"source": url, "digests": f"sha256:{digests[name]}"}
        for name, url in [*zip(tree.names, tree.urls, strict=True), ("gated", gated.url)]
    ]
    (tmp_path / "list").write_text("".join(json.dumps(spec) + "\n" for spec in specs))
    return Sync(tree, gated, tmp_path)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="E11-SIGINT-once"),
        pytest.param(signal.SIGTERM, 143, id="E12-SIGTERM"),
        pytest.param(signal.SIGHUP, 143, id="E12-SIGHUP"),
    ],
)
def test_a_signal_ends_a_run_in_good_order(sync: Sync, number: int, code: int) -> None:
    with sync.begun() as process:
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < IN_GOOD_ORDER_S
    assert process.returncode == code
    assert "Traceback" not in err
    *files, summary = map(json.loads, out.splitlines())
    assert summary["files"] == {"stored": 10, "adopted": 0, "failed": 0, "cancelled": 1}
    assert (summary["signal"], summary["exit_code"]) == (number, code)
    (cancelled,) = files
    assert (cancelled["path"], cancelled["state"], cancelled["location"]) == ("gated", "cancelled", None)
    assert cancelled["error"]["type"] == "Cancelled"
    assert not (sync.root / "gated").exists()
    assert sync.gated.hits == 1
    sync.is_consistent(parts=False)
    sync.goes_on()


@pytest.fixture
def hanging(sync: Sync) -> Iterator[tuple[subprocess.Popen[str], Sync]]:
    """The command on a disk that hangs as soon as the eleventh file is to be synced; ten are there already."""
    listed = (sync.folder / "list").read_text()
    (sync.folder / "list").write_text("".join(listed.splitlines(keepends=True)[:10]))
    assert command([*sync.words, "--durable"]).returncode == 0
    (sync.folder / "list").write_text(listed)
    sync.gated.release()
    waiting, release = os.pipe()
    telling, told = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.slow_disk", str(waiting), str(told), *map(str, sync.words), "--durable"],
        cwd=ROOT,
        env=environment(),
        pass_fds=[waiting, told],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(told)
    assert os.read(telling, 1) == b"!"
    with process:
        yield process, sync
        process.kill()
    for fd in (waiting, release, telling):
        os.close(fd)


def test_a_second_signal_ends_it_at_once_e11(hanging: tuple[subprocess.Popen[str], Sync]) -> None:
    process, sync = hanging
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < 1.2:
        # The first one may still be on its way when the second one comes, and both be one.
        process.send_signal(signal.SIGINT)
        os.sched_yield()
    assert process.wait(30) == 130
    assert time.monotonic() - began < 1.5
    sync.is_consistent(parts=True)
    sync.gated.mirror.left()
    _goes_on_after_hanging(sync)


def test_a_disk_that_hangs_does_not_keep_one_signal_from_ending_it_e11(
    hanging: tuple[subprocess.Popen[str], Sync],
) -> None:
    process, sync = hanging
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert time.monotonic() - began < IN_GOOD_ORDER_S
    sync.is_consistent(parts=True)
    _goes_on_after_hanging(sync)


def _goes_on_after_hanging(sync: Sync) -> None:
    # It had been received whole, and was not published: once more.
    assert [path.name[:6] for path in sync.root.glob(".part-*")] == [".part-"]
    sync.goes_on()


_LIBRARY = """
import json, sys
from contextlib import closing
from geofetch import FileStore, Pool, Recorder
from tests.support.client import told
root, *urls = sys.argv[1:]
ended = []
try:
    with closing(FileStore(root)) as store, Recorder(f"sqlite:///{root}/units.db") as recorder:
        with Pool(4, store=store, recorder=recorder, progress=False, hooks={"finished": ended.append}) as pool:
            for outcome in pool.imap_unordered(urls):
                print(outcome.spec.path, flush=True)
except KeyboardInterrupt:
    print(json.dumps([told(outcome) for outcome in ended]))
"""


def test_ctrl_c_in_a_program_that_uses_the_library_cancels_what_is_under_way_e11(
    mirror: Mirror, tmp_path: Path
) -> None:
    done, gated = mirror.serves(b"done", name="done"), mirror.serves(GATED, stall=20_000, name="gated")
    words = [sys.executable, "-c", _LIBRARY, str(tmp_path / "store"), done.url, gated.url]
    with subprocess.Popen(words, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        gated.arrived(30)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    states: list[dict[str, Any]] = json.loads(out)
    assert {one["path"]: (one["state"], one["error"]) for one in states} == {
        "done": ("stored", None),
        "gated": ("cancelled", "Cancelled"),
    }
    assert {path.name for path in (tmp_path / "store").iterdir()} == {"done", "units.db"}
    assert set(recorded(tmp_path / "store", "units.db")) == {"done"}
