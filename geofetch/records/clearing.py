"""What a gc asks of the records, and tells them.

In: stores by name, moments, what became of files.  Out: Units that are forgotten; Lefts to be removed, in pages, so
that millions of them take no memory; all of it committed when it is returned.  Never: a file, a store.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..events import Kept
from . import leftovers, reader
from .book import Row
from .leftovers import At, Left, Taken
from .rows import unit_of
from .units import Unit

if TYPE_CHECKING:
    from .recorder import Recorder

__all__ = ["At", "Clearing", "Left", "Taken"]

#: Units, or leftovers, of one transaction.
PAGE = 500


class Clearing:
    """The records as a gc sees them; it touches what is of these ``stores`` alone."""

    def __init__(self, recorder: Recorder, stores: Collection[str]) -> None:
        self._recorder = recorder
        self._home = recorder._home
        self._stores = [self._home.kept_name(name) for name in stores]

    def unlisted(self, before: float) -> Iterator[list[Unit]]:
        """The units that are in no repository any more since ``before`` (seconds since 1970) at the latest."""
        wanted = partial(reader.unlisted, stores=self._stores, before=_micros(before), most=PAGE)
        after: int | None = 0
        while after is not None:
            ids, after = self._recorder._answer(partial(wanted, after=after))
            if ids:
                found: list[Unit] = self._recorder._answer(partial(reader.units, ids=ids))
                yield [self._home.known_unit(unit) for unit in found]

    def forget(self, units: Sequence[Unit], before: float, linked: Collection[str]) -> list[Unit]:
        """Remove the records of those of these units that still are unlisted since then; which they were.

        What they leave in their stores is a leftover from now on.  ``linked``: stores that have a link at each path.
        """
        kept = [self._home.kept_name(name) for name in linked]
        ids = [unit.id for unit in units if unit.id is not None]
        work = partial(leftovers.forget, ids=ids, before=_micros(before), linked=kept)
        rows: list[Row] = self._recorder._edit(work)
        return [self._home.known_unit(unit_of(row)) for row in rows]

    def left(self, before: float) -> Iterator[list[Left]]:
        """What was left before then, and what an earlier gc did not bring to its end."""
        wanted = partial(leftovers.left, stores=self._stores, before=_micros(before), most=PAGE)
        after: bytes | None = b""
        while after is not None:
            found, after = self._recorder._answer(partial(wanted, after=after))
            if found:
                yield found

    def free(self, each: Sequence[Left]) -> list[Left]:
        """Those of these in which no unit lies; nothing is noted."""
        found: list[Left] = self._recorder._answer(partial(leftovers.free, each=each))
        return found

    def take(self, each: Sequence[Left], strays: bool = False) -> Taken:
        """What of this may be removed now: it is noted that it is being removed."""
        work = partial(leftovers.take, each=each, now=_now(), strays=strays)
        found: Taken = self._recorder._edit(work)
        return found

    def settle(self, removed: Sequence[Left], others: Sequence[Left], again: Sequence[Left]) -> list[Unit]:
        """Note what became of it: removed; somebody else's; to be tried again.

        The units that were recorded in the place of a removed one meanwhile.
        """
        work = partial(leftovers.settle, removed=removed, others=others, again=again, now=_now())
        return self.units(self._recorder._edit(work))

    def units(self, ids: Sequence[int]) -> list[Unit]:
        """These units, as far as they are there."""
        found: list[Unit] = self._recorder._answer(partial(reader.units, ids=ids)) if ids else []
        return [self._home.known_unit(unit) for unit in found]

    def unknown(self, store: str, keys: Collection[str]) -> list[str]:
        """Those of these keys that no record knows."""
        asked = partial(leftovers.known, store=self._home.kept_name(store), keys=keys)
        known: Collection[str] = self._recorder._answer(asked)
        return [key for key in keys if key not in known]

    def at(self, store: str, keys: Collection[str], over: float | None = None) -> Mapping[str, list[At]]:
        """What the units say whose place each of these keys is; not those that are in no repository since ``over``."""
        before = None if over is None else _micros(over)
        asked = partial(leftovers.at, store=self._home.kept_name(store), keys=keys, over=before)
        found: Mapping[str, list[At]] = self._recorder._answer(asked)
        return found

    def heard_of(self, store: str) -> bool:
        """Whether anything is recorded of this store."""
        return bool(self._recorder._answer(partial(leftovers.heard_of, store=self._home.kept_name(store))))

    def stray(self, kept: Kept, at: float) -> Left:
        """A file that no record knows, as a leftover."""
        place = self._home.kept(kept)
        return Left(place.store, place.key, _micros(at), kept.size, kept.mtime_ns, kept.inode)

    def name(self, one: Left) -> str:
        """The store of a leftover, as it is called now."""
        return self._home.known_name(one.store)

    def kept(self, one: Left) -> Kept | None:
        """A leftover as its store knows it; None where nobody knows what file it was."""
        if one.size is None:
            return None
        return Kept(self._home.known_name(one.store), one.key, one.size, one.mtime_ns, one.inode)

    def drop(self, before: float) -> None:
        """Forget what was removed before then."""
        self._recorder._edit(partial(leftovers.drop, before=_micros(before)))

    def shared(self, units: Sequence[Unit]) -> Mapping[tuple[str, str], int]:
        """How many units lie in the place of each of these."""
        keys: dict[str, list[str]] = {}
        for unit in units:
            keys.setdefault(unit.store, []).append(unit.store_key)
        return {
            (store, key): count
            for store, some in keys.items()
            for key, count in self._recorder.references(store, some).items()
        }


def _micros(seconds: float) -> int:
    return int(seconds * 1_000_000)


def _now() -> int:
    return time.time_ns() // 1000
