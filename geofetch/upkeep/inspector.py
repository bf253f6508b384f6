"""Looks at stored files, and what the records are told of them.

In: a Unit.  Out: a Finding, committed.  Never: a file touched.

The records learn what a look found only if they still say what they said when it began: a file that was replaced
meanwhile, by a sync or by another repair, is looked at once more.  A present file is noted with the size, time and
inode that it has now, so that the next sync adopts it unread.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from ..errors import SpecError, StoreError
from ..events import Kept
from ..records import Recorder, Unit
from ..records.lane import Pending
from ..records.units import UnitState
from ..store import Store
from .look import Look, Readers, Seen
from .pace import Pace
from .results import Finding

__all__ = ["RESULT_MOST", "Inspector", "Stores", "cores", "counted", "pace_of", "recorder_of", "stores_of"]

#: How often a file is looked at that is replaced each time.
TRIES = 3
#: Characters of a result that the records keep.
RESULT_MOST = 1000

Stores = Mapping[str, Store]


def stores_of(given: Store | Stores) -> Stores:
    """Stores by the name that records know them by."""
    stores: Stores = given if isinstance(given, Mapping) else {getattr(given, "name", ""): given}
    for name, store in stores.items():
        if isinstance(store, str | os.PathLike):
            raise SpecError(f"a store is a Store here, not a folder's path: FileStore({os.fspath(store)!r})")
        if not isinstance(name, str) or not isinstance(store, Store):
            raise SpecError(f"files are held in a Store, or in Stores by their names, not in {store!r}")
    return stores


def recorder_of(given: Recorder) -> Recorder:
    """The Recorder itself; a SpecError for its URL or path, which only a Pool takes."""
    if isinstance(given, str | os.PathLike):
        # It is not repeated: a URL may hold a password.
        raise SpecError(f"a recorder is a Recorder here, not {type(given).__name__}: Recorder('sqlite:///…')")
    return given


def counted(jobs: int, name: str = "jobs") -> int:
    """The number itself, if so many can work."""
    if not isinstance(jobs, int) or isinstance(jobs, bool) or jobs < 1:
        raise SpecError(f"{name} is a whole number from 1, not {jobs!r}")
    return jobs


def cores() -> int:
    """How many processors this process may use: so many files are read at once where nobody says otherwise."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pace_of(rate_bps: float | None) -> Pace | None:
    """No faster than this; None: as fast as it goes."""
    if rate_bps is None:
        return None
    if isinstance(rate_bps, bool) or not isinstance(rate_bps, int | float) or not 0 < rate_bps < math.inf:
        raise SpecError(f"rate_bps is a number of bytes a second above 0, not {rate_bps!r}")
    return Pace(rate_bps)


class Inspector:
    """Looks at the files of ``stores`` that ``recorder`` knows, up to ``jobs`` at once (None: as many as there are
    processors), no faster than ``pace``.  A context manager."""

    def __init__(self, recorder: Recorder, stores: Stores, jobs: int | None = None, pace: Pace | None = None) -> None:
        self.recorder = recorder_of(recorder)
        self.stores = stores
        self.readers = Readers(cores() if jobs is None else counted(jobs), pace)

    def examine(self, unit: Unit) -> Finding | None:
        """The unit's file held against its record, and the record told; None if the record is gone.

        Raises RecordError where the records cannot be written.
        """
        was = unit.state
        for _ in range(TRIES):
            (seen,) = self.readers.look(self.stores[unit.store], [unit])
            told = self._told(unit, seen)
            if told is not None and (finding := told.settled(was)) is not None:
                return finding
            fresh = self.fresh(unit)
            if fresh is None or fresh.store not in self.stores:
                return None
            unit = fresh
        busy = StoreError("it is replaced again and again while it is looked at")
        return Finding(unit, "unknown", was, str(busy), error=busy)

    def examine_all(self, units: Sequence[Unit]) -> list[Finding]:
        """The same for several units of one store: one trip to a thread, one commit."""
        told = [self._told(unit, seen) for unit, seen in zip(units, self._looks(units), strict=True)]
        found = []
        for unit, one in zip(units, told, strict=True):
            finding = None if one is None else one.settled(unit.state)
            # What was replaced meanwhile is looked at once more, by itself.
            if finding is None:
                finding = self.examine(unit)
            if finding is not None:
                found.append(finding)
        return found

    def _looks(self, units: Sequence[Unit]) -> list[Seen]:
        return self.readers.look(self.stores[units[0].store], units)

    def _told(self, unit: Unit, seen: Seen) -> _Told | None:
        """What the records are being told of this look; None: nothing, it was replaced while it was looked at."""
        found, read_bytes = seen
        if found.state == "changed":
            return None
        if found.state == "unknown":
            return _Told(unit, found, read_bytes)
        state, why = self._judged(unit, found)
        kept = found.seen if state == "present" else None
        if kept is not None and kept.store != unit.store:
            kept = replace(kept, store=unit.store)
        pending = self.recorder.mark(unit, state, result=why[:RESULT_MOST], kept=kept, digests=found.digests)
        return _Told(unit, found, read_bytes, state, why, kept, pending)

    def _judged(self, unit: Unit, found: Look) -> tuple[UnitState, str]:
        if found.state == "present":
            return "present", found.why
        taken = found.state == "corrupt" and self.taken(unit)
        if found.state == "corrupt" and not taken:
            return "corrupt", found.why
        if unit.state == "quarantined":  # it was put aside, and the record says where
            return "quarantined", unit.scrub_result or found.why
        return "missing", "another unit's file is in its place" if taken else found.why

    def taken(self, unit: Unit) -> bool:
        """Whether the records say that another unit's file, other bytes, is present in this one's place.

        A name that two units had, one after the other: the file there is the later one's, and nobody else may judge,
        replace or remove it.
        """
        known = self.recorder.recall(unit.store, unit.store_key)
        if known is None:
            return False
        there, digests = known
        if (there.size, there.mtime_ns, there.inode) == (unit.size, unit.mtime_ns, unit.inode):
            return False
        common = [digests[one.algorithm] == one for one in unit.digests if one.algorithm in digests]
        return not (common and all(common))

    def fresh(self, unit: Unit) -> Unit | None:
        """The unit as the records have it now; None if they forgot it."""
        return self.recorder.unit(unit.id if unit.id is not None else {"type": unit.type, **unit.key})

    def __enter__(self) -> Inspector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.readers.close()


@dataclass(frozen=True, slots=True)
class _Told:
    """A look that the records are told of: ``pending`` says whether they still had what was looked at."""

    unit: Unit
    found: Look
    read_bytes: int
    state: UnitState | None = None
    why: str = ""
    kept: Kept | None = None
    pending: Pending | None = None

    def settled(self, was: str) -> Finding | None:
        """The finding, once it is committed; None if the records no longer have what was looked at."""
        found = self.found
        if self.pending is None or self.state is None:
            return Finding(self.unit, "unknown", was, found.why, self.read_bytes, found.error)
        if not self.pending.get():
            return None
        now = replace(self.unit, state=self.state, scrub_result=self.why, **self._stamp())
        return Finding(now, self.state, was, self.why, self.read_bytes, seen=found.seen)

    def _stamp(self) -> dict[str, Any]:
        kept = self.kept
        return {} if kept is None else {"size": kept.size, "mtime_ns": kept.mtime_ns, "inode": kept.inode}
