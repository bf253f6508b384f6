"""gc: what no repository holds any more, removed after a grace time.  In: a Recorder, stores.  Out: Collections.

    units       that were in a repository, and are in none since longer than the grace time: record, then file
    leftovers   files that no unit is in any more, for as long: an older version in a store that files by digest
    quarantined files that a repair put aside as long ago, and that are nobody's only copy (aside.py)
    strays      if asked for: files of the store that no record knows, and that are as old
    sweeps      parts and uploads of dead processes

The order is the records': a record goes, and its file is noted as a leftover; the leftover is taken, if no unit lies
there; the file is removed, if it still is the one that was meant; that is noted.  Each step is committed before the
next one.  Whoever ends in between leaves what the next gc goes on with; no file is lost, and no record is left without
one: a unit that was recorded in the place of a file while that was removed is looked at, and marked missing.

Never: a unit that never was in a repository; a file that another unit is in; a file that is another one by now; the
only copy of what is missing.
"""

from __future__ import annotations

import errno
import logging
import math
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from itertools import islice
from typing import Any

from ..errors import FetchError, SpecError, StoreError
from ..records import Recorder, Unit
from ..records.clearing import Clearing, Left
from ..store import Aside, Quarantining, Removing
from .abreast import abreast
from .aside import Asides, over
from .collected import Collected, Collection, Gathering, Swept
from .inspector import RESULT_MOST, Stores, counted, recorder_of, stores_of
from .removers import STATES, Removed, Removers
from .telling import Telling

__all__ = ["GRACE_S", "collect", "gc"]

log = logging.getLogger("geofetch")

#: A week: a sync that is wrong is noticed by then.
GRACE_S = 7 * 86_400.0
#: Seconds for which a file that was removed is remembered: as long as a download may take from its last byte to its
#: record.
REMEMBERED_S = 3600.0
#: Removals at once.
JOBS = 8
#: Strays of one transaction.
PAGE = 500
#: Questions to a store at once.
STATS = 16
LATE = "it was not removed in time; the next gc goes on with it"
RESULT = "its file was removed by a gc while it was recorded"


def gc(
    recorder: Recorder,
    store: Any,
    *,
    grace_s: float = GRACE_S,
    strays: bool = False,
    dry_run: bool = False,
    jobs: int = JOBS,
    progress: Any = None,
) -> Collection:
    """Remove what no repository holds any more since longer than ``grace_s``: what became of it, as a sum.

    ``store``: whose files they are; or several, by the names that the records know them by.  ``strays``: files that no
    record knows, too; never without that word, since a folder may hold its owner's own.  ``dry_run``: nothing is
    removed and nothing noted; what would be is told.  ``jobs``: removals at once.  ``progress``: as of ``verify``.

    Raises RecordError where the records cannot be read or written; a file that cannot be removed is told, and tried
    again by the next one.
    """
    began, found = time.monotonic(), Gathering()
    asked = collect(recorder, store, grace_s=grace_s, strays=strays, dry_run=dry_run, jobs=jobs)
    with Telling(progress, found, found, None), closing(asked) as each:
        for one in each:
            found.add(one)
    return found.whole(dry_run, time.monotonic() - began)


def collect(
    recorder: Recorder,
    store: Any,
    *,
    grace_s: float = GRACE_S,
    strays: bool = False,
    dry_run: bool = False,
    jobs: int = JOBS,
) -> Generator[Collected | Swept, None, None]:
    """As :func:`gc`, one Collected after the other, each when it is committed; a Swept for each store.

    Memory does not grow with their number; whoever stops taking them ends it.
    """
    if isinstance(grace_s, bool) or not isinstance(grace_s, int | float) or not 0 <= grace_s < math.inf:
        raise SpecError(f"grace_s is a number of seconds from 0, not {grace_s!r}")
    stores, recorder = stores_of(store), recorder_of(recorder)
    return _Collector(recorder, stores, grace_s, dry_run, counted(jobs)).collected(strays)


