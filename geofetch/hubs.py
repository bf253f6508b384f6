"""What belongs to one hub, that is to one native thread, of one process.  In: a name, a way to make it.  Out: it.

Sockets, thread pools and names that are being looked up serve no other hub, and a forked child begins with none of its
parent's.  They hang on the hub itself: a table of hubs here would keep them all alive.  Never: what they are, but for
native threads, which have to be ended when their hub's own thread is over.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import gevent
from gevent.threadpool import ThreadPool, _WorkerGreenlet

__all__ = ["Threads", "ended", "native", "own", "process", "threads"]

T = TypeVar("T")


_pid = os.getpid()


def _forked() -> None:
    global _pid, _everyones
    _pid = os.getpid()
    _everyones = WeakValueDictionary()  # a child has none of these threads, and another one may have held their locks


class Threads(ThreadPool):  # type: ignore[misc]
    """Native threads of one hub's own.

    Where the system gives no more of them, those that are there do the work.  Where it gives none at all, ``spawn``
    raises, and that work never begins: gevent's own leaves it in the queue, where a thread may find it all the same.
    """

    size: int

    def spawn(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.size:
            self.size = 1
        return super().spawn(func, *args, **kwargs)

    def adjust(self) -> None:
        try:
            super().adjust()
        except (RuntimeError, MemoryError):  # what starting a thread raises
            if not self.size:
                raise


#: Those of all hubs, as long as they live: while there are workers, they do.
_everyones: WeakValueDictionary[int, Threads] = WeakValueDictionary()

os.register_at_fork(after_in_child=_forked)


def process() -> int:
    """This process's id.  Asked of the system for every file it takes as long as reading a file's size."""
    return _pid


def native() -> bool:
    """Whether this is one of gevent's native threads, which may be held up; a thread with greenlets may not."""
    return isinstance(gevent.getcurrent(), _WorkerGreenlet)


def own(name: str, make: Callable[[], T]) -> T:
    """This hub's own, made when it is first asked for."""
    hub = gevent.get_hub()
    try:
        pid, held = hub._geofetch
    except AttributeError:
        pid, held = 0, {}
    if pid != _pid:
        held = {}
        hub._geofetch = _pid, held
    found: T | None = held.get(name)
    if found is None:
        found = held[name] = make()
    return found


def threads(name: str, count: int) -> Threads:
    """This hub's own native threads of this name, ``count`` at most."""
    return own(name, partial(_begun, count))


def ended(hub: Any) -> bool:
    """Whether nobody can use what is this hub's any more: its thread is over."""
    return bool(hub.dead or hub.thread_ident not in sys._current_frames())


def _begun(count: int) -> Threads:
    # A native thread ends without a word, and its pools' workers, which wait for work, keep its hub and all of its own
    # alive: no garbage collector ever comes to them. Whoever begins ends those of the threads that are over.
    for reference in _everyones.valuerefs():
        other = reference()
        if other is not None and ended(other.hub):
            _everyones.pop(id(other), None)
            for _ in range(other.size):
                other.task_queue.put(None)  # as ThreadPool itself does, whose own ways to end need the hub's loop
    found = Threads(count)
    _everyones[id(found)] = found
    return found
