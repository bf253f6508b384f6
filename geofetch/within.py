"""How long something may take: many waits of one length, one timer for all of them.

In: seconds, what to raise when they are over.  Out: that, raised in the greenlet that waits.  Never: what for.

A gevent.Timeout is a timer of its own, started and stopped for every head and every piece of a body, and nearly none
ever strikes.  Here those of one length stand in a line in the order in which they began, which is that in which they
end: only the first is watched, and only once the timer has come to it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import gevent
from gevent import getcurrent

from .hubs import own

__all__ = ["within"]

#: Lengths for which a hub keeps a line.
LENGTHS = 64


class _Line:
    """Who waits for so many seconds at most, in the order of coming."""

    __slots__ = ("_loop", "_striking", "_timer", "seconds", "waiting")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.waiting: dict[within, float] = {}
        self._loop = gevent.get_hub().loop
        #: Runs while anybody waits, and ends with the first of them at the latest.
        self._timer: Any = None
        self._striking = False

    def join(self, who: within) -> None:
        self.waiting[who] = monotonic() + self.seconds
        if self._timer is None and not self._striking:
            self._watch(self.seconds)

    def leave(self, who: within) -> None:
        self.waiting.pop(who, None)
        if not self.waiting:
            self._rest()  # a timer that runs would keep a loop alive that has nothing else to do

    def _watch(self, seconds: float) -> None:
        self._timer = self._loop.timer(seconds)
        # From now, not from when this pass of the loop began: a pass may take long.
        self._timer.start(self._strike, update=True)

    def _rest(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.close()

    def _strike(self) -> None:
        """In the hub: throw into all whose time is over.  They may wait anew at once; the others come before them."""
        self._rest()
        self._striking = True
        try:
            while self.waiting:
                first, due = next(iter(self.waiting.items()))
                if due > monotonic():
                    break
                del self.waiting[first]
                first.strike()
        finally:
            self._striking = False
            for due in self.waiting.values():
                self._watch(max(0.0, due - monotonic()))
                break


class within:
    """Around what may take so long; when it is over, what ``late`` makes of that time is raised in place of whatever
    was awaited.

    Inside it strikes as a BaseException, so that nobody's ``except Exception`` swallows it; another's passes through.
    """

    __slots__ = ("_greenlet", "_late", "_line", "_struck")

    def __init__(self, seconds: float, late: Callable[[float], Exception]) -> None:
        self._line = _line(seconds)
        self._late = late
        self._struck: BaseException | None = None

    def __enter__(self) -> None:
        self._greenlet: Any = getcurrent()
        self._line.join(self)

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> None:
        self._line.leave(self)
        if exc is not None and exc is self._struck:
            late = self._late(self._line.seconds)
            try:
                raise late from None
            finally:
                late.__context__ = None  # what struck says nothing more

    def strike(self) -> None:
        """In the hub: end the wait."""
        self._struck = gevent.Timeout(self._line.seconds)
        self._greenlet.throw(self._struck)


def _line(seconds: float) -> _Line:
    lines: dict[float, _Line] = own("lines", dict)
    found = lines.get(seconds)
    if found is None:
        if len(lines) >= LENGTHS:
            for length in [length for length, line in lines.items() if not line.waiting]:
                del lines[length]
        found = lines[seconds] = _Line(seconds)
    return found
