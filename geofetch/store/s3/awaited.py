"""Whether anybody still waits for what a thread asks of the server, and an end to it when nobody does.

In: a word from the hub that it is given up; the line that the thread asks over.  Out: no new try; and a request that
is still under way when the grace is over is broken off, for a server that stands still answers nobody.
Never: a thread that is ended; another one's line, as far as this one is over.

A socket is shut down by the system's own call, whoever waits at it and in which world: closing it is its thread's.
"""

from __future__ import annotations

import _socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import gevent

from ...errors import Cancelled

__all__ = ["Awaited", "Line", "Who"]

#: Seconds that a request under way has to end by itself: one that the server is about to answer is worth its answer.
GRACE_S = 0.4


class Line:
    """What one thread's client talks over: the connection that it made last."""

    __slots__ = ("connection",)

    def __init__(self) -> None:
        self.connection: Any = None

    def break_off(self) -> None:
        """End what is under way there; who waits for its answer gets an error of the connection's."""
        sock = getattr(self.connection, "sock", None)
        sock = getattr(sock, "_sock", sock)  # gevent's own holds the system's
        if isinstance(sock, _socket.socket):
            with suppress(OSError):  # it is closed meanwhile
                # The class's, not the socket's: one of TLS would first forget its keys, under the hands of its thread.
                _socket.socket.shutdown(sock, _socket.SHUT_RDWR)


class Awaited:
    """Whether anybody still waits for what a thread does.

    ``given_up``: nobody does, and no new question is asked.  What has begun may be brought to its end (``finishing``)
    until it is ``broken`` off.
    """

    __slots__ = ("_line", "_timer", "broken", "given_up")

    def __init__(self) -> None:
        self.given_up = False
        self.broken = False
        self._line: Line | None = None
        self._timer: Any = None

    @property
    def finishing(self) -> _Finishing:
        """The same for the last questions of something that is as good as done."""
        return _Finishing(self)

    def give_up(self, grace_s: float = GRACE_S) -> None:
        """Nobody waits any more.  On the hub, as often as one likes; waits for nothing."""
        self.given_up = True
        self.give_up_in(grace_s)

    def give_up_in(self, seconds: float) -> None:
        """Nobody waits any more once so many seconds are over."""
        if self._timer is None and not self.broken:
            # No reason for a loop to go on, if nothing else is.
            self._timer = gevent.get_hub().loop.timer(seconds, ref=False)
            self._timer.start(self._break_off)

    def over(self) -> None:
        """On the hub: it is done, and nothing is to be broken off any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.stop()
            timer.close()

    @contextmanager
    def asking(self, line: Line, doing: str) -> Iterator[None]:
        """Around one request, on its thread; a Cancelled if nobody waits for it by then."""
        with self._at(line):
            self.look(doing)
            yield

    def look(self, doing: str) -> None:
        """Nothing, as long as somebody waits."""
        if self.given_up:
            raise Cancelled(f"{doing}: nobody waits for it any more")

    @contextmanager
    def _at(self, line: Line) -> Iterator[None]:
        # The line first, then the look: whoever gives up does it the other way round, and one of both sees the other.
        self._line = line
        try:
            yield
        finally:
            self._line = None

    def _break_off(self) -> None:
        self.over()
        self.given_up = self.broken = True
        if (line := self._line) is not None:
            line.break_off()


class _Finishing:
    """An Awaited, as what has begun sees it."""

    __slots__ = ("_awaited",)

    def __init__(self, awaited: Awaited) -> None:
        self._awaited = awaited

    @property
    def given_up(self) -> bool:
        return self._awaited.broken

    @property
    def finishing(self) -> _Finishing:
        return self

    @contextmanager
    def asking(self, line: Line, doing: str) -> Iterator[None]:
        with self._awaited._at(line):
            self.look(doing)
            yield

    def look(self, doing: str) -> None:
        if self._awaited.broken:
            raise Cancelled(f"{doing}: nobody waits for it any more")


#: Who waits for an answer, if anybody is to be asked about that.
Who: TypeAlias = Awaited | _Finishing | None
