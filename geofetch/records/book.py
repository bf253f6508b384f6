"""Units as the tables hold them, and what is known of those that a batch of news is about.

In: rows as the database had them; rows as they are to be.  Out: what changed; which places in a store were taken, and
which were left.  Never: news (put.py, changes.py), SQL (rows.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, NamedTuple, TypeAlias

__all__ = ["NONE", "Book", "Place", "Row", "SourceFields", "same_content"]

Place: TypeAlias = tuple[str, str]


class SourceFields(NamedTuple):
    """A source as the tables hold it: what is told of it, and (as Health has it) how it did."""

    priority: int
    weight: int
    secret_query: bool
    expires_at: int | None
    last_ok_at: int | None
    last_failed_at: int | None = None
    failures: int = 0
    last_error: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    cooldown_until: int | None = None


#: No repositories.
NONE: frozenset[str] = frozenset()


@dataclass(slots=True)
class Row:
    """A unit as the tables hold it; never changed, only replaced."""

    identity: bytes
    type: str
    key: str
    path: str
    store: str
    store_key: str
    size: int | None
    mtime_ns: int | None
    inode: int | None
    state: str
    verified: str
    metadata: str | None
    stored_at: int | None
    proven_at: int | None
    scrubbed_at: int | None
    scrub_result: str | None
    policy: str
    pending: str | None
    tries: int
    unlisted_at: int | None
    digests: dict[str, tuple[bytes, bool]]
    sources: dict[Place, SourceFields]
    repositories: frozenset[str]
    id: int | None = None

    @property
    def place(self) -> Place:
        return self.store, self.store_key

    @property
    def stamp(self) -> tuple[int | None, int | None, int | None]:
        """What the file system says of an unchanged file."""
        return self.size, self.mtime_ns, self.inode

    def but(self, **changes: Any) -> Row:
        """A copy with these fields changed (dataclasses.replace takes four times as long)."""
        row = Row(*_all_fields(self))
        for name, value in changes.items():
            setattr(row, name, value)
        return row


_all_fields = attrgetter(*(each.name for each in fields(Row)))


class Book:
    """The rows that a batch is about, by identity; ``loaded`` as they were, ``rows`` as they are to be."""

    def __init__(self, loaded: Iterable[Row] = ()) -> None:
        self.loaded: dict[bytes, Row] = {}
        self.rows: dict[bytes, Row] = {}
        self.stores: set[str] = set()
        # By place, then by stamp: of many units with the same bytes in one place (an empty file, stored by digest)
        # none is looked at that the news does not concern.
        self._at: dict[Place, dict[tuple[Any, ...], set[bytes]]] = {}
        self.learn(loaded)

    def learn(self, loaded: Iterable[Row]) -> None:
        """More rows as the tables have them."""
        for row in loaded:
            self.loaded[row.identity] = row
            self.put(row)

    def __getitem__(self, identity: bytes) -> Row | None:
        return self.rows.get(identity)

    def put(self, row: Row) -> None:
        """This row, in place of what was known of it."""
        old = self.rows.get(row.identity)
        if old is not None and old.state == "present":
            self._at[old.place][old.stamp].discard(row.identity)
        self.rows[row.identity] = row
        self.stores.add(row.store)
        if row.state == "present":
            self._at.setdefault(row.place, {}).setdefault(row.stamp, set()).add(row.identity)

    def taken(self) -> set[Place]:
        """Where files are now that were not there, or not these."""
        return {
            row.place for key, row in self.rows.items() if row is not self.loaded.get(key) and row.state != "missing"
        }

    def left(self) -> dict[Place, Row]:
        """Where files were whose units are elsewhere now, and what they were.

        What was put aside is nobody's leftover: it stays for somebody to look at.
        """
        return {
            old.place: old
            for key, old in self.loaded.items()
            if old.state in ("present", "corrupt") and old.place != self.rows[key].place
        }

    def claim(self, row: Row) -> None:
        """This row, whose file was just put in its place: whoever is said to be there with other bytes is not."""
        here = self._at.get(row.place, {})
        for stamp in [stamp for stamp in here if stamp != row.stamp]:
            for other in here[stamp] - {row.identity}:
                self.put(_displaced(self.rows[other], row))
        self.put(row)


def _displaced(row: Row, by: Row) -> Row:
    """What is left of a row whose place another unit's file took: the same bytes anew, or nothing."""
    if same_content(row, by):
        return row.but(size=by.size, mtime_ns=by.mtime_ns, inode=by.inode)
    return row.but(state="missing", scrub_result="another unit's file took its place")


def same_content(old: Row, new: Row) -> bool | None:
    """Whether both rows are about the same bytes; None where nothing tells."""
    common = [old.digests[name][0] == new.digests[name][0] for name in new.digests if name in old.digests]
    if common:
        return all(common)
    if old.size is None or new.size is None:
        return None
    if old.size != new.size:
        return False
    if new.mtime_ns is not None and (old.place, old.stamp) == (new.place, new.stamp):
        return True
    return None
