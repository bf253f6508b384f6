"""Is a file that is there already what a spec wants?  In: a Spec, what is seen, what is remembered.  Out: the proof.

One table of rules (:func:`held`), which decides without reading wherever it may, and one reader (:func:`read_file`).
Never: a name, a folder, a greenlet; the store knows where things are and calls the reader off the hub.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from ..digest import Digest, hasher
from ..events import Kept, Proof, Recall
from ..spec import Spec

__all__ = ["Held", "Reader", "held", "read_bytes", "read_file", "read_with", "remembered"]

PIECE_BYTES = 1 << 18
#: What a file is hashed with that must be read although nobody named a digest.
USUAL = "sha256"
#: A file that cannot be read is not proven, and may be replaced.  Any other error is no word on the file.
UNREADABLE = frozenset({errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})

#: Algorithms and the length in bytes that their values are wanted in, to the digests; None: no answer for this file.
Reader: TypeAlias = Callable[[Mapping[str, int]], Mapping[str, Digest] | None]


class Held(NamedTuple):
    """A file that is what the spec wants: its digests as far as they are known, and what proved it."""

    digests: Mapping[str, Digest]
    verified: Proof


def remembered(seen: Kept, recall: Recall | None) -> Mapping[str, Digest]:
    """The digests that the records hold of this very file, unchanged since; none if it changed, or is not known."""
    known = recall(seen.store, seen.key) if recall is not None and seen.store else None
    if known is None:
        return {}
    then, digests = known
    same = (then.size, then.mtime_ns, then.inode) == (seen.size, seen.mtime_ns, seen.inode)
    return digests if same and seen.mtime_ns is not None else {}


def held(
    spec: Spec,
    size: int,
    known: Mapping[str, Digest],
    reread: bool,
    read: Reader,
    named: Mapping[str, Digest] | None = None,
) -> Held | None:
    """The proof that a file of this size is what the spec wants; None if it is not, or if nothing could tell.

    ``known`` are the digests of the file as it is, by the records.  ``named`` is what its own name claims, in a store
    that files by digest: it must hold too, and is among the digests found.
    """
    if (spec.size is None and not spec.digests) or (spec.size is not None and spec.size != size):
        return None
    wanted = {digest.algorithm: digest for digest in spec.digests}
    by: Proof = "digest" if wanted else "size"
    wanted.update(named or {})
    if not reread:
        for name, digest in wanted.items():
            if known.get(name, digest) != digest:
                return None
        if wanted.keys() <= known.keys():
            return Held(known, by)
    must = {**known, **wanted} if reread else wanted
    lengths = {name: len(digest.value) for name, digest in must.items()} or {USUAL: 0}
    found = read(lengths)
    if found is None or any(found[name] != digest for name, digest in must.items()):
        return None
    return Held({**known, **found}, by)


def read_file(path: str, seen: Kept, lengths: Mapping[str, int], given_up: list[bool]) -> Mapping[str, Digest] | None:
    """The digests of a regular file that stays as it was ``seen`` while it is read; None if it does not.

    Blocks, for a native thread.  ``given_up`` is looked at between pieces: true once nobody waits any more.
    """
    try:
        # O_NONBLOCK: a pipe that took the file's place must not hold the thread; for a file it means nothing.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not _is(seen, os.fstat(fd)):
                return None
            found = read_with(lambda piece: os.readv(fd, [piece]), lengths, given_up)
            return found if _is(seen, os.fstat(fd)) and not any(given_up) else None
        finally:
            os.close(fd)
    except OSError as exc:
        if exc.errno in UNREADABLE:
            return None
        raise


def _is(seen: Kept, now: os.stat_result) -> bool:
    same = (now.st_size, now.st_mtime_ns, now.st_ino) == (seen.size, seen.mtime_ns, seen.inode)
    return same and stat.S_ISREG(now.st_mode)


def read_bytes(content: bytes, lengths: Mapping[str, int]) -> Mapping[str, Digest]:
    """The digests of bytes at hand.  Blocks, for a native thread if there are many."""
    return read_with(io.BytesIO(content).readinto, lengths, [])


def read_with(fill: Callable[[memoryview], int], lengths: Mapping[str, int], given_up: list[bool]) -> dict[str, Digest]:
    """The digests of what ``fill`` gives, piece by piece.  Blocks, for a native thread, as ``fill`` does."""
    hashers = {name: hasher(name) for name in lengths}
    piece = memoryview(bytearray(PIECE_BYTES))
    while (count := fill(piece)) and not any(given_up):
        for one in hashers.values():
            one.update(piece[:count])
    return {name: Digest(name, _value(one, lengths[name])) for name, one in hashers.items()}


def _value(one: Any, length: int) -> bytes:
    # SHAKE has no length of its own: as long as the value it is held against.
    value: bytes = one.digest() if one.digest_size else one.digest(length)
    return value
