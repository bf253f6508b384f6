"""What we tell while files are fetched: how many, how much, how fast, how long, and what went wrong.

In: facts, as any stage is told them.  Out: Tallies, to whoever asks and to a sink, ten a second at the most; the last
one, marked final, always and once.  Never: a say in what happens; a clock, a lock or a text for each chunk; a secret
(the only name that is shown is a Spec's path, escaped).

    report = Report(automatic())
    report.expect(len(specs))
    with Pool(progress=report) as pool: ...

One greenlet drives the sink.  It lives from the first planned spec to ``close()``, and sleeps while nothing is to be
done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import gevent
from gevent.event import Event

from ..errors import SpecError
from ..events import Attempt, Head, Listener, Outcome
from ..spec import Spec
from .counts import EARLY_S, EVERY_S, Item, Pace, Sum
from .sinks import Bars, JsonLines, Log, Plain, Sink, automatic
from .tally import Tally

__all__ = ["Bars", "JsonLines", "Log", "Plain", "Report", "Sink", "Tally", "automatic"]

#: How long ``close()`` waits for a sink that is in the middle of an update.
SINK_MOST_S = 1.0

log = logging.getLogger("geofetch.progress")


class Report:
    """A stage that counts.  ``sink``: a callable that is given a Tally now and then; None: only who asks is told.

    ``clock``: seconds that never go back.  One report may serve several runs, one after the other or at once, as long
    as they are in one hub; it is closed once, by whoever made it.
    """

    #: A number is added to by one thread at a time, and read by the hub.
    offload = True

    def __init__(
        self, sink: Sink | None = None, *, clock: Callable[[], float] = time.monotonic, every_s: float = EVERY_S
    ) -> None:
        if sink is not None and not callable(sink):
            raise SpecError(f"{sink!r} is no sink for progress: it cannot be called with a Tally")
        self._sink = sink
        self._clock = clock
        self._every_s = max(every_s, EVERY_S)
        self._sum = Sum()
        self._pace = Pace()
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self._told_s = float("-inf")
        self._ticker: Any = None
        self._idle = False
        self._call = Event()

    @classmethod
    def of(cls, progress: Report | Sink | bool | None, *, command: bool = False) -> Report | None:
        """A report from what users write: a Report, a sink, True (:func:`automatic`); None for None and False."""
        if progress is None or progress is False:
            return None
        if isinstance(progress, Report):
            return progress
        return cls(automatic(command=command) if progress is True else progress)

    def expect(self, items: int, size_bytes: int | None = None) -> None:
        """Tell how many items there will be in all, those planned already among them; and their bytes, if known."""
        if items < 0 or (size_bytes is not None and size_bytes < 0):
            raise SpecError("there cannot be fewer than 0 items or bytes")
        self._sum.told_items = items
        self._sum.told_bytes = size_bytes

    def watch(self, spec: Spec) -> Listener:
        """The hooks of one spec."""
        return _Watched(self, Item(spec))

    def bind(self, attempt: Attempt) -> Listener | None:
        """The hooks of one attempt; an adoption fetches nothing."""
        return None if attempt.source is None else _Counted(self._sum, attempt)

    def tally(self) -> Tally:
        """How things stand; after ``close()``, how they ended."""
        return self._tally(final=self._ended_s is not None)

    @property
    def sink(self) -> Sink | None:
        """Who is told; None where nobody is, or where the sink failed and was let go."""
        return self._sink

    def _tally(self, final: bool) -> Tally:
        now_s = self._clock() if self._ended_s is None else self._ended_s
        elapsed_s = 0.0 if self._began_s is None else now_s - self._began_s
        rate_bps = self._pace.rate(now_s, self._sum.gross)
        if final:
            rate_bps = self._sum.gross / elapsed_s if elapsed_s > 0 else None
        return self._sum.tally(rate_bps, elapsed_s, final)

    def _wake(self) -> None:
        if self._ended_s is not None:
            return
        if self._began_s is None:
            self._began_s = self._clock()
            self._pace.rate(self._began_s, 0)
            if self._sink is not None:
                self._ticker = gevent.spawn(self._tick)
                self._ticker.name = "geofetch progress"
        elif self._idle:
            self._call.set()

    def _tick(self) -> None:
        while self._ended_s is None and self._sink is not None:
            self._call.wait(self._every_s)
            if self._ended_s is None and self._clock() - self._told_s >= self._every_s - EARLY_S:
                self._tell()
            if self._ended_s is None and self._sum.nothing_left:
                self._idle = True
                self._call.wait()
                self._idle = False
            if self._ended_s is None:
                self._call.clear()

    def _tell(self) -> None:
        sink = self._sink
        if sink is None:
            return
        tally = self.tally()
        self._told_s = self._clock()
        try:
            sink(tally)
        except Exception:
            # A broken pipe, a closed terminal, a user's mistake: no reason to fail a download, nor to say so ten times.
            log.warning("progress is not shown any more: its sink failed", exc_info=True)
            self._sink = None

    def close(self) -> None:
        """Give the sink its last tally, marked final; a second time does nothing."""
        if self._ended_s is not None:
            return
        self._ended_s = self._clock()
        ticker = self._ticker
        try:
            self._call.set()
            if ticker is not None and ticker is not gevent.getcurrent():
                ticker.join(SINK_MOST_S)
                ticker.kill(block=False)
        finally:
            self._tell()

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Report({self.tally().summary()})"


class _Watched(Listener):
    """One spec, from its beginning to its end."""

    __slots__ = ("_item", "_report")

    def __init__(self, report: Report, item: Item) -> None:
        self._report = report
        self._item = item

    def on_planned(self) -> None:
        self._report._sum.plan(self._item)
        self._report._wake()

    def on_finished(self, outcome: Outcome) -> None:
        self._report._sum.end(self._item, outcome)


class _Counted(Listener):
    """The bytes of one attempt."""

    __slots__ = ("_attempt", "_settled", "_total", "got")

    def __init__(self, total: Sum, attempt: Attempt) -> None:
        self._total = total
        self._attempt = attempt
        self._settled = False
        self.got = 0

    def on_started(self) -> None:
        self._total.start(self._attempt, lambda: self.got)

    def on_headers(self, head: Head) -> None:
        self._total.announce(self._attempt.spec, None if head.encoding else head.length)

    def on_chunk(self, view: memoryview) -> None:
        self.got += len(view)

    def on_stored(self, location: Any) -> None:
        self._settled = True
        self._total.settle(self._attempt, self.got)

    def on_failed(self, error: BaseException) -> None:
        self._total.waste(self._attempt, self.got, self._settled)
