"""Ctrl-C, SIGTERM and SIGHUP: once, an end in good order; twice, an end at once.

In: signals.  Out: a call to whoever said how it is cancelled, else an Interrupted in the main greenlet.  Never: a
``finally`` that is left out the first time (a bare KeyboardInterrupt runs no greenlet's).

At once is still consistent: a file has its name whole or not at all, a database's commit is whole or not at all, and a
part that is left over is removed by the next run on that root.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent

from . import codes

__all__ = ["Interrupted", "Signals", "ending"]

#: What an end in good order may take: two seconds are promised, and the interpreter wants some of them.
GRACE_S = 1.7


#: Who is told that the end has come, whatever else a signal does; a process has one set of handlers.
_told: list[Callable[[], Any]] = []


@contextmanager
def ending(told: Callable[[], Any]) -> Iterator[None]:
    """While inside, the first signal also calls this, which returns at once: what it stands for ends soon."""
    _told.append(told)
    try:
        yield
    finally:
        _told.remove(told)


class Interrupted(KeyboardInterrupt):
    """A signal, raised where the main greenlet waits."""


class Signals:
    """The handlers of SIGINT, SIGTERM and SIGHUP, while it is entered.  ``received``: the first one that came."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.received: int | None = None
        self._say = say
        self._cancels: list[Callable[[], Any]] = []
        self._main: Any = None
        self._watchers: list[Any] = []
        self._former: list[tuple[int, Any]] = []

    def __enter__(self) -> Signals:
        self._main = gevent.getcurrent()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            former = signal.getsignal(number)
            if former is signal.SIG_IGN:  # nohup, or a shell's background job: whoever started us wants none of it
                continue
            self._former.append((number, former))
            self._watchers.append(gevent.signal_handler(number, self._struck, int(number)))
        return self

    def __exit__(self, *exc: object) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        for number, former in self._former:
            signal.signal(number, former)

    @contextmanager
    def cancelling(self, cancel: Callable[[], Any]) -> Iterator[None]:
        """While inside, a signal calls this, and nothing is raised in the main greenlet."""
        if self.received is not None:
            raise Interrupted
        self._cancels.append(cancel)
        try:
            yield
        finally:
            self._cancels.remove(cancel)

    def _struck(self, number: int) -> None:
        if self.received is not None:
            at_once(self.received)
        self.received = number
        gevent.spawn_later(GRACE_S, self._too_late, number)
        for told in list(_told):
            told()
        if self._cancels:
            for cancel in list(self._cancels):
                cancel()
        else:
            gevent.get_hub().loop.run_callback(self._main.throw, Interrupted())
        self._say("ending: what is under way is dropped, what is done is kept (again: at once)")

    def _too_late(self, number: int) -> None:
        self._say("not all came to an end in time: what is stored and not recorded is adopted by the next run")
        at_once(number)


def at_once(number: int) -> None:
    """End the process here and now, by the code of this signal."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(codes.of_signal(number))
