"""Many walks at once: specs pulled only as places free up, Outcomes handed over in order or as they come.

In: an iterable of specs, a way to walk one.  Out: exactly one Outcome for each that was pulled.  Never: what a walk
does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import copy_context
from copy import copy
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from . import kills
from .errors import Cancelled, DeadlineExceeded, FetchError
from .events import Outcome
from .pipeline import Kit, Progress, never_walked, walk
from .spec import Spec, SpecLike

__all__ = ["Crew", "Job", "Run"]


class Job:
    """One spec on its way: ``outcome`` when it has ended, None until then."""

    __slots__ = ("_ended", "_kit", "_progress", "_raises", "_reason", "_tell", "_worker", "outcome", "spec", "walking")

    def __init__(
        self, spec: Spec, kit: Kit, ended: Callable[[Job], None], raises: bool = False, crew: Crew | None = None
    ) -> None:
        self.spec = spec
        self.outcome: Outcome | None = None
        self._kit = kit
        self._tell = ended
        self._raises = raises
        self._progress = Progress()
        self._reason: FetchError | None = None
        #: Whether its walk has begun.
        self.walking = False
        # Those of a run are waited for by the run, and it has an Event of its own.
        self._ended = Event() if crew is None else None
        self._worker: _Worker | None = (crew or Crew(0)).begin(self)

    def get(self, timeout: float | None = None) -> Outcome:
        """The Outcome, waited for; the builtin TimeoutError after ``timeout`` seconds, and the job goes on.

        In a pool with ``on_error="raise"`` an Outcome that failed is raised as its error.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"{self.spec.source.shown} is not done after {timeout} s")
        assert self.outcome is not None
        return self.outcome.raise_for_error() if self._raises else self.outcome

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, or for ``timeout`` seconds; whether it has."""
        if self._ended is None:
            self._ended = Event()
        if self.outcome is None:
            self._ended.wait(timeout)
        return self.outcome is not None

    def cancel(self, error: FetchError | None = None) -> None:
        """End it: its greenlet, its connection, its part.  Returns at once; ``get()`` waits for the Outcome."""
        reason = _about(error or Cancelled("cancelled"), self.spec)
        self._reason = self._reason or reason
        worker = self._worker
        if worker is not None:
            worker.loop.run_callback(
                worker.strike, self, gevent.GreenletExit() if error is None else kills.Expired(None, reason)
            )

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.outcome is not None

    @property
    def _greenlet(self) -> Any:
        return None if self._worker is None else self._worker.greenlet

    def work(self) -> None:
        """In a greenlet of the crew's: walk.  What ends that greenlet from outside is raised when the job has ended."""
        if self._reason is not None:
            self._never_started()
            return
        self.walking = True
        try:
            walk(self.spec, self._kit, self._progress)
        finally:
            self._worker = None
            if self._progress.outcome is not None:
                self._end(self._progress.outcome)
            else:  # it was struck as the walk began, or by what ends the process
                self.left()

    def left(self) -> None:
        """Its greenlet is over, and it has no Outcome.  In the hub, perhaps, which must not wait: its hooks are told in
        a greenlet."""
        self._worker = None
        gevent.spawn(self._never_started)

    def _never_started(self) -> None:
        reason = self._reason or Cancelled("killed before it started", spec=self.spec)
        try:
            never_walked(self.spec, self._kit, reason, self._progress)
        finally:
            assert self._progress.outcome is not None
            self._end(self._progress.outcome)

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if self._ended is not None:
            self._ended.set()
        self._tell(self)

    def __repr__(self) -> str:
        return f"Job({self.spec.source.shown!r}, {self.outcome.state if self.outcome else 'under way'})"


