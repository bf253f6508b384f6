"""A sync that SIGKILL strikes at a point that is told: before or after the nth time that it does this to the disk.

In: orders as JSON lines on stdin.  Out: a line on stdout for each: whether it was killed, what became of each file
until then, and what was done where it was not killed.  An order may want the power cut in place of a kill alone
(``cut``: ext4 forgets what it has not written), every sync left out (``unsynced``: only to see that a test notices), a
repair of what is there (``repair``), or a gc of all that its specs do not list (``collect``).
A sync runs in a fork of this process, which has imported everything and never woken gevent: a fork begins with no hub,
no thread, no connection, and in milliseconds.  What counts is found, not listed: every call through ``os`` that changes
a disk, and every beginning and end of a transaction.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import peewee

from geofetch.pool import Pool
from geofetch.records import Recorder
from geofetch.store import FileStore, syncing
from geofetch.upkeep import gc, heal, verify

from .client import told

__all__ = ["POINTS", "cut", "in_a_fork"]

#: EXT4_IOC_SHUTDOWN, and what it is told: the journal is not written either.
_SHUTDOWN, _NOLOGFLUSH = 0x8004587D, 2

#: Where a kill may strike: what changes a disk.
POINTS: tuple[tuple[Any, str], ...] = (
    *((os, name) for name in ("open", "write", "fsync", "rename", "replace", "link", "symlink", "unlink", "remove")),
    *((os, name) for name in ("mkdir", "rmdir", "truncate", "ftruncate")),
    (peewee.SqliteDatabase, "connect"),
    (peewee.SqliteDatabase, "begin"),
    (peewee.SqliteDatabase, "commit"),
    (peewee.SqliteDatabase, "close"),
)


class _Counter:
    """Counts what is done below a root, and kills this very process at its time: at the nth call of one name.

    By name, since native threads and the hub work side by side: which of two calls comes first is not the same each
    time, how many there are of each is.
    """

    def __init__(self, order: Mapping[str, Any]) -> None:
        self.done: Counter[str] = Counter()
        self._root: str = order["root"]
        self._strike, self._after = tuple(order["strike"]), order["after"]
        self._cut = order.get("cut", False)

    def watch(self) -> None:
        for owner, name in POINTS:
            setattr(owner, name, self._watching(getattr(owner, name), name))

    def _watching(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watched(*args: Any, **more: Any) -> Any:
            if not any(map(self._concerns, _things(args))):
                return call(*args, **more)
            self.done[name] += 1
            if (name, self.done[name]) != self._strike:
                return call(*args, **more)
            try:
                return call(*args, **more) if self._after else None
            finally:  # also after a call that the system refused
                if self._cut:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # other threads see a dead disk now, and say so
                    cut(self._root)
                os.kill(os.getpid(), signal.SIGKILL)

        return watched

    def _concerns(self, what: Any) -> bool:
        if isinstance(what, int):
            what = os.readlink(f"/proc/self/fd/{what}")
        return isinstance(what, peewee.Database) or (isinstance(what, str) and what.startswith(self._root))


def _things(args: tuple[Any, ...]) -> Iterator[Any]:
    """What a call is about: a descriptor or a path, and for some a second path; another number is a flag."""
    yield args[0]
    yield from (one for one in args[1:2] if not isinstance(one, int))


def cut(path: str) -> None:
    """Cut the power of the ext4 that this lies on: what was not written by now is lost."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    number = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(number, _SHUTDOWN, struct.pack("I", _NOLOGFLUSH))
    finally:
        os.close(number)


def _synced(order: Mapping[str, Any], log: int) -> None:
    say = partial(_said, os.write, log)
    if order.get("unsynced"):
        os.fsync = syncing.syncfs = lambda number: None
    counter = _Counter(order)
    counter.watch()
    root = order["root"]
    store = FileStore(root, layout=order["layout"], links=order["links"], durable=order["durable"])
    try:
        with Recorder(f"sqlite:///{root}/.geofetch/units.db", durable=order["durable"]) as recorder:
            if order.get("collect"):
                listing = recorder.listing("main", store.name)
                deque(listing(order["specs"]), maxlen=0)
                listing.take_off()
                say({"collected": gc(recorder, store, grace_s=0, jobs=1).as_dict()})
            elif order.get("repair"):
                for one in heal(recorder, store, findings=verify(recorder, store), size=2, retries=0):
                    say({"path": one.unit.path, "state": one.state})
            else:
                with Pool(2, store=store, recorder=recorder, retries=0, progress=False) as pool:
                    for outcome in pool.imap_unordered(order["specs"]):
                        say(told(outcome))
    finally:
        store.close()
    say({"done": counter.done})


def _said(write: Callable[[int, bytes], int], log: int, what: Mapping[str, Any]) -> None:
    write(log, json.dumps(what).encode() + b"\n")


def in_a_fork(work: Callable[[int], None]) -> tuple[int, bytes]:
    """How this ended in a process of its own, as waitpid tells, and what it wrote."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        said = file.read()
    return os.waitpid(pid, 0)[1], said


def main() -> None:
    """Order after order."""
    for line in sys.stdin:
        status, said = in_a_fork(partial(_synced, json.loads(line)))
        answer: dict[str, Any] = {"killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL}
        lines = [json.loads(one) for one in said.splitlines()]
        answer["outcomes"] = [one for one in lines if "path" in one]
        answer["collected"] = [one["collected"] for one in lines if "collected" in one]
        if not answer["killed"]:
            assert status == 0, f"a sync ended with {status}"
            answer["done"] = lines[-1]["done"]
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
