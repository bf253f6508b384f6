"""Many files at once: the Pool, which wires session, limits and stages together; and ``fetch``, which is one spec of
it.

In: what callers say.  Out: Outcomes.  Never: a step of the walk itself (pipeline.py), or of many walks (runs.py).
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextvars import Context, ContextVar, copy_context
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, Literal, TypeAlias

import gevent
from gevent.lock import Semaphore

from . import limits
from .digest import algorithm
from .errors import Cancelled, FetchError, SpecError
from .events import Outcome
from .hooks import checked, plain
from .jobs import Crew, Job
from .pipeline import LANE_FROM, Kit, Progress, never_walked, walk
from .profiles import Sessions
from .report import Report, Tally, automatic
from .runs import Run
from .session import Session, use_gate
from .settings import Timeout, check_many, counted, patience, seconds
from .spec import DigestLike, Profile, SourceLike, Spec, SpecLike
from .store import MemoryStore, Store, StoreStage, TempStore, store_for, tree_for
from .validate import Proving

__all__ = ["Pool", "fetch"]

log = logging.getLogger("geofetch")
# Whatever was in use may rest: with fewer places a pool of 1,000 would close and open its connections in turn.
use_gate(limits.process, limits.descriptors_for_connections())

#: Specs that may be pulled and not yet committed and handed over, in sizes of the pool.
AHEAD = 4
#: How many more than the pool's size they are at most: of those that wait for a commit, more only hold memory.
AHEAD_MOST = 256

OnError: TypeAlias = Literal["collect", "raise"]

#: The pools whose jobs this greenlet works in: a hook that spawns into its own pool must not wait for its own place.
_inside: ContextVar[frozenset[int]] = ContextVar("geofetch_inside", default=frozenset())


class Pool:
    """Downloads, many at once, each fetched, proven, stored and recorded; every spec ends in exactly one Outcome.

    ``size``: connections at once; up to 4 x ``size`` specs are pulled and not yet handed over.  ``session``: whose
    headers, cookies and auth go along (a :class:`geofetch.Session`).  ``store``: where files go (a Store, or the
    folder of a FileStore); without one they are temporary files, handed over open.  ``recorder``: what remembers
    them (a Recorder, or its URL).  ``stages`` and ``hooks`` (plain callables by fact) take part as
    :mod:`geofetch.hooks` says.  ``progress``: None shows bars on a terminal and logs elsewhere, True prints lines
    elsewhere, False counts nothing, a :class:`geofetch.Report` or anything callable is given Tallies.
    ``per_host``: connections to one host.  ``retries``: tries beyond the first of each source, over all sources.
    ``timeout``: seconds, or a pair for connecting and reading.  ``low_speed``: bytes a second, and for how many
    seconds, below which a body is given up.  ``deadline``: seconds for one spec from its start to its Outcome.
    ``on_error="raise"``: the first failure cancels the rest and is raised.  ``profiles``: Profiles by the names
    that sources and specs call.  ``decode``: undo a Content-Encoding that nobody asked for.  ``check``: read files
    that are there, whatever records say.

    A context manager: left in peace it waits for its jobs, left by an exception it cancels them.
    """

    def __init__(
        self,
        size: int = 32,
        *,
        session: Session | None = None,
        store: Store | str | os.PathLike[str] | None = None,
        recorder: Any = None,
        stages: Iterable[Any] = (),
        hooks: Mapping[str, Any] | None = None,
        progress: Any = None,
        per_host: int | None = None,
        retries: int = 3,
        timeout: Timeout = None,
        low_speed: tuple[float, float] | None = None,
        deadline: float | None = None,
        on_error: OnError = "collect",
        profiles: Mapping[str, Profile] | None = None,
        decode: bool = False,
        check: bool = False,
        offload: bool = True,
    ) -> None:
        self.size = counted(size, "size", 1)
        if on_error not in ("collect", "raise"):
            raise SpecError(f"on_error is 'collect' or 'raise', not {on_error!r}")
        if session is not None and not isinstance(session, Session):
            raise SpecError("session is a geofetch.Session; requests' own would block every other download")
        self._raises = on_error == "raise"
        #: What closes the things that this pool made, and gives its error: the last one first, each once.
        self._last: list[Callable[[], Exception | None]] = []
        self._closing = Semaphore()
        self.store = self._a_store(store)
        self.recorder = self._a_recorder(recorder)
        self._progress = progress
        self._ahead = min(AHEAD * self.size, self.size + AHEAD_MOST)
        self._places = Semaphore(self._ahead)
        self._jobs: set[Job] = set()
        #: Walks each job in a greenlet of its own.
        self._alone = Crew(0, partial(_entered, id(self)))
        self._runs: set[Run] = set()
        self._closed = False
        self._spawned: _Counted | None = None
        self._report: Report | None = None
        #: Whether nothing of a user's runs in the greenlets of its downloads.
        own = checked(stages)
        self._only_ours = not hooks and all(map(_is_ours, (*own, self.store, self.recorder, session, progress)))
        base = session or Session()
        gate = base.gate
        self._sessions = Sessions(base, profiles or {})
        parent = gate if isinstance(gate, limits.Slots) else limits.process
        self._kit = Kit(
            stages=self._stages(own, hooks, check),
            sessions=self._sessions,
            slots=parent.narrowed(self.size, per_host),
            patience=patience(timeout, low_speed),
            retries=counted(retries, "retries", 0),
            deadline_s=seconds(deadline, "deadline"),
            decode=decode,
            dice=Random(),
            lane_from=LANE_FROM if offload else None,
        )
        if self.size > (limits.process.total or self.size):
            log.warning(
                "size=%d, but the process may hold %s connections (a third of ulimit -n at most)",
                self.size,
                limits.process.total,
            )

    def _a_store(self, store: Any) -> Store:
        if store is not None and not isinstance(store, str | os.PathLike):
            if not isinstance(store, Store):
                raise SpecError(f"store is a Store or a folder's path, not {type(store).__name__}")
            return store
        found: Store = TempStore() if store is None else tree_for(store)
        self._last.append(partial(_told, found.close))  # which waits for nobody
        return found

    def _a_recorder(self, recorder: Any) -> Any:
        if isinstance(recorder, str):
            from .records import Recorder

            recorder = Recorder(recorder)
            self._last.append(_Apart(recorder.close))
        if recorder is not None and getattr(self.store, "durable", False):
            recorder.durable = True
        return recorder

    def _stages(self, own: Sequence[Any], hooks: Mapping[str, Any] | None, check: bool) -> tuple[Any, ...]:
        recorder = self.recorder
        # Whatever has no digest to be held against gets one to be held against next year.
        address = self.store.address
        always = [address] if address is not None else ["sha256"] if recorder is not None else []
        storing = StoreStage(self.store, recorder.recall if recorder is not None else None, check)
        # The facts order the steps. Among those who hear of one fact, the user's stand before the store and the store
        # before the records: who refuses at "accepted" refuses what has no name yet; no one refuses what is recorded.
        return (Proving(always), *own, *plain(hooks), storing, *([recorder] if recorder is not None else []))

    # ----------------------------------------------------------------------------------------------------------- many

    def map(self, specs: Iterable[SpecLike], *, deadline: float | None = None) -> list[Outcome]:
        """One Outcome for each spec, in order.  ``deadline``: seconds for all of them together.

        A list is checked before anything is fetched: a bad spec in it, or two for different files at one path of the
        store, are a SpecError.  (What a generator gives is not remembered: of two such the last one stays.)  With
        ``on_error="raise"`` the first failure cancels the rest, waits for it, and is raised with all ``.outcomes``.
        What a generator raises is raised when all before it has ended; if it is a SpecError, with their ``.outcomes``.
        """
        check_many(specs)
        if isinstance(specs, list | tuple):
            specs = self._apart([Spec.of(given) for given in specs])
        with _Counted(self, specs) as kit:
            return self._run(kit, specs, ordered=True, deadline=deadline, keep=True).all()

    def _apart(self, specs: list[Spec]) -> list[Spec]:
        """The specs themselves, if each file has a path of its own."""
        known: dict[str, Spec] = {}
        for spec in specs if self.store.name or isinstance(self.store, MemoryStore) else ():
            other = known.setdefault(spec.path, spec)
            same = other.digests == spec.digests if spec.digests else other.sources == spec.sources
            if not same:
                raise SpecError(
                    f"two files would be stored at {spec.path!r}, from {other.source.shown} and from "
                    f"{spec.source.shown}: give one of them another path"
                )
        return specs

    def imap(self, specs: Iterable[SpecLike], *, deadline: float | None = None) -> Iterator[Outcome]:
        """Outcomes in the order of the specs, lazily; a consumer that stops taking them cancels the rest."""
        return self._handed_over(specs, True, deadline)

    def imap_unordered(self, specs: Iterable[SpecLike], *, deadline: float | None = None) -> Iterator[Outcome]:
        """Outcomes as they come, lazily: no file waits for a slower one before it."""
        return self._handed_over(specs, False, deadline)

    def _handed_over(self, specs: Iterable[SpecLike], ordered: bool, deadline: float | None) -> Iterator[Outcome]:
        check_many(specs)
        self._check_open()
        seconds(deadline, "deadline")
        with _Counted(self, specs) as kit:
            yield from self._run(kit, specs, ordered=ordered, deadline=deadline).outcomes()

    def _run(
        self, kit: Kit, specs: Iterable[SpecLike], *, ordered: bool, deadline: float | None, keep: bool = False
    ) -> Run:
        self._check_open()

        crew = Crew(self._ahead if self._only_ours else 0, self._alone.context)

        def start(spec: Spec, ended: Callable[[Job], None]) -> Job:
            alone = not crew.kept or not self._sessions.call_nobody(spec)
            return Job(spec, kit, ended, self._alone if alone else crew, among=self._jobs)

        def refuse(spec: Spec, error: FetchError) -> Outcome:
            return never_walked(spec, kit, error)

        run = Run(
            specs,
            start,
            refuse,
            places=self._ahead,
            ordered=ordered,
            fail_fast=self._raises,
            deadline_s=seconds(deadline, "deadline"),
            keep=keep,
            crew=crew,
        )
        self._runs.add(run)
        return run

    # ------------------------------------------------------------------------------------------------------------ one

    def spawn(self, spec: SpecLike) -> Job:
        """A job for one spec, started.

        Waits for a place, as gevent's pools do, while 4 x ``size`` are under way, or 256 more than ``size``.
        """
        self._check_open()
        given = Spec.of(spec)
        if self._spawned is None:
            self._spawned = _Counted(self)
            self._last.append(self._spawned.__exit__)
        kit = self._spawned.__enter__()
        nested = id(self) in _inside.get()
        if not nested:
            self._places.acquire()  # last: what fails before takes no place

        def ended(job: Job) -> None:
            if not nested:
                self._places.release()

        return Job(given, kit, ended, self._alone, self._raises, among=self._jobs, waited=True)

    def walk_here(self, spec: Spec) -> Outcome:
        """One spec in this very greenlet: what :func:`fetch` does."""
        with _Counted(self) as kit:
            return walk(spec, kit, Progress())

    # ------------------------------------------------------------------------------------------------------------ end

    def cancel(self) -> None:
        """No new specs, and an end to what is under way; every spec still gets its Outcome.  Returns at once."""
        for run in list(self._runs):
            run.stop()
        for job in list(self._jobs):
            job.cancel()

    def join(self) -> None:
        """Wait for every job, and for every map that is under way.  A hook of this pool's own cannot: an error."""
        self._check_outside()
        for run in list(self._runs):
            run.join()
        while self._jobs:
            next(iter(self._jobs)).wait()

    def close(self) -> None:
        """Wait for the jobs, pull no more for an iteration half way, close what this pool made.  Twice does nothing."""
        if not self._closed:
            self.join()
            self._closed = True
        with self._closing:  # whoever comes meanwhile waits until all is closed
            for run in list(self._runs):
                run.stop()
            raised: Exception | None = None
            while self._last:
                error = self._last[-1]()
                self._last.pop()  # not where we were struck: whoever closes it once more is to wait for it
                raised = raised or error  # the first one is told, and the others are closed all the same
            if raised is not None:
                raise raised

    @property
    def tally(self) -> Tally | None:
        """How far the run is that began last, or how it ended; None before the first, and with ``progress=False``."""
        return None if self._report is None else self._report.tally()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, kind: Any, exc: BaseException | None, traceback: Any) -> None:
        if exc is not None:
            self.cancel()
        self._check_outside()
        try:
            self.close()
        except BaseException:
            if self._last or not self._closed:
                # Who waited here was struck, by a kill or by a timeout that raises what it likes, and nobody else comes
                # to close it: it ends by itself, and soon.
                self.cancel()
                gevent.spawn(self.close)
            raise

    def _check_outside(self) -> None:
        if id(self) in _inside.get():
            raise SpecError("a hook cannot wait for its own pool to end; it would wait for itself")

    def _check_open(self) -> None:
        if self._closed:
            raise Cancelled("this pool is closed; make a new one")

    def __repr__(self) -> str:
        return f"Pool({self.size}, store={self.store!r}, {len(self._jobs)} under way)"


