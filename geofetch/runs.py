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

__all__ = ["Job", "Run"]


class Job:
    """One spec on its way: ``outcome`` when it has ended, None until then."""

    def __init__(self, spec: Spec, kit: Kit, ended: Callable[[Job], None], raises: bool = False) -> None:
        self.spec = spec
        self.outcome: Outcome | None = None
        self._kit = kit
        self._tell = ended
        self._raises = raises
        self._progress = Progress()
        self._reason: FetchError | None = None
        self._walking = False
        self._ended = Event()
        self._greenlet = gevent.Greenlet(self._walk)
        # gevent copies no context by itself: with it, a hook that maps over its own pool borrows its download's slot.
        self._greenlet.gr_context = copy_context()
        self._greenlet.rawlink(self._left)
        self._greenlet.start()

    def get(self, timeout: float | None = None) -> Outcome:
        """The Outcome, waited for; the builtin TimeoutError after ``timeout`` seconds, and the job goes on.

        In a pool with ``on_error="raise"`` an Outcome that failed is raised as its error.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"{self.spec.source.shown} is not done after {timeout} s")
        assert self.outcome is not None
        return self.outcome.raise_for_error() if self._raises else self.outcome

    def cancel(self, error: FetchError | None = None) -> None:
        """End it: its greenlet, its connection, its part.  Returns at once; ``get()`` waits for the Outcome."""
        reason = _about(error or Cancelled("cancelled"), self.spec)
        self._reason = self._reason or reason
        # A greenlet that never ran dies of whatever it is given, aloud: of a GreenletExit alone it dies in peace.
        walking = self._walking and error is not None
        self._greenlet.kill(kills.Expired(None, reason) if walking else gevent.GreenletExit, block=False)

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.outcome is not None

    def _walk(self) -> None:
        self._walking = True
        try:
            walk(self.spec, self._kit, self._progress)
        except kills.INTERRUPTS:
            raise
        except BaseException:
            # A timeout of somebody's that struck in here: the Outcome says so, and nobody else waits for this greenlet.
            if self._progress.outcome is None:
                raise

    def _left(self, greenlet: Any) -> None:
        # Runs in the hub, which must not wait: hooks of a job that never started are told in a greenlet.
        if self._progress.outcome is not None:
            self._end(self._progress.outcome)
        else:
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
        self._ended.set()
        self._tell(self)

    def __repr__(self) -> str:
        return f"Job({self.spec.source.shown!r}, {self.outcome.state if self.outcome else 'under way'})"


def _about(error: FetchError, spec: Spec) -> FetchError:
    """An error of its own for each of the specs that one reason ends: an error knows its spec and its attempts."""
    found = copy(error)
    found.spec = spec
    return found


class Run:
    """One call of map or imap: its input, its jobs, its results.

    ``places``: how many specs may be pulled and not yet handed over.  ``ordered``: results in the order of the input.
    ``fail_fast``: the first failure ends the run.
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
        self._unclaimed = tuple(self._line)
        close = getattr(self._iterator, "close", None)
        if close is not None:
            close()
