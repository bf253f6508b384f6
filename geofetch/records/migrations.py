"""From the schema a database has to the one this geofetch writes: forwards, one transaction a step.

A new database gets the tables of models.py as they are today and is stamped with today's version.  An older one is
carried along by MIGRATIONS, whose first entry leads from version 1 to 2.  Each step works in plain SQL or with models
of its own, frozen as they were then: models.py moves on.

In: an open database.  Out: the same, at VERSION; or a RecordError, and nothing was changed.  Never: a way back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from peewee import Database, SchemaManager, fn

from ..errors import RecordError
from .models import MODELS, SchemaRow
from .sql import fetched, run

__all__ = ["MIGRATIONS", "bring_up", "version_of"]

Migration: TypeAlias = Callable[[Database], None]

MIGRATIONS: tuple[Migration, ...] = ()


def version_of(database: Database, name: str, newest: int | None = None) -> int | None:
    """The schema version of a database, None for an empty one; a RecordError if it is not ours, or newer than ours."""
    newest = 1 + len(MIGRATIONS) if newest is None else newest
    tables = database.get_tables()
    if not tables:
        return None
    if SchemaRow._meta.table_name not in tables:
        raise RecordError(f"{name} is a database of something else: it holds {', '.join(sorted(tables)[:5])}")
    found = fetched(database, SchemaRow.select(fn.MAX(SchemaRow.version)))[0][0]
    if found is None:
        raise RecordError(f"{name} is damaged: its schema has no version")
    if found > newest:
        raise RecordError(f"{name} was written by a newer geofetch: its schema is {found}, this one knows {newest}")
    return int(found)


def bring_up(database: Database, name: str, steps: Sequence[Migration] | None = None) -> int:
    """Make it the newest schema; its version.  Two processes may do so at the same moment."""
    steps = MIGRATIONS if steps is None else steps
    newest = 1 + len(steps)
    found = version_of(database, name, newest)
    while found != newest:
        with database.atomic():  # the writer's lock is ours from here: what it says now stays so
            found = version_of(database, name, newest)
            if found is None:
                _create(database)
                found = newest
            elif found < newest:
                steps[found - 1](database)
                found += 1
            else:
                break
            run(database, SchemaRow.insert(version=found, applied_at=time.time_ns() // 1000))
    return newest


def _create(database: Database) -> None:
    for model in MODELS:
        SchemaManager(model, database).create_all(safe=False)
