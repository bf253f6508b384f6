"""No faster than so many bytes a second, over all native threads that read.  In: a rate, bytes that were read.  Out: a
wait in the thread that read them.  Never: a burst after a pause; a wait that nobody can end.

Each thread waits for what it has read itself, after those who came before it: there is no stock of bytes that were not
read, so a store that was slow for a minute is not read at full speed for the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

# What gevent's own thread pool uses: native in every world, also where threading's is a greenlet's, as is time.sleep.
from gevent._threading import Lock

__all__ = ["Pace"]

#: Seconds of reading in one piece, and seconds for which a thread waits before it looks whether anybody still wants it.
STEP_S = 0.05
LEAST_BYTES = 4096


class Pace:
    """``rate_bps`` bytes a second.  Shared by threads; its ``wait`` blocks, for native threads alone."""

    def __init__(self, rate_bps: float) -> None:
        self.rate_bps = rate_bps
        #: What is read at once at most, so that a slow pace is a steady one.
        self.piece_bytes = max(LEAST_BYTES, int(rate_bps * STEP_S))
        self._free_at = monotonic()
        self._lock = Lock()

    def wait(self, count: int, left: Callable[[], bool]) -> None:
        """Wait until ``count`` more bytes may have been read; no longer once ``left()`` says so."""
        with self._lock:
            now = monotonic()
            self._free_at = until = max(self._free_at, now) + count / self.rate_bps
        never = Lock()
        never.acquire()
        while (rest := until - monotonic()) > 0 and not left():
            # Nobody lets go of it: a sleep that no patch turns into a greenlet's.
            never.acquire(True, min(rest, STEP_S))
