"""Large buffers for bodies that flow, lent and taken back.

In: who receives.  Out: a Buffer, the taker's own until it is given back.  Never: what is in it; a buffer for a
connection that waits or rests.
"""

from __future__ import annotations

from ..hubs import own

__all__ = ["LARGE", "Buffer", "Buffers", "buffers"]

#: Bytes of a buffer.  64 KiB at a time costs twice the system calls; 1 MiB was not faster, and each reader who is slow
#: keeps one for as long as something in it is unread.
LARGE = 256 * 1024
#: Buffers kept for the next body; those beyond are left to the garbage collector.
KEPT = 8


class Buffer:
    """Bytes that may be overwritten, and a view on them for slices without copies."""

    __slots__ = ("bytes", "view")

    def __init__(self) -> None:
        self.bytes = bytearray(LARGE)
        self.view = memoryview(self.bytes)


class Buffers:
    """The free list of one hub."""

    def __init__(self) -> None:
        self._free: list[Buffer] = []
        #: Buffers that somebody has now.
        self.lent = 0

    def take(self) -> Buffer:
        """A buffer, the taker's own until it is given back."""
        self.lent += 1
        return self._free.pop() if self._free else Buffer()

    def give(self, buffer: Buffer) -> None:
        """Take a buffer back; whoever gave it touches it no more."""
        self.lent -= 1
        if len(self._free) < KEPT:
            self._free.append(buffer)


def buffers() -> Buffers:
    """The free list of this hub."""
    return own("buffers", Buffers)
