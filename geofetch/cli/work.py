"""One command from its first line to its exit code.

In: what it was told, and a body that does the work.  Out: the body's code, or that of whatever ended it; with
``--json`` a last object that says so.  Never: a traceback, unless -v asks for one; a signal that is not heard.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from . import codes
from .console import Console

if TYPE_CHECKING:
    from .signals import Signals

__all__ = ["Work", "perform"]


class Work:
    """What a command's body works with: ``told`` (its flags), the console, the signals."""

    def __init__(self, name: str, told: Mapping[str, Any], console: Console, signals: Signals) -> None:
        self.name = name
        self.told = told
        self.console = console
        self.signals = signals
        self.began = monotonic()
        #: The profiles of the file that is meant, once they were asked for (kept.py).
        self.kept: Any = None
        #: What stopped the whole.
        self.error: BaseException | None = None
        #: The last object of --json, made by whoever has something to say in it; None: there is none.
        self.summary: Callable[[int], Mapping[str, Any]] | None = None

    @property
    def as_json(self) -> bool:
        return bool(self.told.get("as_json"))

    @property
    def elapsed_s(self) -> float:
        return monotonic() - self.began

    def stopped(self, error: BaseException) -> int:
        """Tell what stopped the whole; its code."""
        self.error = error
        self.console.fail(str(error))
        return codes.code_of(error)

    def opened_by(self, secrets: Iterable[str]) -> None:
        """From now on these are shown nowhere."""
        self.console.hide(secrets)


def perform(name: str, told: Mapping[str, Any], body: Callable[[Work], int]) -> int:
    """Run the body of a command; its exit code."""
    console = Console(bool(told.get("quiet")), int(told.get("loud") or 0))
    _more_files()
    import gevent

    from .signals import Signals

    console.listen()
    # The hub prints what ends a greenlet uncaught; it must pass the console like everything else.
    gevent.get_hub().exception_stream = console
    with Signals(console.say) as signals:
        work = Work(name, told, console, signals)
        code = _ended(work, body)
    if signals.received is not None:
        # A lookup may still hang in a native thread: two seconds are promised, and everything is committed.
        _left(code)
    return code


def _ended(work: Work, body: Callable[[Work], int]) -> int:
    from .output import Closed

    try:
        code = _guarded(work, body)
        if work.signals.received is not None:
            code = codes.of_signal(work.signals.received)
        if work.as_json and work.summary is not None:
            code = _summed_up(work, code)
        return code
    except Closed:
        return codes.CLOSED


def _summed_up(work: Work, code: int) -> int:
    from ..errors import StoreError
    from .output import put

    assert work.summary is not None
    try:
        put(work.summary(code))
    except StoreError as exc:  # told already, where it was what ended the command
        return code if isinstance(work.error, StoreError) else work.stopped(exc)
    return code


def _guarded(work: Work, body: Callable[[Work], int]) -> int:
    from ..errors import FetchError
    from .output import Closed

    try:
        return body(work)
    except (Closed, click.ClickException, click.exceptions.Exit):
        raise
    except FetchError as exc:
        return work.stopped(exc)
    except KeyboardInterrupt as exc:
        work.error = exc
        return 130
    except Exception as exc:
        return _unexpected(work, exc)


def _unexpected(work: Work, exc: Exception) -> int:
    work.error = exc
    hint = "" if work.console.loud else "; run it again with -v for the whole story"
    work.console.fail(f"unexpected error: {type(exc).__name__}: {exc}{hint}")
    if work.console.loud:
        work.console.line(logging.Formatter().formatException((type(exc), exc, exc.__traceback__)))
    return codes.UNEXPECTED


def _left(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)


def _more_files() -> None:
    """Let this process have as many open files as the system allows it.

    A command may do that, a library may not.  Connections get a third of them: it happens before limits.py looks.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems call a limit infinite and refuse it all the same: then it stays what it is.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
