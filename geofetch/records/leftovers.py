"""What lies in a store and is no unit's any more, on its way out.

    forget    units that are in no repository any more are removed; what they leave becomes a leftover, unless another
              unit lies there, too
    take      leftovers that a gc is about to remove: once more it is looked for units that lie there
    settle    they were removed; or were others by then; or could not be

In: a database, within a transaction of the caller's.  Out: rows.  Never: a file.

Each step is committed before the next one begins, and each may be done twice.  So the order is that of DESIGN 9: the
unit's row goes first, then the file, then the leftover's row.  A process that ends anywhere leaves a row that the next
gc goes on from.

A file that was seen there before it was removed may be recorded later: by a download of the same bytes, which found
them stored already.  Therefore a row outlives its file, for an hour at least: ``gone`` knows it by its stamp, and
whoever would record that very file is refused, and fetches it anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from peewee import Database

from ..errors import RecordError
from ..events import Kept
from .book import Place, Row
from .many import ask, chunks, upsert
from .models import LeftoverRow, UnitRow
from .rows import load_ids, signed, unsigned
from .saving import LEFTOVER
from .sql import fetched, run
from .units import place_hash

__all__ = [
    "LEASE_S",
    "At",
    "BeingRemoved",
    "Left",
    "Taken",
    "at",
    "drop",
    "forget",
    "gone",
    "heard_of",
    "known",
    "left",
    "settle",
    "take",
]

#: Seconds for which a gc that took a leftover may be at it; after that nobody waits for it any more.
LEASE_S = 120
#: Places in one statement.
MOST = 500

_COLUMNS = [getattr(LeftoverRow, name) for name in LEFTOVER]


class BeingRemoved(RecordError):
    """A file that was found stored is what a gc removes at this moment, or removed a moment ago."""


class Left(NamedTuple):
    """A leftover.  ``size`` None: nobody knows."""

    store: str
    key: str
    left_at: int
    size: int | None
    mtime_ns: int | None
    inode: int | None
    taken_at: int | None = None
    removed_at: int | None = None

    @property
    def place(self) -> Place:
        return self.store, self.key

    @property
    def stamp(self) -> tuple[int | None, int | None, int | None]:
        return self.size, self.mtime_ns, self.inode


class Taken(NamedTuple):
    """What a gc may remove now; what units lie in after all; the ids of units that were recorded meanwhile, and whose
    files may have been removed by a gc that never said so."""

    free: list[Left]
    used: list[Left]
    suspects: list[int]


def forget(database: Database, ids: Sequence[int], before: int, linked: Collection[str]) -> list[Row]:
    """Remove those of these units that are in no repository any more since ``before`` at the latest; what they were.

    ``linked``: stores in which there is a link at a unit's path to its file, which is then left, too.
    """
    rows = [row for row in load_ids(database, ids) if _over(row, before)]
    for part in chunks(rows, MOST):
        run(database, UnitRow.delete().where(UnitRow.id.in_([row.id for row in part])))
    _leave(database, [one for row in rows for one in _leavings(row, linked)])
    return rows


def _over(row: Row, before: int) -> bool:
    return row.unlisted_at is not None and row.unlisted_at <= before and not row.repositories


def _leavings(row: Row, linked: Collection[str]) -> Iterable[Left]:
    if row.stored_at is None or row.size is None:
        return  # it was wanted, and never stored
    assert row.unlisted_at is not None
    stamp = row.size, row.mtime_ns, row.inode
    yield Left(row.store, row.store_key, row.unlisted_at, *stamp)
    if row.path != row.store_key and row.store in linked:
        yield Left(row.store, row.path, row.unlisted_at, *stamp)


def _leave(database: Database, each: Iterable[Left]) -> None:
    """Note these as leftovers, unless a unit lies there."""
    by_place = {one.place: one for one in each}
    used = _used(database, list(by_place.values()))
    _write(database, [one for place, one in by_place.items() if place not in used])


def left(
    database: Database, stores: Collection[str], before: int, after: bytes, most: int
) -> tuple[list[Left], bytes | None]:
    """The next leftovers of these stores, left before this, or taken by a gc that has not said what became of them; and
    what to go on after, None: there are no more."""
    wanted = (LeftoverRow.left_at <= before) | LeftoverRow.taken_at.is_null(False)
    query = LeftoverRow.select(*_COLUMNS).where(
        LeftoverRow.place > after, LeftoverRow.store.in_(list(stores)), LeftoverRow.removed_at.is_null(), wanted
    )
    found = fetched(database, query.order_by(LeftoverRow.place).limit(most))
    return [_left_of(row) for row in found], bytes(found[-1][0]) if len(found) == most else None


def free(database: Database, each: Sequence[Left]) -> list[Left]:
    """Those in which no unit lies."""
    used = _used(database, each)
    return [one for one in each if one.place not in used]


def take(database: Database, each: Sequence[Left], now: int, strays: bool = False) -> Taken:
    """Those of these leftovers that are to be removed; the rows of the others go.

    ``strays``: they were found in a store, and need not be leftovers yet.
    """
    there = {one.place: one for one in _at(database, [one.place for one in each])}
    if strays:
        # What another gc is at, or has removed, is not ours to judge.
        each = [one for one in each if one.place not in there]
    else:
        each = [known for one in each if (known := there.get(one.place)) is not None and known.removed_at is None]
    used = _used(database, each)
    busy = [one for one in each if one.place in used]
    ours = [one._replace(taken_at=now) for one in each if one.place not in used]
    _forget(database, busy)
    _write(database, ours)
    suspects = [ident for one in busy if one.taken_at is not None for ident in used[one.place]]
    return Taken(ours, busy, suspects)


def settle(
    database: Database, removed: Sequence[Left], others: Sequence[Left], again: Sequence[Left], now: int
) -> list[int]:
    """Note that these were removed; that in the place of ``others`` lies somebody else's file; that others are to be
    tried again.  The ids of units that were recorded in the place of a removed one meanwhile."""
    _write(database, [one._replace(removed_at=now) for one in removed])
    _forget(database, others)
    _write(database, [one._replace(taken_at=None) for one in again])
    used = _used(database, removed)
    return [ident for ids in used.values() for ident in ids]


def drop(database: Database, before: int) -> None:
    """Forget what was removed before this: whoever had seen it then has recorded it by now, or never will."""
    run(database, LeftoverRow.delete().where(LeftoverRow.removed_at <= before))


def gone(database: Database, kepts: Collection[Kept], now: int) -> set[Place]:
    """The places of these files that a gc has removed, or is removing right now.

    By their stamps: a file that was stored there since is another one.
    """
    by_place = {(kept.store, kept.key): kept for kept in kepts}
    return {
        one.place
        for one in _at(database, by_place)
        if (one.removed_at is not None or (one.taken_at is not None and now - one.taken_at < LEASE_S * 1_000_000))
        and _same(one, by_place[one.place])
    }


def _same(one: Left, kept: Kept) -> bool:
    told = (one.size, kept.size), (one.mtime_ns, kept.mtime_ns), (one.inode, kept.inode)
    return all(then == now for then, now in told if then is not None and now is not None)


def known(database: Database, store: str, keys: Collection[str]) -> set[str]:
    """Those of these keys of a store that any unit names, or any leftover."""
    found = {key for key, of in _keys(database, "store_key", keys) if of == store}
    found |= {path for path, of in _keys(database, "path", keys) if of == store}
    return found | {one.key for one in _at(database, [(store, key) for key in keys])}


def references(database: Database, store: str, keys: Collection[str]) -> dict[str, int]:
    """How many units lie under each of these keys of a store."""
    counts: dict[str, int] = {}
    for _, of, key, state, *_ in _lying(database, keys):
        if of == store and state in THERE:
            counts[key] = counts.get(key, 0) + 1
    return counts


def at(database: Database, store: str, keys: Collection[str], over: int | None = None) -> dict[str, list[At]]:
    """The units whose place each of these keys of a store is, whatever their states, but for those that left their last
    repository before ``over``."""
    found: dict[str, list[At]] = {}
    for of, key, state, size, mtime_ns, inode, unlisted_at in ask(database, "at", keys, _told_at):
        if of == store and (over is None or unlisted_at is None or unlisted_at > over):
            found.setdefault(key, []).append(At(state, Kept(of, key, size or 0, mtime_ns, unsigned(inode))))
    return found


class At(NamedTuple):
    """What a unit says of the file in its place."""

    state: str
    kept: Kept


def _told_at(keys: list[str]) -> Any:
    stamp = UnitRow.size, UnitRow.mtime_ns, UnitRow.inode
    told = UnitRow.store, UnitRow.store_key, UnitRow.state, *stamp, UnitRow.unlisted_at
    return UnitRow.select(*told).where(UnitRow.store_key.in_(keys))


def heard_of(database: Database, store: str) -> bool:
    """Whether anything is recorded of this store."""
    rows: tuple[Any, ...] = UnitRow, LeftoverRow
    return any(fetched(database, row.select(row.store).where(row.store == store).limit(1)) for row in rows)


#: States of a unit whose file is in its place, right or wrong.
THERE = ("present", "corrupt")


def _used(database: Database, each: Sequence[Left]) -> dict[Place, list[int]]:
    """The places in which units lie, and their ids.

    One that is missing lies nowhere; unless it is the very file that is asked for: it may have been missed by mistake,
    of a disk that was not mounted, say.  A path that a unit has, and that is not its key, is the path of its link.
    """
    by_place = {one.place: one for one in each}
    keys = {one.key for one in each}
    found: dict[Place, list[int]] = {}
    for ident, store, key, state, size, mtime_ns, inode in _lying(database, keys):
        one = by_place.get((store, key))
        if one is not None and (state in THERE or one.stamp == (size, mtime_ns, unsigned(inode))):
            found.setdefault((store, key), []).append(ident)
    for ident, store, path, key in ask(database, "links", keys, _linked):
        if (store, path) in by_place and path != key:
            found.setdefault((store, path), []).append(ident)
    return found


def _lying(database: Database, keys: Iterable[str]) -> Iterable[Any]:
    return ask(database, "lying", keys, _at_keys)


def _at_keys(keys: list[str]) -> Any:
    unit = UnitRow.id, UnitRow.store, UnitRow.store_key, UnitRow.state, UnitRow.size, UnitRow.mtime_ns, UnitRow.inode
    return UnitRow.select(*unit).where(UnitRow.store_key.in_(keys))


def _linked(paths: list[str]) -> Any:
    return UnitRow.select(UnitRow.id, UnitRow.store, UnitRow.path, UnitRow.store_key).where(UnitRow.path.in_(paths))


def _keys(database: Database, name: str, keys: Iterable[str]) -> Iterable[Any]:
    column = getattr(UnitRow, name)
    return ask(
        database, f"keys by {name}", keys, lambda some: UnitRow.select(column, UnitRow.store).where(column.in_(some))
    )


def _at(database: Database, places: Iterable[Place]) -> list[Left]:
    hashes = [place_hash(*place) for place in places]
    found = ask(
        database, "leftovers", hashes, lambda some: LeftoverRow.select(*_COLUMNS).where(LeftoverRow.place.in_(some))
    )
    return [_left_of(row) for row in found]


def _left_of(row: Sequence[Any]) -> Left:
    _, *told = row
    told[5] = unsigned(told[5])
    return Left(*told)


def _write(database: Database, each: Sequence[Left]) -> None:
    values: list[Any] = []
    for one in each:
        values += (place_hash(*one.place), *one._replace(inode=signed(one.inode)))
    upsert(database, LeftoverRow, LEFTOVER, values, ["place"])


def _forget(database: Database, each: Sequence[Left]) -> None:
    for part in chunks(each, MOST):
        run(database, LeftoverRow.delete().where(LeftoverRow.place.in_([place_hash(*one.place) for one in part])))
