"""Who may go now: the right to hold a connection, in the whole process, in a pool, at a host.

In: caps, and greenlets that want a connection.  Out: Slots, one after the other, none past a cap.  Never: the
connections themselves.

Every cap is a level: the process' own at the root, a Session's or a Pool's below it, tighter and never wider.  A place
is taken at all levels at once or not at all, so nobody holds one cap while waiting for another, and a host that is
full holds up nobody who wants another host.
"""

from __future__ import annotations

import os
import resource
import sys
from collections import OrderedDict, deque
from contextvars import ContextVar
from typing import Any

import gevent

# What gevent's own thread pool uses: native in every world, also where threading's is a greenlet's.
from gevent._threading import Lock
from gevent._threading import get_thread_ident as get_ident
from gevent.hub import Waiter

from .errors import SpecError
from .hubs import own
from .spec import Ticket

__all__ = ["Slot", "Slots", "configure", "process"]

#: The share of the file descriptors that connections may take: files, databases and the program itself want some too.
DESCRIPTOR_SHARE = 3

_lock = Lock()


def _forked() -> None:
    global _lock
    _lock = Lock()  # a child that is forked off while another thread has it would find it taken for ever


os.register_at_fork(after_in_child=_forked)
#: Places that were left and are not given back yet: levels and host.  A garbage collection may strike inside the lock
#: and close an answer that somebody forgot, so nobody waits for the lock to give a place back.
_left: deque[tuple[tuple[Slots, ...], str]] = deque()
#: Who waits, by caps and host, in the order of coming; those who were served go to the end.  Nobody in it could go: who
#: can is granted at once.  So who comes need not look at it, and of those who wait for the same one look is enough.
_waiting: OrderedDict[tuple[tuple[Slots, ...], str], deque[_Waiting]] = OrderedDict()
#: The slot that this greenlet works under; a hook that fetches borrows it.
_held: ContextVar[Slot | None] = ContextVar("geofetch_slot", default=None)


class Slots:
    """One level of caps: ``total`` connections, ``per_host`` to one host; None is no cap of its own."""

    def __init__(self, total: int | None = None, per_host: int | None = None, parent: Slots | None = None) -> None:
        self.total = _cap(total, "max_connections")
        self.per_host = _cap(per_host, "per_host")
        self.parent = parent
        #: This level and those above it.
        self.levels: tuple[Slots, ...] = (self,) if parent is None else (self, *parent.levels)
        self.used = 0
        self.used_by: dict[str, int] = {}

    def narrowed(self, total: int | None = None, per_host: int | None = None) -> Slots:
        """A level inside this one."""
        return Slots(total, per_host, self)

    def take(self, host: str, timeout_s: float | None = None) -> Slot:
        """A slot for a download from this host; waits for its turn, TimeoutError after ``timeout_s``."""
        lender = _held.get()
        if lender is not None and not lender.left:
            # A hook that fetches: its own download's slot covers the levels that both share.
            return _Loan(self, host, lender, timeout_s)
        _wait(self.levels, host, timeout_s)
        return Slot(self.levels, host)

    def enter(self, host: str, timeout_s: float | None = None) -> Ticket:
        """A place for one connection: under the slot that this greenlet works under, else one of its own (Gate)."""
        lender = _held.get()
        if lender is None or lender.left:
            return self.take(host, timeout_s)
        return lender.connection(self, host, timeout_s)


