"""How long the hub was away.  In: a span of time.  Out: the greatest gap between two turns of a 10 ms ticker.

A gap counts only where a control ticker, in an idle process of its own, was on time at that moment: on a busy machine
everybody waits.  Run as a module this is the control.  Never: a clock that others can set.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

TICK_S = 0.01
#: From here on a gap of the control means that the machine, not the hub, was late.
LATE_S = 0.05


class Control:
    """The control ticker in its own process; monotonic clocks of one machine agree."""

    def __init__(self) -> None:
        from .process import ROOT

        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.ticking"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self.late()

    def late(self) -> list[tuple[float, float]]:
        """When it was late itself: (from, to), since it began."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return [(start, end) for start, end in json.loads(self._process.stdout.readline())]

    def end(self) -> None:
        self._process.communicate(timeout=10)


class Ticker:
    """A greenlet that ticks while the ``with`` block runs; ``worst_s`` is its greatest gap that counts."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._gaps: list[tuple[float, float]] = []
        self._last = 0.0

    def __enter__(self) -> Ticker:
        import gevent

        self._gaps.clear()
        self._last = time.monotonic()
        self._greenlet = gevent.spawn(self._tick)
        gevent.sleep(0)
        return self

    def _tick(self) -> None:
        import gevent

        while True:
            gevent.sleep(TICK_S)
            self._note()

    def _note(self) -> None:
        now = time.monotonic()
        if now - self._last > 2 * TICK_S:
            self._gaps.append((self._last, now))
        self._last = now

    def __exit__(self, *failed: object) -> None:
        # The gap that is open now counts too: a block that never let the hub run has no other one.
        self._note()
        self._greenlet.kill()

    @property
    def gaps_s(self) -> list[float]:
        """Every gap over two ticks that counts, in seconds."""
        late = self._control.late()
        return [end - start for start, end in self._gaps if not any(a < end and b > start for a, b in late)]

    @property
    def worst_s(self) -> float:
        """The greatest gap that counts; 0 if there was none over two ticks."""
        return max(self.gaps_s, default=0.0)


def _control() -> None:
    late: list[tuple[float, float]] = []
    threading.Thread(target=_watch, args=(late,), daemon=True).start()
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(late) + "\n")
        sys.stdout.flush()


def _watch(late: list[tuple[float, float]]) -> None:
    last = time.monotonic()
    while True:
        time.sleep(TICK_S)
        now = time.monotonic()
        if now - last > LATE_S:
            late.append((last, now))
        last = now


if __name__ == "__main__":
    _control()
