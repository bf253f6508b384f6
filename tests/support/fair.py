"""A ticker for a busy machine.  In: a span of time.  Out: the greatest gap that was this process' own doing.

The control ticker of ticking.py sleeps nearly always, so the kernel lets it run first: it does not see that a process
with work to do must wait for a processor.  The kernel counts that wait for every thread, and it is taken off the gap.
Never: anything taken off on an idle machine.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from .ticking import TICK_S, Control, Ticker


def waited_s() -> float:
    """How long this thread has been ready to run while the machine ran others; 0 where the kernel does not tell."""
    counts = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    return int(counts.read_text().split()[1]) / 1e9 if counts.exists() else 0.0


class FairTicker(Ticker):
    """``worst_s`` is the greatest gap while the control was on time, without what was waited for a processor in it."""

    def __init__(self, control: Control) -> None:
        super().__init__(control)
        self._waited = 0.0

    def __enter__(self) -> Ticker:
        self._waited = waited_s()
        return super().__enter__()

    def _note(self) -> None:
        now, waited = time.monotonic(), waited_s()
        own_s = now - self._last - (waited - self._waited)
        if own_s > 2 * TICK_S:
            self._gaps.append((now - own_s, now))
        self._last, self._waited = now, waited