def _entered(pool: int) -> Context:
    """A context as the one here, but inside of this pool."""
    found = copy_context()
    found.run(_inside.set, _inside.get() | {pool})
    return found


def _is_ours(part: Any) -> bool:
    return type(part) in (type(None), bool) or type(part).__module__.partition(".")[0] == __package__


def _told(close: Callable[[], object]) -> Exception | None:
    try:
        close()
    except Exception as exc:
        return exc
    return None


class _Apart:
    """Closes something in a greenlet of its own, and gives its error: what is raised meanwhile strikes who waits."""

    def __init__(self, close: Callable[[], object]) -> None:
        self._close = close
        self._closing: gevent.Greenlet | None = None
        self._over = False
        self._error: Exception | None = None

    def __call__(self) -> Exception | None:
        while not self._over:
            if self._closing is None or self._closing.dead:  # somebody killed it
                self._closing = gevent.spawn(self._work)
            self._closing.join()
        return self._error

    def _work(self) -> None:
        self._error = _told(self._close)
        self._over = True


class _Counted:
    """Around a run: a report for it, which ends with it however it ends; one that the caller made goes on."""

    def __init__(self, pool: Pool, specs: Iterable[SpecLike] = ()) -> None:
        self._pool = pool
        self._specs = specs
        self._given = isinstance(pool._progress, Report)
        self._report = pool._report = _report(pool._progress)

    def __enter__(self) -> Kit:
        if self._report is not None and isinstance(self._specs, Sized) and not self._given:
            self._report.expect(len(self._specs))
        return _told_to(self._pool._kit, self._report)

    def __exit__(self, *exc: Any) -> None:
        self._pool._runs = {run for run in self._pool._runs if not run.over}
        if self._report is not None and not self._given:
            self._report.close()


