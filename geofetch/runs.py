"""Many walks at once: specs pulled only as places free up, Outcomes handed over in order or as they come.

In: an iterable of specs, a way to walk one.  Out: exactly one Outcome for each that was pulled.  Never: what a walk
does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import copy_context
from typing import Any

import gevent
from gevent.event import Event
from gevent.lock import Semaphore

from .errors import Cancelled, DeadlineExceeded, FetchError
from .events import Outcome
from .jobs import Crew, Job, about
from .spec import Spec, SpecLike

__all__ = ["Run"]


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
            found += [self._refuse(spec, about(self._stopped, spec)) for spec in left]
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
                if self._stopped is not None:  # while it waited; the kill that stops it comes a moment later
                    return
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
        # First, since it waits for nobody: who is still at a job ends with it.  An iterator that nobody holds any more
        # is closed in the hub, and whoever waits below may be killed; a greenlet at rest is never collected.
        self._crew.dismiss()
        if gevent.getcurrent() is gevent.get_hub():
            return
        self._feeder.join()
        while self._jobs:
            self._news.clear()
            self._news.wait()
        self._unclaimed = tuple(self._line)
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
