"""What ends a download from outside: a kill, a deadline, the end of the process; and when it has to wait.

In: how long something may take, who ends it.  Out: a BaseException on its way up, or one that waits until what cannot
be left half done is done.  Never: who decides to kill.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import gevent

from .errors import FetchError

__all__ = ["ENDLESS", "INTERRUPTS", "KILLS", "Expired", "deadline", "hold", "shielded"]

#: What ends the whole process, not one download: it always goes up.
INTERRUPTS = (KeyboardInterrupt, SystemExit)
#: What ends a download because somebody wants it ended: the kill of its greenlet, or the end of the process.
KILLS = (gevent.GreenletExit, *INTERRUPTS)

#: Where a kill waits while this greenlet does what must not be left half done.
_waiting: ContextVar[list[BaseException] | None] = ContextVar("geofetch_kills", default=None)


class Expired(gevent.Timeout):  # type: ignore[misc]
    """A deadline that is over, on its way up: a BaseException, so that no hook's ``except Exception`` swallows it."""

    def __init__(self, seconds: float | None, error: FetchError) -> None:
        super().__init__(seconds)
        self.error = error


class deadline:
    """Raise ``error`` in this greenlet when the time is over; another's deadline passes through.  None: no end."""

    __slots__ = ("_error", "_seconds", "_timer")

    def __init__(self, seconds: float | None, error: FetchError | None) -> None:
        self._seconds = seconds
        self._error = error
        self._timer: Expired | None = None

    def __enter__(self) -> None:
        if self._seconds is not None and self._error is not None:
            self._timer = Expired(self._seconds, self._error)
            self._timer.start()

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> None:
        if self._timer is not None:
            self._timer.close()
            if exc is self._timer and self._error is not None:
                raise self._error from None


#: Where nobody has told an end; one for all, since it remembers nothing.
ENDLESS = deadline(None, None)


class shielded:
    """Around what must not be left half done: the kills that came meanwhile, for whoever stands here to pass on.

    Nothing is held back by itself: whoever waits inside for something that goes on without it waits to the end and
    then says ``hold``.  A kill that strikes elsewhere inside is raised as ever.
    """

    __slots__ = ("_token",)

    def __enter__(self) -> list[BaseException]:
        kills: list[BaseException] = []
        self._token = _waiting.set(kills)
        return kills

    def __exit__(self, *exc: object) -> None:
        _waiting.reset(self._token)


def hold(kill: BaseException) -> bool:
    """Let a kill wait until what is shielded is done; False where nothing is shielded: then it is to be raised."""
    kills = _waiting.get()
    if kills is None or isinstance(kill, INTERRUPTS):
        return False
    kills.append(kill)
    return True
