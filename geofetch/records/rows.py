"""Units read from the tables as rows, with all that belongs to them.

In: identities, ids, places.  Out: rows, or Units.  Never: a write (saving.py), a transaction of its own (the caller's).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

from peewee import Database, Model

from ..spec import Digest, Source
from .book import Book, Row, SourceFields
from .many import MOST_IN, ask, chunks, columns
from .models import DigestRow, RepositoryRow, SourceRow, UnitRepositoryRow, UnitRow
from .units import Health, Unit, seconds

__all__ = [
    "SOURCE",
    "UNIT",
    "load",
    "load_ids",
    "load_present",
    "load_rivals",
    "present",
    "signed",
    "unit_of",
    "unsigned",
]

#: The columns of a unit in the order of the fields of Row, and of a source in the order of what Row tells.
UNIT = [each.name for each in fields(Row) if each.name not in ("digests", "sources", "repositories", "id")]
SOURCE = ["priority", "weight", "secret_query", "expires_at", *(each.name for each in fields(Health))]

#: Where they stand in a row that begins with its id.
_KEY, _PROVEN = 1 + UNIT.index("store_key"), 1 + UNIT.index("proven_at")


def load(database: Database, name: str, values: Iterable[Any]) -> Iterator[Row]:
    """The rows in whose column ``name`` is one of these values."""
    column, told = getattr(UnitRow, name), [UnitRow.id, *columns(UnitRow, UNIT)]
    for part in chunks(values, MOST_IN):
        found = ask(database, f"units by {name}", part, lambda some: UnitRow.select(*told).where(column.in_(some)))
        yield from _with_children(database, sorted(found))


def load_present(database: Database, store: str, keys: Iterable[str], whole: int) -> Iterator[Row]:
    """The rows of units that are present under one of these keys of a store.

    Of more than ``whole`` in one place only the one that was proven last.
    """
    told = [UnitRow.id, *columns(UnitRow, UNIT)]

    def query(some: list[Any]) -> Any:
        return UnitRow.select(*told).where(UnitRow.store_key.in_(some), UnitRow.store == "", UnitRow.state == "present")

    for part in chunks(keys, MOST_IN):
        found = list(ask(database, "present in a store", part, query, store, "present"))
        by_key: dict[str, list[Any]] = {}
        for unit in found:
            by_key.setdefault(unit[_KEY], []).append(unit)
        if len(by_key) == len(found):
            yield from _with_children(database, found)
            continue
        for units in by_key.values():
            yield from _with_children(database, units if len(units) <= whole else [max(units, key=_proven)])


def load_ids(database: Database, ids: Iterable[int]) -> Iterator[Row]:
    """The rows of these ids, in ascending order of them."""
    return load(database, "id", sorted(ids))


def load_rivals(database: Database, book: Book, claims: Iterable[Row]) -> Iterator[Row]:
    """The rows that say to be where one of ``claims`` is now, with another size, time or inode."""
    by_place: dict[tuple[str, str], Row] = {row.place: row for row in claims}
    found: list[int] = []
    told = ["id", "identity", "store", "store_key", "size", "mtime_ns", "inode"]
    rivals = present(database, "rivals", {key for _, key in by_place}, told)
    for ident, identity, store, key, size, mtime_ns, inode in rivals:
        row = by_place.get((store, key))
        if row is not None and identity not in book.rows and row.stamp != (size, mtime_ns, unsigned(inode)):
            found.append(ident)
    return load_ids(database, found)


def present(database: Database, name: str, keys: Iterable[str], names: list[str]) -> Iterator[Any]:
    """These columns of all units that are present under one of these keys, in any store."""
    told = columns(UnitRow, names)

    def query(some: list[Any]) -> Any:
        return UnitRow.select(*told).where(UnitRow.store_key.in_(some), UnitRow.state == "present")

    return ask(database, name, keys, query, "present")


def _with_children(database: Database, units: Sequence[tuple[Any, ...]]) -> list[Row]:
    rows = {unit[0]: _row(unit) for unit in units}
    for owner, algorithm, value, trusted in _children(database, DigestRow, ["algorithm", "value", "trusted"], rows):
        rows[owner].digests[algorithm] = (bytes(value), bool(trusted))
    for owner, url, profile, *told in _children(database, SourceRow, ["url", "profile", *SOURCE], rows):
        told[2] = bool(told[2])
        rows[owner].sources[url, profile] = SourceFields(*told)
    for owner, name in ask(database, "repositories of", rows, _repositories_of):
        rows[owner].repositories |= {name}
    return list(rows.values())


def _proven(unit: Any) -> tuple[int, int]:
    return unit[_PROVEN] or 0, unit[0]


def _repositories_of(units: list[int]) -> Any:
    query = UnitRepositoryRow.select(UnitRepositoryRow.unit, RepositoryRow.name).join(RepositoryRow)
    return query.where(UnitRepositoryRow.unit.in_(units))


def _row(unit: tuple[Any, ...]) -> Row:
    row = Row(*[*unit[1:], {}, {}, frozenset(), unit[0]])
    row.identity = bytes(row.identity)
    row.inode = unsigned(row.inode)
    return row


def _children(database: Database, model: type[Model], names: list[str], ids: Iterable[int]) -> Iterator[Any]:
    owner: Any = model.unit  # type: ignore[attr-defined]
    order = DigestRow.algorithm if model is DigestRow else SourceRow.position
    told = [owner, *columns(model, names)]
    return ask(database, model.__name__, ids, lambda ids: model.select(*told).where(owner.in_(ids)).order_by(order))


def unsigned(inode: int | None) -> int | None:
    return inode + 2**64 if inode is not None and inode < 0 else inode


def signed(inode: int | None) -> int | None:
    # Some file systems number beyond 2**63; SQLite's and PostgreSQL's integers end there.
    return inode - 2**64 if inode is not None and inode >= 2**63 else inode


def unit_of(row: Row) -> Unit:
    """The row as a Unit."""
    sources = tuple(
        Source(url, told.priority, told.weight, profile or None, told.secret_query, seconds(told.expires_at))
        for (url, profile), told in row.sources.items()
    )
    return Unit(
        type=row.type,
        key=json.loads(row.key),
        path=row.path,
        store=row.store,
        store_key=row.store_key,
        size=row.size,
        mtime_ns=row.mtime_ns,
        inode=row.inode,
        state=row.state,  # type: ignore[arg-type]
        verified=row.verified,  # type: ignore[arg-type]
        digests=tuple(Digest(name, value) for name, (value, _) in row.digests.items()),
        trusted=frozenset(name for name, (_, trusted) in row.digests.items() if trusted),
        sources=sources,
        health=tuple(Health(*told[4:]) for told in row.sources.values()),
        repositories=tuple(row.repositories),
        metadata=None if row.metadata is None else json.loads(row.metadata),
        stored_at=row.stored_at,
        proven_at=row.proven_at,
        scrubbed_at=row.scrubbed_at,
        scrub_result=row.scrub_result,
        policy=row.policy,  # type: ignore[arg-type]
        pending=row.pending,  # type: ignore[arg-type]
        tries=row.tries,
        unlisted_at=row.unlisted_at,
        id=row.id,
    )
