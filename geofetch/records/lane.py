"""One native thread, and the greenlets that wait for it: what is asked at the same moment is done at one go.

In: things to do, each for a group (writes, lookups, questions).  Out: a Pending each, which waits cooperatively for the
answer.  Never: what the things are; anything of ``threading`` or ``queue``.

While a batch runs in the thread, the next one gathers; one of a group that gathers begins when the hub has nothing else
to do, so that thread and hub do not fight for the GIL.  All who wait for one batch wait for one event.  The lane lives
in the hub that first used it: its thread, its events and its greenlet are that hub's, so another hub gets a RecordError
in place of a wait without end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import gevent
from gevent.event import Event

from ..errors import RecordError
from ..hubs import Threads, process

__all__ = ["Lane", "Pending"]

Run: TypeAlias = Callable[[Sequence[Any]], list[Any]]

#: Things in one batch; who comes when it is full waits until it has run, so that memory does not grow.
MOST = 4096
#: Seconds for which a batch gathers at most while the hub is busy.
GATHER_S = 0.1


class _Batch:
    __slots__ = ("answers", "done", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.answers: Sequence[Any] | BaseException = ()
        self.done = Event()

    def settle(self, answers: Sequence[Any] | BaseException) -> None:
        self.answers = answers
        self.done.set()


class Pending:
    """Something that was asked of the native thread and will be answered."""

    __slots__ = ("_at", "_batch")

    def __init__(self, batch: _Batch, at: int) -> None:
        self._batch = batch
        self._at = at

    @property
    def ready(self) -> bool:
        """Whether the answer is there."""
        return bool(self._batch.done.is_set())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the answer is there, or for ``timeout`` seconds; whether it is."""
        return bool(self._batch.done.wait(timeout))

    def get(self, timeout: float | None = None) -> Any:
        """The answer, waited for; its exception raised.  TimeoutError after ``timeout`` seconds; it goes on."""
        if not self._batch.done.is_set() and not self.wait(timeout):
            raise TimeoutError(f"no answer within {timeout} s")
        answers = self._batch.answers
        if isinstance(answers, BaseException):
            raise RecordError(str(answers)) from answers
        answer = answers[self._at]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class _Group:
    def __init__(self, run: Run, gathers: bool) -> None:
        self.run = run
        self.gathers = gathers
        self.gathering = _Batch()


class Lane:
    """The groups of ``runs`` by name; each is called in the native thread with a list, and answers with one.

    ``gathers`` names those whose batches are worth more the larger they are: they wait for a moment at which the hub
    has nothing else to do, for ``GATHER_S`` at most, and not where something of another group is asked.
    """

    def __init__(self, gathers: Collection[str] = (), **runs: Run) -> None:
        self._groups = {name: _Group(run, name in gathers) for name, run in runs.items()}
        self._gathered = Event()
        self._threads: Threads | None = None
        self._hub: Any = None
        self._pid = 0
        self._pump: gevent.Greenlet | None = None
        self._underway: _Batch | None = None
        self._abandoned: RecordError | None = None

    def ask(self, name: str, item: Any) -> Pending:
        """Do this with the next batch of its group; waits only while that batch is full."""
        self._at_home()
        group = self._groups[name]
        while len(group.gathering.items) >= MOST:
            self._start()
            group.gathering.done.wait()
        batch = group.gathering
        batch.items.append(item)
        if not group.gathers:
            self._gathered.set()
        self._start()
        return Pending(batch, len(batch.items) - 1)

    def full(self, name: str) -> bool:
        """Whether the next to ask would have to wait."""
        return len(self._groups[name].gathering.items) >= MOST

    def flush(self) -> None:
        """Wait until everything that was asked up to now is done."""
        if self._threads is None or self._abandoned is not None:
            return
        self._at_home()
        asked = [self._underway, *(group.gathering for group in self._groups.values())]
        for batch in asked:
            if batch is not None and batch.items:
                batch.done.wait()

    def end(self, last: Callable[[], Any]) -> None:
        """Wait for everything, do this last thing in the thread, and end the thread.  Nobody may ask any more."""
        self.flush()
        threads = self._threads
        if threads is None:
            return
        if self._pump is not None:
            self._pump.join()
        self._threads = None
        if self._abandoned is not None:
            threads.spawn(_safely, lambda _: [last()], ())  # when it comes to it: nobody waits for that
            return
        try:
            failure = threads.spawn(_safely, lambda _: [last()], ()).get()
        finally:
            threads.kill()
        if isinstance(failure, BaseException):
            raise failure

    def abandon(self, why: RecordError) -> None:
        """Whoever waits hears this at once, as does whoever comes later; the thread is left to what it does."""
        self._abandoned = why
        pump, self._pump = self._pump, None
        self._give_up(why)
        if pump is not None:
            pump.kill(block=False)

    def _at_home(self) -> None:
        if self._abandoned is not None:
            raise RecordError(str(self._abandoned)) from self._abandoned
        if self._threads is None:
            self._hub, self._pid = gevent.get_hub(), process()
            self._threads = Threads(1)
        elif self._pid != process():
            raise RecordError("these records were opened before a fork; open them anew in this process")
        elif gevent.get_hub() is not self._hub:
            raise RecordError("these records are in use by another thread; open them once for each thread")

    def _start(self) -> None:
        if self._pump is None or self._pump.dead:
            self._pump = gevent.Greenlet(self._run)
            self._pump.name = "geofetch-records"
            self._pump.rawlink(self._ended)
            self._pump.start()

    def _run(self) -> None:
        """Batches, as long as there are any.  One group after the other, so that none starves."""
        try:
            while any(group.gathering.items for group in self._groups.values()):
                for group in self._groups.values():
                    if group.gathering.items:
                        self._gather(group)
                        self._do(group)
        except BaseException as exc:
            # Only a kill comes here.  Nobody may wait for ever; whether the batch under way is done is not known.
            self._give_up(RecordError(f"the writer was ended: {type(exc).__name__}"))
            raise
        finally:
            self._pump = None

    def _ended(self, pump: gevent.Greenlet) -> None:
        if pump is self._pump:  # it was killed before it began, else it has said so itself
            self._pump = None
            self._give_up(RecordError("the writer was ended before it began"))

    def _gather(self, group: _Group) -> None:
        """Whoever can run now may still join this batch."""
        if not group.gathers or any(other.gathering.items for other in self._groups.values() if not other.gathers):
            gevent.sleep(0)
            return
        # A batch that runs beside a busy hub costs both a third more: each statement wants the GIL twice (measured).
        self._gathered.clear()
        idle = gevent.get_hub().loop.idle()
        idle.start(self._gathered.set)
        try:
            self._gathered.wait(GATHER_S)
        finally:
            idle.stop()
            idle.close()

    def _do(self, group: _Group) -> None:
        assert self._threads is not None
        self._underway = batch = group.gathering
        group.gathering = _Batch()
        batch.settle(self._threads.spawn(_safely, group.run, batch.items).get())
        self._underway = None

    def _give_up(self, why: RecordError) -> None:
        for batch in (self._underway, *(group.gathering for group in self._groups.values())):
            if batch is not None:
                batch.settle(why)
        self._underway = None
        for group in self._groups.values():
            group.gathering = _Batch()


def _safely(run: Run, items: Sequence[Any]) -> list[Any] | BaseException:
    # An exception that leaves the thread is printed by the hub, whoever catches it later.
    try:
        return run(items)
    except BaseException as exc:
        return exc
