"""The database as the native thread sees it: opened when first needed, written by the batch, read by the page.

In: changes, lookups, questions, each a list.  Out: a list of answers in the same order; an exception among them is the
answer of that one alone.  Never: greenlets, a hub.  All of it is called by one native thread.

A server that restarts is waited for, and what it may not have heard is said again: PATIENCE_S at most, from the first
failure on.  A batch that was committed although nobody heard of it is written once more; changes.py sees to it that
this says nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from random import random
from time import monotonic, sleep, time_ns
from typing import Any, TypeVar, cast

from peewee import Database

from ..errors import RecordError
from ..names import shown
from .book import Book
from .changes import Change, Import, Join, Leave, Mark, Note, Want
from .database import Address, kind_of, of_database, reason, translated
from .known import Remembered, recall
from .leftovers import BeingRemoved, gone
from .opening import open_database
from .plugin import Plugin, Recorded, furnish, tell
from .put import Put
from .routine import written_as_new, written_as_seen
from .rows import load, load_rivals
from .saving import any_leftovers, save
from .units import FILE

__all__ = ["PATIENCE_S", "Ledger"]

T = TypeVar("T")

#: Seconds for which a server that was there is waited for.
PATIENCE_S = 30
#: Seconds between two tries: so many at first, twice as many each time, and no more than the last.
PAUSES_S = 0.05, 1.0
#: Seconds that are slept without a look whether there is still time.
NAP_S = 0.1


class Ledger:
    """One connection to the database at an address.  ``commits`` counts the transactions that wrote something."""

    def __init__(self, address: Address, plugins: Sequence[Plugin] = ()) -> None:
        self.address = address
        self._plugins = plugins
        self.commits = 0
        self._database: Database | None = None
        self._durable = False
        self._known = False  # whether there ever was a connection
        #: When nobody waits for the database any more, as the hub says; None: as long as there is patience.
        self.given_up_at: float | None = None
        # Whether the last batch was of new files alone: so will be the next, most likely.  Of a run that finds all its
        # files there, one batch is taken for new in vain.
        self._news = True
        self._file: tuple[int, int] | None = None

    def write(self, changes: Sequence[Change], durable: bool) -> list[Any]:
        """Apply these changes in one transaction.

        A change that no row can hold does not harm the others: when the whole cannot be written, each is tried for
        itself.  Trouble with the database as such fails them all.
        """
        answers = self._patiently(durable, lambda database: self._all(database, changes))
        self.commits += 1
        return answers

    def _patiently(self, durable: bool, work: Callable[[Database], T]) -> T:
        """What this comes to; once more, over a new connection, where the database was away for a moment."""
        until, pause = None, PAUSES_S[0]
        with translated(self.address):
            while True:
                try:
                    return work(self._open(durable))
                except Exception as exc:
                    if not of_database(exc):
                        raise
                    self._let_go()
                    until = until or monotonic() + PATIENCE_S
                    if not self.address.kind.passing(exc, self._known) or not self._slept(pause, until):
                        raise
                pause = min(2 * pause, PAUSES_S[1])

    def _slept(self, pause: float, until: float) -> bool:
        """Wait for a while, where there is time left; whether there was."""
        if monotonic() >= until:
            return False
        up_to = monotonic() + pause * (0.5 + random())  # others wait for the same server
        while (left := up_to - monotonic()) > 0:
            if self.given_up_at is not None and monotonic() >= self.given_up_at:
                return False
            # On the records' own thread: in a patched process that thread's own hub sleeps, nobody else's.
            sleep(min(left, NAP_S))
        return True

    def _all(self, database: Database, changes: Sequence[Change]) -> list[Any]:
        try:
            for change in changes:
                change.prepare()  # before the transaction: others may write meanwhile
            if self._news and written_as_new(database, changes, self._plugins):
                return [None] * len(changes)
            if written_as_seen(database, changes):
                return [True] * len(changes)
            with kind_of(database).writing(database):
                answers, self._news = _written(database, changes, self._plugins)
            return answers
        except Exception as exc:
            if of_database(exc):
                raise
        with kind_of(database).writing(database):
            return [self._alone(database, change) for change in changes]

    def _alone(self, database: Database, change: Change) -> Any:
        try:
            change.prepare()
        except Exception as exc:  # it says nothing that a row could hold: there is none to look at
            return self._refused(f"this cannot be recorded: {reason(exc)}", exc)
        try:
            with database.savepoint():
                return _written(database, [change], self._plugins)[0][0]
        except Exception as exc:
            if of_database(exc):
                raise
            return self._refused(self._unfit(change) or reason(exc), exc)

    def _refused(self, why: str, exc: Exception) -> RecordError:
        error = RecordError(f"{self.address}: {self.address.masked(why)}")
        error.__cause__ = exc
        return error

    def _unfit(self, change: Change) -> str | None:
        """Which text of this change no column holds, and what can be done about it."""
        for name, text, cure in _texts(change):
            why = self.address.kind.unfit(text)
            if why is not None:
                said = shown(text) if name == "URL" else text
                return f"the {name} {said!r} cannot be recorded, {why}; {cure}"
        return None

    def recall(self, asked: Sequence[tuple[str, str]], durable: bool) -> list[Remembered | None]:
        """For each (store, key) what is known of the file that is there, or None."""
        found = self._patiently(durable, lambda database: self._recalled(database, set(asked)))
        return [found.get(place) for place in asked]

    def _recalled(self, database: Database, asked: set[tuple[str, str]]) -> dict[tuple[str, str], Remembered]:
        try:
            return recall(database, asked)
        except Exception as exc:
            unfit = {place for place in asked if any(map(self.address.kind.unfit, place))}
            if of_database(exc) or not unfit:
                raise
        return recall(database, asked - unfit)  # what no row holds is not known

    def answer(self, questions: Sequence[Callable[[Database], Any]], durable: bool) -> list[Any]:
        """What each of these finds out from the database."""
        return self._patiently(durable, lambda database: [self._answered(database, each) for each in questions])

    def edit(self, works: Sequence[Callable[[Database], Any]], durable: bool) -> list[Any]:
        """What each of these comes to, in a transaction of its own; each may be done twice."""
        answers = self._patiently(
            durable, lambda database: [self._answered(database, work, kind_of(database).writing) for work in works]
        )
        self.commits += 1
        return answers

    def _answered(self, database: Database, question: Callable[[Database], Any], how: Any = None) -> Any:
        try:
            with translated(self.address), (how or kind_of(database).snapshot)(database):
                return question(database)
        except RecordError as exc:
            cause = exc.__cause__
            if cause is not None and of_database(cause) and self.address.kind.passing(cause, True):
                raise cause from None
            return exc

    def close(self) -> None:
        """Close the database; what was read into its log is put into the file."""
        database, self._database = self._database, None
        if database is not None:
            with translated(self.address):
                try:
                    database.close()
                except Exception:
                    if self.address.is_file:  # a server may be gone before us
                        raise

    def _open(self, durable: bool) -> Database:
        if self._database is not None and self.address.is_file and self._stamp() != self._file:
            # What is written to a file without a name is gone with the process: better no word than that one.
            self._let_go()
            raise RecordError(f"{self.address} was removed or replaced while it was in use")
        if self._database is None:
            found = open_database(self.address, durable)
            self._known = True
            try:
                furnish(found, self._plugins)
            except BaseException:
                found.close()  # the next one who asks finds tables missing once more, and not a plugin without them
                raise
            self._database, self._durable, self._file = found, durable, self._stamp()
        elif self._durable != durable:
            self.address.kind.set_durable(self._database, durable)
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
        if self.address.is_kept and self._database is not None:
            database, self._database = self._database, None
            with suppress(Exception):  # it is in trouble as it is
                database.close()


def _texts(change: Change) -> Iterator[tuple[str, str, str]]:
    """The texts of a change that come from outside: what each is, itself, and what can be done about it."""
    if isinstance(change, Put | Want | Import):
        row = change.row
        yield "path", row.path, "give the file another path"
        yield "store's name", row.store, "give the store another one"
        yield "key in its store", row.store_key, "give the file another path"
        for url, profile in row.sources:
            yield "URL", url, "percent-encode it"
            yield "profile's name", profile, "give it another one"
        for repository in row.repositories:
            yield "repository's name", repository, "give it another one"
        yield "type", row.type, "give the unit another one"
    elif isinstance(change, Mark):
        yield "result", change.result or "", "tell it in other words"
    elif isinstance(change, Join | Leave):
        yield "repository's name", change.repository, "give it another one"
    else:
        yield "path", change.spec.path, "give the file another path"


def _written(database: Database, changes: Sequence[Change], plugins: Sequence[Plugin]) -> tuple[list[Any], bool]:
    """The answers, and whether nothing was known of all this."""
    book = Book(_concerned(database, changes))
    book.learn(load_rivals(database, book, [change.row for change in changes if isinstance(change, Put)]))
    now, leftovers = time_ns() // 1000, any_leftovers(database)
    answers = _applied(database, book, changes, now) if leftovers else [change.apply(book) for change in changes]
    save(database, book, now, leftovers)
    if plugins:
        puts = [put for put, said in zip(changes, answers, strict=True) if isinstance(put, Put) and said is None]
        tell(database, plugins, [Recorded(cast(int, book.rows[put.identity].id), put.spec) for put in puts])
    return answers, not book.loaded


def _applied(database: Database, book: Book, changes: Sequence[Change], now: int) -> list[Any]:
    """The answers of the changes; those about a file that a gc removed are not applied."""
    files = {at: change.kept for at, change in enumerate(changes) if isinstance(change, Put | Mark) and change.kept}
    removed = gone(database, files.values(), now)
    answers: list[Any] = []
    for at, change in enumerate(changes):
        if at not in files or (files[at].store, files[at].key) not in removed:
            answers.append(change.apply(book))
        elif isinstance(change, Put):
            answers.append(BeingRemoved(f"{change.spec.path}: what was stored there is being removed by a gc"))
        else:
            answers.append(False)  # it is to be looked at once more
    return answers


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
