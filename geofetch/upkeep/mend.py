"""repair: what is missing or corrupt, fetched again from the sources that the records know; what is owed, fetched.

In: a Recorder, a store, which units.  Out: Repaired.  Never: a way of its own to fetch; it is a Pool's, with a Spec
from each Unit: to a new part, proven, in its place at once, recorded.

The order in which a file and its record change keeps the record from saying more than the store holds, whenever it is
killed: a wrong file stays where it is until the proven one takes its place, and then the record says present.  Only
when all its sources have failed is it read once more; if it is still wrong, and the records say so, it is put aside,
and then they say where.  An error that is no source's (a full disk, a cancel, a deadline, a source that was not asked
because its profile was not given) leaves everything as it was.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeAlias

from ..errors import FetchError, IntegrityError, SourceError, StoreError
from ..events import Attempt, Kept, Outcome
from ..pool import Pool
from ..records import Recorder, Unit
from ..records.units import Policy
from ..report.tally import printable
from ..session import Session
from ..spec import Digest, Profile, Source
from ..store import Store
from .abreast import abreast
from .inspector import RESULT_MOST, Inspector, Stores, counted, stores_of
from .respec import NO_QUERY, in_own_words, of_sources, respec, together
from .results import Finding, Findings, Gathered, Mended, Repair, Repaired

__all__ = ["DUE", "DUE_ON_DEMAND", "heal", "repair"]

log = logging.getLogger("geofetch")

Wrong: TypeAlias = "Findings | Iterable[Finding | Unit] | None"

#: What the records call wrong, and what of it is tried again unasked: what was put aside had no source then.
WRONG = ("missing", "corrupt", "quarantined")
UNASKED = ("missing", "corrupt")
#: The policies of units that are fetched though they never were; what is owed (``pending``) is, whatever its policy.
DUE: tuple[Policy, ...] = ("immediate",)
DUE_ON_DEMAND: tuple[Policy, ...] = ("immediate", "on_demand")


def repair(
    recorder: Recorder,
    store: Store | Stores,
    *,
    findings: Wrong = None,
    repository: str | None = None,
    type: str | None = None,
    path: str | None = None,
    state: Collection[str] = UNASKED,
    on_demand: bool = False,
    profiles: Mapping[str, Profile] | None = None,
    size: int = 32,
    session: Session | None = None,
    jobs: int | None = None,
    progress: Any = False,
    **settings: Any,
) -> Repaired:
    """Fetch again what is wrong, each file from its recorded sources: what became of them.

    ``findings``: what a :func:`verify` found, or Findings and Units one by one, lazily; without them all units (of this
    ``repository``, ``type`` and ``path``) that the records call one of ``state``; what is wanted on demand and was
    never stored is none of them, unless it is owed, or ``on_demand`` says so.  ``store``: whose files they are; or
    several, by the names that the records know them by.  ``profiles``: Profiles by the names that the records have; a
    source whose profile is not given is not asked, and its error is a SpecError.  ``size``, ``session``, ``progress``
    and all other ``settings`` (``retries=``, ``timeout=``, ``deadline=``, ``hooks=`` …) are a Pool's.  ``jobs``: files
    that are read at once before they are put aside (None: as many as there are processors).

    A file that turns out to be right is left alone.  One that no source has is put aside by the store, if it is
    corrupt, and marked quarantined; if it is missing it stays so.  One that a source may have which was not asked stays
    where it is.  All of them are in ``wrong`` with their error.  Raises RecordError where the records cannot be read or
    written.
    """
    done = Gathered()
    began, fetched = time.monotonic(), 0
    mender = _Mender(recorder, store, profiles, jobs, size=size, session=session, progress=progress, **settings)
    wanted = _wanted(recorder, findings, repository=repository, type=type, path=path, state=state, on_demand=on_demand)
    with closing(mender.mended(wanted)) as repairs:
        for one in repairs:
            done.add(one)
            fetched += one.fetched_bytes
    return Repaired(
        **done.told(["repaired", "present"]),
        passed_over=mender.passed_over,
        fetched_bytes=fetched,
        elapsed_s=time.monotonic() - began,
    )


def heal(
    recorder: Recorder,
    store: Store | Stores,
    *,
    findings: Wrong = None,
    repository: str | None = None,
    type: str | None = None,
    path: str | None = None,
    state: Collection[str] = UNASKED,
    on_demand: bool = False,
    profiles: Mapping[str, Profile] | None = None,
    size: int = 32,
    session: Session | None = None,
    jobs: int | None = None,
    progress: Any = False,
    **settings: Any,
) -> Iterator[Repair]:
    """As :func:`repair`, one Repair after the other, as they come; whoever stops taking them cancels the rest."""
    mender = _Mender(recorder, store, profiles, jobs, size=size, session=session, progress=progress, **settings)
    return mender.mended(
        _wanted(recorder, findings, repository=repository, type=type, path=path, state=state, on_demand=on_demand)
    )


def _wanted(recorder: Recorder, findings: Wrong, on_demand: bool, **filters: Any) -> Iterator[Finding | Unit]:
    if findings is None:
        return recorder.units(due=DUE_ON_DEMAND if on_demand else DUE, **filters)
    if isinstance(findings, Findings) and findings.unlisted:
        return _marked_since(recorder, findings.began_at)
    return iter(findings)


def _marked_since(recorder: Recorder, began_at: float) -> Iterator[Unit]:
    """More than a list holds: the records know what was found."""
    for unit in recorder.units(state=WRONG):
        if unit.scrubbed_at is not None and unit.scrubbed_at >= began_at * 1_000_000:
            yield unit


class _Mender:
    """What one repair works with: a look at files, and a Pool for each store."""

    def __init__(
        self,
        recorder: Recorder,
        store: Store | Stores,
        profiles: Mapping[str, Profile] | None,
        jobs: int | None,
        *,
        size: int,
        stages: Iterable[Any] = (),
        **settings: Any,
    ) -> None:
        self.passed_over = 0
        self._recorder = recorder
        self._inspector = Inspector(recorder, stores_of(store), jobs)
        self._profiles = dict(profiles or {})
        self._size = counted(size, "size")
        # check: a wrong file must not be taken for a right one because its time and inode are those on record.
        self._pools = {
            name: Pool(
                size,
                store=each,
                recorder=_InOwnWords(recorder),
                profiles=self._profiles,
                stages=(_Explaining(), *stages),
                check=True,
                **settings,
            )
            for name, each in self._inspector.stores.items()
        }

    def mended(self, wanted: Iterator[Finding | Unit]) -> Generator[Repair, None, None]:
        """Each one repaired, as far as it can be."""
        with self, closing(abreast(self._mended, wanted, 2 * self._size)) as repairs:
            yield from (one for one in repairs if one is not None)

    def _mended(self, wanted: Finding | Unit) -> Repair | None:
        if isinstance(wanted, Finding) and wanted.state == "unknown":
            return Repair(wanted.unit, "unknown", "unknown", wanted.error or StoreError(wanted.why))
        known = wanted.unit if isinstance(wanted, Finding) else wanted
        if known.store not in self._inspector.stores:
            self.passed_over += 1
            return None
        # What was found may be hours old, and the file another one by now.
        unit = self._inspector.fresh(known)
        done = None if unit is None else self._fetched(unit)
        return done and replace(done, was=wanted.state)

    def _fetched(self, unit: Unit) -> Repair | None:
        spec, failed = respec(unit, self._profiles)
        if self._inspector.taken(unit):
            return self._given_up(unit, StoreError("another unit's file is in its place"))
        if spec is None:
            return self._given_up(unit, together(unit, failed, None), unasked=bool(failed))
        outcome = self._pools[unit.store].spawn(spec).get()
        if outcome.ok:
            return replace(self._recorded(unit, outcome), wrong_bytes_from=_liars(outcome))
        assert outcome.error is not None
        done = self._given_up(unit, together(unit, failed, outcome.error), outcome.fetched, bool(failed))
        return done and replace(done, wrong_bytes_from=_liars(outcome))

    def _recorded(self, unit: Unit, outcome: Outcome) -> Repair:
        """The pool has recorded it as present; what the last look at it said is not true any more."""
        source, kept = outcome.source, outcome.attempts[-1].kept
        result = "it was right" if source is None else f"fetched again from {source.shown}"
        moved: Kept | None = None
        if kept is not None and kept.store:
            unit = replace(unit, store_key=kept.key, size=kept.size, mtime_ns=kept.mtime_ns, inode=kept.inode)
        else:  # a store that is no place for records
            seen = self._inspector.stores[unit.store].stat(unit.store_key)
            moved = seen and replace(seen, store=unit.store)
        self._recorder.mark(unit, "present", result=result[:RESULT_MOST], kept=moved).get()
        stored_at = time.time_ns() // 1000 if unit.stored_at is None else unit.stored_at
        now = replace(unit, state="present", scrub_result=result, stored_at=stored_at, pending=None, tries=0)
        state: Mended = "present" if source is None else "repaired"
        return Repair(now, state, unit.state, None, source, fetched_bytes=outcome.fetched)

    def _given_up(self, unit: Unit, error: FetchError, fetched: int = 0, unasked: bool = False) -> Repair | None:
        """Nobody brought it: what is there now, and put aside if it is wrong and no source has the right one.

        ``unasked``: whether there are sources that could not be asked, and may have it.
        """
        if unit.stored_at is None:  # nobody can say what would be right there
            self._note(unit, "missing", f"not fetched yet: {error}")
            return Repair(unit, "missing", unit.state, error, fetched_bytes=fetched)
        found = self._inspector.examine(unit)
        if found is None or found.ok:
            return None if found is None else Repair(found.unit, "present", found.was, fetched_bytes=fetched)
        done = Repair(found.unit, found.state, found.was, error, fetched_bytes=fetched)
        if found.state == "corrupt" and not unasked and of_sources(error):
            return self._put_aside(found, done, error)
        if found.state in ("missing", "corrupt"):
            self._note(found.unit, found.state, f"{found.why}; not repaired: {error}")
        return done

    def _put_aside(self, found: Finding, done: Repair, error: FetchError) -> Repair:
        unit = found.unit
        store = self._inspector.stores[unit.store]
        try:
            # What another process puts there meanwhile is not what was found wrong.
            aside = store.quarantine(unit.store_key, found.seen)
        except StoreError as exc:
            log.warning("%s is corrupt and stays where it is: %s", printable(unit.path), exc)
            self._note(unit, "corrupt", f"{found.why}; not repaired: {error}; not put aside: {exc}")
            return done
        log.warning("%s is corrupt, and no source gave it: put aside, %s", printable(unit.path), aside)
        self._note(unit, "quarantined", f"put aside: {aside}; {found.why}; not repaired: {error}")
        return replace(done, unit=replace(unit, state="quarantined"), state="quarantined", aside=aside)

    def _note(self, unit: Unit, state: Any, result: str) -> None:
        self._recorder.mark(unit, state, result=result[:RESULT_MOST]).get()

    def __enter__(self) -> None:
        self._inspector.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for pool in self._pools.values():
                pool.cancel()
        parts: tuple[Pool | Inspector, ...] = (*self._pools.values(), self._inspector)
        raised: BaseException | None = None
        for part in parts:
            # One that is killed as it waits for its files keeps no other from ending.
            try:
                part.__exit__(kind, error, trace)
            except BaseException as exc:
                raised = raised or exc
        if raised is not None:
            raise raised


def _liars(outcome: Outcome) -> tuple[Source, ...]:
    """The sources that served wrong bytes, each once."""
    lied = (one.source for one in outcome.attempts if isinstance(one.error, IntegrityError))
    return tuple(dict.fromkeys(source for source in lied if source is not None))


class _Explaining:
    """A stage that says of a failed source what the record could not tell about it."""

    def bind(self, attempt: Attempt) -> Mapping[str, Callable[..., None]]:
        source = attempt.source
        if source is None or not source.secret_query:
            return {}

        def on_failed(error: BaseException) -> None:
            if isinstance(error, SourceError):
                error.message = f"{error.message}; {NO_QUERY}"

        return {"failed": on_failed}


class _InOwnWords:
    """The recorder as a stage, told of a repaired file in the words of its record.

    Its spec names as proof what may only have been observed, leaves out sources that cannot be asked, and its store may
    go by another name today: nothing of that is news about the unit.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    @property
    def durable(self) -> bool:
        return self._recorder.durable

    @durable.setter
    def durable(self, durable: bool) -> None:
        self._recorder.durable = durable

    def recall(self, store: str, key: str) -> tuple[Kept, Mapping[str, Digest]] | None:
        return self._recorder.recall(store, key)

    def bind(self, attempt: Attempt) -> Mapping[str, Callable[..., None]]:
        unit: Unit = attempt.spec.meta

        def on_stored(location: Any) -> None:
            kept = attempt.kept
            if kept is not None and kept.store:
                told = replace(attempt, spec=in_own_words(unit), kept=replace(kept, store=unit.store))
                self._recorder.bind(told)["stored"](location)

        return {"stored": on_stored, "failed": self._recorder.bind(attempt)["failed"]}
