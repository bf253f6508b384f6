"""The database as the native thread sees it: opened when first needed, written by the batch, read by the page.

In: changes, lookups, questions, each a list.  Out: a list of answers in the same order; an exception among them is the
answer of that one alone.  Never: greenlets, a hub.  All of it is called by one native thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, cast

from peewee import Database, IntegrityError

from ..errors import RecordError
from . import reader
from .changes import Book, Change, Import, Note, Put
from .database import Address, of_database, open_database, reason, set_durable, snapshot, translated
from .plugin import Plugin, Recorded, furnish, tell
from .rows import load, load_rivals, save, save_new
from .units import FILE

__all__ = ["Ledger"]


class Ledger:
    """One connection to the database at an address.  ``commits`` counts the transactions that wrote something."""

    def __init__(self, address: Address, plugins: Sequence[Plugin] = ()) -> None:
        self.address = address
        self._plugins = plugins
        self.commits = 0
        self._database: Database | None = None
        self._durable = False
        # Whether the last batch was of new files alone: so will be the next, most likely.  Of a run that finds all its
        # files there, one batch is taken for new in vain.
        self._news = True
        self._file: tuple[int, int] | None = None

    def write(self, changes: Sequence[Change], durable: bool) -> list[Any]:
        """Apply these changes in one transaction.

        A change that no row can hold does not harm the others: when the whole cannot be written, each is tried for
        itself.  Trouble with the database as such fails them all.
        """
        with translated(self.address):
            database = self._open(durable)
            try:
                answers = self._all(database, changes)
            except Exception as exc:
                if of_database(exc):
                    self._let_go()
                raise
            self.commits += 1
            return answers

    def _all(self, database: Database, changes: Sequence[Change]) -> list[Any]:
        try:
            for change in changes:
                change.prepare()  # before the transaction: others may write meanwhile
            if self._news and _written_as_new(database, changes, self._plugins):
                return [None] * len(changes)
            with database.atomic():
                answers, self._news = _written(database, changes, self._plugins)
            return answers
        except Exception as exc:
            if of_database(exc):
                raise
        with database.atomic():
            return [self._alone(database, change) for change in changes]

    def _alone(self, database: Database, change: Change) -> Any:
        try:
            change.prepare()
            with database.savepoint():
                return _written(database, [change], self._plugins)[0][0]
        except Exception as exc:
            if of_database(exc):
                raise
            error = RecordError(f"{self.address}: {reason(exc)}")
            error.__cause__ = exc
            return error

    def recall(self, asked: Sequence[tuple[str, str]], durable: bool) -> list[Any]:
        """For each (store, key) the file that is there and its digests, or None."""
        with translated(self.address):
            database = self._open(durable)
            found = reader.recall(database, set(asked))
            return [found.get(place) for place in asked]

    def answer(self, questions: Sequence[Callable[[Database], Any]], durable: bool) -> list[Any]:
        """What each of these finds out from the database."""
        with translated(self.address):
            database = self._open(durable)
            return [self._answered(database, question) for question in questions]

    def _answered(self, database: Database, question: Callable[[Database], Any]) -> Any:
        try:
            with translated(self.address), snapshot(database):
                return question(database)
        except RecordError as exc:
            return exc

    def close(self) -> None:
        """Close the database; what was read into its log is put into the file."""
        database, self._database = self._database, None
        if database is not None:
            with translated(self.address):
                database.close()

    def _open(self, durable: bool) -> Database:
        if self._database is not None and self.address.is_file and self._stamp() != self._file:
            # What is written to a file without a name is gone with the process: better no word than that one.
            self._let_go()
            raise RecordError(f"{self.address} was removed or replaced while it was in use")
        if self._database is None:
            self._database = open_database(self.address, durable)
            self._durable, self._file = durable, self._stamp()
            furnish(self._database, self._plugins)
        elif self._durable != durable:
            set_durable(self._database, durable)
            self._durable = durable
        return self._database

    def _stamp(self) -> tuple[int, int] | None:
        if not self.address.is_file:
            return None
        try:
            found = os.stat(self.address.path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _let_go(self) -> None:
        """Forget a connection that is in trouble; the next use opens a new one.  One in memory is all there is."""
        if self.address.is_file and self._database is not None:
            database, self._database = self._database, None
            database.close()


def _written_as_new(database: Database, changes: Sequence[Change], plugins: Sequence[Plugin]) -> bool:
    """Whether these were written as files that nobody knew, in one transaction; if not, nothing was written.

    That is what most batches are, and then there is nothing to look up and to merge.  It is not taken on trust: who is
    known is refused by the index on ``identity``, and a place that another unit is said to be in is looked up.
    """
    puts = [change for change in changes if isinstance(change, Put)]
    places = {(put.kept.store, put.kept.key) for put in puts}
    if len(puts) < len(changes) or len(places) < len(puts):
        return False
    try:
        with database.atomic():
            ids = save_new(database, puts, places)
            if plugins and ids is not None:
                tell(database, plugins, [Recorded(ident, put.spec) for ident, put in zip(ids, puts, strict=True)])
            return ids is not None
    except IntegrityError:
        return False


def _written(database: Database, changes: Sequence[Change], plugins: Sequence[Plugin]) -> tuple[list[Any], bool]:
    """The answers, and whether nothing was known of all this."""
    book = Book(_concerned(database, changes))
    book.learn(load_rivals(database, book, [change.row for change in changes if isinstance(change, Put)]))
    answers = [change.apply(book) for change in changes]
    save(database, book)
    if plugins:
        puts = [change for change in changes if isinstance(change, Put)]
        tell(database, plugins, [Recorded(cast(int, book.rows[put.identity].id), put.spec) for put in puts])
    return answers, not book.loaded


def _concerned(database: Database, changes: Sequence[Change]) -> list[Any]:
    identities, paths = set(), set()
    for change in changes:
        if isinstance(change, Note) and change.identity is None:
            paths.add(change.spec.path)
            continue
        identities.add(change.row.identity if isinstance(change, Import) else change.identity)
    found = list(load(database, "identity", identities))
    if paths:
        found += [row for row in load(database, "path", paths) if row.type == FILE]
    return found