class Slot:
    """The right to hold a connection to a host, until it is left.  It is a Ticket."""

    __slots__ = ("_connections", "_waiting", "host", "left", "levels")

    def __init__(self, levels: tuple[Slots, ...], host: str) -> None:
        self.levels = levels
        self.host = host
        self.left = False
        self._connections = 0
        self._waiting: deque[Waiter] | None = None

    def leave(self) -> None:
        """Give it back; a second time does nothing."""
        if not self.left:
            self.left = True
            _give_back(self.levels, self.host)

    def move(self, host: str) -> None:
        """Stand at another host (a redirect): the old place is left before the new one is waited for."""
        if host == self.host or self.left:
            return
        self.left = True
        _give_back(self.levels, self.host)
        _wait(self.levels, host, None)
        self.host, self.left = host, False

    def __enter__(self) -> Slot:
        """Work under this slot: the connections opened meanwhile, by hooks too, are its own.  Left at the end."""
        _held.set(self)
        return self

    def __exit__(self, *exc: object) -> None:
        # It stays in the context: one that is left lends nothing, and is as good as none (but for a loan's lender).
        self.leave()

    def connection(self, slots: Slots, host: str, timeout_s: float | None) -> Ticket:
        """A place for a connection under this slot; caps that the slot does not cover are waited for."""
        more: tuple[Slots, ...] = ()
        if slots not in self.levels:  # else it covers those above it as well
            more = tuple(level for level in slots.levels if level not in self.levels)
            _wait(more, host, timeout_s)
        # One connection is the download's own, one more may be a hook's: never more, and never none.
        if self._connections >= 2:
            self._wait_for_another(more, host)
        else:
            self._connections += 1
        return _Connection(self, more, host)

    def _wait_for_another(self, more: tuple[Slots, ...], host: str) -> None:
        waiter: Waiter = Waiter()
        waiting = self._waiting = deque() if self._waiting is None else self._waiting
        waiting.append(waiter)
        try:
            waiter.get()
        except BaseException:
            if waiter in waiting:
                waiting.remove(waiter)
            else:  # the place was handed over already
                self._closed()
            if more:
                _give_back(more, host)
            raise

    def _closed(self) -> None:
        if self._waiting:  # the place goes to the next one as it is
            gevent.get_hub().loop.run_callback(self._waiting.popleft().switch, None)
        else:
            self._connections -= 1


