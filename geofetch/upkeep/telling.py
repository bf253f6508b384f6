"""What a verify tells while it lasts.  In: its counts, its readers, a sink.  Out: Tallies, now and then, the last one
at the end.  Never: an end of the verify because its sink failed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gevent

from ..errors import SpecError
from ..report import Tally, automatic

__all__ = ["Telling"]

log = logging.getLogger("geofetch")

#: Seconds between two tallies.
EVERY_S = 0.1


class Found(Protocol):
    """What was found so far: of how many, and how many of them are right."""

    @property
    def checked(self) -> int: ...

    @property
    def counts(self) -> Mapping[str, int]: ...


class Read(Protocol):
    """How many bytes were gone through so far."""

    @property
    def read_bytes(self) -> int: ...


class Telling:
    """Around a run: its tallies, told to a sink now and then, the last one at the end."""

    def __init__(self, progress: Any, found: Found, readers: Read, total: int | None) -> None:
        if progress is True:
            progress = automatic()
        if progress is not None and progress is not False and not callable(progress):
            raise SpecError(f"progress is True, False or something to be called with a Tally, not {progress!r}")
        self._sink: Callable[[Tally], Any] | None = progress or None
        self._found = found
        self._readers = readers
        self._total = total
        self._began = time.monotonic()
        #: Files that an earlier run has looked at: they say nothing of how fast this one is.
        self._before = found.checked
        self._ticker: Any = None

    def __enter__(self) -> None:
        if self._sink is not None:
            self._ticker = gevent.spawn(self._tick)

    def _tick(self) -> None:
        while self._sink is not None:
            gevent.sleep(EVERY_S)
            self._tell(final=False)

    def _tell(self, final: bool) -> None:
        try:
            if self._sink is not None:
                self._sink(self._tally(final))
        except Exception:
            log.warning("progress is not shown any more: its sink failed", exc_info=True)
            self._sink = None

    def _tally(self, final: bool) -> Tally:
        elapsed_s = time.monotonic() - self._began
        ended, present = self._found.checked, self._found.counts.get("present", 0)
        read_bytes = self._readers.read_bytes
        left_s = None
        if self._total is not None and ended > self._before:
            left_s = max(0.0, elapsed_s * (self._total - ended) / (ended - self._before))
        return Tally(
            planned=ended,
            stored=present,
            failed=ended - present,
            items_total=self._total,
            bytes_done=read_bytes,
            rate_bps=read_bytes / elapsed_s if elapsed_s > 0 else None,
            elapsed_s=elapsed_s,
            left_s=left_s,
            final=final,
        )

    def __exit__(self, *ended: Any) -> None:
        if self._ticker is not None:
            self._ticker.kill(block=False)
        self._tell(final=True)
