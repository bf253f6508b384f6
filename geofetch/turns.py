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
        self._began = monotonic()
        self._line: deque[Waiter] = deque()
        self._passes = loop.check(ref=False, priority=loop.MAXPRI)
        self._passes.start(self._next_pass)
        self._soon = loop.timer(0.0)

    def take(self) -> None:
        if not self._line and monotonic() - self._began < PASS_S:
            return
        waiter: Waiter = Waiter()
        self._line.append(waiter)
        if len(self._line) == 1:
            self._soon.start(self._serve)
        waiter.get()  # who is killed here stays in the line, and is passed over

    def _next_pass(self) -> None:
        self._began = monotonic()

    def _serve(self) -> None:
        self._soon.stop()
        while self._line and monotonic() - self._began < PASS_S:
            self._line.popleft().switch(None)
        if self._line:
            self._soon.start(self._serve)


def turn() -> None:
    """Go on, unless this pass of the loop has taken long already: then in a later one, in the order of coming."""
    held = gevent.get_hub().__dict__
    turns = held.get("_geofetch_turns")
    if turns is None:
        turns = held["_geofetch_turns"] = _Turns()
    turns.take()


def pause(seconds: float) -> None:
    """Let the others go on for so long."""
    gevent.sleep(seconds)
