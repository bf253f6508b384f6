"""verify: what is stored, read again and held against the records.  In: a Recorder, a store.  Out: Findings.

Every unit that was asked for is read with every digest of its record, on native threads, several at once, and the
records are told: present, missing, corrupt.  Never: a file touched, a source asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing
from typing import Any, TypeAlias

import gevent

from ..errors import SpecError
from ..records import Recorder, Unit
from ..report import Tally, automatic
from ..store import Store
from .abreast import abreast
from .inspector import JOBS, Inspector, Stores, recorder_of, stores_of
from .results import Finding, Findings, Gathered

__all__ = ["scrub", "verify"]

log = logging.getLogger("geofetch")

State: TypeAlias = "str | Collection[str] | None"

#: Files under way for each one that is being read: their marks share a commit.
AHEAD = 16
#: Seconds between two tallies.
EVERY_S = 0.1


def verify(
    recorder: Recorder,
    store: Store | Stores,
    *,
    repository: str | None = None,
    type: str | None = None,
    path: str | None = None,
    state: State = None,
    older_than_s: float | None = None,
    sample: float | int | None = None,
    jobs: int = JOBS,
    progress: Any = None,
) -> Findings:
    """Read again what is stored, mark each unit present, missing or corrupt in the records: what was found.

    ``store``: whose files they are; or several, by the names that the records know them by.  Units in other stores are
    passed over.  All that are told narrow it down: ``repository``, ``type`` and ``path`` (``*`` stands for anything);
    ``state``, one or several; ``older_than_s``: not verified within so many seconds, or never; ``sample``: so many by
    chance, or (a float up to 1.0) that share.  ``jobs``: files read at once.  ``progress``: called with a Tally, ten
    times a second at the most (``stored`` are the present ones, ``failed`` all others, bytes are those read); True: as
    for a Pool.

    A file without a digest in its record is judged by its size; its SHA-256 is kept from then on.  One that cannot be
    read for lack of a permission is unknown, not corrupt: nothing is marked, and the run goes on.  A killed run leaves
    what it has marked, and no more.  Raises RecordError where the records cannot be read or written.
    """
    asked = _Asked.of(repository, type, path, state, older_than_s)
    recorder, stores = recorder_of(recorder), stores_of(store)
    found = Gathered()
    began_at, began = time.time(), time.monotonic()
    mine, others = asked.counted(recorder, stores)
    with Inspector(recorder, stores, jobs) as inspector:
        telling = _Telling(progress, found, inspector, None if sample is not None else mine)
        with telling, closing(_scrubbed(inspector, asked, sample)) as findings:
            for finding in findings:
                found.add(finding)
        return Findings(
            **found.told(["present"]),
            passed_over=others,
            read_bytes=inspector.readers.read_bytes,
            began_at=began_at,
            elapsed_s=time.monotonic() - began,
        )


def scrub(
    recorder: Recorder,
    store: Store | Stores,
    *,
    repository: str | None = None,
    type: str | None = None,
    path: str | None = None,
    state: State = None,
    older_than_s: float | None = None,
    sample: float | int | None = None,
    jobs: int = JOBS,
) -> Iterator[Finding]:
    """As :func:`verify`, one Finding after the other, as they come, each when the records know it.

    Memory does not grow with the number of units; whoever stops taking them ends it.
    """
    asked = _Asked.of(repository, type, path, state, older_than_s)
    return _owned(Inspector(recorder, stores_of(store), jobs), asked, sample)


def _owned(inspector: Inspector, asked: _Asked, sample: float | int | None) -> Generator[Finding, None, None]:
    with inspector, closing(_scrubbed(inspector, asked, sample)) as findings:
        yield from findings


def _scrubbed(inspector: Inspector, asked: _Asked, sample: float | int | None) -> Generator[Finding, None, None]:
    units = asked.units(inspector.recorder, inspector.stores, sample)
    with closing(abreast(inspector.examine, units, AHEAD * inspector.readers.jobs)) as findings:
        yield from (finding for finding in findings if finding is not None)


class _Asked:
    """Which units are asked for."""

    def __init__(self, **filters: Any) -> None:
        self._filters = filters

    @classmethod
    def of(
        cls, repository: str | None, type: str | None, path: str | None, state: State, older_than_s: float | None
    ) -> _Asked:
        before = None
        if older_than_s is not None:
            if isinstance(older_than_s, bool) or not isinstance(older_than_s, int | float) or older_than_s < 0:
                raise SpecError(f"older_than_s is a number of seconds from 0, not {older_than_s!r}")
            before = time.time() - older_than_s
        return cls(repository=repository, type=type, path=path, state=state, scrubbed_before=before)

    def counted(self, recorder: Recorder, stores: Stores) -> tuple[int, int]:
        """How many there are in these stores, and in others."""
        mine = sum(recorder.count(store=name, **self._filters) for name in stores)
        return mine, recorder.count(**self._filters) - mine

    def units(self, recorder: Recorder, stores: Stores, sample: float | int | None) -> Iterator[Unit]:
        """Those in these stores."""
        only = next(iter(stores)) if len(stores) == 1 else None
        for unit in recorder.units(store=only, sample=sample, **self._filters):
            if unit.store in stores:
                yield unit


class _Telling:
    """Around a run: its tallies, told to a sink now and then, the last one at the end."""

    def __init__(self, progress: Any, found: Gathered, inspector: Inspector, total: int | None) -> None:
        if progress is True:
            progress = automatic()
        if progress is not None and progress is not False and not callable(progress):
            raise SpecError(f"progress is True, False or something to be called with a Tally, not {progress!r}")
        self._sink: Callable[[Tally], Any] | None = progress or None
        self._found = found
        self._inspector = inspector
        self._total = total
        self._began = time.monotonic()
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
        counts, elapsed_s = self._found.counts, time.monotonic() - self._began
        ended = sum(counts.values())
        read_bytes = self._inspector.readers.read_bytes
        left_s = None
        if self._total is not None and ended:
            left_s = max(0.0, elapsed_s * (self._total - ended) / ended)
        return Tally(
            planned=ended,
            stored=counts["present"],
            failed=ended - counts["present"],
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
