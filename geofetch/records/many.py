"""Statements for many values, or many rows, at a time.

In: queries of peewee's for one, values for thousands.  Out: what they find; rows inserted.  Never: a transaction, a
table's name.

Each statement takes as many values or rows as fit.  That is not only for SQLite's sake: its driver lets go of the GIL
at every statement and every row it returns, and a busy hub gives it back after milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from peewee import Database, Model

from .database import kind_of
from .sql import done, text_of

__all__ = ["MOST_IN", "ask", "chunks", "columns", "upsert"]

T = TypeVar("T")

#: Values in one IN.
MOST_IN = 512
#: Rows of one INSERT: so many at most, and if they are more than STEP, a multiple of it.  Then two statements do for
#: most batches, and there are few enough of them for SQLite's programs to be kept.
MOST_ROWS, STEP = 128, 16


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
#: Texts of INSERTs by what they insert, and how many rows (MOST_ROWS, STEP: there are few such numbers).
_SQL: dict[tuple[type[Database], type[Model], bool, int, int], str] = {}


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
    told = columns(model, names)
    others = [field for name, field in zip(names, told, strict=True) if name not in key]
    query = model.insert_many([(0,) * len(names)], fields=told)
    return kind_of(database).upserting(query, columns(model, key), others) if key else query


def columns(model: type[Model], names: Iterable[str]) -> list[Any]:
    """The columns of these names."""
    return [getattr(model, name) for name in names]
