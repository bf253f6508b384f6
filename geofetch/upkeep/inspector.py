"""Looks at stored files, and what the records are told of them.

In: a Unit.  Out: a Finding, committed.  Never: a file touched.

The records learn what a look found only if they still say what they said when it began: a file that was replaced
meanwhile, by a sync or by another repair, is looked at once more.  A present file is noted with the size, time and
inode that it has now, so that the next sync adopts it unread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any

from ..errors import SpecError, StoreError
from ..records import Recorder, Unit
from ..records.units import UnitState
from ..store import Store
from .look import Look, Readers
from .results import Finding

__all__ = ["JOBS", "RESULT_MOST", "Inspector", "Stores", "counted", "recorder_of", "stores_of"]

#: Files that are read at once.
JOBS = 4
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


class Inspector:
    """Looks at the files of ``stores`` that ``recorder`` knows, up to ``jobs`` at once.  A context manager."""

    def __init__(self, recorder: Recorder, stores: Stores, jobs: int = JOBS) -> None:
        self.recorder = recorder_of(recorder)
        self.stores = stores
        self.readers = Readers(counted(jobs))

    def examine(self, unit: Unit) -> Finding | None:
        """The unit's file held against its record, and the record told; None if the record is gone.

        Raises RecordError where the records cannot be written.
        """
        was = unit.state
        for _ in range(TRIES):
            found, read_bytes = self.readers.look(self.stores[unit.store], unit)
            if found.state == "unknown":
                return Finding(unit, "unknown", was, found.why, read_bytes, found.error)
            if found.state != "changed" and (now := self._noted(unit, found)) is not None:
                return Finding(now, now.state, was, now.scrub_result or "", read_bytes, seen=found.seen)
            fresh = self.fresh(unit)
            if fresh is None or fresh.store not in self.stores:
                return None
            unit = fresh
        busy = StoreError("it is replaced again and again while it is looked at")
        return Finding(unit, "unknown", was, str(busy), error=busy)

    def _noted(self, unit: Unit, found: Look) -> Unit | None:
        """The unit as the records have it now; None if they no longer have what was looked at."""
        state, why = self._judged(unit, found)
        kept = replace(found.seen, store=unit.store) if state == "present" and found.seen is not None else None
        marked = self.recorder.mark(unit, state, result=why[:RESULT_MOST], kept=kept, digests=found.digests)
        if not marked.get():
            return None
        stamp: dict[str, Any] = {}
        if kept is not None:
            stamp = {"size": kept.size, "mtime_ns": kept.mtime_ns, "inode": kept.inode}
        return replace(unit, state=state, scrub_result=why, **stamp)

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
