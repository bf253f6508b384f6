"""The native threads that remove.  In: stores, files.  Out: what became of each.

Never: a removal that is begun when nobody waits any more, or so late that somebody else may have taken it over.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Literal, NamedTuple

import gevent
from gevent.threadpool import ThreadPool

from ..errors import FetchError, StoreError
from ..events import Kept
from ..records.leftovers import LEASE_S

__all__ = ["STATES", "Removed", "Removers"]

#: Seconds for which whoever was ended waits for the removals that are under way.
ENDING_S = 1.0


class Removed(NamedTuple):
    """``left``: it was not begun; ``unknown``: it may be under way still."""

    state: Literal["removed", "gone", "replaced", "failed", "left", "unknown"]
    error: FetchError | None = None


STATES = ("removed", "gone", "replaced", "failed", "left", "unknown")
LEFT, UNKNOWN = Removed("left"), Removed("unknown")


@dataclass(slots=True, eq=False)
class _Work:
    """Files that are being removed, and what became of them so far."""

    each: Sequence[tuple[Any, Kept]]
    done: list[Removed]
    until: float
    given_up: bool = False
    threads: list[Any] = field(default_factory=list)


class Removers:
    """``jobs`` threads.  A context manager."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._threads: Any = None
        self._work: _Work | None = None

    def remove(self, each: Sequence[tuple[Any, Kept]]) -> list[Removed]:
        """Remove these files of these stores; what became of each, in their order."""
        if self._threads is None:
            self._threads = ThreadPool(self._jobs)
        # Half of the lease: a removal that waits for a server's answer may take the other half.
        work = self._work = _Work(each, [LEFT] * len(each), monotonic() + LEASE_S / 2)
        count = min(self._jobs, len(each))
        work.threads = [self._threads.spawn(_removing, work, start, count) for start in range(count)]
        for thread in work.threads:
            thread.get()
        self._work = None
        return work.done

    def ended(self, count: int) -> list[Removed]:
        """What became of each of so many when ``remove`` was ended, after a moment for those under way."""
        work, self._work = self._work, None
        if work is None:
            return [UNKNOWN] * count
        work.given_up = True
        gevent.wait(work.threads, timeout=ENDING_S)
        if all(thread.ready() for thread in work.threads):
            return work.done
        return [UNKNOWN if one is LEFT else one for one in work.done]

    def __enter__(self) -> Removers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.kill()


def _removing(work: _Work, start: int, step: int) -> None:
    for at in range(start, len(work.each), step):
        if work.given_up or monotonic() > work.until:
            return
        work.done[at] = _removed(*work.each[at])


def _removed(store: Any, kept: Kept) -> Removed:
    try:
        return Removed("removed" if store.remove(kept) else "gone")
    except FetchError as exc:
        return Removed("replaced" if getattr(exc, "errno", None) == errno.ESTALE else "failed", exc)
    except Exception as exc:  # a plugin's store; one file must not keep the others
        error = StoreError(f"removing {kept.key}: {type(exc).__name__}: {exc}")
        error.__cause__ = exc
        return Removed("failed", error)