def _report(progress: Any) -> Report | None:
    if progress is False:
        return None
    if progress is None or progress is True:
        return Report(automatic(command=progress is True))
    return progress if isinstance(progress, Report) else Report(progress)


def _told_to(kit: Kit, report: Report | None) -> Kit:
    return kit if report is None else replace(kit, stages=(*kit.stages, report))


#: What a Pool can be told, and ``fetch`` passes on.
_SETTINGS = frozenset(Pool.__init__.__kwdefaults__ or ()) - {"store"}


def fetch(
    source: SpecLike | None = None,
    *,
    to: Any = None,
    sources: Iterable[SourceLike] = (),
    size: int | None = None,
    digests: DigestLike | None = None,
    profile: Profile | str | None = None,
    unit: Mapping[str, Any] | None = None,
    repository: str | None = None,
    progress: Any = False,
    **settings: Any,
) -> Outcome:
    """One file, fetched, proven and stored: its Outcome; its error is raised.

    ``to``: a file's path, a folder (one that is there, or with a slash at its end), an open binary file, a Store;
    without it the file is temporary, and ``outcome.location`` is it, open.  The other arguments are :class:`Spec`'s and
    :class:`Pool`'s.  With several sources that all fail, SourcesExhausted is raised; with one, its own error.
    """
    unknown = sorted(settings.keys() - _SETTINGS)
    if unknown:
        raise TypeError(f"fetch() knows no {', '.join(unknown)}; {_cure(unknown)}")
    if isinstance(source, Spec | Mapping):
        spec = Spec.of(source)
    else:
        spec = Spec(
            source, sources=sources, size=size, digests=digests, profile=profile, unit=unit, repository=repository
        )
    store = store_for(to)
    try:
        with Pool(1, store=store, progress=progress, **settings) as pool:
            return pool.walk_here(spec).raise_for_error()
    finally:
        if store is not to:
            store.close()


