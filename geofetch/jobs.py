"""One walk under way: a Job to wait for and to cancel, and the greenlets of a Crew that walk them.

In: a Spec, the Kit it walks with.  Out: its Outcome, once, whoever is killed.  Never: how many there are, or in which
order they are handed over (runs.py).
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from copy import copy
from typing import Any

import gevent
from gevent.event import Event

from . import kills
from .errors import Cancelled, FetchError
from .events import Outcome
from .pipeline import Kit, Progress, never_walked, walk
from .spec import Spec

__all__ = ["Crew", "Job", "about"]


class Job:
    """One spec on its way: ``outcome`` when it has ended, None until then."""

    __slots__ = (
        "_among",
        "_ended",
        "_kit",
        "_progress",
        "_raises",
        "_reason",
        "_tell",
        "_worker",
        "outcome",
        "spec",
        "walking",
    )

    def __init__(
        self,
        spec: Spec,
        kit: Kit,
        ended: Callable[[Job], None],
        crew: Crew,
        raises: bool = False,
        *,
        among: set[Job],
        waited: bool = False,
    ) -> None:
        self.spec = spec
        self.outcome: Outcome | None = None
        #: Those that are under way; it is one of them until it has ended.
        self._among = among
        self._kit = kit
        self._tell = ended
        self._raises = raises
        self._progress = Progress()
        self._reason: FetchError | None = None
        #: Whether its walk has begun.
        self.walking = False
        # Those of a run are waited for by the run, and it has an Event of its own.
        self._ended = Event() if waited else None
        self._worker: _Worker | None = crew.begin(self)
        among.add(self)

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
        reason = about(error or Cancelled("cancelled"), self.spec)
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
            if self._progress.ended is not None:
                self._end(self._progress.ended)
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
            assert self._progress.ended is not None
            self._end(self._progress.ended)

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        if self._ended is not None:
            self._ended.set()
        self._among.discard(self)
        self._tell(self)

    def __repr__(self) -> str:
        return f"Job({self.spec.source.shown!r}, {self.outcome.state if self.outcome else 'under way'})"


class Crew:
    """The greenlets that walk jobs.  A new greenlet costs as much as a tenth of a small download, so up to ``kept`` of
    them stay for the next job of their run.

    None stays where a user's code runs in them: what it leaves behind (a Timeout that was never stopped, a value in a
    greenlet's local) would strike, or show up in, another file's download.  ``context`` makes the one that a new
    greenlet works in: gevent copies none by itself.
    """

    def __init__(self, kept: int, context: Callable[[], Context]) -> None:
        self.kept = kept
        self.context = context
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


class _Greenlet(gevent.Greenlet):  # type: ignore[misc]  # gevent's classes are compiled, and tell no types
    """One that does not note who spawned it: seven objects, the same for each of a pool, for gevent's run info."""

    __slots__ = ()
    spawning_stack_limit = 0


class _Worker:
    """One greenlet, and the job that it is at."""

    __slots__ = ("_crew", "_job", "greenlet", "loop")

    def __init__(self, crew: Crew, job: Job) -> None:
        self._crew = crew
        self._job: Job | None = job
        self.loop = gevent.get_hub().loop
        self.greenlet: Any = _Greenlet(self._work)
        # With a context of its own, a hook that maps over its own pool borrows its download's slot.
        self.greenlet.gr_context = crew.context()
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


def about(error: FetchError, spec: Spec) -> FetchError:
    """An error of its own for each of the specs that one reason ends: an error knows its spec and its attempts."""
    found = copy(error)
    found.spec = spec
    return found
