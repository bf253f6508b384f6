"""What a batch of news makes of what was known: pure, from rows to rows.

    Put      a file was published, or adopted (put.py)
    Want     a file is wanted, later or on demand: recorded without one, and never in place of one
    Import   a unit file was read: takes the place of what was known
    Mark     a stored file was held against its record: present, missing, corrupt, quarantined
    Note     a source failed: its health alone
    Join     a unit is in a repository from now on
    Leave    a repository no longer lists a unit

Whoever takes a place in a store takes it off the leftovers; a place that the last unit leaves becomes one.

In: rows as the database had them, news in the order it came.  Out: rows as they are to be.  Never: SQL, clocks, I/O.

The same news twice is as good as once: where the word was lost that a batch is committed, it is written again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Literal, TypeAlias

from ..events import Kept
from ..spec import Digest, Source, Spec
from .book import NONE, Book, Place, Row, SourceFields, same_content
from .put import Put, merged_sources, places_of
from .units import (
    FILE,
    Health,
    Policy,
    Unit,
    UnitState,
    canonical,
    file_text,
    identity,
    loses_query,
    micros,
    named,
    place_of,
    profile_name,
)

__all__ = ["Change", "Import", "Join", "Leave", "Mark", "Note", "Want", "Wanted", "cooldown_us"]

#: Microseconds for which a source is better left alone after one failure; twice as many after each further one in a
#: row, up to a day.
COOLDOWN_US, COOLDOWN_MOST_US = 60_000_000, 86_400_000_000
#: What became of a Want: nobody has stored the file; it is there; it is there in another version than is wanted.
Wanted: TypeAlias = Literal["wanted", "present", "differs"]
#: What was known of a unit that comes from elsewhere: nothing, something else, all of it.
Imported: TypeAlias = Literal["new", "replaced", "known"]


#: What nobody has told otherwise of a new unit, as of one that is fetched.
NEW_POLICY: Policy = "immediate"


def cooldown_us(failures: int) -> int:
    """How long a source is better left alone after so many failures in a row."""
    return min(COOLDOWN_US << min(failures - 1, 20), COOLDOWN_MOST_US)


@dataclass(slots=True)
class Want:
    """A file is wanted, and not fetched now; says what became of it (Wanted).

    ``policy``: None leaves that of a known unit as it is.  ``pending``: that it is to be fetched is owed.  Where it is
    stored already, its policy, sources and repositories change alone; where that is another version, its sources
    neither: they have the new one.
    """

    spec: Spec
    store: str
    policy: Policy | None
    pending: bool
    identity: bytes = field(init=False)
    row: Row = field(init=False)

    def prepare(self) -> None:
        spec, store = self.spec, self.store
        kind, text = named(spec.unit, store, spec.path)
        self.identity = identity(kind, text)
        self.row = Row(
            identity=self.identity,
            type=kind,
            key=text,
            path=spec.path,
            store=store,
            store_key=spec.path,  # nobody knows a better one before it is stored
            size=spec.size,
            mtime_ns=None,
            inode=None,
            state="missing",
            verified="nothing",
            metadata=None,
            stored_at=None,
            proven_at=None,
            scrubbed_at=None,
            scrub_result=None,
            policy=self.policy or NEW_POLICY,
            pending="fetch" if self.pending else None,
            tries=0,
            unlisted_at=None,
            digests={digest.algorithm: (digest.value, True) for digest in spec.digests},
            sources=places_of(spec),
            repositories=NONE if spec.repository is None else frozenset((spec.repository,)),
        )

    def apply(self, book: Book) -> Wanted:
        old, new = book[self.identity], self.row
        if old is None:
            book.put(new)
            return "wanted"
        differs = same_content(old, new) is False
        gone = old.state == "missing"
        row = (new if gone and (differs or old.stored_at is None) else old).but(
            id=old.id, policy=self.policy or old.policy, repositories=old.repositories | new.repositories
        )
        row.unlisted_at = None  # as of a Put
        if gone or not differs:
            row.sources = merged_sources(old, new, drop=differs)
        if gone:
            row.pending = new.pending
            row.tries = old.tries if new.pending and not differs else 0
        book.put(row)
        if gone:
            return "wanted"
        return "differs" if differs else "present"


@dataclass(slots=True)
class Import:
    """A unit from elsewhere; what it says takes the place of what was known."""

    unit: Unit
    row: Row = field(init=False)

    def prepare(self) -> None:
        unit, text = self.unit, canonical(self.unit.key)
        self.row = Row(
            identity(unit.type, text),
            unit.type,
            text,
            unit.path,
            unit.store,
            unit.store_key,
            unit.size,
            unit.mtime_ns,
            unit.inode,
            unit.state,
            unit.verified,
            None if unit.metadata is None else canonical(unit.metadata),
            unit.stored_at,
            unit.proven_at,
            unit.scrubbed_at,
            unit.scrub_result,
            unit.policy,
            unit.pending,
            unit.tries,
            unit.unlisted_at,
            {digest.algorithm: (digest.value, digest.algorithm in unit.trusted) for digest in unit.digests},
            {place_of(one): _told(one, health) for one, health in zip(unit.sources, unit.health, strict=True)},
            frozenset(unit.repositories),
        )

    def apply(self, book: Book) -> Imported:
        old = book[self.row.identity]
        if old is None:
            book.put(self.row)
            return "new"
        row = self.row.but(id=old.id)
        if row == old:
            return "known"
        book.put(row)
        return "replaced"


def _told(source: Source, health: Health) -> SourceFields:
    expires_at = None if source.expires_at is None else micros(source.expires_at)
    return SourceFields(source.priority, source.weight, loses_query(source), expires_at, *_health(health))


_health = attrgetter(*(each.name for each in fields(Health)))


#: Where a unit lies, and what the file system said of it.
_seen = attrgetter("store", "store_key", "size", "mtime_ns", "inode")


@dataclass(slots=True)
class Mark:
    """What was found when a stored file was held against ``unit``; says whether it was still that file."""

    unit: Unit
    state: UnitState
    result: str | None
    kept: Kept | None
    digests: tuple[Digest, ...]
    at: int
    identity: bytes = field(init=False)

    def prepare(self) -> None:
        self.identity = identity(self.unit.type, canonical(self.unit.key))

    @property
    def is_routine(self) -> bool:
        """Whether it was said to be present, and is, and nothing new was learned of it."""
        unit, kept = self.unit, self.kept
        same = kept is None or (kept.store, kept.key, kept.size, kept.mtime_ns, kept.inode) == _seen(unit)
        if not same or self.state != "present" or unit.state != "present":
            return False
        known = unit.digests
        return all(digest in known for digest in self.digests)

    def apply(self, book: Book) -> bool:
        old, was = book[self.identity], self.unit
        if old is not None and self._told(old):
            return True
        if old is None or (old.place, old.stamp) != ((was.store, was.store_key), (was.size, was.mtime_ns, was.inode)):
            return False  # replaced since it was looked at: what was found is not about this file
        row = old.but(state=self.state, scrubbed_at=self.at, scrub_result=self.result, digests=dict(old.digests))
        if self.kept is None and old.stored_at is None and self.state != "missing":
            return False  # it was never stored: who says that it is there says where
        if self.state == "present":
            row.proven_at, row.pending, row.tries = self.at, None, 0
            row.stored_at = self.at if old.stored_at is None else old.stored_at
        if self.kept is not None:
            row.store, row.store_key = self.kept.store, self.kept.key
            row.size, row.mtime_ns, row.inode = self.kept.size, self.kept.mtime_ns, self.kept.inode
        for digest in self.digests:
            if not row.digests.get(digest.algorithm, (b"", False))[1]:
                row.digests[digest.algorithm] = (digest.value, False)
        if self.kept is None:
            book.put(row)
        else:
            book.claim(row)
        return True

    def _told(self, row: Row) -> bool:
        """Whether the row says already what this very mark found."""
        return (row.scrubbed_at, row.state, row.scrub_result) == (self.at, self.state, self.result) and (
            self.kept is None or row.place == (self.kept.store, self.kept.key)
        )


@dataclass(slots=True)
class Note:
    """A source failed, or (``error`` is None) answered well.

    Without a unit of its own the store is not known yet: then every file of that path is meant.
    """

    spec: Spec
    source: Source
    error: str | None
    at: int
    store: str | None
    place: Place = field(init=False)
    identity: bytes | None = field(init=False)

    def prepare(self) -> None:
        self.place = (self.source.kept, profile_name(self.spec.profile_of(self.source)))
        self.identity = None
        if self.spec.unit is not None or self.store is not None:
            self.identity = identity(*named(self.spec.unit, self.store or "", self.spec.path))

    def apply(self, book: Book) -> None:
        path = self.spec.path
        meant = {identity(FILE, file_text(store, path)) for store in book.stores}
        for each in meant if self.identity is None else {self.identity}:
            row = book[each]
            known = None if row is None else row.sources.get(self.place)
            if row is None or known is None:
                continue
            if self.error is None:
                told = known._replace(last_ok_at=self.at, failures=0, last_error=None, cooldown_until=None)
            elif known.last_failed_at == self.at:  # it was written, and nobody heard of it
                continue
            else:
                failures = known.failures + 1
                told = known._replace(
                    last_failed_at=self.at,
                    failures=failures,
                    last_error=self.error,
                    cooldown_until=self.at + cooldown_us(failures),
                )
            tries = row.tries + (self.error is not None and row.pending is not None)
            book.put(row.but(sources={**row.sources, self.place: told}, tries=tries))


@dataclass(slots=True)
class Join:
    """A unit is in a repository from now on; says whether it was not."""

    identity: bytes
    repository: str

    def prepare(self) -> None:
        """Nothing needs to be worked out."""

    def apply(self, book: Book) -> bool:
        row = book[self.identity]
        if row is None or self.repository in row.repositories:
            return False
        book.put(row.but(repositories=row.repositories | {self.repository}, unlisted_at=None))
        return True


@dataclass(slots=True)
class Leave:
    """A unit is no longer in a repository; says whether it was."""

    identity: bytes
    repository: str
    at: int

    def prepare(self) -> None:
        """Nothing needs to be worked out."""

    def apply(self, book: Book) -> bool:
        row = book[self.identity]
        if row is None or self.repository not in row.repositories:
            return False
        left = row.repositories - {self.repository}
        book.put(row.but(repositories=left, unlisted_at=None if left else self.at))
        return True


Change: TypeAlias = Put | Want | Import | Mark | Note | Join | Leave
