"""A disk whose power can be cut: ext4 in a file, mounted where only some processes see it.

In: a folder.  Out: a Disk of its own, as in apart.py, which forgets what was not written when its power is cut.
Never: power that is cut by halves: the journal is not written either (tests/support/killing.py has the call).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .killing import cut

__all__ = ["PowerDisk", "power"]

MIB = 1 << 20


class PowerDisk:
    """At ``path`` for whoever is started with ``before``, at ``seen`` for the test."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self.path.mkdir()
        self._image = folder / "image"
        with self._image.open("wb") as file:
            file.truncate(48 * MIB)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(self._image)], check=True, capture_output=True, text=True)
        self._keeper = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", "echo there && exec cat >/dev/null"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == "there\n"
        self.before = ["nsenter", "-t", str(self._keeper.pid), "-m"]
        self.seen = Path(f"/proc/{self._keeper.pid}/root{self.path}")
        self._mount()

    def cut(self) -> None:
        """Cut its power now."""
        cut(str(self.seen))

    def again(self) -> None:
        """Give it power again: as after a crash its journal says what there is."""
        self._does("umount", str(self.path))
        self._mount()

    def end(self) -> None:
        self._keeper.communicate()  # its mounts go with it, and the loop device with them

    def _mount(self) -> None:
        self._does("mount", "-t", "ext4", "-o", "loop", str(self._image), str(self.path))

    def _does(self, *words: str) -> None:
        done = subprocess.run([*self.before, *words], capture_output=True, text=True)
        if done.returncode:
            raise OSError(done.stderr.strip())


@pytest.fixture
def power(tmp_path: Path) -> Iterator[PowerDisk]:
    """A disk whose power can be cut; skips where the machine allows none, and says what it said."""
    for program in ("unshare", "nsenter", "mkfs.ext4"):
        if shutil.which(program) is None:
            pytest.skip(f"a disk whose power can be cut needs {program}")
    try:
        disk = PowerDisk(tmp_path)
    except (OSError, AssertionError) as exc:
        pytest.skip(f"a disk whose power can be cut needs root, and loop devices: {exc}")
    try:
        _cuts_power(disk)
        yield disk
    finally:
        disk.end()


def _cuts_power(disk: PowerDisk) -> None:
    """What was written and not synced is gone, what was synced is not; else there is nothing to test with."""
    kept, lost = disk.seen / "kept", disk.seen / "lost"
    with kept.open("wb") as file:
        file.write(b"kept")
        os.fsync(file.fileno())
    lost.write_bytes(b"lost")
    try:
        disk.cut()
    except OSError as exc:
        pytest.skip(f"this kernel's ext4 cuts no power: {exc}")
    disk.again()
    if not (kept.exists() and not lost.exists()):
        pytest.skip("this machine keeps what was not synced: nothing is lost by a cut of power")
    kept.unlink()
