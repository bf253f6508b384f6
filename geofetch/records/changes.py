"""What a batch of news makes of what was known: pure, from rows to rows.

    Put      a file was published, or adopted: merged into what was known of it
    Want     a file is wanted, later or on demand: recorded without one, and never in place of one
    Import   a unit file was read: takes the place of what was known
    Mark     a stored file was held against its record: present, missing, corrupt, quarantined
    Note     a source failed: its health alone
    Leave    a repository no longer lists a unit

Whoever takes a place in a store takes it off the leftovers; a place that the last unit leaves becomes one.

In: rows as the database had them, news in the order it came.  Out: rows as they are to be.  Never: SQL, clocks, I/O.

The same news twice is as good as once: where the word was lost that a batch is committed, it is written again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Literal, NamedTuple, TypeAlias

from ..events import Kept, Proof
from ..spec import Digest, Source, Spec
from .units import (
    FILE,
    PROOFS,
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
    told_by,
)

__all__ = [
    "Book",
    "Change",
    "Import",
    "Leave",
    "Mark",
    "Note",
    "Put",
    "Row",
    "SourceFields",
    "Want",
    "Wanted",
    "cooldown_us",
]

#: Microseconds for which a source is better left alone after one failure; twice as many after each further one in a
#: row, up to a day.
COOLDOWN_US, COOLDOWN_MOST_US = 60_000_000, 86_400_000_000
#: What became of a Want: nobody has stored the file; it is there; it is there in another version than is wanted.
Wanted: TypeAlias = Literal["wanted", "present", "differs"]

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


def cooldown_us(failures: int) -> int:
    """How long a source is better left alone after so many failures in a row."""
    return min(COOLDOWN_US << min(failures - 1, 20), COOLDOWN_MOST_US)


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
    if _same_content(row, by):
        return row.but(size=by.size, mtime_ns=by.mtime_ns, inode=by.inode)
    return row.but(state="missing", scrub_result="another unit's file took its place")


def _same_content(old: Row, new: Row) -> bool | None:
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


@dataclass(slots=True)
class Put:
    """A file that was published (``source`` says where from, ``headers`` what it said) or adopted (both are None)."""

    spec: Spec
    kept: Kept
    digests: Mapping[str, Digest]
    verified: Proof
    source: Source | None
    headers: Mapping[str, str] | None
    at: int
    identity: bytes = field(init=False)
    #: A unit's fields from ``type`` to ``proven_at``, as Row has them, and its children as Row has them.
    told: tuple[Any, ...] = field(init=False)
    proofs: dict[str, tuple[bytes, bool]] = field(init=False)
    places: dict[Place, SourceFields] = field(init=False)
    _row: Row | None = field(init=False, default=None)

    def prepare(self) -> None:
        """Work out what the tables are to say; raises for what no row can hold."""
        spec, kept, at = self.spec, self.kept, self.at
        store, path = kept.store, spec.path
        kind, text = named(spec.unit, store, path)
        self.identity = identity(kind, text)
        self._row = None
        metadata, etag, modified = (None, None, None) if self.headers is None else told_by(self.headers)
        stamp = kept.size, kept.mtime_ns, kept.inode
        self.told = (kind, text, path, store, kept.key, *stamp, "present", self.verified, metadata, at, at)
        self.proofs = proofs = {digest.algorithm: (digest.value, True) for digest in spec.digests}
        for name, digest in self.digests.items():
            if name not in proofs:
                proofs[name] = (digest.value, False)
        self.places = _places(spec, self.source, at, etag, modified)

    @property
    def row(self) -> Row:
        """The row, for those who merge it with what is known; nobody needs one for a file that is new."""
        if self._row is None:
            repository = self.spec.repository
            repositories = NONE if repository is None else frozenset((repository,))
            children = self.proofs, self.places, repositories
            self._row = Row(*[self.identity, *self.told, None, None, "immediate", None, 0, None, *children])
        return self._row

    def apply(self, book: Book) -> None:
        old = book[self.row.identity]
        book.claim(self.row if old is None else _merged(old, self.row, fetched=self.source is not None))


def _places(
    spec: Spec,
    served: Source | None = None,
    at: int | None = None,
    etag: str | None = None,
    modified: str | None = None,
) -> dict[Place, SourceFields]:
    """The sources of a spec as rows; ``served``: the one that gave the file, then and with these validators."""
    found: dict[Place, SourceFields] = {}
    profile = spec.profile
    for one in spec.sources:
        place = place_of(one, profile)
        known = found.get(place)
        if known is None:
            expires_at = None if one.expires_at is None else micros(one.expires_at)
            if one is served:
                served = None
                health = at, None, 0, None, etag, modified
                known = SourceFields(one.priority, one.weight, loses_query(one), expires_at, *health)
            else:
                known = SourceFields(one.priority, one.weight, loses_query(one), expires_at, None)
            found[place] = known
    if served is not None:  # it was told twice, or is another object of the same words
        place = place_of(served, profile)
        if place in found:
            found[place] = found[place]._replace(last_ok_at=at, etag=etag, last_modified=modified)
    return found


def _merged(old: Row, new: Row, fetched: bool) -> Row:
    same = _same_content(old, new)
    row = new.but(id=old.id, repositories=old.repositories | new.repositories, policy=old.policy)
    # It is in a repository again; or somebody wants it in none, and then no gc is to take it from him.
    row.unlisted_at = None
    row.sources = _merged_sources(old, new, drop=same is False)
    if not same:
        return row
    row.digests = dict(old.digests)
    for name, (value, trusted) in new.digests.items():
        row.digests[name] = (value, trusted or (name in old.digests and old.digests[name][1]))
    row.verified = min(old.verified, new.verified, key=PROOFS.index)  # PROOFS: the strongest first
    row.scrubbed_at, row.scrub_result = old.scrubbed_at, old.scrub_result
    if not fetched and old.stored_at is not None:
        row.metadata, row.stored_at = old.metadata, old.stored_at
        if old.state == "present" and (old.place, old.stamp) == (new.place, new.stamp):
            row.proven_at = old.proven_at  # known and unchanged: it was adopted unread
    return row


def _merged_sources(old: Row, new: Row, drop: bool) -> dict[Place, SourceFields]:
    """The sources told now over those known; ``drop``: those that served another version are not kept, and what the
    others said of it is not either."""
    sources = {} if drop else dict(old.sources)
    for place, told in new.sources.items():
        known = old.sources.get(place)
        if known is not None:
            etag, modified = (None, None) if drop else (known.etag, known.last_modified)
            if told.last_ok_at is not None:
                told = told._replace(
                    last_failed_at=known.last_failed_at,
                    etag=told.etag or etag,
                    last_modified=told.last_modified or modified,
                )
            else:
                told = known._replace(
                    priority=told.priority,
                    weight=told.weight,
                    secret_query=told.secret_query,
                    expires_at=told.expires_at,
                    etag=etag,
                    last_modified=modified,
                )
        sources[place] = told
    return sources


@dataclass(slots=True)
class Want:
    """A file is wanted, and not fetched now; says what became of it (Wanted).

    ``pending``: that it is to be fetched is owed.  Where it is stored already, its policy, sources and repositories
    change alone; where that is another version, its sources neither: they have the new one.
    """

    spec: Spec
    store: str
    policy: Policy
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
            policy=self.policy,
            pending="fetch" if self.pending else None,
            tries=0,
            unlisted_at=None,
            digests={digest.algorithm: (digest.value, True) for digest in spec.digests},
            sources=_places(spec),
            repositories=NONE if spec.repository is None else frozenset((spec.repository,)),
        )

    def apply(self, book: Book) -> Wanted:
        old, new = book[self.identity], self.row
        if old is None:
            book.put(new)
            return "wanted"
        differs = _same_content(old, new) is False
        gone = old.state == "missing"
        row = (new if gone and (differs or old.stored_at is None) else old).but(
            id=old.id, policy=self.policy, repositories=old.repositories | new.repositories
        )
        row.unlisted_at = None  # as of a Put
        if gone or not differs:
            row.sources = _merged_sources(old, new, drop=differs)
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

    def apply(self, book: Book) -> None:
        old = book[self.row.identity]
        book.put(self.row.but(id=None if old is None else old.id))


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


Change: TypeAlias = Put | Want | Import | Mark | Note | Leave
