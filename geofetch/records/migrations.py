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
from .database import kind_of
from .models import MODELS, SchemaRow
from .schema_3 import units_may_be_wanted
from .sql import done, fetched, run

__all__ = ["MIGRATIONS", "bring_up", "version_of"]

Migration: TypeAlias = Callable[[Database], None]


def _sources_have_a_position(database: Database) -> None:
    """1 to 2: a source is known by its position, not by its URL.  Version 1 was SQLite's alone.

    Its index of all URLs was as large as the table, and no server has one for long ones.
    """
    for step in _SOURCES_2:
        done(database, step)


#: A table that is made anew is as one that was never another; SQLite's own way to add a column leaves traces.
_SOURCES_2 = (
    """CREATE TABLE "sources_2" ("id" INTEGER NOT NULL PRIMARY KEY, "unit_id" INTEGER NOT NULL, "url" TEXT NOT NULL,
    "profile" TEXT NOT NULL, "priority" INTEGER NOT NULL, "weight" INTEGER NOT NULL, "secret_query" INTEGER NOT NULL,
    "last_ok_at_us" INTEGER, "last_failed_at_us" INTEGER, "failures" INTEGER NOT NULL, "last_error" TEXT,
    "position" INTEGER NOT NULL, FOREIGN KEY ("unit_id") REFERENCES "units" ("id") ON DELETE CASCADE)""",
    """INSERT INTO sources_2 SELECT id, unit_id, url, profile, priority, weight, secret_query, last_ok_at_us,
    last_failed_at_us, failures, last_error,
    (SELECT count(*) FROM sources AS earlier WHERE earlier.unit_id = sources.unit_id AND earlier.id < sources.id)
    FROM sources ORDER BY id""",
    "DROP TABLE sources",
    'ALTER TABLE "sources_2" RENAME TO "sources"',
    'CREATE UNIQUE INDEX "sourcerow_unit_id_position" ON "sources" ("unit_id", "position")',
)

MIGRATIONS: tuple[Migration, ...] = (_sources_have_a_position, units_may_be_wanted)


def version_of(database: Database, name: str, newest: int | None = None) -> int | None:
    """The schema version of a database, None for an empty one; a RecordError if it is not ours, or newer than ours."""
    newest = 1 + len(MIGRATIONS) if newest is None else newest
    tables = database.get_tables()
    if not tables:
        return None
    if SchemaRow._meta.table_name not in tables:
        raise RecordError(
            f"{name} is a database of something else: it holds {', '.join(sorted(tables)[:5])}; name one of its own"
        )
    found = fetched(database, SchemaRow.select(fn.MAX(SchemaRow.version)))[0][0]
    if found is None and not kind_of(database).undoes_schema:
        return None  # whoever made it was ended half way; nothing can have been recorded
    if found is None:
        raise RecordError(f"{name} is damaged: its schema has no version")
    if found > newest:
        raise RecordError(f"{name} was written by a newer geofetch: its schema is {found}, this one knows {newest}")
    return int(found)


def bring_up(database: Database, name: str, steps: Sequence[Migration] | None = None) -> int:
    """Make it the newest schema; its version.  Two processes may do so at the same moment."""
    steps = MIGRATIONS if steps is None else steps
    newest, kind = 1 + len(steps), kind_of(database)
    found = version_of(database, name, newest)
    while found != newest:
        with kind.altering(database):  # the writer's lock is ours from here: what it says now stays so
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
    kind = kind_of(database)
    if not kind.undoes_schema:
        for model in reversed(MODELS):
            SchemaManager(model, database).drop_table(safe=True)
    for model in MODELS:
        kind.create(database, model)