class _Collector:
    """What one gc works with."""

    def __init__(self, recorder: Recorder, stores: Stores, grace_s: float, dry_run: bool, jobs: int) -> None:
        self._recorder = recorder
        self._unable = [name for name, store in stores.items() if not isinstance(store, Removing)]
        self._stores: dict[str, Any] = {name: each for name, each in stores.items() if name not in self._unable}
        self._linked = [name for name, each in self._stores.items() if getattr(each, "linked", False)]
        self._records = Clearing(recorder, self._stores)
        self._grace_s = grace_s
        self._before = time.time() - grace_s
        self._dry_run = dry_run
        self._removers = Removers(jobs)

    def collected(self, strays: bool) -> Generator[Collected | Swept, None, None]:
        """All of it, in order."""
        with self._removers:
            yield from (Swept(name, 0, able=False) for name in self._unable)
            if self._dry_run:
                yield from self._would_be()
            else:
                self._records.drop(time.time() - REMEMBERED_S)
                yield from map(self._swept, self._stores)
                yield from self._forgotten()
                yield from self._removed(self._records.left(self._before))
            for name, store in self._stores.items():
                if isinstance(store, Quarantining):
                    yield from self._quarantined(name, store, strays)
            if strays:
                for name in self._stores:
                    yield from self._astray(name)

    def _swept(self, name: str) -> Swept:
        sweep = getattr(self._stores[name], "sweep", None)
        try:
            return Swept(name, sweep(self._grace_s) if sweep is not None else 0)
        except StoreError as exc:  # these credentials may not list uploads, say
            log.warning("what dead processes left in %s is not swept: %s", name, exc)
            return Swept(name, 0)

    # --- units

    def _forgotten(self) -> Iterator[Collected]:
        for units in self._records.unlisted(self._before):
            for unit in self._records.forget(units, self._before, self._linked):
                yield _of(unit)

    def _would_be(self) -> Iterator[Collected]:
        going: Counter[tuple[str, str]] = Counter()
        for units in self._records.unlisted(self._before):
            lying = self._records.shared(units)
            for unit in units:
                if unit.repositories:
                    continue
                yield _of(unit)
                place = (unit.store, unit.store_key)
                count = lying.get(place, 0)
                if count > 1:  # of those who share a place, the last one to go takes the file along
                    going[place] += 1
                if count and (count == 1 or going[place] == count):
                    yield Collected("leftover", unit.store, unit.store_key, unit.size, "removed")
        for found in self._records.left(self._before):
            free = set(self._records.free(found))
            yield from (self._told(one, "leftover", "removed") for one in found if one in free)

    # --- files

    def _removed(self, pages: Iterable[list[Left]], what: str = "leftover") -> Iterator[Collected]:
        for page in pages:
            taken = self._records.take(page, strays=what == "stray")
            yield from self._looked_at(self._records.units(taken.suspects))
            if what == "leftover":
                yield from (self._told(one, what, "shared") for one in taken.used)
            yield from self._away(taken.free, what)

    def _away(self, taken: list[Left], what: str) -> Iterator[Collected]:
        """These files, removed, and that noted."""
        meant = [(one, self._records.kept(one)) for one in taken]
        unheard = [one for one, kept in meant if kept is None]
        each = [(self._stores[kept.store], kept) for _, kept in meant if kept is not None]
        known = [one for one, kept in meant if kept is not None]
        try:
            done = self._removers.remove(each)
        except BaseException:
            # It was ended: what is done is noted all the same, and what was not begun is nobody's any more.
            with suppress(FetchError):
                self._settled(known, self._removers.ended(len(known)), unheard)
            raise
        units = self._settled(known, done, unheard)
        for one, (state, error) in zip(known, done, strict=True):
            late = state == "left"
            yield self._told(one, what, "failed" if late else state, StoreError(LATE) if late else error)
        yield from self._looked_at(units)

    def _settled(self, taken: list[Left], done: list[Removed], unheard: list[Left]) -> list[Unit]:
        by: dict[str, list[Left]] = {state: [] for state in STATES}
        for one, result in zip(taken, done, strict=True):
            by[result.state].append(one)
        removed, again = by["removed"] + by["gone"], by["failed"] + by["left"]
        return self._records.settle(removed, by["replaced"] + unheard, again)

    def _looked_at(self, units: Iterable[Unit]) -> Iterator[Collected]:
        """Units that were recorded in the place of a file that was removed: their records are made honest."""
        for unit in units:
            store = self._stores.get(unit.store)
            if store is None or unit.state != "present":
                continue
            try:
                there = store.stat(unit.store_key) is not None
            except OSError as exc:  # nobody knows; a verify will
                log.warning("%s could not be looked at: %s", unit.path, exc)
                continue
            if not there and self._recorder.mark(unit, "missing", result=RESULT[:RESULT_MOST]).get():
                error = StoreError(RESULT, errno=errno.ENOENT)
                yield Collected("record", unit.store, unit.store_key, unit.size, "missing", error, unit)

    def _quarantined(self, name: str, store: Quarantining, strays: bool) -> Iterator[Collected | Swept]:
        found, stay = store.asides(), 0
        # What would be forgotten is known still.
        known = partial(self._records.at, name, over=self._before if self._dry_run else None)
        try:
            while page := list(islice(found, PAGE)):
                heard = strays or self._records.heard_of(name)
                going = over(page, self._stores[name], known, self._before, heard)
                stay += len(page) - len(going)
                yield from self._put_away(name, store, going)
        except StoreError as exc:  # as of a sweep
            log.warning("what was put aside in %s is not looked through: %s", name, exc)
        yield Swept(name, 0, aside=stay)

    def _put_away(self, name: str, store: Quarantining, going: list[Aside]) -> Iterator[Collected]:
        done = [Removed("removed")] * len(going)
        if not self._dry_run:
            try:
                done = self._removers.remove([(Asides(store), one.kept) for one in going])
            except BaseException:
                self._removers.ended(len(going))
                raise
        for one, (state, error) in zip(going, done, strict=True):
            kept, late = one.kept, state in ("left", "unknown")
            became: Any = "failed" if late else state
            yield Collected("quarantined", name, kept.key, kept.size, became, StoreError(LATE) if late else error)

    def _astray(self, name: str) -> Iterator[Collected]:
        found = self._strays(name)
        pages = iter(lambda: list(islice(found, PAGE)), [])
        if self._dry_run:
            yield from (self._told(one, "stray", "removed") for page in pages for one in page)
        else:
            yield from self._removed(pages, "stray")

    def _strays(self, name: str) -> Iterator[Left]:
        """The files of a store that no record knows, and that are as old as the grace time."""
        store, keys = self._stores[name], self._stores[name].keys()
        while some := list(islice(keys, PAGE)):
            for kept in abreast(store.stat, self._records.unknown(name, some), STATS):
                # One without a time is of a store that does not tell any: nobody knows how old it is.
                if kept is not None and kept.mtime_ns is not None and kept.mtime_ns <= self._before * 1e9:
                    yield self._records.stray(kept, kept.mtime_ns / 1e9)

    def _told(self, one: Left, what: Any, state: Any, error: FetchError | None = None) -> Collected:
        name = self._records.name(one)
        if name in self._linked and not one.key.startswith(f"{self._stores[name].address}/"):
            # A link has the stamp of its file, and no bytes of its own.
            return Collected("link", name, one.key, 0, state, error)
        return Collected(what, name, one.key, one.size, state, error)


def _of(unit: Unit) -> Collected:
    return Collected("unit", unit.store, unit.store_key, unit.size, "removed", None, unit)
