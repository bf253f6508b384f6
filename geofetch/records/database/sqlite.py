"""SQLite: a file, or memory.  In: an address.  Out: it open, as this library wants it; transactions, ids.

Never: a file that is no database changed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from peewee import Database, IntegrityError, OperationalError, SqliteDatabase, fn

from ..models import UnitRow
from ..sql import done, text_of
from .kind import BUSY_S, Kind

if TYPE_CHECKING:
    from .address import Address

#: Faults after which a file is known to be bad.
MOST_FAULTS = 100

__all__ = ["MEMORY", "SQLITE", "SQLite"]

MEMORY = ":memory:"


class SQLite(Kind):
    #: SQLite takes 32,766, before 3.32 it took 999 (SQLITE_MAX_VARIABLE_NUMBER).
    most_values = 4000 if sqlite3.sqlite_version_info >= (3, 32) else 900
    truth = int  # its driver takes an int as it is, and asks each bool how it wants to be adapted

    def connected(self, address: Address) -> Database:
        if address.is_file:
            os.makedirs(os.path.dirname(address.path), exist_ok=True)
        # lock_type: a transaction takes the writer's lock when it begins.  One that begins as a reader and writes later
        # is refused at once where another process wrote in between, however long it would have waited.
        database = SqliteDatabase(
            address.path,
            pragmas={"foreign_keys": 1},
            timeout=BUSY_S,
            lock_type="IMMEDIATE",
            thread_safe=False,
            field_types={"HASH": "BLOB", "NAME": "TEXT", "LONGTEXT": "TEXT"},
        )
        database.connect()
        return database

    def prepared(self, database: Database, durable: bool) -> None:
        _write_ahead(database)
        self.set_durable(database, durable)

    def settled(self, database: Database) -> None:
        # From here on a statement's journal stays in memory: an INSERT of many rows would write it to a file in
        # TMPDIR, for a fifth of what the whole batch costs.  The schema's own steps may sort all there is.
        done(database, "PRAGMA temp_store = MEMORY")

    def set_durable(self, database: Database, durable: bool) -> None:
        # Measured after a cut of power: WAL with synchronous=NORMAL loses committed rows, FULL keeps them.
        done(database, f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")

    def writing(self, database: Database) -> AbstractContextManager[Any]:
        return database.atomic()

    @contextmanager
    def altering(self, database: Database) -> Iterator[Any]:
        # A table is made anew by dropping the old one; with foreign keys on, that deletes the rows that refer to it,
        # and by today's ways the new one's name would be written into views that name the old one.  Neither can be
        # set within a transaction.
        enforced = done(database, "PRAGMA foreign_keys").fetchone()[0]
        done(database, "PRAGMA foreign_keys = OFF")
        done(database, "PRAGMA legacy_alter_table = ON")
        try:
            with self.writing(database):
                yield
                if orphan := done(database, "PRAGMA foreign_key_check").fetchone():
                    raise IntegrityError(
                        f"rows of {orphan[0]} refer to {orphan[2]} that are not there; delete them, then try again"
                    )
        finally:
            done(database, "PRAGMA legacy_alter_table = OFF")
            done(database, f"PRAGMA foreign_keys = {enforced}")

    def snapshot(self, database: Database) -> AbstractContextManager[Any]:
        return database.atomic("DEFERRED")

    def faults(self, database: Database) -> list[str]:
        # Its first word is "*** in database main ***" where pages are wrong: one sentence each.
        told = [str(row[0]) for row in done(database, f"PRAGMA integrity_check({MOST_FAULTS})").fetchall()]
        found = [line for text in told for line in text.splitlines() if line != "ok" and not line.startswith("***")]
        if not found:  # rows of tables that are whole may still lead nowhere
            lost = done(database, "PRAGMA foreign_key_check").fetchmany(MOST_FAULTS)
            found = [f"row {row[1]} of {row[0]} belongs to a row of {row[2]} that is not there" for row in lost]
        return found

    def new_ids(self, database: Database, count: int) -> Sequence[int]:
        # The transaction holds the writer's lock from its beginning (lock_type), so nobody else can give them.  One
        # step for a whole batch: SQLite lets go of the GIL at every row it returns, and a busy hub keeps it for
        # milliseconds.
        if not _LAST:  # peewee takes longer for the text than SQLite for the answer
            _LAST.append(text_of(database, UnitRow.select(fn.MAX(UnitRow.id))))
        first = int(done(database, _LAST[0]).fetchall()[0][0] or 0) + 1
        return range(first, first + count)


_LAST: list[str] = []

SQLITE = SQLite()


def _write_ahead(database: Any) -> None:
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
