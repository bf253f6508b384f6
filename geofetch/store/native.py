"""Work that blocks, done off the hub.  In: a plain function and its arguments.  Out: what it returns or raises.

Its threads are the stores' own: the hub's pool stays the resolver's.  Reading (digests of files that are there) and
syncing have separate threads, so that publishing never queues behind the hashing of something large; so has what waits
for a network.
Never: a lock or a queue between threads; results come back through the pool's AsyncResult.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from ..hubs import threads
from ..kills import hold

__all__ = ["ELSEWHERE", "OBJECTS", "READ", "SYNC", "call", "finish", "leave", "settle", "settle_all"]

READ = "read"
SYNC = "sync"
OBJECTS = "objects"
ELSEWHERE = "elsewhere"
#: Threads of each kind.  fsync waits for the disk, not for a processor: four join in one commit of its journal.
THREADS = 4
#: An object store takes as many questions at once as one asks, and each waits for the network.  A server of another
#: kind counts connections, and each thread has one.
MORE = {OBJECTS: 16, ELSEWHERE: 8}

T = TypeVar("T")
#: What it returned, or what it raised.
_Outcome: TypeAlias = tuple[Any, BaseException | None]


def call(work: Callable[..., T], *args: Any, kind: str = READ) -> T:
    """The result of ``work(*args)`` on a native thread.  Whoever is killed meanwhile leaves it running."""
    done, error = _spawn(kind, work, args).get()
    if error is not None:
        raise error
    return done  # type: ignore[no-any-return]


def settle(work: Callable[..., T], *args: Any, kind: str = SYNC, killed: Callable[[], Any] | None = None) -> T:
    """As ``call``, but a kill is raised only when the work is over: nothing of it happens behind the caller's back.

    ``killed`` is told of a kill as it comes, and may bid the work make an end.
    """
    outcomes, kill = _over(work, [args], kind, killed)
    if kill is not None:
        raise kill
    outcome: T = _told(outcomes)[0]
    return outcome


def finish(work: Callable[..., T], *args: Any, kind: str = SYNC, killed: Callable[[], Any] | None = None) -> T:
    """As ``settle``, but what is done by then is kept, and the kill waits where it can (kills.hold)."""
    outcomes, kill = _over(work, [args], kind, killed)
    done = any(error is None for _, error in outcomes)
    if kill is not None and not (done and hold(kill)):
        raise kill
    outcome: T = _told(outcomes)[0]
    return outcome


def leave(work: Callable[..., T], *args: Any, kind: str, killed: Callable[[], Any], grace_s: float) -> T:
    """As ``finish``, but whoever is killed waits ``grace_s`` at most, and then leaves the work to itself.

    ``killed`` is told of the kill: from then on the work touches nothing that is the caller's.
    """
    result = _spawn(kind, work, args)
    kill: BaseException | None = None
    until: float | None = None
    while not result.ready() and (until is None or monotonic() < until):
        try:
            result.wait(None if until is None else until - monotonic())
        except BaseException as exc:
            kill = kill or exc
            until = until or monotonic() + grace_s
            killed()
    outcomes = [result.get()] if result.ready() else []
    done = any(error is None for _, error in outcomes)
    if kill is not None and not (done and hold(kill)):
        raise kill
    outcome: T = _told(outcomes)[0]
    return outcome


def settle_all(work: Callable[..., T], each: Iterable[tuple[Any, ...]], kind: str = SYNC) -> list[T]:
    """``work`` for every tuple of arguments, on several threads at once; returns, or raises, when all are over."""
    outcomes, killed = _over(work, each, kind)
    if killed is not None:
        raise killed
    return _told(outcomes)


def _over(
    work: Callable[..., T], each: Iterable[tuple[Any, ...]], kind: str, told: Callable[[], Any] | None = None
) -> tuple[list[_Outcome], BaseException | None]:
    """How each that began ended, when all have; and what wanted to end the caller meanwhile."""
    results: list[Any] = []
    killed: BaseException | None = None
    for args in each:
        try:
            results.append(_spawn(kind, work, args))
        except BaseException as exc:  # a kill while all threads were taken: this one and the rest have not begun
            killed = exc
            break
    for result in results:
        killed = _waited(result, killed, told)
    return [result.get() for result in results], killed


def _told(outcomes: list[_Outcome]) -> list[Any]:
    for _, error in outcomes:
        if error is not None:
            raise error
    return [done for done, _ in outcomes]


def _waited(result: Any, killed: BaseException | None, told: Callable[[], Any] | None) -> BaseException | None:
    while not result.ready():
        try:
            result.wait()
        except BaseException as exc:  # killed, perhaps again: the thread still works with what the caller owns
            killed = killed or exc
            if told is not None:
                told()
    return killed


def _spawn(kind: str, work: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return threads(f"store {kind}", MORE.get(kind, THREADS)).spawn(_outcome, work, args)


def _outcome(work: Callable[..., Any], args: tuple[Any, ...]) -> _Outcome:
    # An exception that leaves a thread's function is also printed by the hub: it travels as a value instead.
    try:
        return work(*args), None
    except BaseException as exc:
        return None, exc