#: All that ``fetch`` can be told; and what it calls that a Pool calls otherwise.
_TOLD = sorted({*_SETTINGS, *(fetch.__kwdefaults__ or ())})
_OTHERWISE = {"store": "to"}
#: What users of requests and of checksum tools write, and what says it here.
_OF_PROFILES = ("headers", "auth", "cert", "verify", "proxies")
_OF_DIGESTS = ("checksum", "checksums", "hash")


def _cure(unknown: Iterable[str]) -> str:
    """What was meant by these names, where one is near or known from elsewhere; else which there are."""
    # Known first: "proxies" is near "profiles", too.
    known = {name: _said_elsewhere(name) for name in unknown}
    near = [_near(name) for name, cure in known.items() if not cure]
    meant = ", ".join(f"{name}=" for name in near if name)
    cures = [f"did you mean {meant}?"] if meant else []
    cures += dict.fromkeys(cure for cure in known.values() if cure)
    return "; ".join(cures) or f"there are {', '.join(_TOLD)}"


def _near(name: str) -> str:
    # Below 0.8 "check" is what many words would be taken for.
    return _OTHERWISE.get(name) or next(iter(difflib.get_close_matches(name, _TOLD, 1, 0.8)), "")


def _said_elsewhere(name: str) -> str:
    if name in _OF_PROFILES:
        return "headers, auth, cert, verify and proxies are a Profile's: profile="
    if name == "cookies":
        return "cookies are a Session's: session="
    if name in _OF_DIGESTS:
        return 'digests="sha256:…" says it'
    try:
        return f'digests="{algorithm(name)}:…" says it'
    except SpecError:
        return ""
