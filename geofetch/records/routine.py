"""Batches for which nothing needs to be merged: files that nobody knew, and files that are as their records say.

In: changes, prepared.  Out: whether they were written; if not, nothing was.  Never: a guess about what the tables hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import time_ns

from peewee import Database, IntegrityError

from .changes import Change, Mark
from .database import kind_of
from .leftovers import gone
from .plugin import Plugin, Recorded, tell
from .put import Put
from .saving import any_leftovers, save_new, save_seen, taken

__all__ = ["written_as_new", "written_as_seen"]


def written_as_new(database: Database, changes: Sequence[Change], plugins: Sequence[Plugin]) -> bool:
    """Whether these were written as files that nobody knew, in one transaction; if not, nothing was written.

    That is what most batches are, and then there is nothing to look up and to merge.  It is not taken on trust: who is
    known is refused by the index on ``identity``, and a place that another unit is said to be in is looked up.
    """
    puts = [change for change in changes if isinstance(change, Put)]
    places = {(put.kept.store, put.kept.key) for put in puts}
    if len(puts) < len(changes) or len(places) < len(puts):
        return False
    try:
        with kind_of(database).writing(database):
            if taken(database, places):
                return False
            leftovers = any_leftovers(database)
            if leftovers and gone(database, [put.kept for put in puts], time_ns() // 1000):
                return False
            ids = save_new(database, puts, places, leftovers)
            if plugins:
                tell(database, plugins, [Recorded(ident, put.spec) for ident, put in zip(ids, puts, strict=True)])
            return True
    except IntegrityError:
        return False


def written_as_seen(database: Database, changes: Sequence[Change]) -> bool:
    """Whether these were written as files that were found as they should be, in one transaction.

    That is what a scrub finds of most.  A row that says anything else by now is merged with what was found, and so are
    all of its batch.
    """
    marks = [change for change in changes if isinstance(change, Mark) and change.is_routine]
    if len(marks) < len(changes) or len({mark.identity for mark in marks}) < len(marks):
        return False
    with kind_of(database).writing(database):
        return save_seen(database, marks)
