"""The rest of a body, still in its socket: for a native thread that receives it by itself.

In: a native socket that does not block, the bytes that are to come.  Out: bytes, as long as there are any; how many,
and what came in their place.  Never: waiting; a greenlet, a hub.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Tap"]


class Tap:
    """So many bytes of a socket, to be received on a native thread while no greenlet reads there."""

    __slots__ = ("_sock", "count", "ended", "error", "left", "pours")

    def __init__(self, sock: Any, left: int) -> None:
        self._sock = sock
        #: Bytes that are still to come.
        self.left = left
        #: Bytes that were received.
        self.count = 0
        #: Whether the other side has ended, and what the socket said in place of bytes.
        self.ended = False
        #: Whether more is there, most likely: who received gave others their turn.
        self.pours = False
        self.error: Exception | None = None

    def into(self, view: memoryview) -> int:
        """Receive what is there, as far as ``view`` takes it; 0 where nothing is, or nothing will come any more."""
        if self.ended or self.error is not None:
            return 0
        try:
            count: int = self._sock.recv_into(view[: self.left])
        except BlockingIOError:
            return 0
        except OSError as exc:
            self.error = exc.with_traceback(None)  # a traceback would keep this frame
            return 0
        self.ended = count == 0
        self.count += count
        self.left -= count
        return count
