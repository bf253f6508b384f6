"""2 to 3: a unit may be wanted and not be stored yet; what its sources said, until when they count; leftovers.

In: a database of version 2, whatever its kind.  Out: the same at version 3, with the rows it had.  Never: models.py,
which moves on.

SQLite cannot take NOT NULL off a column, so two tables are made anew there, as its documentation tells
(https://sqlite.org/lang_altertable.html, 7; foreign keys are off meanwhile: Kind.altering).  Servers alter theirs.  In
MySQL and MariaDB each statement commits by itself: one that was carried out before its process ended is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peewee import (
    SQL,
    BigIntegerField,
    BlobField,
    Check,
    Database,
    Field,
    IntegerField,
    Model,
    TextField,
)

from .database import kind_of
from .database.mysql import MySQL
from .database.postgresql import PostgreSQL
from .sql import done

__all__ = ["units_may_be_wanted"]


def units_may_be_wanted(database: Database) -> None:
    """The step itself."""
    if isinstance(database, PostgreSQL | MySQL):
        _altered(database)
    else:
        for table, create, copy in (("units", _UNITS, _COPY_UNITS), ("sources", _SOURCES, _COPY_SOURCES)):
            with _made_anew(database, table):
                done(database, create)
                done(database, copy)
        done(database, _LEFTOVERS)
        done(database, f'CREATE INDEX "{_NEW_INDEX}" ON "unit_repositories" ("repository_id", "unit_id")')
        done(database, f'DROP INDEX "{_OLD_INDEX}"')


_OLD_INDEX, _NEW_INDEX = "unitrepositoryrow_repository_id", "unitrepositoryrow_repository_id_unit_id"

# --- SQLite

_UNITS = """CREATE TABLE "units_new" ("id" INTEGER NOT NULL PRIMARY KEY, "identity" BLOB NOT NULL,
"type" TEXT NOT NULL, "key" TEXT NOT NULL, "path" TEXT NOT NULL, "store" TEXT NOT NULL, "store_key" TEXT NOT NULL,
"size_bytes" INTEGER CHECK (size_bytes >= 0), "mtime_ns" INTEGER, "inode" INTEGER,
"state" TEXT NOT NULL CHECK (state = 'present' OR state = 'missing' OR state = 'corrupt' OR state = 'quarantined'),
"verified" TEXT NOT NULL CHECK (verified = 'digest' OR verified = 'size' OR verified = 'framing'
OR verified = 'nothing'), "metadata" TEXT, "stored_at_us" INTEGER, "proven_at_us" INTEGER, "scrubbed_at_us" INTEGER,
"scrub_result" TEXT, "policy" TEXT NOT NULL DEFAULT 'immediate'
CHECK (policy = 'immediate' OR policy = 'on_demand' OR policy = 'streamed'),
"pending" TEXT CHECK (pending = 'fetch'), "tries" INTEGER NOT NULL DEFAULT 0, "unlisted_at_us" INTEGER)"""

_COPY_UNITS = """INSERT INTO units_new SELECT id, identity, type, key, path, store, store_key, size_bytes, mtime_ns,
inode, state, verified, metadata, stored_at_us, proven_at_us, scrubbed_at_us, scrub_result, 'immediate', NULL, 0, NULL
FROM units ORDER BY id"""

_SOURCES = """CREATE TABLE "sources_new" ("id" INTEGER NOT NULL PRIMARY KEY, "unit_id" INTEGER NOT NULL,
"url" TEXT NOT NULL, "profile" TEXT NOT NULL, "priority" INTEGER NOT NULL, "weight" INTEGER NOT NULL,
"secret_query" INTEGER NOT NULL, "last_ok_at_us" INTEGER, "last_failed_at_us" INTEGER, "failures" INTEGER NOT NULL,
"last_error" TEXT, "position" INTEGER NOT NULL, "expires_at_us" INTEGER, "etag" TEXT, "last_modified" TEXT,
"cooldown_until_us" INTEGER, FOREIGN KEY ("unit_id") REFERENCES "units" ("id") ON DELETE CASCADE)"""

_COPY_SOURCES = """INSERT INTO sources_new SELECT id, unit_id, url, profile, priority, weight, secret_query,
last_ok_at_us, last_failed_at_us, failures, last_error, position, NULL, NULL, NULL, NULL FROM sources ORDER BY id"""

_LEFTOVERS = """CREATE TABLE "leftovers" ("place" BLOB NOT NULL PRIMARY KEY, "store" TEXT NOT NULL,
"store_key" TEXT NOT NULL, "left_at_us" INTEGER NOT NULL, "size_bytes" INTEGER, "mtime_ns" INTEGER, "inode" INTEGER,
"taken_at_us" INTEGER, "removed_at_us" INTEGER)"""


@contextmanager
def _made_anew(database: Database, table: str) -> Iterator[None]:
    """``{table}_new``, which is made and filled inside, in place of the table, with the same indexes and triggers."""
    query = "SELECT sql FROM sqlite_master WHERE tbl_name = ? AND type IN ('index', 'trigger') AND sql IS NOT NULL"
    besides = [text for (text,) in done(database, query, (table,)).fetchall()]
    yield
    done(database, f"DROP TABLE {table}")
    done(database, f'ALTER TABLE "{table}_new" RENAME TO "{table}"')
    for text in besides:
        done(database, text)


# --- servers


class HashField(BlobField):
    field_type = "HASH"


class NameField(TextField):
    field_type = "NAME"


class LongTextField(TextField):
    field_type = "LONGTEXT"


class Units(Model):
    policy = NameField(
        constraints=[
            SQL("DEFAULT 'immediate'"),
            Check("policy = 'immediate' OR policy = 'on_demand' OR policy = 'streamed'"),
        ]
    )
    pending = NameField(null=True, constraints=[Check("pending = 'fetch'")])
    tries = IntegerField(constraints=[SQL("DEFAULT 0")])
    unlisted_at = BigIntegerField(column_name="unlisted_at_us", null=True)


class Sources(Model):
    expires_at = BigIntegerField(column_name="expires_at_us", null=True)
    etag = TextField(null=True)
    last_modified = TextField(null=True)
    cooldown_until = BigIntegerField(column_name="cooldown_until_us", null=True)


class Leftovers(Model):
    place = HashField(primary_key=True)
    store = TextField()
    store_key = LongTextField()
    left_at = BigIntegerField(column_name="left_at_us")
    size = BigIntegerField(column_name="size_bytes", null=True)
    mtime_ns = BigIntegerField(null=True)
    inode = BigIntegerField(null=True)
    taken_at = BigIntegerField(column_name="taken_at_us", null=True)
    removed_at = BigIntegerField(column_name="removed_at_us", null=True)

    class Meta:
        table_name = "leftovers"


def _altered(database: Database) -> None:
    for table, model in (("units", Units), ("sources", Sources)):
        fields = model._meta.sorted_fields[1:]  # peewee gives an id to who names none
        if fields[0].column_name not in {column.name for column in database.get_columns(table)}:
            changes = [f"ADD COLUMN {_column(database, field)}" for field in fields]
            done(database, f"ALTER TABLE {table} {', '.join(changes)}")
    nullable = _MODIFIED if isinstance(database, MySQL) else _DROPPED
    done(database, nullable)
    indexes = {index.name for index in database.get_indexes("unit_repositories")}
    if _NEW_INDEX not in indexes:  # the other one goes last: MySQL's foreign key wants one of them
        done(database, f"CREATE INDEX {_NEW_INDEX} ON unit_repositories (repository_id, unit_id)")
    if _OLD_INDEX in indexes:
        of = " ON unit_repositories" if isinstance(database, MySQL) else ""
        done(database, f"DROP INDEX {_OLD_INDEX}{of}")
    if "leftovers" not in database.get_tables():
        kind_of(database).create(database, Leftovers)


_DROPPED = "ALTER TABLE units ALTER COLUMN size_bytes DROP NOT NULL, ALTER COLUMN stored_at_us DROP NOT NULL"
#: MariaDB's CHECK belongs to the column and would be lost; to MySQL the same once more does no harm.
_MODIFIED = "ALTER TABLE units MODIFY size_bytes BIGINT CHECK (size_bytes >= 0), MODIFY stored_at_us BIGINT"


def _column(database: Database, field: Field) -> str:
    """A column as a statement tells it."""
    context: Any = database.get_sql_context()
    return str(context.sql(field.ddl(context)).query()[0])
