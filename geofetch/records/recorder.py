"""The Recorder: a stage that remembers every stored file as a unit, and the one door to what is remembered.

In: attempts whose file has its final name; units to import, marks from upkeep; questions.  Out: a row that is committed
before ``stored`` returns; Units, in pages, so that a million of them take no memory.  Never: a database in a download's
greenlet (the lane's native thread alone touches it), a row for a file that no store keeps, a secret.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import Any

import gevent
from peewee import Database

from ..errors import RecordError, SourceError, SpecError
from ..events import Attempt, Kept, Listener, Verdict
from ..kills import INTERRUPTS, hold
from ..spec import Digest, Source, Spec, SpecLike
from . import census, leftovers, membership, reader, soundness
from .book import Row
from .census import RepositorySum
from .changes import Change, Import, Join, Leave, Mark, Note, Want
from .database import located
from .home import Home
from .known import Remembered, says_all
from .lane import Lane, Pending
from .ledger import Ledger
from .leftovers import BeingRemoved
from .listing import Listing
from .many import chunks
from .plugin import Plugin, checked
from .put import Put
from .reader import Wanted
from .units import POLICIES, STATES, Policy, Unit, UnitState

__all__ = ["Recorder"]

#: Units, or ids, that one question to the database is about.
PAGE = 250
#: Seconds for which it counts what was read of a place; and of how many places that is kept.
FRESH_S, FRESH = 1.0, 1024
#: Files of whose sources' failures is known while they are not stored.
FAILED_MOST = 1000
#: Seconds after which a gc has removed what it was about to.  A bucket tells times in whole seconds: what is stored
#: anew in the same one cannot be told from what was removed.
REMOVAL_S, SECOND_S = 0.2, 1.1
#: Errors that are this process's or machine's own, not the source's.
OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class Recorder:
    """What is remembered of stored files, in the database that ``url`` names.

    ``sqlite:///units.db`` is a file in the current folder, ``sqlite:////srv/units.db`` an absolute one,
    ``sqlite:///:memory:`` is gone when it is closed.  ``postgresql://HOST/NAME`` and ``mysql://HOST/NAME`` (MariaDB's,
    too) are servers': several processes may record at once, and a server that restarts is waited for half a minute.
    Nothing is opened before the first use.  ``durable``: a commit outlives a cut of power, not only a killed process.
    ``plugins`` write rows of their own with each unit, in the same transaction.

    All calls wait cooperatively; the database is touched by one native thread.  A Recorder belongs to the thread (the
    gevent hub) that first uses it: another one gets a RecordError and opens a Recorder of its own.
    """

    def __init__(
        self, url: str = "sqlite:///units.db", *, durable: bool = False, plugins: Iterable[Plugin] = ()
    ) -> None:
        self.durable = durable
        address = located(url)
        self._home = Home(address.path if address.is_file else None)
        furnishing = checked(plugins)
        self._ledger = Ledger(address, furnishing)
        ledger = self._ledger
        self._lane = Lane(
            gathers=("write",),
            write=lambda changes: ledger.write(changes, self.durable),
            recall=lambda asked: ledger.recall(asked, self.durable),
            answer=lambda questions: ledger.answer(questions, self.durable),
            edit=lambda works: ledger.edit(works, self.durable),
        )
        self._closed = False
        # What was read a moment ago of files that are about to be adopted; of a plugin's rows we know nothing.
        self._fresh: dict[tuple[str, str], tuple[float, tuple[Row, ...]]] = {}
        self._keeps = not furnishing
        #: Failures of sources whose file is not stored yet, by the spec's id: a new file has no row to note them in.
        self._failures: dict[int, dict[int, Note]] = {}
        self._end: Any = None

    @property
    def commits(self) -> int:
        """How many transactions were committed; many rows share one."""
        return self._ledger.commits

    # --- as a stage

    def bind(self, attempt: Attempt) -> Listener:
        return _Listening(self, attempt)

    def _stored(self, attempt: Attempt, kept: Kept) -> None:
        # A copy: who waits here may be killed, and the attempt be used again, before the thread comes to it.
        digests, source = dict(attempt.digests), attempt.source
        headers = None if source is None or attempt.head is None else attempt.head.headers
        place = self._home.kept(kept)
        if source is None and self._says_all(attempt, place):
            return
        put = Put(attempt.spec, place, digests, attempt.verified, source, headers, _now())
        try:
            _settled(self._ask("write", put))
        except RecordError as exc:
            exc.spec, exc.source = attempt.spec, attempt.source
            raise
        for note in self._failures.pop(id(attempt.spec), {}).values():
            if note.source is not source and not self._lane.full("write"):
                self._write(note)  # a second time, where there was a row: that says nothing else

    def _says_all(self, attempt: Attempt, kept: Kept) -> bool:
        """Whether the records say of an adopted file what it would tell them, by what was read when it was found."""
        fresh = self._fresh.pop((kept.store, kept.key), None)
        if fresh is None or time.monotonic() - fresh[0] > FRESH_S:
            return False
        return says_all(fresh[1], attempt.spec, kept, attempt.digests, attempt.verified)

    def _failed(self, attempt: Attempt, error: SourceError) -> None:
        # A hint, not a promise: who has no time to wait, and memory that ends, leaves it out.
        if attempt.source is None or self._closed or self._lane.full("write"):
            return
        store = self._home.kept_name(attempt.kept.store) if attempt.kept is not None else None
        note = Note(attempt.spec, attempt.source, type(error).__name__, _now(), store)
        self._failures.setdefault(id(attempt.spec), {})[id(attempt.source)] = note
        if len(self._failures) > FAILED_MOST:
            del self._failures[next(iter(self._failures))]
        self._write(note)

    # --- as a memory

    def ready(self) -> None:
        """Open the database now: a RecordError if that cannot be, and nothing was fetched in vain."""
        self._answer(lambda database: None)

    def recall(self, store: str, key: str) -> tuple[Kept, Mapping[str, Digest]] | None:
        """The file that is present there as it was when it was last proven, and its digests then.

        All greenlets that ask at the same moment are answered together, by one SELECT a table.
        """
        place = self._home.kept_name(store), key
        found: Remembered | None = self._ask("recall", place).get()
        if found is None:
            return None
        if self._keeps:
            if len(self._fresh) >= FRESH:
                self._fresh.clear()
            self._fresh[place] = time.monotonic(), found.rows
        kept = found.kept
        if kept.store != store:
            kept = Kept.made(store, kept.key, kept.size, kept.mtime_ns, kept.inode)
        return kept, found.digests

    def unit(self, ident: int | str | Mapping[str, Any]) -> Unit | None:
        """The unit of this id, path, key in its store, or natural key (a mapping as in ``spec.unit``), if there is one.

        A RecordError that names the ids if there are several.
        """
        found: Unit | None = self._answer(partial(reader.find, ident=self._home.kept_ident(ident)))
        return None if found is None else self._home.known_unit(found)

    def units(
        self,
        *,
        repository: str | None = None,
        type: str | None = None,
        state: UnitState | Collection[str] | None = None,
        store: str | None = None,
        scrubbed_before: float | None = None,
        sample: float | int | None = None,
        path: str | None = None,
        policy: Policy | None = None,
        pending: bool | None = None,
        fetched: bool | None = None,
        due: Collection[Policy] | None = None,
    ) -> Iterator[Unit]:
        """The units that fit all that is told, in the order of their ids, read in pages.

        ``state``: one, or several.  ``scrubbed_before``: seconds since 1970; a unit that was never scrubbed fits.
        ``path``: a name, or a pattern in which ``*`` stands for anything, slashes too.  ``sample``: so many of them by
        chance, or (a float up to 1.0) that share of them.  ``policy``: of this one.  ``pending``: whether work is owed
        to it.  ``fetched``: whether it ever was stored.  ``due``: those that were stored once or are owed, and of the
        others those of one of these policies.
        """
        kept = None if store is None else self._home.kept_name(store)
        wanted = Wanted(repository, type, state, kept, scrubbed_before, path, policy, pending, fetched, due)
        return self._units(wanted, None if sample is None else _checked_sample(sample))

    def _units(self, wanted: Wanted, sample: float | int | None) -> Iterator[Unit]:
        ids: Iterator[int] = self._ids(wanted)
        if sample is not None:
            total = self._count(wanted)
            ids = _sampled(ids, total, sample if isinstance(sample, int) else -int(-sample * total // 1))
        for part in chunks(ids, PAGE):
            yield from map(self._home.known_unit, self._answer(partial(reader.units, ids=part)))

    def _ids(self, wanted: Wanted) -> Iterator[int]:
        after: int | None = 0
        while after is not None:
            ids, after = self._answer(partial(reader.page, wanted=wanted, after=after, most=PAGE))
            yield from ids

    def count(
        self,
        *,
        repository: str | None = None,
        type: str | None = None,
        state: UnitState | Collection[str] | None = None,
        store: str | None = None,
        scrubbed_before: float | None = None,
        path: str | None = None,
        policy: Policy | None = None,
        pending: bool | None = None,
        fetched: bool | None = None,
        due: Collection[Policy] | None = None,
    ) -> int:
        """How many units there are that fit."""
        kept = None if store is None else self._home.kept_name(store)
        return self._count(Wanted(repository, type, state, kept, scrubbed_before, path, policy, pending, fetched, due))

    def _count(self, wanted: Wanted) -> int:
        if wanted.pattern is not None:
            return sum(1 for _ in self._ids(wanted))
        return int(self._answer(partial(reader.count, wanted=wanted)))

    def references(self, store: str, keys: Collection[str]) -> dict[str, int]:
        """How many units lie under each of these keys of a store, those under none left out: counted, not noted."""
        kept = self._home.kept_name(store)
        return dict(self._answer(partial(leftovers.references, store=kept, keys=keys)))

    def stores(self) -> list[str]:
        """The names of all stores that units lie in."""
        return sorted(map(self._home.known_name, self._answer(census.stores)))

    def repositories(self) -> list[str]:
        """The names of all repositories."""
        return list(self._answer(reader.repositories))

    def listing(self, repository: str, store: str) -> Listing:
        """What one sync lists for a repository, so that whatever else it holds can be taken off it.

        ``store``: the name of the store that the files go to.  One without a natural key of its own (``spec.unit``) is
        known by its place there.
        """

        def members(after: int) -> tuple[list[tuple[int, bytes]], int | None]:
            found = self._answer(partial(reader.members, repository=repository, after=after, most=PAGE))
            return found  # type: ignore[no-any-return]

        return Listing(repository, self._home.kept_name(store), members, self._write)

    def associate(self, units: Iterable[Unit], repository: str) -> int:
        """Put units that are recorded into a repository; how many were not in it before, once that is committed.

        Nothing else of them changes, and nothing is fetched.  Those that are forgotten by now are passed over.  Any
        number will do: they are written in bounded transactions, and who is ended in between may say it again.
        """
        name = membership.named(repository)
        each = membership.identities(units, self._home.kept_unit)
        return membership.changed((Join(one, name) for one in each), self._write)

    def dissociate(self, units: Iterable[Unit], repository: str) -> int:
        """Take units off a repository; how many were in it, once that is committed.

        Files and records stay.  What was in no other repository is in none from this moment on, and a gc removes it
        after its grace time.
        """
        name, now = membership.named(repository), _now()
        each = membership.identities(units, self._home.kept_unit)
        return membership.changed((Leave(one, name, now) for one in each), self._write)

    def remove_repository(self, repository: str) -> int:
        """Take all units off a repository and forget its name; how many were in it.  0 where there is none."""
        count = 0
        while True:
            count += self.dissociate(self.units(repository=membership.named(repository)), repository)
            if self._edit(partial(membership.drop, repository=repository)):
                return count

    # --- what is not fetched now

    def want(self, spec: SpecLike, store: str, *, policy: Policy | None = None, pending: bool = False) -> Pending:
        """Remember a wanted file without fetching it; committed when ``.get()`` returns.

        The unit has the spec's sources, digests (trusted), size and repository, is missing and has no ``stored_at``.
        ``store``: the name of the store that it is for.  ``policy``: when it is to be fetched; None: as it is known,
        and "immediate" for a new one, as by ``geofetch sync``.  ``pending``: that it is to be fetched is owed;
        :func:`geofetch.upkeep.repair` does it, and the commit that records the file clears it.

        ``.get()`` says "wanted"; or "present", where it is stored already: then policy, sources and repositories change
        alone; or "differs", where what is stored has other digests or another size: then its sources stay, too.
        """
        if policy is not None and policy not in POLICIES:
            raise SpecError(f"a policy is {', '.join(POLICIES)}, not {policy!r}")
        return self._write(Want(Spec.of(spec), self._home.kept_name(store), policy, bool(pending)))

    # --- for upkeep and import

    def mark(
        self,
        unit: Unit,
        state: UnitState,
        *,
        result: str | None = None,
        kept: Kept | None = None,
        digests: Iterable[Digest] = (),
    ) -> Pending:
        """Note what was found when the stored file was held against ``unit``; committed when ``.get()`` returns.

        That says True, or False where the file was replaced since ``unit`` was read: then nothing is written.
        ``kept``: where the file is now, and what its file system says of it.  ``digests``: observed now; a trusted
        one stays.
        """
        if state not in STATES:
            raise SpecError(f"no unit is {state!r}; they are {', '.join(STATES)}")
        place = None if kept is None else self._home.kept(kept)
        return self._write(Mark(self._home.kept_unit(unit), state, result, place, tuple(digests), _now()))

    def note(self, unit: Unit, source: Source, error: BaseException | None) -> Pending:
        """Note how a source of ``unit`` did when it was asked: that it answered, or why not; committed when ``.get()``
        returns."""
        kept = self._home.kept_unit(unit)
        told = None if error is None else type(error).__name__
        return self._write(Note(kept.spec(), source, told, _now(), kept.store))

    def repository_sums(self) -> list[RepositorySum]:
        """Each repository, its units and their bytes, in the order of the names."""
        return list(self._answer(census.repositories))

    def only_in(self, repository: str, other: str) -> Iterator[Unit]:
        """The units of ``repository`` that ``other`` does not have, in the order of their ids, read in pages."""
        after: int | None = 0
        while after is not None:
            ids, after = self._answer(
                partial(census.only_in, repository=repository, other=other, after=after, most=PAGE)
            )
            yield from map(self._home.known_unit, self._answer(partial(reader.units, ids=ids)))

    def put_unit(self, unit: Unit) -> Pending:
        """Remember a unit from elsewhere, in place of what was known of it; committed when ``.get()`` returns.

        That is "new", "replaced", or "known" where nothing else was known of it before.
        """
        return self._write(Import(self._home.kept_unit(unit)))

    def faults(self, most: int = 100) -> list[str]:
        """What is wrong with the database itself, in words: damaged pages, rows that contradict themselves.

        It reads all of it, and says no more than ``most`` things; an empty list: it is sound.  Stored files are not
        looked at: that is :func:`geofetch.verify`.
        """
        found: list[str] = list(self._answer(soundness.database_faults))
        after: int | None = 0 if not found else None  # where pages are wrong, what rows say means nothing
        while after is not None and len(found) < most:
            more, after = self._answer(partial(soundness.unit_faults, after=after, most=PAGE))
            found += more
        return found[:most]

    def flush(self) -> None:
        """Wait until everything that was put up to now is committed, or has failed."""
        self._lane.flush()

    def give_up(self, after_s: float = 1.0) -> None:
        """Wait so long for the database, and no longer: it is time to end.  Returns at once.

        What is not committed by then, and whatever is asked later, is a RecordError; a file that is stored, and whose
        record this was about, is adopted by the next run.  For a process that ends: its thread may still wait.
        """
        if self._end is None:
            self._ledger.given_up_at = time.monotonic() + after_s
            # It keeps no loop at work that has nothing else to do.
            self._end = gevent.get_hub().loop.timer(after_s, ref=False)
            self._end.start(self._given_up)

    def _given_up(self) -> None:
        self._lane.abandon(
            RecordError(
                f"{self._ledger.address} did not answer before the end: this is not recorded; "
                "what is stored is adopted by the next run"
            )
        )

    def close(self) -> None:
        """Wait for what is pending and close the database; a second time does nothing."""
        self._closed = True
        try:
            self._lane.end(self._ledger.close)
        finally:
            if self._end is not None:
                self._end.stop()
                self._end.close()
                self._end = None

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Recorder({str(self._ledger.address)!r}{', durable' if self.durable else ''})"

    def _write(self, change: Change) -> Pending:
        self._fresh.clear()
        return self._ask("write", change)

    def _answer(self, question: Callable[[Database], Any]) -> Any:
        return self._ask("answer", question).get()

    def _edit(self, work: Callable[[Database], Any]) -> Any:
        return self._ask("edit", work).get()

    def _ask(self, group: str, item: Any) -> Pending:
        if self._closed:
            raise RecordError(f"{self._ledger.address}: these records are closed")
        return self._lane.ask(group, item)


class _Listening(Listener):
    """What one attempt has to say to the records."""

    __slots__ = ("_attempt", "_recorder")

    def __init__(self, recorder: Recorder, attempt: Attempt) -> None:
        self._recorder = recorder
        self._attempt = attempt

    def on_stored(self, location: Any) -> None:
        kept = self._attempt.kept
        if kept is not None and kept.store:
            self._recorder._stored(self._attempt, kept)

    def on_failed(self, error: BaseException) -> Verdict | None:
        if isinstance(error, BeingRemoved):
            kept = self._attempt.kept
            whole = kept is not None and kept.mtime_ns is not None and kept.mtime_ns % 10**9 == 0
            gevent.sleep(SECOND_S if whole else REMOVAL_S)
            return Verdict.AGAIN
        if self._attempt.source is not None and isinstance(error, SourceError) and error.errno not in OURS:
            self._recorder._failed(self._attempt, error)
        return None


def _settled(pending: Pending) -> None:
    """Wait for a commit to its end: the row is written whoever waits, so a kill has to wait, too."""
    killed: BaseException | None = None
    while True:
        try:
            pending.wait()
            break
        except BaseException as exc:
            killed = killed or exc
            if isinstance(exc, INTERRUPTS):
                break
    if killed is not None and not hold(killed):
        raise killed
    pending.get()


def _now() -> int:
    return time.time_ns() // 1000


def _checked_sample(sample: float | int) -> float | int:
    if isinstance(sample, bool) or not isinstance(sample, int | float) or sample < 0:
        raise SpecError(f"a sample is a number of units, or a share of them from 0.0 to 1.0, not {sample!r}")
    if isinstance(sample, float) and not sample <= 1:
        raise SpecError(f"a sample is at most all of them (1.0), not {sample!r}")
    return sample


def _sampled(ids: Iterator[int], total: int, wanted: int) -> Iterator[int]:
    """So many of them by chance, each as likely, in one pass without keeping any (Knuth, 3.4.2, algorithm S)."""
    for ident in ids:
        if wanted <= 0:
            return
        if random.random() * total < wanted:
            yield ident
            wanted -= 1
        total -= 1
