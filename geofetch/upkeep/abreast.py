"""Many at once, few in memory.  In: a function, and what to do it with, pulled only as places free up.

Out: results as they come; the first exception, when it comes.  Never: a greenlet that outlives the one who asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import gevent
from gevent.event import Event

__all__ = ["abreast"]

T = TypeVar("T")
R = TypeVar("R")


def abreast(do: Callable[[T], R], each: Iterable[T], most: int) -> Generator[R, None, None]:
    """``do(one)`` for each, in up to ``most`` greenlets at once; results in the order in which they are there.

    An exception ends it: the others are killed, and it is raised.  So does a consumer that stops.
    """
    under_way: set[gevent.Greenlet] = set()
    ended: deque[gevent.Greenlet] = deque()
    news = Event()

    def left(greenlet: gevent.Greenlet) -> None:
        under_way.discard(greenlet)
        ended.append(greenlet)
        news.set()

    def handed_over() -> Iterator[R]:
        while ended:
            result, error = ended.popleft().value
            if error is not None:
                raise error
            yield result

    def waited() -> Iterator[R]:
        # Others run whenever the input is asked for more, or the consumer is at work: some may have ended already.
        if not ended:
            news.clear()
            news.wait()
        yield from handed_over()

    try:
        for one in each:
            greenlet = gevent.Greenlet(_kept, do, one)
            greenlet.rawlink(left)
            under_way.add(greenlet)
            greenlet.start()
            yield from handed_over()
            while len(under_way) >= most:
                yield from waited()
        while under_way or ended:
            yield from waited()
    finally:
        # A generator that nobody holds any more is closed wherever the collector runs: the hub must not wait.
        gevent.killall(list(under_way), block=gevent.getcurrent() is not gevent.get_hub())


def _kept(do: Callable[[Any], Any], one: Any) -> tuple[Any, BaseException | None]:
    # An exception that leaves a greenlet is printed by the hub, whoever raises it again later.
    try:
        return do(one), None
    except (Exception, gevent.GreenletExit, gevent.Timeout) as exc:
        return None, exc
