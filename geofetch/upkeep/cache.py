"""A scrub that leaves the system's cache of files as it was.  In: a file that is being read.  Out: its pages, gone from
the cache again, if they were not there before.  Never: a page that somebody else had read; an error.

A scrub reads everything once and needs nothing of it again.  Without a word the system would keep it, in place of what
is served all day.
"""

from __future__ import annotations

import os
from typing import BinaryIO

__all__ = ["Passing"]

#: Smaller files are not worth three calls to the system.
LEAST_BYTES = 1 << 20
#: Bytes after which those behind are let go of.
EVERY_BYTES = 8 << 20

_NOWAIT = getattr(os, "RWF_NOWAIT", None)


class Passing:
    """A file that is read once from its beginning to its end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._fd: int | None = None
        self._done = self._let_go = 0
        if size < LEAST_BYTES or _NOWAIT is None:
            return
        try:
            fd = file.fileno()
            if not _cached(fd):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
                self._fd = fd
        except (OSError, AttributeError, ValueError):  # no file of the system's, or one that is not asked such things
            self._fd = None

    def read(self, count: int) -> None:
        """So many more bytes were read; none at the end."""
        self._done += count
        if self._fd is None or (count and self._done - self._let_go < EVERY_BYTES):
            return
        try:
            os.posix_fadvise(self._fd, self._let_go, self._done - self._let_go, os.POSIX_FADV_DONTNEED)
        except OSError:
            self._fd = None
        self._let_go = self._done


def _cached(fd: int) -> bool:
    """Whether its first bytes can be had without a wait for the disk."""
    try:
        return os.preadv(fd, [bytearray(1)], 0, _NOWAIT or 0) > 0
    except BlockingIOError:
        return False
