"""Whose turn it is: no pass of a hub's loop belongs to downloads alone.

In: greenlets that want to go on.  Out: they do, some of them in a later pass.  Never: what for.
"""

from __future__ import annotations

from collections import deque
from time import monotonic

import gevent
from gevent.hub import Waiter

__all__ = ["pause", "turn"]

#: Seconds that downloads may take of one pass of the loop before the rest of them waits for the next one.
PASS_S = 0.02


class _Turns:
    """Who goes on in this pass of a hub's loop.

    A loop looks at its timers and sockets when all who can run have run.  A commit wakes a whole pool at once, and two
    milliseconds of work for each of 32 downloads are a tenth of a second in which nobody else has a turn (measured).
    """

    def __init__(self) -> None:
        loop = gevent.get_hub().loop
        #: When this pass began, and who waits for a later one.
        self.began = monotonic()
        self.line: deque[Waiter] = deque()
        self._passes = loop.check(ref=False, priority=loop.MAXPRI)
        self._passes.start(self._next_pass)
        self._soon = loop.timer(0.0)

    def wait(self) -> None:
        waiter: Waiter = Waiter()
        self.line.append(waiter)
        if len(self.line) == 1:
            self._soon.start(self._serve)
        waiter.get()  # who is killed here stays in the line, and is passed over

    def _next_pass(self) -> None:
        self.began = monotonic()

    def _serve(self) -> None:
        self._soon.stop()
        while self.line and monotonic() - self.began < PASS_S:
            self.line.popleft().switch(None)
        if self.line:
            self._soon.start(self._serve)


def turn() -> None:
    """Go on, unless this pass of the loop has taken long already: then in a later one, in the order of coming."""
    held = gevent.get_hub().__dict__
    turns = held.get("_geofetch_turns")
    if turns is None:
        turns = held["_geofetch_turns"] = _Turns()
    if turns.line or monotonic() - turns.began >= PASS_S:
        turns.wait()


def pause(seconds: float) -> None:
    """Let the others go on for so long."""
    gevent.sleep(seconds)
