"""Rows read from the tables, and written to them: few statements for many rows.

In: identities, ids, places; a Book of rows.  Out: rows; the tables as the Book says.  Never: a transaction of its own
(the caller's), a decision about what a row should say (changes.py).

Each statement takes as many rows as fit.  That is not only for SQLite's sake: its driver lets go of the GIL at every
statement and every row it returns, and a busy hub gives it back after milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any, TypeVar

from peewee import Database, Model

from ..spec import Digest, Source
from .changes import Book, Mark, Place, Put, Row, SourceFields
from .database import kind_of
from .models import DigestRow, LeftoverRow, RepositoryRow, SourceRow, UnitRepositoryRow, UnitRow
from .sql import done, run, text_of
from .units import Health, Unit, place_hash, seconds

__all__ = [
    "LEFTOVER",
    "any_leftovers",
    "ask",
    "chunks",
    "load",
    "load_ids",
    "load_present",
    "load_rivals",
    "save",
    "save_new",
    "save_seen",
    "signed",
    "taken",
    "unit_of",
    "unsigned",
    "upsert",
]

T = TypeVar("T")

#: Values in one IN.
MOST_IN = 512
#: Rows of one INSERT: so many at most, and if they are more than STEP, a multiple of it.  Then two statements do for
#: most batches, and there are few enough of them for SQLite's programs to be kept.
MOST_ROWS, STEP = 128, 16

#: The columns of a unit in the order of the fields of Row, of a digest and of a source in the order of what Row tells.
UNIT = [each.name for each in fields(Row) if each.name not in ("digests", "sources", "repositories", "id")]
DIGEST_KEY, DIGEST = ["unit", "algorithm"], ["value", "trusted"]
SOURCE_KEY, PLACE = ["unit", "position"], ["url", "profile"]
SOURCE = ["priority", "weight", "secret_query", "expires_at", *(each.name for each in fields(Health))]

#: Those of a new unit and of its sources that are not empty (NULL) or as the tables have them where nobody says, in the
#: order in which ``save_new`` tells them.
NEW_UNIT = ["id", *UNIT[: UNIT.index("scrubbed_at")]]
NEW_SOURCE = ["priority", "weight", "secret_query", "last_ok_at", "failures"]
MORE_SOURCE = ["etag", "last_modified", "expires_at"]

#: The columns of a leftover.
LEFTOVER = ["place", "store", "store_key", "left_at", "size", "mtime_ns", "inode", "taken_at", "removed_at"]

_columns = attrgetter(*UNIT)
_INODE = UNIT.index("inode")
#: Where they stand in a row that begins with its id.
_KEY, _PROVEN = 1 + UNIT.index("store_key"), 1 + UNIT.index("proven_at")
_NEW_INODE = NEW_UNIT.index("inode") - len(NEW_UNIT)


def chunks(many: Iterable[T], most: int) -> Iterator[list[T]]:
    """Lists of at most ``most``."""
    iterator = iter(many)
    while part := list(islice(iterator, most)):
        yield part


def ask(
    database: Database, name: str, values: Iterable[Any], query: Callable[[list[Any]], Any], *more: Any
) -> Iterator[Any]:
    """What ``query(values)`` finds, in parts that a statement takes; ``more`` are its other values, after these.

    There are texts for a few lengths alone, so that SQLite's programs are kept; the last value is repeated.
    """
    for part in chunks(values, MOST_IN):
        size = 1 << (len(part) - 1).bit_length()
        head, tail = _around(database, name, f"({database.param})", partial(query, part[:1]))
        text = f"{head}({', '.join([database.param] * size)}){tail}"
        yield from done(database, text, [*part, *part[-1:] * (size - len(part)), *more]).fetchall()


def _around(database: Database, name: Any, places: str, query: Callable[[], Any]) -> tuple[str, str]:
    """What stands before and after the places for one row's values, or for one of an IN, in the text of a query.

    Asked of peewee once for each ``name``: it takes 10 µs a value, longer than SQLite needs to find a row, and a short
    run has many lengths to meet.
    """
    found = _AROUND.get((type(database), name))
    if found is None:
        head, tail = text_of(database, query()).split(places)
        found = _AROUND[type(database), name] = head, tail
    return found


_AROUND: dict[tuple[type[Database], Any], tuple[str, str]] = {}
#: Texts of INSERTs by what they insert, how many rows (MOST_ROWS, STEP: there are few such numbers) and columns: for
#: one model no two lists of columns are equally long.
_SQL: dict[tuple[type[Database], type[Model], bool, int, int], str] = {}


def load(database: Database, name: str, values: Iterable[Any]) -> Iterator[Row]:
    """The rows in whose column ``name`` is one of these values."""
    column, told = getattr(UnitRow, name), [UnitRow.id, *_fields(UnitRow, UNIT)]
    for part in chunks(values, MOST_IN):
        found = ask(database, f"units by {name}", part, lambda some: UnitRow.select(*told).where(column.in_(some)))
        yield from _with_children(database, sorted(found))


def load_present(database: Database, store: str, keys: Iterable[str], whole: int) -> Iterator[Row]:
    """The rows of units that are present under one of these keys of a store.

    Of more than ``whole`` in one place only the one that was proven last.
    """
    told = [UnitRow.id, *_fields(UnitRow, UNIT)]

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
    rivals = _present(database, "rivals", {key for _, key in by_place}, told)
    for ident, identity, store, key, size, mtime_ns, inode in rivals:
        row = by_place.get((store, key))
        if row is not None and identity not in book.rows and row.stamp != (size, mtime_ns, unsigned(inode)):
            found.append(ident)
    return load_ids(database, found)


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
    told = [owner, *_fields(model, names)]
    return ask(database, model.__name__, ids, lambda ids: model.select(*told).where(owner.in_(ids)).order_by(order))


def _fields(model: type[Model], names: Iterable[str]) -> list[Any]:
    return [getattr(model, name) for name in names]


def unsigned(inode: int | None) -> int | None:
    return inode + 2**64 if inode is not None and inode < 0 else inode


def signed(inode: int | None) -> int | None:
    # Some file systems number beyond 2**63; SQLite's and PostgreSQL's integers end there.
    return inode - 2**64 if inode is not None and inode >= 2**63 else inode


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
    told = [UnitRow.id, *_fields(UnitRow, ["identity", "state", "store", "store_key", "size", "mtime_ns", "inode"])]
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
    found = _present(database, "taken", {key for _, key in places}, ["store", "store_key"])
    return any(place in places for place in found)


def _present(database: Database, name: str, keys: Iterable[str], columns: list[str]) -> Iterator[Any]:
    """These columns of all units that are present under one of these keys, in any store."""
    told = _fields(UnitRow, columns)

    def query(some: list[Any]) -> Any:
        return UnitRow.select(*told).where(UnitRow.store_key.in_(some), UnitRow.state == "present")

    return ask(database, name, keys, query, "present")


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


def upsert(database: Database, model: type[Model], names: list[str], values: list[Any], key: list[str]) -> None:
    """Insert these rows, ``values`` one after the other; where one of this key is there, it says what this one says.

    Without a key that is an IntegrityError.
    """
    width = len(names)
    most = min(MOST_ROWS, kind_of(database).most_values // width // STEP * STEP)
    at, end = 0, len(values) // width
    while at < end:
        left = end - at
        count = left if left < STEP else min(left // STEP * STEP, most)
        part = values if count == end else values[at * width : (at + count) * width]
        done(database, _upsert_text(database, model, names, key, count), part)
        at += count


def _upsert_text(database: Database, model: type[Model], names: list[str], key: list[str], count: int) -> str:
    """The text that inserts so many rows.  The same object each time: whoever keeps statements by their texts need
    neither hash nor compare its thousands of characters."""
    known = type(database), model, bool(key), count, len(names)
    text = _SQL.get(known)
    if text is None:
        row = f"({', '.join([database.param] * len(names))})"
        head, tail = _around(
            database, (model, bool(key), len(names)), row, partial(_upserting, database, model, names, key)
        )
        text = _SQL[known] = head + ", ".join([row] * count) + tail
    return text


def _upserting(database: Database, model: type[Model], names: list[str], key: list[str]) -> Any:
    told = _fields(model, names)
    others = [field for name, field in zip(names, told, strict=True) if name not in key]
    query = model.insert_many([(0,) * len(names)], fields=told)
    return kind_of(database).upserting(query, _fields(model, key), others) if key else query


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
