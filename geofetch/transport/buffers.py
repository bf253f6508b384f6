"""Large buffers for bodies that flow, lent and taken back.

In: who receives.  Out: a Buffer, the taker's own until it is given back.  Never: what is in it; a buffer for a
connection that waits or rests.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from ..hubs import own

__all__ = ["BROAD", "LARGE", "Buffer", "Buffers", "Room", "broad_buffers", "buffers"]

#: Bytes of a buffer.  64 KiB at a time costs twice the system calls; 1 MiB was not faster, and each reader who is slow
#: keeps one for as long as something in it is unread.
LARGE = 256 * 1024
#: Bytes of a buffer that a native thread takes over as it is: a hop to it and back costs some 100 µs, SHA-256 of this
#: some 350.  1 MiB costs a tenth more CPU: what was hashed has left the processor's cache when it is written.
BROAD = 512 * 1024
#: Buffers kept for the next body; those beyond are left to the garbage collector.
KEPT = 8


class Room(Protocol):
    """Where somebody wants a body received, who hands on the buffer itself."""

    def space(self) -> memoryview:
        """Where the next bytes go: never empty."""

    def rest(self) -> None:
        """Nothing is there, for who knows how long: a buffer with nothing in it is not needed meanwhile."""


class Buffer:
    """Bytes that may be overwritten, and a view on them for slices without copies."""

    __slots__ = ("bytes", "view")

    def __init__(self, size: int = LARGE) -> None:
        self.bytes = bytearray(size)
        self.view = memoryview(self.bytes)


class Buffers:
    """A free list of one hub."""

    def __init__(self, size: int = LARGE) -> None:
        self._size = size
        self._free: list[Buffer] = []
        #: Buffers that somebody has now.
        self.lent = 0

    def take(self) -> Buffer:
        """A buffer, the taker's own until it is given back."""
        self.lent += 1
        return self._free.pop() if self._free else Buffer(self._size)

    def give(self, buffer: Buffer) -> None:
        """Take a buffer back; whoever gave it touches it no more."""
        self.lent -= 1
        if len(self._free) < KEPT:
            self._free.append(buffer)


def buffers() -> Buffers:
    """The free list of this hub."""
    return own("buffers", Buffers)


def broad_buffers() -> Buffers:
    """The free list of this hub of what goes to a native thread."""
    return own("broad buffers", partial(Buffers, BROAD))
