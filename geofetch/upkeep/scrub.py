"""verify: what is stored, read again and held against the records.  In: a Recorder, a store.  Out: Findings.

Every unit that was asked for is read with every digest of its record, on native threads, several at once, and the
records are told: present, missing, corrupt.  What they were told is what a verify that was ended goes on from: it reads
no file again that was read since it began.  Never: a file touched, a source asked.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterator
from contextlib import closing
from typing import Any, TypeAlias

from ..errors import SpecError
from ..records import Recorder, Unit
from ..store import Store
from .abreast import abreast
from .batches import batches
from .inspector import Inspector, Stores, pace_of, recorder_of, stores_of
from .results import Finding, Findings, Gathered
from .telling import Telling

__all__ = ["scrub", "verify"]

State: TypeAlias = "str | Collection[str] | None"

#: Batches under way for each that is being read: a reader finds its next one ready, and marks share a commit.
AHEAD = 4
#: What a unit is that is no longer as it should be.
WRONG = ("missing", "corrupt", "quarantined")


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
    began_at: float | None = None,
    jobs: int | None = None,
    rate_bps: float | None = None,
    progress: Any = None,
) -> Findings:
    """Read again what is stored, mark each unit present, missing or corrupt in the records: what was found.

    ``store``: whose files they are; or several, by the names that the records know them by.  Units in other stores are
    passed over; those that are wanted and were never stored are counted apart.  All that are told narrow it down:
    ``repository``, ``type`` and ``path`` (``*`` stands for anything);
    ``state``, one or several; ``older_than_s``: not verified within so many seconds, or never; ``sample``: so many by
    chance, or (a float up to 1.0) that share.

    ``began_at`` (seconds since 1970, as in the Findings of a verify) goes on with one that began then and was ended:
    what it has read is not read again, and is counted all the same; files that it found wrong are in ``wrong``.  The
    other filters must be what they were then; a sample, or some states, cannot be gone on with.

    ``jobs``: files read at once; as many as there are processors, if it is not told.  ``rate_bps``: no more bytes a
    second than this, over all of them.  ``progress``: called with a Tally, ten times a second at the most (``stored``
    are the present ones, ``failed`` all others, bytes are those read); True: as for a Pool.

    A file without a digest in its record is judged by its size; its SHA-256 is kept from then on.  One that cannot be
    read for lack of a permission is unknown, not corrupt: nothing is marked, and the run goes on.  A killed run leaves
    what it has marked, and no more.  Raises RecordError where the records cannot be read or written.
    """
    began_now, began = time.time(), time.monotonic()
    asked = _Asked(began_at, began_now, older_than_s, repository=repository, type=type, path=path, state=state)
    recorder, stores = recorder_of(recorder), stores_of(store)
    if began_at is not None and (sample is not None or state is not None):
        raise SpecError("began_at= goes on with a verify of all that fits: leave out sample= and state=")
    found = Gathered()
    with Inspector(recorder, stores, jobs, pace_of(rate_bps)) as inspector:
        if began_at is not None:
            _recount(asked, recorder, stores, found)
        mine, others = asked.counted(recorder, stores)
        total = None if sample is not None else mine + found.checked
        with Telling(progress, found, inspector.readers, total), closing(_scrubbed(inspector, asked, sample)) as each:
            for finding in each:
                found.add(finding)
        return Findings(
            **found.told(["present"]),
            passed_over=others,
            not_fetched=asked.unfetched(recorder, stores),
            read_bytes=inspector.readers.read_bytes,
            began_at=began_now if began_at is None else began_at,
            elapsed_s=time.monotonic() - began,
        )


def _recount(asked: _Asked, recorder: Recorder, stores: Stores, found: Gathered) -> None:
    """What the verify found that is gone on with: its counts, and all that was wrong."""
    checked = sum(asked.looked_at(recorder, name) for name in stores)
    wrong = 0
    for unit in asked.found_wrong(recorder, stores):
        found.add(Finding(unit, unit.state, unit.state, unit.scrub_result or ""))
        wrong += 1
    found.counts["present"] += max(0, checked - wrong)


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
    began_at: float | None = None,
    jobs: int | None = None,
    rate_bps: float | None = None,
) -> Iterator[Finding]:
    """As :func:`verify`, one Finding after the other, as they come, each when the records know it.

    Memory does not grow with the number of units; whoever stops taking them ends it.  With ``began_at`` there are
    Findings of what was not read since then alone.
    """
    asked = _Asked(began_at, time.time(), older_than_s, repository=repository, type=type, path=path, state=state)
    return _owned(Inspector(recorder, stores_of(store), jobs, pace_of(rate_bps)), asked, sample)


def _owned(inspector: Inspector, asked: _Asked, sample: float | int | None) -> Generator[Finding, None, None]:
    with inspector, closing(_scrubbed(inspector, asked, sample)) as findings:
        yield from findings


def _scrubbed(inspector: Inspector, asked: _Asked, sample: float | int | None) -> Generator[Finding, None, None]:
    units = batches(asked.units(inspector.recorder, inspector.stores, sample), inspector.readers.jobs)
    with closing(abreast(inspector.examine_all, units, AHEAD * inspector.readers.jobs)) as findings:
        for some in findings:
            yield from some


class _Asked:
    """Which units are asked for.  A unit that was scrubbed before ``_before`` is; None: whenever it was."""

    def __init__(self, began_at: float | None, now: float, older_than_s: float | None, **filters: Any) -> None:
        # What was never stored is not missing.
        self._filters = {**filters, "fetched": True}
        self._since = _moment(began_at)
        began_at = now if began_at is None else began_at
        self._before = self._since
        if older_than_s is not None:
            if isinstance(older_than_s, bool) or not isinstance(older_than_s, int | float) or older_than_s < 0:
                raise SpecError(f"older_than_s is a number of seconds from 0, not {older_than_s!r}")
            self._before = began_at - older_than_s

    def counted(self, recorder: Recorder, stores: Stores) -> tuple[int, int]:
        """How many there are in these stores, and in others."""
        asked = {**self._filters, "scrubbed_before": self._before}
        mine = sum(recorder.count(store=name, **asked) for name in stores)
        return mine, recorder.count(**asked) - mine

    def unfetched(self, recorder: Recorder, stores: Stores) -> int:
        """How many of these stores were never stored."""
        return sum(recorder.count(store=name, **{**self._filters, "fetched": False}) for name in stores)

    def units(self, recorder: Recorder, stores: Stores, sample: float | int | None) -> Iterator[Unit]:
        """Those in these stores."""
        only = next(iter(stores)) if len(stores) == 1 else None
        for unit in recorder.units(store=only, sample=sample, scrubbed_before=self._before, **self._filters):
            if unit.store in stores:
                yield unit

    def looked_at(self, recorder: Recorder, store: str) -> int:
        """How many of this store were looked at since the verify began that is gone on with."""
        everyone = recorder.count(store=store, **self._filters)
        return everyone - recorder.count(store=store, scrubbed_before=self._since, **self._filters)

    def found_wrong(self, recorder: Recorder, stores: Stores) -> Iterator[Unit]:
        """Those that it found wrong."""
        for unit in recorder.units(**{**self._filters, "state": WRONG}):
            known = unit.scrubbed_at is not None and unit.scrubbed_at >= int((self._since or 0) * 1_000_000)
            if known and unit.store in stores:
                yield unit


def _moment(began_at: float | None) -> float | None:
    if began_at is None:
        return None
    if isinstance(began_at, bool) or not isinstance(began_at, int | float) or not 0 <= began_at <= time.time():
        raise SpecError(f"began_at is a moment in the past, in seconds since 1970, not {began_at!r}")
    return began_at
