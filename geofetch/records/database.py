"""Which database a URL names, and the one place that opens it.

In: ``sqlite:///units.db`` (relative), ``sqlite:////srv/units.db`` (absolute), ``sqlite:///:memory:``.  Out: an open
peewee Database at the newest schema; a SpecError for a URL that names none, a RecordError for one that does not open.
Everything that one database does otherwise than another stands here: opening, locks, snapshots, numbering, limits.
Never: what is written to it; a file that is no database is left as it is.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from peewee import Database, OperationalError, SqliteDatabase, fn

from ..errors import RecordError, SpecError
from .migrations import bring_up, version_of
from .models import UnitRow
from .sql import done, text_of

__all__ = ["Address", "located", "next_id", "of_database", "open_database", "set_durable", "snapshot", "translated"]

MEMORY = ":memory:"
#: How long a lock of another process is waited for; on the native thread, so that only records wait.
BUSY_S = 30
#: Values in one statement: SQLite takes 32,766, before 3.32 it took 999 (SQLITE_MAX_VARIABLE_NUMBER).
MOST_VALUES = 4000 if sqlite3.sqlite_version_info >= (3, 32) else 900


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is."""

    path: str

    @property
    def is_file(self) -> bool:
        return self.path != MEMORY

    def __str__(self) -> str:
        return self.path if self.is_file else "the database in memory"


def located(url: str) -> Address:
    """The database that a URL names."""
    if not isinstance(url, str):
        raise SpecError(f"a database is named by a URL in text, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SpecError("bad database URL; write sqlite:///units.db") from None
    if parts.scheme != "sqlite":
        # Of a URL for another database nothing but the scheme is shown: the rest may hold a password.
        known = f"databases of type {parts.scheme!r} are not supported" if parts.scheme else "that is no database URL"
        raise SpecError(
            f"{known}; supported is SQLite: sqlite:///units.db, sqlite:////srv/units.db, sqlite:///:memory:"
        )
    path = url.partition("://")[2]
    if url in ("sqlite://", "sqlite:", f"sqlite:///{MEMORY}"):
        return Address(MEMORY)
    if not path.startswith("/") or path == "/" or path.endswith("/") or "\0" in path:
        raise SpecError(
            f"bad database URL {url!r}: write sqlite:///relative.db (three slashes) or sqlite:////absolute.db"
        )
    if "?" in path or "#" in path:
        raise SpecError(f"bad database URL {url!r}: SQLite takes no options here, and no '?' or '#' in its name")
    return Address(os.path.abspath(path[1:]))


def open_database(address: Address, durable: bool) -> Database:
    """The database, open, its parent folder made, its schema the newest."""
    with translated(address):
        if address.is_file:
            os.makedirs(os.path.dirname(address.path), exist_ok=True)
        # lock_type: a transaction takes the writer's lock when it begins.  One that begins as a reader and writes later
        # is refused at once where another process wrote in between, however long it would have waited.
        database = SqliteDatabase(
            address.path, pragmas={"foreign_keys": 1}, timeout=BUSY_S, lock_type="IMMEDIATE", thread_safe=False
        )
        database.connect()
        try:
            version_of(database, str(address))  # before anything is changed: it may be somebody else's
            _write_ahead(database)
            set_durable(database, durable)
            bring_up(database, str(address))
            # From here on a statement's journal stays in memory: an INSERT of many rows would write it to a file in
            # TMPDIR, for a fifth of what the whole batch costs.  The schema's own steps may sort all there is.
            done(database, "PRAGMA temp_store = MEMORY")
        except BaseException:
            database.close()
            raise
        return database


def _write_ahead(database: SqliteDatabase) -> None:
    # SQLite may refuse the change of mode at once, whatever the timeout, while another process is at the same point;
    # for the writer's lock it does wait.
    for _ in range(10):
        try:
            if database.pragma("journal_mode") in ("wal", "memory") or database.pragma("journal_mode", "wal"):
                return
        except OperationalError as exc:
            if "locked" not in str(exc):
                raise
            with database.atomic():
                pass
    raise OperationalError("database is locked")


def set_durable(database: Database, durable: bool) -> None:
    """Whether a commit outlives a cut of power; it always outlives a killed process."""
    # Measured after a cut of power: WAL with synchronous=NORMAL loses committed rows, FULL keeps them.
    done(database, f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")


def snapshot(database: Database) -> AbstractContextManager[Any]:
    """Reads inside see one state of the database, whatever another process writes; no writer is kept out."""
    return database.atomic("DEFERRED") if isinstance(database, SqliteDatabase) else database.atomic()


def next_id(database: Database) -> int:
    """The first of the ids that this transaction may give to new units, counting on from it."""
    # The transaction holds the writer's lock from its beginning (lock_type), so nobody else can give them.  One step
    # for a whole batch: SQLite lets go of the GIL at every row it returns, and a busy hub keeps it for milliseconds.
    kind = type(database)
    if kind not in _NEXT_ID:  # peewee takes longer for the text than SQLite for the answer
        _NEXT_ID[kind] = text_of(database, UnitRow.select(fn.MAX(UnitRow.id)))
    return int(done(database, _NEXT_ID[kind]).fetchall()[0][0] or 0) + 1


_NEXT_ID: dict[type[Database], str] = {}


def of_database(exc: BaseException) -> bool:
    """Whether an error is trouble with the database as such (locked, full, unreadable), not with one row."""
    # By name: drivers have classes of their own for the same errors (PEP 249).
    names = {kind.__name__ for kind in type(exc).__mro__}
    return type(exc).__name__ == "DatabaseError" or bool(names & {"OperationalError", "InternalError", "OSError"})


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Whatever goes wrong inside is a RecordError that names the database."""
    try:
        yield
    except RecordError:
        raise
    except Exception as exc:
        raise RecordError(f"{address}: {reason(exc)}") from exc


def reason(exc: BaseException) -> str:
    """What a database said, in one line."""
    if isinstance(exc, OSError):
        return exc.strerror or type(exc).__name__
    words = str(exc).strip().splitlines()
    return words[0] if words else type(exc).__name__
