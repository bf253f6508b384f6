"""A query of peewee's, or its text, given to a database.

In: a database and a query.  Out: rows as plain tuples: a Model's instance for each costs
more than SQLite's own work.
Never: which query, or why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peewee import Database

__all__ = ["done", "fetched", "run", "text_of"]


def fetched(database: Database, query: Any) -> list[Any]:
    """The rows that a query finds."""
    return list(database.execute(query).fetchall())  # type: ignore[no-untyped-call]


def run(database: Database, query: Any) -> None:
    """Carry out a query that finds nothing."""
    database.execute(query)  # type: ignore[no-untyped-call]


def done(database: Database, text: str, values: Sequence[Any] = ()) -> Any:
    """The cursor of a statement that was carried out."""
    return database.execute_sql(text, values)  # type: ignore[no-untyped-call]


def text_of(database: Database, query: Any) -> str:
    """The text of a query in the database's own dialect, a place for each value."""
    return str(database.get_sql_context().sql(query).query()[0])  # type: ignore[no-untyped-call]
