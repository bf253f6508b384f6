"""Stored files, held against their records.  In: a store, Units.  Out: a Look at each, or why there is none.

A file is read once, for all digests of the record, on a native thread; a few at a time, in pieces, so that neither
the hub nor memory knows how large it is.  Small files share one trip to a thread: the trip costs more than such a file.
Never: a write, a word to the records.

Which errors say what: a file that is not there is missing.  A disk that cannot give its bytes back (EIO and its kin)
has a corrupt file.  Anything else, a missing permission first of all, says nothing about the bytes: unknown.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from gevent.threadpool import ThreadPool

from ..errors import FetchError, StoreError
from ..events import Kept
from ..records import Unit
from ..spec import Digest, hasher
from ..store import Store
from .cache import Passing
from .pace import Pace

__all__ = ["Look", "Readers", "Seen"]

#: Large, so that the thread seldom holds the interpreter: the hub waits for it each time.
PIECE_BYTES = 1 << 20
#: What a file is read for whose record has no digest: there is one to hold it against the next time.
USUAL = "sha256"

GONE = frozenset({errno.ENOENT, errno.ENOTDIR})
#: The medium or the file system lost the bytes: read errors, and checksums of the file system's own that do not match.
LOST = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG, errno.ENODATA, errno.EILSEQ})


@dataclass(frozen=True, slots=True)
class Look:
    """What a stored file is: ``state`` is a unit's, or changed (it was replaced meanwhile), or unknown."""

    state: Literal["present", "missing", "corrupt", "changed", "unknown"]
    why: str
    seen: Kept | None = None
    digests: tuple[Digest, ...] = ()
    error: FetchError | None = None


#: What a look found, and how many bytes it read for it.
Seen: TypeAlias = tuple[Look, int]


@dataclass(slots=True, eq=False)
class Reading:
    """Files that are being read: how far, and whether anybody still waits for them."""

    pace: Pace | None = None
    read_bytes: int = 0
    given_up: bool = False

    def left(self) -> bool:
        """Whether nobody waits any more."""
        return self.given_up


class Readers:
    """The native threads that read, ``jobs`` at once, no faster than ``pace``.  Closed by whoever made them."""

    def __init__(self, jobs: int, pace: Pace | None = None) -> None:
        self.jobs = jobs
        self._pace = pace
        self._done_bytes = 0
        self._under_way: set[Reading] = set()
        self._threads: Any = None

    @property
    def read_bytes(self) -> int:
        """What was read by now, of files that are still being read too."""
        return self._done_bytes + sum(one.read_bytes for one in self._under_way)

    def look(self, store: Store, units: Sequence[Unit]) -> list[Seen]:
        """A look at the file of each, and how many bytes of it were read.

        Whoever is killed meanwhile leaves no thread reading.
        """
        if self._threads is None:
            self._threads = ThreadPool(self.jobs)
        reading = Reading(self._pace)
        self._under_way.add(reading)
        try:
            found, error = self._threads.spawn(_settled, _looks, store, units, reading).get()
        finally:
            reading.given_up = True
            self._under_way.discard(reading)
            self._done_bytes += reading.read_bytes
        if error is not None:
            raise error
        looks: list[Seen] = found
        return looks

    def close(self) -> None:
        """End the threads; each stops at the end of its piece."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.kill()


def _settled(work: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None]:
    # An exception that leaves a thread's function is also printed by the hub: it travels as a value instead.
    try:
        return work(*args), None
    except BaseException as exc:
        return None, exc


def _looks(store: Store, units: Sequence[Unit], reading: Reading) -> list[Seen]:
    found = []
    for unit in units:
        before = reading.read_bytes
        found.append((look(store, unit, reading), reading.read_bytes - before))
        if reading.given_up:
            break
    return found


def look(store: Store, unit: Unit, reading: Reading) -> Look:
    """The file of this unit as it is now.  Blocks, for a native thread."""
    try:
        seen = store.stat(unit.store_key)
        if seen is None:
            return Look("missing", "nothing is stored there")
        if unit.size is not None and seen.size != unit.size:
            return Look("corrupt", f"{seen.size} bytes are stored, {unit.size} were recorded", seen)
        found = _digests(store, unit, seen.size, reading)
        if reading.given_up or store.stat(unit.store_key) != seen:
            return Look("changed", "it was replaced while it was read")
    except OSError as exc:  # every FetchError is one
        return _unread(exc)
    return _judged(unit, seen, found)


def _digests(store: Store, unit: Unit, size: int, reading: Reading) -> Mapping[str, Digest]:
    lengths = {digest.algorithm: len(digest.value) for digest in unit.digests} or {USUAL: 0}
    hashers = {name: hasher(name) for name in lengths}
    most = PIECE_BYTES if reading.pace is None else min(PIECE_BYTES, reading.pace.piece_bytes)
    piece = memoryview(bytearray(min(size + 1, most)))
    with store.open(unit.store_key) as file:
        fill: Callable[[memoryview], int] = file.readinto  # type: ignore[attr-defined]
        passing = Passing(file, size)
        while not reading.given_up and (count := fill(piece)):
            reading.read_bytes += count
            passing.read(count)
            if reading.pace is not None:
                reading.pace.wait(count, reading.left)
            for one in hashers.values():
                one.update(piece[:count])
        passing.read(0)
    return {name: Digest(name, _value(one, lengths[name])) for name, one in hashers.items()}


def _value(one: Any, length: int) -> bytes:
    # SHAKE has no length of its own: as long as the value it is held against.
    value: bytes = one.digest() if one.digest_size else one.digest(length)
    return value


def _unread(exc: OSError) -> Look:
    if exc.errno in GONE:
        return Look("missing", "nothing is stored there")
    if exc.errno in LOST:
        named = errno.errorcode.get(exc.errno, "")
        return Look("corrupt", f"it cannot be read: {os.strerror(exc.errno)} ({named})")
    error = exc
    if not isinstance(error, FetchError):
        error = StoreError(f"reading a stored file: {exc.strerror or exc}", errno=exc.errno)
        error.__cause__ = exc
    return Look("unknown", str(error), error=error)


def _judged(unit: Unit, seen: Kept, found: Mapping[str, Digest]) -> Look:
    wrong = [(found[one.algorithm], one) for one in unit.digests if found[one.algorithm] != one]
    if wrong:
        return Look("corrupt", "; ".join(f"{now} was found, {then.hex} recorded" for now, then in wrong), seen)
    if not unit.digests:
        why = f"its size is right, and the record had no digest: its {USUAL} is kept from now on"
        return Look("present", why, seen, tuple(found.values()))
    return Look("present", f"proven by {' and '.join(sorted(found))}", seen)