class Crew:
    """The greenlets that walk the jobs of one run.  A new greenlet costs as much as a tenth of a small download, so up
    to ``kept`` of them stay for the next job.

    None stays where a user's code runs in them: what it leaves behind (a Timeout that was never stopped, a value in a
    greenlet's local) would strike, or show up in, another file's download.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.idle: list[_Worker] = []

    def begin(self, job: Job) -> _Worker:
        """Have it worked on, soon."""
        if not self.idle:
            return _Worker(self, job)
        worker = self.idle.pop()
        worker.take(job)
        return worker

    def dismiss(self) -> None:
        """Nobody stays any more."""
        self.kept = 0
        while self.idle:
            self.idle.pop().take(None)


class _Worker:
    """One greenlet, and the job that it is at."""

    __slots__ = ("_crew", "_job", "greenlet", "loop")

    def __init__(self, crew: Crew, job: Job) -> None:
        self._crew = crew
        self._job: Job | None = job
        self.loop = gevent.get_hub().loop
        self.greenlet: Any = gevent.Greenlet(self._work)
        # gevent copies no context by itself: with it, a hook that maps over its own pool borrows its download's slot.
        self.greenlet.gr_context = copy_context()
        self.greenlet.rawlink(self._left)
        self.greenlet.start()

    def take(self, job: Job | None) -> None:
        """The next job, or None for the end."""
        self._job = job
        self.loop.run_callback(self.greenlet.switch)

    def strike(self, job: Job, kill: BaseException) -> None:
        """In the hub: throw into the greenlet, if this job is what it is at.  One that has not begun looks itself."""
        if self._job is job and job.walking:
            self.greenlet.throw(kill)

    def _work(self) -> None:
        hub, crew = gevent.get_hub(), self._crew
        while self._job is not None:
            try:
                self._job.work()
            except kills.INTERRUPTS:
                raise
            except BaseException:
                # A kill, or a timeout of somebody's that struck in here: the Outcome says so, and nobody else waits
                # for this greenlet.
                return
            finally:
                self._job = None
            if len(crew.idle) < crew.kept:
                crew.idle.append(self)
                hub.switch()

    def _left(self, greenlet: Any) -> None:
        """In the hub: the greenlet is over, perhaps because somebody killed it before it was at its job."""
        if self in self._crew.idle:
            self._crew.idle.remove(self)
        if self._job is not None:
            self._job.left()


def _about(error: FetchError, spec: Spec) -> FetchError:
    """An error of its own for each of the specs that one reason ends: an error knows its spec and its attempts."""
    found = copy(error)
    found.spec = spec
    return found


class Run:
    """One call of map or imap: its input, its jobs, its results.

    ``places``: how many specs may be pulled and not yet handed over.  ``ordered``: results in the order of the input.
    ``fail_fast``: the first failure ends the run.  ``crew`` walks the jobs that ``start`` begins, and is dismissed at
    the end.
    """

    def __init__(
        self,
        specs: Iterable[SpecLike],
        start: Callable[[Spec, Callable[[Job], None]], Job],
        refuse: Callable[[Spec, FetchError], Outcome],
        *,
        places: int,
        ordered: bool,
        fail_fast: bool,
        deadline_s: float | None = None,
        keep: bool = False,
        crew: Crew,
    ) -> None:
        self._specs = specs
        self._iterator = iter(specs)
        self._start = start
        self._refuse = refuse
        self._places = Semaphore(places)
        self._ordered = ordered
        self._fail_fast = fail_fast
        #: map keeps all its results anyway: a place is free when its job has ended, not when it is handed over.
        self._keep = keep
        self._crew = crew
        self._jobs: set[Job] = set()
        self._line: deque[Job] = deque()
        #: Something changed: a job ended, the input did.  (An Event, not a queue: what nobody asks for leaves nothing.)
        self._news = Event()
        self._feeding = False
        self._fed = False
        self._stopped: FetchError | None = None
        self._first_failed: Outcome | None = None
        self._generator_error: BaseException | None = None
        self._left = Event()
        self._feeder = gevent.Greenlet(self._feed)
        self._feeder.gr_context = copy_context()
        self._feeder.start()
        self._timer: Any = None
        if deadline_s is not None:
            late = DeadlineExceeded(f"the whole run was not done within {deadline_s} s")
            self._timer = gevent.spawn_later(deadline_s, self.stop, late)

    def stop(self, error: FetchError | None = None) -> None:
        """No new specs; what is under way is cancelled."""
        if self._stopped is None:
            self._stopped = error or Cancelled("cancelled")
            self._feeder.kill(block=False)
            if not self._feeding:  # it will never run, nor say that it is done
                self._fed = True
            for job in list(self._jobs):
                job.cancel(error)
            self._news.set()

    def join(self) -> None:
        """Wait until a map has ended.  An iteration is its consumer's to end: it is not waited for."""
        if self._keep:
            self._left.wait()

    @property
    def over(self) -> bool:
        """Whether nothing of it is under way."""
        return self._fed and not self._jobs

    def outcomes(self) -> Iterator[Outcome]:
        """Every Outcome, handed over as the consumer takes them; whoever stops taking cancels the rest."""
        complete = False
        try:
            while (job := self._next()) is not None:
                if not self._keep:
                    self._places.release()
                assert job.outcome is not None
                yield job.outcome
            complete = True
        finally:
            if not complete:
                self.stop()
            self._leave()
        if self._first_failed is not None and not self._keep:
            self._raise_first(())
        if self._generator_error is not None:
            raise self._generator_error

    def all(self) -> list[Outcome]:
        """Every Outcome, in order; also of what a finite input still held when the run was stopped."""
        found: list[Outcome] = []
        try:
            for outcome in self.outcomes():
                found.append(outcome)
        except BaseException as exc:
            if exc is self._generator_error and self._first_failed is not None:
                self._raise_first(found)
            if exc is self._generator_error and isinstance(exc, FetchError):
                exc.outcomes = tuple(found)
            raise
        if self._stopped is not None and isinstance(self._specs, Sized):
            left = map(Spec.of, self._iterator)
            found += [self._refuse(spec, _about(self._stopped, spec)) for spec in left]
        if self._fail_fast and self._first_failed is None:  # stopped before any of it had begun
            self._first_failed = next((outcome for outcome in found if not outcome.ok), None)
        if self._first_failed is not None:
            self._raise_first(found)
        return found

    def _raise_first(self, outcomes: Iterable[Outcome]) -> None:
        assert self._first_failed is not None
        error = self._first_failed.error
        assert error is not None
        error.outcomes = tuple(outcomes) or tuple(job.outcome for job in self._unclaimed if job.outcome is not None)
        raise error

    _unclaimed: tuple[Job, ...] = ()

    def _next(self) -> Job | None:
        """The next job to hand over, None when there is none left."""
        while True:
            self._news.clear()
            if self._first_failed is not None and not self._keep:
                return None
            if self._ordered:
                if self._line and self._line[0].done:
                    return self._line.popleft()
                if self._fed and not self._line:
                    return None
            elif self._line:
                return self._line.popleft()
            elif self._fed and not self._jobs:
                return None
            self._news.wait()

    def _feed(self) -> None:
        self._feeding = True
        try:
            while self._stopped is None:
                self._places.acquire()
                try:
                    spec = Spec.of(next(self._iterator))
                except StopIteration:
                    return
                except gevent.GreenletExit:
                    raise
                except BaseException as exc:
                    # It is raised when all that was pulled before it has its Outcome.
                    self._generator_error = exc
                    return
                self._begin(spec)
        except gevent.GreenletExit as exc:
            if self._stopped is None:  # not we: the input itself said so
                self._generator_error = exc
        finally:
            self._fed = True
            self._news.set()

    def _begin(self, spec: Spec) -> None:
        job = self._start(spec, self._job_ended)
        self._jobs.add(job)
        if self._ordered:
            self._line.append(job)
        if self._stopped is not None:  # it was stopped while the input thought about its next one
            job.cancel()

    def _job_ended(self, job: Job) -> None:
        self._jobs.discard(job)
        if not self._ordered:
            self._line.append(job)
        if self._keep:
            self._places.release()
        assert job.outcome is not None
        if self._fail_fast and not job.outcome.ok and self._first_failed is None:
            self._first_failed = job.outcome
            self.stop()
        self._news.set()

    def _leave(self) -> None:
        """Leave nothing behind: no feeder, no timer, no job; the input is closed if it was a generator."""
        if self._timer is not None:
            self._timer.kill(block=False)
        self._left.set()
        if gevent.getcurrent() is gevent.get_hub():
            return
        self._feeder.join()
        while self._jobs:
            self._news.clear()
            self._news.wait()
        self._crew.dismiss()
        self._unclaimed = tuple(self._line)
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
