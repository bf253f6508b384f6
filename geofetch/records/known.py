"""What is known of the file in a place; and whether that is all there is to say, when the file is found as it was.

Most runs find most files there.  Then nothing is written, and nothing needs to be asked a second time: what was read to
find out whether a file is still the one that was stored says already what would be told of it.

In: places; what a Put would tell.  Out: what is remembered; yes or no.  Never: a write, a clock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from peewee import Database

from ..errors import SpecError
from ..events import Kept, Proof
from ..spec import Digest, Spec
from .book import Place, Row
from .rows import load_present
from .units import PROOFS, loses_query, micros, named, place_of

__all__ = ["Remembered", "recall", "says_all"]

#: Units in one place that are all read.  Of the same bytes, stored by digest, there may be any number.
WHOLE = 4


class Remembered(NamedTuple):
    """The file that was in a place when it was last proven, its digests then, and rows that say so: all, if few do."""

    kept: Kept
    digests: Mapping[str, Digest]
    rows: tuple[Row, ...]


def recall(database: Database, places: Collection[Place]) -> dict[Place, Remembered]:
    """The files that are present at these (store, key): a few SELECTs for hundreds of them."""
    by_store: dict[str, list[str]] = {}
    for store, key in places:
        by_store.setdefault(store, []).append(key)
    found: dict[Place, Remembered] = {}
    for store, keys in by_store.items():
        by_place: dict[Place, list[Row]] = {}
        for row in load_present(database, store, keys, WHOLE):
            by_place.setdefault(row.place, []).append(row)
        found.update((place, _remembered(rows)) for place, rows in by_place.items())
    return found


def _remembered(rows: list[Row]) -> Remembered:
    # Several units may lie in one place: the one that was proven last speaks.
    latest = max(rows, key=lambda row: (row.proven_at or 0, row.id)) if len(rows) > 1 else rows[0]
    digests = {}
    for algorithm, (value, _) in latest.digests.items():
        # An algorithm that this machine lacks cannot prove anything here: the store reads the file instead.
        with suppress(SpecError):
            digests[algorithm] = Digest.of(algorithm, value)
    size = -1 if latest.size is None else latest.size  # a damaged row: no file is of that size
    kept = Kept.made(latest.store, latest.store_key, size, latest.mtime_ns, latest.inode)
    return Remembered(kept, digests, tuple(rows))


def says_all(rows: Iterable[Row], spec: Spec, kept: Kept, digests: Mapping[str, Digest], verified: Proof) -> bool:
    """Whether one of these rows, of files that are present, would stay as it is if this adopted file were told."""
    kind, text = named(spec.unit, kept.store, spec.path)
    for row in rows:
        if row.key == text and row.type == kind:
            return _says_all(row, spec, kept, digests, verified)
    return False


def _says_all(row: Row, spec: Spec, kept: Kept, digests: Mapping[str, Digest], verified: Proof) -> bool:
    there = row.store, row.store_key, row.size, row.mtime_ns, row.inode
    if there != (kept.store, kept.key, kept.size, kept.mtime_ns, kept.inode) or kept.mtime_ns is None:
        return False
    if row.pending is not None or row.tries or row.unlisted_at is not None or row.stored_at is None:
        return False  # there is something to be cleared, or to be told for the first time
    if row.path != spec.path or (spec.repository is not None and spec.repository not in row.repositories):
        return False
    if PROOFS.index(row.verified) > PROOFS.index(verified):  # the strongest first
        return False
    told: Any = None
    for wanted in spec.digests:
        if row.digests.get(wanted.algorithm) != (wanted.value, True):
            return False
    for name, digest in digests.items():
        told = row.digests.get(name)
        if told is None or told[0] != digest.value:
            return False
    for source in spec.sources:
        told = row.sources.get(place_of(source, spec.profile))
        expires_at = None if source.expires_at is None else micros(source.expires_at)
        if told is None or told[:4] != (source.priority, source.weight, loses_query(source), expires_at):
            return False
    return True
