"""Files that may be named pipes.  In: a path.  Out: the open file, its bytes, or its lines.

Never: a wait that no signal ends, or that holds the hub up.  Opening a pipe waits for who writes into it, and so does
reading from it: that is done on a native thread.  A regular file is read where one is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, TypeVar

__all__ = ["is_file", "lines", "opened", "read"]

T = TypeVar("T")

#: Lines are read in blocks of so many bytes.
BLOCK = 1 << 20
#: Native threads that wait for who writes into pipes.
THREADS = 2


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether it is a regular file; an OSError as os.stat() raises it."""
    return stat.S_ISREG(os.stat(path).st_mode)


def opened(path: str | os.PathLike[str]) -> BinaryIO:
    """The file, open for reading; an OSError as open() raises it."""
    return _call(is_file(path), lambda: open(path, "rb"))


def read(path: str | os.PathLike[str]) -> bytes:
    """All that is in it; an OSError as open() and read() raise it."""

    def whole() -> bytes:
        with open(path, "rb") as file:
            return file.read()

    return _call(is_file(path), whole)


def lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Its lines, some of them held at a time; an OSError as open() and read() raise it."""
    here = is_file(path)
    with opened(path) as file:
        while block := _call(here, partial(file.readlines, BLOCK)):
            yield from block


def _call(here: bool, work: Callable[[], T]) -> T:
    if here:
        return work()
    from .hubs import native, threads

    if native():
        return work()

    def told() -> tuple[Any, OSError | None]:
        # An exception that leaves a thread's function is also printed by the hub: it travels as a value instead.
        try:
            return work(), None
        except OSError as exc:
            return None, exc

    found, error = threads("pipes", THREADS).apply(told)
    if error is not None:
        raise error
    return found  # type: ignore[no-any-return]
