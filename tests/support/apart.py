"""Processes of their own for faults of the machine: a client under another user, limit or mount; a small disk.

In: what the client is to do, and what is wrong with its world.  Out: what became of it; the disk as it was left.
Never: a change to the world of the tests themselves; where the machine allows none, a skip that says so.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .process import ROOT, Child

__all__ = [
    "Disk",
    "Report",
    "begun",
    "client",
    "clients",
    "command",
    "commanded",
    "disk",
    "environment",
    "finished",
    "job",
    "open_to_all",
]


@dataclass(frozen=True)
class Report:
    """What a client said at its end."""

    outcomes: list[dict[str, Any]]
    units: dict[str, dict[str, Any]]

    @property
    def states(self) -> list[str]:
        return [outcome["state"] for outcome in self.outcomes]

    @property
    def outcome(self) -> dict[str, Any]:
        """That of the only spec."""
        (only,) = self.outcomes
        return only


def environment() -> dict[str, str]:
    """This process' environment, which conftest has cleaned, and this checkout to be imported from."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def job(root: Path, specs: Sequence[dict[str, Any]], **how: Any) -> dict[str, Any]:
    """What a client does once: a pool over a store in ``root``; ``how`` are the other fields of a job."""
    usual = {"kind": "path", "links": True, "durable": False, "records": None, "size": 4, "retries": 1}
    assert how.keys() <= usual.keys()
    return {"root": str(root), "specs": list(specs), **usual, **how}


def begun(jobs: Sequence[dict[str, Any]], before: Sequence[str] = (), **limits: Any) -> subprocess.Popen[str]:
    """A client under way; ``limits``: the ``user`` it becomes, the ``file_limit``, and a URL to be ``warm``ed by."""
    process = Child(
        [*before, sys.executable, "-m", "tests.support.client"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"warm": None, "user": None, "file_limit": None, "jobs": list(jobs), **limits}))
    process.stdin.close()
    process.stdin = None  # communicate() would flush it once more
    return process


def finished(process: subprocess.Popen[str]) -> list[Report]:
    """What a client says of its jobs; it must have ended in peace, without a word besides."""
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, ""), out + err
    return [Report(**each) for each in json.loads(out)]


def clients(jobs: Sequence[dict[str, Any]], before: Sequence[str] = (), **limits: Any) -> list[Report]:
    """A client from its beginning to its end."""
    return finished(begun(jobs, before, **limits))


def client(root: Path, specs: Sequence[dict[str, Any]], before: Sequence[str] = (), **how: Any) -> Report:
    """A client with one job."""
    (report,) = clients([job(root, specs, **how)], before)
    return report


def commanded(words: Sequence[object], before: Sequence[str] = (), **how: Any) -> subprocess.Popen[str]:
    """The real command under way."""
    return Child(
        [*before, sys.executable, "-m", "geofetch", *map(str, words)],
        env=environment(),
        text=True,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how},
    )


def command(words: Sequence[object], before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """The real command, from its beginning to its end."""
    with commanded(words, before) as process:
        out, err = process.communicate(timeout=100)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def open_to_all(path: Path) -> Path:
    """The folder itself, once every user may reach it: pytest's own folders above it are the tester's alone."""
    for folder in (path, *path.parents):
        mode = folder.stat().st_mode
        if folder.stat().st_uid == os.geteuid() and mode & 0o055 != 0o055:
            folder.chmod(mode | 0o055)
    return path


class Disk:
    """A small file system of its own: at ``path`` for whoever is started with ``before``, at ``seen`` for the test."""

    def __init__(self, path: Path, options: str, unshared: Sequence[str], enter: Sequence[str]) -> None:
        self.path = path
        path.mkdir()
        mount = f'mount -t tmpfs -o {options} none "{path}" && echo mounted && exec cat >/dev/null'
        self._keeper = subprocess.Popen(
            [*unshared, "sh", "-c", mount], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "mounted\n"
        self.before = [*enter, "-t", str(self._keeper.pid), "-m"]
        self.seen = Path(f"/proc/{self._keeper.pid}/root{path}")

    def mount(self, path: Path, options: str = "") -> None:
        """One more such file system, below this one."""
        self.does("mount", "-t", "tmpfs", *(["-o", options] if options else []), "none", str(path))

    def remount(self, options: str) -> None:
        """Other options for it."""
        self.does("mount", "-o", f"remount,{options}", str(self.path))

    def does(self, *words: str) -> str:
        """What this program says, run where the disk is."""
        return subprocess.run([*self.before, *words], check=True, stdout=subprocess.PIPE, text=True).stdout

    def end(self) -> None:
        self._keeper.communicate()


#: As root, and as anybody who may have a user namespace.
_WAYS = ((["unshare", "-m"], ["nsenter"]), (["unshare", "-r", "-m"], ["nsenter", "-U", "--preserve-credentials"]))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """Makes small file systems: ``disk("size=256k")``; skips where the machine lets nobody mount one."""
    made: list[Disk] = []

    def make(options: str) -> Disk:
        for unshared, enter in _WAYS:
            if shutil.which("unshare") and shutil.which("nsenter") and _may(unshared):
                made.append(Disk(tmp_path / f"disk{len(made)}", options, unshared, enter))
                return made[-1]
        pytest.skip("a file system of its own needs root, or a user namespace, and util-linux")

    yield make
    for one in made:
        one.end()


def _may(unshared: Sequence[str]) -> bool:
    tried = [*unshared, "mount", "-t", "tmpfs", "none", "/tmp"]
    return subprocess.run(tried, capture_output=True).returncode == 0
