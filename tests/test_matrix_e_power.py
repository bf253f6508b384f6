"""Rows E15 to E17 of the fault matrix: the power is cut at every point at which a durable sync changes the disk.

What it had said is done, is done; under final names are whole files alone, old or new, and the records speak of no
others; the run after it completes.  The last test leaves the syncs out, and sees all this fail: what forgets nothing
proves nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.origin.content import made
from tests.support.matrix import wanted
from tests.support.mirrors import Mirror
from tests.support.power import *  # noqa: F403 - a fixture of these tests
from tests.support.power import PowerDisk
from tests.support.recorded import recorded
from tests.test_kill import Killer, left_by_the_dead

OLD = {f"{folder}{number}": made(3_000 + number, f"old {number}") for number, folder in enumerate(("", "d/", "d/e/"))}
ROTTEN = {path: bytes([body[0] ^ 1]) + body[1:] for path, body in OLD.items()}
#: What is still listed when the others are taken off.
KEPT = {"d/1": OLD["d/1"]}
NEW = {path: made(4_000, f"new {path}") for path in OLD}
#: What changes what a disk holds, or keeps.
CHANGES = ("mkdir", "fsync", "rename", "unlink", "symlink", "link", "commit")
#: Those between which a file that is there becomes another one.
STEPS = ("rename", "commit")
LAYOUTS = [pytest.param("path", id="by-path"), pytest.param("digest", id="by-digest")]


class Outages:
    """Syncs in a process that dies with the power of its disk."""

    def __init__(self, disk: PowerDisk, mirror: Mirror, layout: str) -> None:
        self._disk, self._mirror = disk, mirror
        self.root, self.seen = disk.path / "srv", disk.seen / "srv"
        self._killer = Killer({"layout": layout, "links": True, "durable": True, "specs": []}, disk.before)
        self._specs = {id(bodies): self._specs_of(bodies) for bodies in (OLD, NEW, KEPT)}

    def _specs_of(self, bodies: dict[str, bytes]) -> list[dict[str, Any]]:
        return [
            {**wanted(path, [self._mirror.serves(body)], body), "repository": "main"} for path, body in bodies.items()
        ]

    def sync(self, bodies: dict[str, bytes], **more: Any) -> dict[str, Any]:
        return self._killer.sync(self.root, specs=self._specs[id(bodies)], **more)

    def cut(self, bodies: dict[str, bytes], point: tuple[str, int], **more: Any) -> set[str] | None:
        """A run whose power is cut before that; the paths that it said are done, None where it did not come there."""
        self._killer.begin(self.root, point, specs=self._specs[id(bodies)], cut=True, **more)
        ended = self._killer.ended()
        if not ended["killed"]:
            return None
        self._disk.again()
        done = ("stored", "adopted", "repaired", "present")
        return {one["path"] for one in ended["outcomes"] if one["state"] in done}

    def completes(self, bodies: dict[str, bytes]) -> None:
        """The next run finds or fetches all, and leaves nothing of the one that died."""
        states = {one["path"]: one["state"] for one in self.sync(bodies)["outcomes"]}
        assert states.keys() == bodies.keys()
        assert set(states.values()) <= {"stored", "adopted"}
        assert harmed(self.seen, bodies, {}, set(bodies)) == []
        assert left_by_the_dead(self.seen) == []

    def rots(self) -> None:
        """Files that are stored and recorded, and durably wrong since."""
        self.sync(OLD)
        for path, body in ROTTEN.items():
            with (self.seen / path).open("r+b") as file:
                file.write(body)
                os.fsync(file.fileno())

    def found(self, bodies: dict[str, bytes]) -> dict[str, bytes | None]:
        return {path: _read(self.seen / path) for path in bodies}

    def clear(self) -> None:
        shutil.rmtree(self.seen, ignore_errors=True)

    def end(self) -> None:
        self._killer.end()


@pytest.fixture
def outages(power: PowerDisk, mirror: Mirror, layout: str) -> Iterator[Outages]:
    found = Outages(power, mirror, layout)
    yield found
    found.end()


def points(done: dict[str, int], names: Sequence[str] = CHANGES) -> list[tuple[str, int]]:
    return [(name, number) for name in names for number in range(1, done.get(name, 0) + 1)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_power_that_is_cut_at_any_point_takes_nothing_that_was_said_e15(outages: Outages) -> None:
    struck = set()
    for point in points(outages.sync(OLD)["done"]):
        outages.clear()
        said = outages.cut(OLD, point)
        if said is None:  # two records that come at once share a transaction: there were fewer of these
            continue
        struck.add(point[0])
        assert harmed(outages.seen, OLD, {}, said) == [], point
        outages.completes(OLD)
    assert {"mkdir", "fsync", "rename", "commit"} <= struck


@pytest.mark.parametrize("layout", LAYOUTS)
def test_without_its_syncs_files_are_lost_that_were_said_to_be_stored_e15(outages: Outages) -> None:
    lost = []
    for point in points(outages.sync(OLD)["done"], ["commit"]):
        outages.clear()
        lost += harmed(outages.seen, OLD, {}, outages.cut(OLD, point, unsynced=True) or set())
    assert lost


@pytest.mark.parametrize("layout", LAYOUTS)
def test_power_that_is_cut_while_files_are_replaced_leaves_the_old_or_the_new_e16(outages: Outages) -> None:
    outages.sync(OLD)
    for point in points(outages.sync(NEW)["done"], STEPS):
        outages.clear()
        outages.sync(OLD)
        said = outages.cut(NEW, point)
        if said is not None:
            assert harmed(outages.seen, NEW, OLD, said) == [], point
            outages.completes(NEW)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_power_that_is_cut_in_a_repair_leaves_the_wrong_file_or_the_right_one_e16(outages: Outages) -> None:
    outages.rots()
    for point in points(outages.sync(OLD, repair=True)["done"], STEPS):
        outages.clear()
        outages.rots()
        said = outages.cut(OLD, point, repair=True)
        if said is not None:
            assert set(outages.found(OLD).values()) <= {*OLD.values(), *ROTTEN.values()}, point
            assert {path: body for path, body in outages.found(OLD).items() if path in said}.items() <= OLD.items()
            outages.sync(OLD, repair=True)
            outages.completes(OLD)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_power_that_is_cut_in_a_removal_leaves_a_file_too_many_and_never_a_record_e17(outages: Outages) -> None:
    outages.sync(OLD)
    whole = outages.sync(KEPT, collect=True)
    assert not set(outages.found(OLD).values()) & {body for path, body in OLD.items() if path not in KEPT}
    struck = set()
    for point in points(whole["done"], ("unlink", "commit")):
        outages.clear()
        outages.sync(OLD)
        said = outages.cut(KEPT, point, collect=True)
        if said is None:
            continue
        struck.add(point[0])
        assert harmed(outages.seen, OLD, {}, set(KEPT)) == [], point
        (again,) = outages.sync(KEPT, collect=True)["collected"]
        assert again["failed"] == 0
        assert {path for path, body in outages.found(OLD).items() if body is not None} == set(KEPT), point
        assert set(recorded(outages.seen)) == set(KEPT), point
    assert struck == {"unlink", "commit"}


def harmed(root: Path, bodies: dict[str, bytes], before: dict[str, bytes], said: set[str]) -> list[str]:
    """What is not as it must be: of files under final names, of records, of what was said to be done.

    ``before``: what was there before, durably; a file may be that still, and so may the record of a file that is new.
    """
    wrong = []
    found = {path: _read(root / path) for path in bodies}
    units = recorded(root) if root.exists() else {}
    for path, body in bodies.items():
        old, unit = before.get(path), units.get(path)
        if found[path] not in (body, old):
            wrong.append(f"{path} is neither old nor new: {found[path]!r:.30}")
        if path in said and (found[path] != body or unit is None or unit.size != len(body)):
            wrong.append(f"{path} was said to be stored, and is not, or has no record")
        if unit is not None and not (
            unit.sha256 == _sum(found[path]) or (old is not None and unit.sha256 == _sum(old))
        ):
            wrong.append(f"the record of {path} says more than there is")
    return wrong


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _sum(body: bytes | None) -> str:
    return hashlib.sha256(body or b"").hexdigest()
