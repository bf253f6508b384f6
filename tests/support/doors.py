"""A door that holds native threads.  In: threads that come to it.  Out: all of them, once it is opened.

Never: a lock of threading's, which in a patched process is a greenlet's.
"""

from __future__ import annotations

import os


class Door:
    """Who calls ``wait()`` stays there until ``open()``, for good; ``waiting`` says how many came."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        self.waiting = 0

    def wait(self) -> None:
        self.waiting += 1
        os.read(self._out, 1)  # the end of a pipe is readable for everyone, for ever

    def open(self) -> None:
        if self._in >= 0:
            os.close(self._in)
            self._in = -1

    def close(self) -> None:
        """Open it, and take it away; nobody may stand at it any more."""
        self.open()
        os.close(self._out)
