"""Files that may be named pipes.  In: a path.  Out: the open file, or its bytes.  Never: a wait that no signal ends.

Opening a pipe waits for who writes into it.  On the main thread that would keep the hub, and with it the handlers of
signals.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

__all__ = ["opened", "read"]

T = TypeVar("T")


def opened(path: str) -> BinaryIO:
    """The file, open for reading; an OSError as open() raises it."""
    return _elsewhere(lambda: open(path, "rb"))


def read(path: str) -> bytes:
    """All that is in it; an OSError as open() and read() raise it."""

    def whole() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    return _elsewhere(whole)


def _elsewhere(work: Callable[[], T]) -> T:
    from gevent import get_hub

    def told() -> tuple[Any, OSError | None]:
        # An exception that leaves a thread's function is also printed by the hub: it travels as a value instead.
        try:
            return work(), None
        except OSError as exc:
            return None, exc

    found, error = get_hub().threadpool.apply(told)
    if error is not None:
        raise error
    return found  # type: ignore[no-any-return]
