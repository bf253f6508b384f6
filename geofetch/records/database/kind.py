"""What is asked of every kind of database.

In: an address, a database of that kind, an error of its driver's.  Out: the database open, a transaction, ids, yes or
no.  Never: SQL that all of them understand; that stands with those who ask.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from peewee import Database, Model, SchemaManager

from ..sql import run

if TYPE_CHECKING:
    from .address import Address

__all__ = ["BUSY_S", "IDLE_S", "MOST_VALUES", "SILENT_S", "Kind", "original", "reason"]

#: How long a lock of another process is waited for; on the native thread, so that only records wait.
BUSY_S = 30
#: Seconds for which a transaction may do nothing while it keeps others waiting: a stopped process's, or a lost one's.
IDLE_S = 15
#: Seconds for which a server that was asked may say nothing at all.  Nothing takes so long, but for a step of the
#: schema, which has all the time it wants.
SILENT_S = 120
#: Values in one statement of a server's; PostgreSQL takes 65,535.
MOST_VALUES = 4000


class Kind:
    """One kind of database.  What is the same in most of them stands here."""

    #: The schemes of its URLs.
    schemes: ClassVar[tuple[str, ...]] = ()
    #: Values in one statement.
    most_values: int = MOST_VALUES
    #: What a truth is told as.
    truth: ClassVar[type[int]] = bool
    #: Whether a step of the schema is undone with its transaction.
    undoes_schema: ClassVar[bool] = True

    def told(self, given: Mapping[str, str]) -> Mapping[str, Any]:
        """What its driver wants to know, of what a URL tells by libpq's names.

        A SpecError for what is wrong, or a ValueError where that may be a part of the password.
        """
        raise NotImplementedError

    def connected(self, address: Address) -> Database:
        """A connection; nothing of the database was changed."""
        raise NotImplementedError

    def prepared(self, database: Database, durable: bool) -> None:
        """Settings of a connection to a database that is ours, before its schema is made."""
        self.set_durable(database, durable)

    def settled(self, database: Database) -> None:
        """Settings of a connection whose database has its schema."""

    def set_durable(self, database: Database, durable: bool) -> None:
        """Whether a commit outlives a cut of power; it always outlives a killed process."""

    def writing(self, database: Database) -> AbstractContextManager[Any]:
        """A transaction in which nobody else writes records: who comes later waits, and sees what it left."""
        raise NotImplementedError

    def altering(self, database: Database) -> AbstractContextManager[Any]:
        """A step of the schema, which nobody else takes meanwhile."""
        return self.writing(database)

    def snapshot(self, database: Database) -> AbstractContextManager[Any]:
        """Reads inside see one state of the database, whatever another process writes; no writer is kept out."""
        raise NotImplementedError

    def create(self, database: Database, model: type[Model]) -> None:
        """The table of this model, and its indexes."""
        manager: Any = SchemaManager(model, database)
        manager.create_table(safe=False)
        for index in model._meta.fields_to_index():
            run(database, manager._create_index(self.index(index), safe=False))

    def index(self, index: Any) -> Any:
        """This index of a model's as it suits columns of any length."""
        return index

    def new_ids(self, database: Database, count: int) -> Sequence[int]:
        """So many ids for new units, ascending, which this transaction alone may give."""
        raise NotImplementedError

    def upserting(self, query: Any, key: list[Any], others: list[Any]) -> Any:
        """This INSERT; where a row of this key is there, its other columns say what the INSERT says."""
        if not others:
            return query.on_conflict_ignore()
        return query.on_conflict(conflict_target=key, preserve=others)

    def unfit(self, text: str) -> str | None:
        """Why no column holds this text; None: one does."""
        try:
            text.encode()
        except UnicodeEncodeError:
            return "it is no text: surrogates stand for bytes that are not UTF-8"
        return None

    def of_row(self, exc: BaseException) -> bool:
        """Whether an error that its driver calls the database's own is about one row."""
        return False

    def faults(self, database: Database) -> list[str]:
        """What it finds wrong with itself, where its files are ours to look after; a server sees to its own."""
        return []

    def passing(self, exc: BaseException, known: bool) -> bool:
        """Whether it may go well a moment later, over a new connection; ``known``: that there was one before."""
        return False


def original(exc: BaseException) -> BaseException:
    """The driver's own error, of which peewee made this one."""
    found = getattr(exc, "orig", None)
    return found if isinstance(found, BaseException) else exc


def reason(exc: BaseException) -> str:
    """What a database said, in one line."""
    if isinstance(exc, OSError):
        return exc.strerror or type(exc).__name__
    exc = original(exc)
    # PyMySQL's errors are a number and what it means.
    said = exc.args[-1] if len(exc.args) == 2 and isinstance(exc.args[0], int) else exc
    words = str(said).strip().splitlines()
    return words[0] if words else type(exc).__name__
