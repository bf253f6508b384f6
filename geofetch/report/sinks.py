"""Where tallies are told: bars on a terminal, a line now and then, JSON lines, a log.

In: Tallies, ten a second at the most.  Out: text on a stream.  Never: a thread or greenlet of its own, a colour where
NO_COLOR forbids it, a wait for a terminal that takes nothing (but for the last update).

A sink is any callable of one Tally.  What it raises is logged by the Report, once, and then it is left alone.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeAlias

from .tally import Tally, bytes_text, time_text

__all__ = ["Bars", "JsonLines", "Log", "Plain", "Sink", "automatic"]

Sink: TypeAlias = Callable[[Tally], Any]


def automatic(stream: TextIO | None = None, *, command: bool = False) -> Sink:
    """The sink that fits: bars where the stream (stderr) is a terminal, else lines for a command, a log otherwise."""
    stream = sys.stderr if stream is None else stream
    if _is_terminal(stream):
        return Bars(stream)
    return Plain(stream) if command and stream is not None else Log()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # it is closed
        return False


class Every:
    """Whether it is time to tell again: at the end, and each time that so many seconds of the run have passed."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._next_s = every_s

    def due(self, tally: Tally) -> bool:
        if tally.final:
            self._next_s = self._every_s
            return True
        return tally.elapsed_s >= self._next_s

    def told(self, tally: Tally) -> None:
        if not tally.final:
            self._next_s = tally.elapsed_s + self._every_s


class Plain:
    """A line every ten seconds, and at the end; for what is no terminal."""

    def __init__(self, stream: TextIO | None = None, every_s: float = 10.0, prefix: str = "geofetch: ") -> None:
        self._stream = stream
        self._prefix = prefix
        self._time = Every(every_s)

    def __call__(self, tally: Tally) -> None:
        stream = self._stream or sys.stderr
        if self._time.due(tally) and (tally.final or _takes(stream)):
            stream.write(f"{self._prefix}{tally.summary()}\n")
            stream.flush()
            self._time.told(tally)


class JsonLines:
    """One JSON object a line, every second and at the end.

    ``event`` is always "progress"; ``schema`` 1.  Counts of items: ``planned``, ``waiting``, ``running``, ``stored``,
    ``adopted``, ``failed``, ``cancelled``, ``items_total`` (null: not known); of tries: ``retries``, ``elsewhere``.
    Bytes: ``bytes_done``, ``bytes_adopted``, ``bytes_wasted``, ``bytes_total`` (null: not known).  ``rate_bps`` in
    bytes a second, ``elapsed_s`` and ``left_s`` in seconds (null: not known).  ``final``: true on the last line, only
    there.
    What each means stands with :class:`Tally`.  Fields may be added; a change of one is a new ``schema``.
    """

    def __init__(self, stream: TextIO | None = None, every_s: float = 1.0) -> None:
        self._stream = stream
        self._time = Every(every_s)

    def __call__(self, tally: Tally) -> None:
        stream = self._stream or sys.stderr
        if self._time.due(tally) and (tally.final or _takes(stream)):
            stream.write(json.dumps(_fields(tally)) + "\n")
            stream.flush()
            self._time.told(tally)


def _fields(tally: Tally) -> dict[str, Any]:
    rounded = {
        name: None if value is None else round(value, 3)
        for name, value in (("rate_bps", tally.rate_bps), ("elapsed_s", tally.elapsed_s), ("left_s", tally.left_s))
    }
    return {
        "event": "progress",
        "schema": 1,
        "planned": tally.planned,
        **tally.states,
        "items_total": tally.items_total,
        "retries": tally.retries,
        "elsewhere": tally.elsewhere,
        "bytes_done": tally.bytes_done,
        "bytes_adopted": tally.bytes_adopted,
        "bytes_wasted": tally.bytes_wasted,
        "bytes_total": tally.bytes_total,
        **rounded,
        "final": tally.final,
    }


class Log:
    """INFO on the logger ``geofetch.progress`` every ten seconds and at the end; the record carries the ``tally``."""

    def __init__(self, every_s: float = 10.0, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("geofetch.progress")
        self._time = Every(every_s)

    def __call__(self, tally: Tally) -> None:
        if self._time.due(tally):
            self._logger.info("%s", tally.summary(), extra={"tally": tally})
            self._time.told(tally)


class Bars:
    """Two bars by rich, files and bytes, once a run lasts longer than half a second; nothing for a shorter one."""

    def __init__(self, stream: TextIO | None = None, after_s: float = 0.5) -> None:
        # Here and not at the first update: loading rich takes 50 to 100 ms, in which a run that has begun would stand.
        import rich.console
        import rich.live
        import rich.progress_bar
        import rich.table
        import rich.text

        self._rich = rich
        self._after_s = after_s
        self._console = rich.console.Console(file=stream or sys.stderr, markup=False, highlight=False)
        self._live: rich.live.Live | None = None

    def __call__(self, tally: Tally) -> None:
        if self._live is None:
            if tally.final or tally.elapsed_s < self._after_s:
                return
            self._live = self._begun()
        if not tally.final:
            if _takes(self._console.file):
                self._live.update(self._drawn(tally), refresh=True)
            return
        live, self._live = self._live, None
        live.update(self._drawn(tally))
        live.stop()

    def say(self, line: str) -> None:
        """A line of text above the bars, or alone where there are none."""
        self._console.print(self._rich.text.Text(line))

    def _begun(self) -> Any:
        # The process' own stdout and stderr stay what they are: no redirection.
        live = self._rich.live.Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        live.start()
        return live

    def _drawn(self, tally: Tally) -> Any:
        grid = self._rich.table.Table.grid(padding=(0, 1))
        grid.add_row("files", self._bar(tally.ended, tally.items_total), self._text(_files(tally)))
        known = None if tally.items_total is None else tally.bytes_total
        grid.add_row("bytes", self._bar(tally.bytes_done + tally.bytes_adopted, known), self._text(_amount(tally)))
        if tally.final or not tally.current:
            return grid
        return self._rich.console.Group(grid, self._text(tally.current, style="dim"))

    def _bar(self, done: int, total: int | None) -> Any:
        width = max(8, min(40, self._console.width // 3))
        # A total of 0 is a whole one; to rich it would be an empty bar.
        done, total = (1, 1) if total == 0 else (done, total)
        return self._rich.progress_bar.ProgressBar(total=total, completed=done, width=width, pulse=total is None)

    def _text(self, text: str, style: str = "") -> Any:
        return self._rich.text.Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _files(tally: Tally) -> str:
    count = f"{tally.there}" if tally.items_total is None else f"{tally.there}/{tally.items_total}"
    return ", ".join(part for part in (count, tally.troubles()) if part)


def _amount(tally: Tally) -> str:
    amount = bytes_text(tally.bytes_done + tally.bytes_adopted)
    if tally.items_total is not None and tally.bytes_total is not None:
        amount += f" of {bytes_text(tally.bytes_total)}"
    rate = "" if tally.rate_bps is None else f"{bytes_text(tally.rate_bps)}/s"
    if tally.final:
        time = f"in {time_text(tally.elapsed_s, fine=True)}"
    else:
        time = "" if tally.left_s is None else f"{time_text(tally.left_s)} left"
    return ", ".join(part for part in (amount, rate, time) if part)


def _takes(stream: Any) -> bool:
    """Whether a short text can be written right now; a terminal on hold must not hold up every download."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))
