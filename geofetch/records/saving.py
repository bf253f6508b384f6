"""Rows written to the tables: what a book says otherwise than they did, and what needs no book.

In: a Book of rows; files that nobody knew; files that are as their records say.  Out: the tables as these say.  Never:
a transaction of its own (the caller's), a decision about what a row should say (put.py, changes.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from peewee import Database, Model

from .book import Book, Place, Row
from .changes import Mark
from .database import kind_of
from .many import MOST_IN, ask, chunks, columns, upsert
from .models import DigestRow, LeftoverRow, RepositoryRow, SourceRow, UnitRepositoryRow, UnitRow
from .put import Put
from .rows import SOURCE, UNIT, present, signed, unsigned
from .sql import done, run
from .units import place_hash

__all__ = ["LEFTOVER", "any_leftovers", "save", "save_new", "save_seen", "taken"]

DIGEST_KEY, DIGEST = ["unit", "algorithm"], ["value", "trusted"]
SOURCE_KEY, PLACE = ["unit", "position"], ["url", "profile"]

#: Those of a new unit and of its sources that are not empty (NULL) or as the tables have them where nobody says, in the
#: order in which ``save_new`` tells them.
NEW_UNIT = ["id", *UNIT[: UNIT.index("scrubbed_at")]]
NEW_SOURCE = ["priority", "weight", "secret_query", "last_ok_at", "failures"]
MORE_SOURCE = ["etag", "last_modified", "expires_at"]

#: The columns of a leftover.
LEFTOVER = ["place", "store", "store_key", "left_at", "size", "mtime_ns", "inode", "taken_at", "removed_at"]

_columns = attrgetter(*UNIT)
_INODE = UNIT.index("inode")
_NEW_INODE = NEW_UNIT.index("inode") - len(NEW_UNIT)


def save(database: Database, book: Book, at: int, leftovers: bool) -> None:
    """Write, at this time, what the book says otherwise than the tables did; nothing for what they said already.

    ``leftovers``: whether there are any.
    """
    changed = [(book.loaded.get(key), row) for key, row in book.rows.items() if row is not book.loaded.get(key)]
    _number(database, [row for _, row in changed if row.id is None])
    units: list[Any] = []
    for old, row in changed:
        if old is None or _columns(old) != _columns(row):
            units += (row.id, *_values(row))
    upsert(database, UnitRow, ["id", *UNIT], units, ["id"])
    _save_digests(database, changed)
    _save_sources(database, changed)
    _save_repositories(database, changed)
    _leave(database, book.left(), at)
    if leftovers:
        _take_off(database, book.taken())


def save_new(database: Database, puts: Sequence[Put], places: set[Place], leftovers: bool) -> Sequence[int]:
    """Write what is told of files that no table knows, each in one of these places of its own, which nobody else has;
    their ids.

    An IntegrityError where a unit is known: then the transaction is to be given up.
    """
    units: list[Any] = []
    digests: list[Any] = []
    sources: list[Any] = []
    repositories: list[tuple[Any, ...]] = []
    kind = kind_of(database)
    truth, more = kind.truth, _told_besides(puts)
    # SQLite's driver takes text, int and bytearray as they are.  Each None, bool and bytes it asks how it wants to be
    # adapted, which costs more than to bind it (and up to Python 3.11 an exception that nobody sees).
    ids = kind.new_ids(database, len(puts))
    for number, put in zip(ids, puts, strict=True):
        units += (number, bytearray(put.identity), *put.told)
        if (put.kept.inode or 0) >= 2**63:
            units[_NEW_INODE] = signed(put.kept.inode)
        for algorithm, (value, trusted) in put.proofs.items():
            digests += (number, algorithm, bytearray(value), truth(trusted))
        for position, ((url, profile), told) in enumerate(put.places.items()):
            priority, weight, secret, expires_at, ok_at, _, failures, _, etag, modified, _ = told
            sources += (number, position, url, profile, priority, weight, truth(secret), ok_at, failures)
            if more:
                sources += (etag, modified, expires_at)[: len(more)]
        if put.spec.repository is not None:
            repositories.append((number, put.spec.repository))
    upsert(database, UnitRow, NEW_UNIT, units, [])
    upsert(database, DigestRow, DIGEST_KEY + DIGEST, digests, [])
    upsert(database, SourceRow, [*SOURCE_KEY, *PLACE, *NEW_SOURCE, *more], sources, [])
    _write_repositories(database, repositories)
    if leftovers:
        _take_off(database, places)
    return ids


def save_seen(database: Database, marks: Sequence[Mark]) -> bool:
    """Write that these files were found as they are recorded; False, and nothing is written, where one is not so."""
    by_identity = {mark.identity: mark for mark in marks}
    told = [UnitRow.id, *columns(UnitRow, ["identity", "state", "store", "store_key", "size", "mtime_ns", "inode"])]
    found = ask(database, "as seen", by_identity, lambda some: UnitRow.select(*told).where(UnitRow.identity.in_(some)))
    ids: dict[str | None, list[int]] = {}
    at = 0
    for ident, identity, state, *seen, inode in found:
        mark = by_identity.pop(bytes(identity))
        unit = mark.unit
        was = [unit.store, unit.store_key, unit.size, unit.mtime_ns, unit.inode]
        if state != "present" or [*seen, unsigned(inode)] != was:
            return False
        ids.setdefault(mark.result, []).append(ident)
        at = max(at, mark.at)
    if by_identity:
        return False
    for result, some in ids.items():
        for part in chunks(some, MOST_IN):
            run(database, UnitRow.update(scrubbed_at=at, proven_at=at, scrub_result=result).where(UnitRow.id.in_(part)))
    return True


def any_leftovers(database: Database) -> bool:
    """Whether there are any leftovers: one look for a whole batch where there are none, as nearly always."""
    return bool(done(database, "SELECT 1 FROM leftovers LIMIT 1").fetchall())


def taken(database: Database, places: set[Place]) -> bool:
    """Whether a unit is said to be in one of these."""
    found = present(database, "taken", {key for _, key in places}, ["store", "store_key"])
    return any(place in places for place in found)


def _leave(database: Database, left: Mapping[Place, Row], at: int) -> None:
    """These are leftovers from now on, but for those where another unit is said to be."""
    if not left:
        return
    told = [UnitRow.store, UnitRow.store_key]
    keys = {key for _, key in left}
    found = ask(database, "who is there", keys, lambda some: UnitRow.select(*told).where(UnitRow.store_key.in_(some)))
    rows: list[Any] = []
    for place in sorted(left.keys() - {tuple(place) for place in found}):
        old = left[place]
        rows += (place_hash(*place), *place, at, old.size, old.mtime_ns, signed(old.inode), None, None)
    upsert(database, LeftoverRow, LEFTOVER, rows, ["place"])


def _told_besides(puts: Sequence[Put]) -> Sequence[str]:
    """Which more columns the sources of these tell something in."""
    more: Sequence[str] = ()
    for put in puts:
        for told in put.places.values():
            if told.expires_at is not None:
                return MORE_SOURCE
            if told.etag is not None or told.last_modified is not None:
                more = MORE_SOURCE[:2]
    return more


def _take_off(database: Database, places: set[Place]) -> None:
    """These are no leftovers any more."""
    for part in chunks(sorted(place_hash(*place) for place in places), MOST_IN):
        # What a gc is at, or has removed, is its own to settle (leftovers.py).
        run(database, LeftoverRow.delete().where(LeftoverRow.place.in_(part), LeftoverRow.taken_at.is_null()))


def _number(database: Database, rows: list[Row]) -> None:
    if rows:
        for number, row in zip(kind_of(database).new_ids(database, len(rows)), rows, strict=True):
            row.id = number


def _values(row: Row) -> tuple[Any, ...]:
    values: tuple[Any, ...] = _columns(row)
    if row.inode is None or row.inode < 2**63:
        return values
    return (*values[:_INODE], signed(row.inode), *values[_INODE + 1 :])


def _save_digests(database: Database, changed: list[tuple[Row | None, Row]]) -> None:
    gone: list[int | None] = []
    fresh: list[Any] = []
    for old, row in changed:
        known = {} if old is None else old.digests
        if known.keys() - row.digests.keys():
            gone.append(row.id)
            known = {}
        for algorithm, told in row.digests.items():
            if known.get(algorithm) != told:
                fresh += (row.id, algorithm, *told)
    _forget(database, DigestRow, gone)
    upsert(database, DigestRow, DIGEST_KEY + DIGEST, fresh, DIGEST_KEY)


def _save_sources(database: Database, changed: list[tuple[Row | None, Row]]) -> None:
    gone: list[int | None] = []
    fresh: list[Any] = []
    for old, row in changed:
        known = {} if old is None else old.sources
        # What was known keeps its position, or all are written anew.
        if list(known) != list(row.sources)[: len(known)]:
            gone.append(row.id)
            known = {}
        for position, (place, told) in enumerate(row.sources.items()):
            if known.get(place) != told:
                fresh += (row.id, position, *place, *told)
    _forget(database, SourceRow, gone)
    upsert(database, SourceRow, SOURCE_KEY + PLACE + SOURCE, fresh, SOURCE_KEY)


def _save_repositories(database: Database, changed: list[tuple[Row | None, Row]]) -> None:
    gone: list[int | None] = []
    fresh: list[tuple[Any, ...]] = []
    for old, row in changed:
        known = frozenset() if old is None else old.repositories
        if known - row.repositories:
            gone.append(row.id)
            known = frozenset()
        fresh.extend((row.id, name) for name in row.repositories - known)
    _forget(database, UnitRepositoryRow, gone)
    _write_repositories(database, fresh)


def _write_repositories(database: Database, fresh: list[tuple[Any, ...]]) -> None:
    ids = _repository_ids(database, {name for _, name in fresh})
    pairs = [value for unit, name in fresh for value in (unit, ids[name])]
    upsert(database, UnitRepositoryRow, ["unit", "repository"], pairs, ["unit", "repository"])


def _repository_ids(database: Database, names: set[str]) -> dict[str, int]:
    ids = dict(_known_repositories(database, names))
    if names - ids.keys():
        upsert(database, RepositoryRow, ["name"], sorted(names - ids.keys()), ["name"])
        ids = dict(_known_repositories(database, names))
    return ids


def _known_repositories(database: Database, names: set[str]) -> Iterator[tuple[str, int]]:
    query = RepositoryRow.select(RepositoryRow.name, RepositoryRow.id)
    return ask(database, "repositories", names, lambda some: query.where(RepositoryRow.name.in_(some)))


def _forget(database: Database, model: type[Model], units: list[int | None]) -> None:
    for part in chunks(units, kind_of(database).most_values):
        owner: Any = model.unit  # type: ignore[attr-defined]
        run(database, model.delete().where(owner.in_(part)))