class _Connection:
    """A connection's place under a slot."""

    __slots__ = ("_host", "_more", "_slot")

    def __init__(self, slot: Slot, more: tuple[Slots, ...], host: str) -> None:
        self._slot: Slot | None = slot
        self._more = more
        self._host = host

    def leave(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot._closed()
            if self._more:
                _give_back(self._more, self._host)


class _Loan(Slot):
    """A slot under another download's slot: what both share is not taken twice."""

    __slots__ = ("_lender", "_ticket")

    def __init__(self, slots: Slots, host: str, lender: Slot, timeout_s: float | None) -> None:
        self._lender = lender
        self._ticket = lender.connection(slots, host, timeout_s)
        super().__init__(slots.levels, host)

    def leave(self) -> None:
        if not self.left:
            self.left = True
            self._ticket.leave()
            if _held.get() is self:  # the lender may lend once more
                _held.set(self._lender)

    def move(self, host: str) -> None:
        self.host = host


class _Here:
    """Those of one hub who wait.  Another thread's hub may grant them their place, so as long as there are any a
    watcher stands for them: a hub without one would take its last greenlet's wait for one without end (LoopExit).
    """

    def __init__(self) -> None:
        self.loop = gevent.get_hub().loop
        self.count = 0
        self._thread = get_ident()
        self._watcher: Any = None

    def watch(self) -> None:
        """The first of them waits."""
        self._watcher = self.loop.async_()
        self._watcher.start(_nothing)

    def rest(self) -> None:
        """The last of them waits no longer."""
        watcher, self._watcher = self._watcher, None
        watcher.stop()
        watcher.close()

    def wake(self, waiter: Waiter) -> bool:
        """From any thread: let the greenlet go on that waits with this; False if its thread is over."""
        if get_ident() == self._thread:
            self.loop.run_callback(waiter.switch, None)
            return True
        if self._thread not in sys._current_frames():
            return False
        try:
            self.loop.run_callback_threadsafe(waiter.switch, None)
        except ValueError:  # its hub was destroyed
            return False
        return True


def _nothing() -> None:
    pass


class _Waiting:
    """One who waits for a place."""

    __slots__ = ("granted", "here", "host", "levels", "waiter")

    def __init__(self, levels: tuple[Slots, ...], host: str) -> None:
        self.levels = levels
        self.host = host
        self.here = own("waiting for slots", _Here)
        self.waiter: Waiter = Waiter()
        self.granted = False

    def wait(self, timeout_s: float | None) -> None:
        here = self.here
        here.count += 1
        if here.count == 1:
            here.watch()
        try:
            if timeout_s is None:
                self.waiter.get()
                return
            late = TimeoutError(f"no free connection to {self.host} within {timeout_s} s")
            with gevent.Timeout(timeout_s, late):
                self.waiter.get()
        finally:
            here.count -= 1
            if not here.count:
                here.rest()


def _wait(levels: tuple[Slots, ...], host: str, timeout_s: float | None) -> None:
    try:
        with _lock:
            if _all_free(levels, host):
                _add(levels, host)
                return
            me = _Waiting(levels, host)
            queue = _waiting.get((levels, host))
            if queue is None:
                queue = _waiting[levels, host] = deque()
            queue.append(me)
    finally:
        if _left:
            _settle()
    try:
        me.wait(timeout_s)
    except BaseException:
        with _lock:
            if me.granted:
                _left.append((levels, host))
            else:
                _forget(me)
        _settle()
        raise


def _give_back(levels: tuple[Slots, ...], host: str) -> None:
    _left.append((levels, host))
    _settle()


def _settle() -> None:
    """Give back what was left.  Where the lock is taken, whoever has it does so: he comes here when he has left it."""
    lock = _lock
    while _left and lock.acquire(False):
        try:
            while _left:
                levels, host = _left.popleft()
                if not _handed_on(levels, host):
                    _remove(levels, host)
                    _grant_all()
        finally:
            lock.release()


def _handed_on(levels: tuple[Slots, ...], host: str) -> bool:
    """Whether a place that was left went as it is to who is the next anyway, and waits for the very same: as many have
    one as before, so nobody else can go.  The lock is held."""
    for place in _waiting:
        if place != (levels, host):
            break
        root = levels[-1]  # by ``configure`` fewer may have one now than when it was given
        if root.total is not None and root.used > root.total:
            return False
        if root.per_host is not None and root.used_by[host] > root.per_host:
            return False
        return _granted(_first_of(place))
    return False


def _grant_all() -> None:
    """Give what became free to those who can use it now.  The lock is held."""
    while _waiting and _grant_next():
        pass


def _grant_next() -> bool:
    for levels, host in _waiting:
        if _all_free(levels, host):
            if _granted(_first_of((levels, host))):
                _add(levels, host)
            return True
    return False


def _first_of(place: tuple[tuple[Slots, ...], str]) -> _Waiting:
    queue = _waiting[place]
    first = queue.popleft()
    if queue:
        _waiting.move_to_end(place)
    else:
        del _waiting[place]
    return first


def _granted(waiting: _Waiting) -> bool:
    """Give it its place, which is or will be counted.  One whose thread ended while it waited gets none."""
    waiting.granted = waiting.here.wake(waiting.waiter)
    return waiting.granted


def _all_free(levels: tuple[Slots, ...], host: str) -> bool:
    for level in levels:
        if level.total is not None and level.used >= level.total:
            return False
        if level.per_host is not None and level.used_by.get(host, 0) >= level.per_host:
            return False
    return True


def _add(levels: tuple[Slots, ...], host: str) -> None:
    for level in levels:
        level.used += 1
        level.used_by[host] = level.used_by.get(host, 0) + 1


def _remove(levels: tuple[Slots, ...], host: str) -> None:
    for level in levels:
        level.used -= 1
        left = level.used_by[host] - 1
        if left:
            level.used_by[host] = left
        else:
            del level.used_by[host]


def _forget(waiting: _Waiting) -> None:
    place = waiting.levels, waiting.host
    queue = _waiting.get(place)
    if queue and waiting in queue:
        queue.remove(waiting)
        if not queue:
            del _waiting[place]


def _cap(value: int | None, name: str) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise SpecError(f"{name} is a whole number from 1, not {value!r}")
    return value


def descriptors_for_connections() -> int:
    """How many connections the process' limit of open files leaves room for."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    return max(4, soft // DESCRIPTOR_SHARE)


#: The caps of the whole process: every connection of every pool, session and plugin counts here.
process: Slots = Slots(descriptors_for_connections())


def configure(*, max_connections: int | None = None, per_host: int | None = None) -> None:
    """Set the caps of the whole process; what is not told stays.

    ``max_connections``: connections open at once; never more than a third of the open files that the system allows
    (``ulimit -n``), which is also where it begins.  ``per_host``: of these, to one host and port.
    """
    most = _cap(max_connections, "max_connections")
    host_most = _cap(per_host, "per_host")
    with _lock:
        if most is not None:
            process.total = min(most, descriptors_for_connections())
        if host_most is not None:
            process.per_host = host_most
        _grant_all()
    _settle()
