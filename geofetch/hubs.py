"""What belongs to one hub, that is to one native thread, of one process.  In: a name, a way to make it.  Out: it.

Sockets, thread pools and names that are being looked up serve no other hub, and a forked child begins with none of its
parent's.  They hang on the hub itself: a table of hubs here would keep them all alive.  Never: what they are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import gevent

__all__ = ["own", "process"]

T = TypeVar("T")


_pid = os.getpid()


def _forked() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_forked)


def process() -> int:
    """This process's id.  Asked of the system for every file it takes as long as reading a file's size."""
    return _pid


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
