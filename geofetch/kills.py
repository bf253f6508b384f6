"""What ends a download from outside: a kill, a deadline, the end of the process; and when it has to wait.

In: how long something may take, who ends it.  Out: a BaseException on its way up, or one that waits until what cannot
be left half done is done.  Never: who decides to kill.
"""

from __future__ import annotations

from typing import Any

import gevent

from .errors import FetchError

__all__ = ["INTERRUPTS", "KILLS", "Expired", "deadline", "hold", "shielded"]

#: What ends the whole process, not one download: it always goes up.
INTERRUPTS = (KeyboardInterrupt, SystemExit)
#: What ends a download because somebody wants it ended: the kill of its greenlet, or the end of the process.
KILLS = (gevent.GreenletExit, *INTERRUPTS)

#: Where kills wait, by the greenlet that does what must not be left half done.
_waiting: dict[Any, list[BaseException]] = {}


class Expired(gevent.Timeout):  # type: ignore[misc]
    """A deadline that is over, on its way up: a BaseException, so that no hook's ``except Exception`` swallows it."""

    def __init__(self, seconds: float | None, error: FetchError) -> None:
        super().__init__(seconds)
        self.error = error


class deadline:
    """Raise ``error`` in this greenlet when the time is over; another's deadline passes through."""

    __slots__ = ("_error", "_timer")

    def __init__(self, seconds: float, error: FetchError) -> None:
        self._error = error
        self._timer = Expired(seconds, error)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> None:
        self._timer.close()
        if exc is self._timer:
            raise self._error from None


class shielded:
    """Around what must not be left half done: the kills that came meanwhile, for whoever stands here to pass on.

    Nothing is held back by itself: whoever waits inside for something that goes on without it waits to the end and
    then says ``hold``.  A kill that strikes elsewhere inside is raised as ever.
    """

    __slots__ = ("_before", "_greenlet")

    def __enter__(self) -> list[BaseException]:
        self._greenlet = me = gevent.getcurrent()
        #: A hook that fetches in here does so within another's.
        self._before = _waiting.get(me)
        kills: list[BaseException] = []
        _waiting[me] = kills
        return kills

    def __exit__(self, *exc: object) -> None:
        if self._before is None:
            del _waiting[self._greenlet]
        else:
            _waiting[self._greenlet] = self._before


def hold(kill: BaseException) -> bool:
    """Let a kill wait until what is shielded is done; False where nothing is shielded: then it is to be raised."""
    kills = _waiting.get(gevent.getcurrent())
    if kills is None or isinstance(kill, INTERRUPTS):
        return False
    kills.append(kill)
    return True
