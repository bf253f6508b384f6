"""A file was published, or adopted: what the tables are to say of it, alone or over what was known.

In: a Spec, what the store keeps, what proved it, the source that gave it.  Out: a row, and its children.  Never: SQL,
clocks, I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..events import Kept, Proof
from ..spec import Digest, Source, Spec
from .book import NONE, Book, Place, Row, SourceFields, same_content
from .units import PROOFS, identity, loses_query, micros, named, place_of, told_by

__all__ = ["Put", "merged_sources", "places_of"]


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
        self.places = places_of(spec, self.source, at, etag, modified)

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


def places_of(
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
    same = same_content(old, new)
    row = new.but(id=old.id, repositories=old.repositories | new.repositories, policy=old.policy)
    # It is in a repository again; or somebody wants it in none, and then no gc is to take it from him.
    row.unlisted_at = None
    row.sources = merged_sources(old, new, drop=same is False)
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


def merged_sources(old: Row, new: Row, drop: bool) -> dict[Place, SourceFields]:
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
