"""An object, read.  In: a bucket, a key, the object as it was seen.  Out: a stream, or its digests.

It is asked for piece by piece, each by its range and on the condition that it is still the same object: a piece that
breaks off is asked for again, and a reader gets the bytes of one object or an error, never of two.
Never: more than one piece in memory; a connection that a reader holds.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Mapping
from typing import Any

from ...digest import Digest
from ...errors import StoreError
from .. import proof
from .awaited import Awaited, Who
from .bucket import Bucket, Seen

__all__ = ["ObjectReader", "digests_of"]

#: Bytes of one request.
PIECE_BYTES = 4 << 20
#: Errors that say that the object is not what it was any more.
CHANGED = frozenset({errno.ESTALE, errno.ENOENT})


class ObjectReader(io.RawIOBase):
    """The bytes of one object; ``piece`` asks for some of them, and waits as its caller may."""

    def __init__(self, size: int, piece: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._piece = piece
        self._at = 0
        self._start, self._bytes = 0, b""
        self._fetch()  # who has it open keeps what is small, whatever becomes of its key

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a place before the beginning")
        self._at = base + offset
        return self._at

    def readinto(self, into: Any) -> int:
        view = memoryview(into).cast("B")
        if self._at >= self._size or not len(view):
            return 0
        if not self._start <= self._at < self._start + len(self._bytes):
            self._fetch()
        begin = self._at - self._start
        found = self._bytes[begin : begin + len(view)]
        view[: len(found)] = found
        self._at += len(found)
        return len(found)

    def _fetch(self) -> None:
        count = min(PIECE_BYTES, self._size - self._at)
        self._bytes = b""
        self._start, self._bytes = self._at, self._piece(self._at, count) if count > 0 else b""


def digests_of(
    bucket: Bucket, key: str, seen: Seen, lengths: Mapping[str, int], awaited: Who = None
) -> Mapping[str, Digest] | None:
    """The digests of an object that stays as it was seen while it is read; None if it does not.

    Blocks, for a native thread; stops between two pieces once nobody waits any more.
    """
    awaited = awaited or Awaited()
    try:
        reader = ObjectReader(seen.size, lambda start, count: bucket.piece(key, seen.etag, start, count, awaited))
        found = proof.read_with(lambda view: 0 if awaited.given_up else reader.readinto(view), lengths, [])
    except StoreError as exc:
        if exc.errno in CHANGED:
            return None
        raise
    return None if awaited.given_up else found
