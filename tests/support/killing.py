"""A sync that SIGKILL strikes at a point that is told: before or after the nth time that it does this to the disk.

In: orders as JSON lines on stdin.  Out: a line on stdout for each: whether it was killed, else what it did.
A sync runs in a fork of this process, which has imported everything and never woken gevent: a fork begins with no hub,
no thread, no connection, and in milliseconds.  What counts is found, not listed: every call through ``os`` that changes
a disk, and every beginning and end of a transaction.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import peewee

from geofetch.pool import Pool
from geofetch.records import Recorder
from geofetch.store import FileStore

from .client import told

__all__ = ["POINTS"]

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

    def watch(self) -> None:
        for owner, name in POINTS:
            setattr(owner, name, self._watching(getattr(owner, name), name))

    def _watching(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def watched(*args: Any, **more: Any) -> Any:
            if not any(map(self._concerns, args[:2])):
                return call(*args, **more)
            self.done[name] += 1
            if (name, self.done[name]) != self._strike:
                return call(*args, **more)
            try:
                return call(*args, **more) if self._after else None
            finally:  # also after a call that the system refused
                os.kill(os.getpid(), signal.SIGKILL)

        return watched

    def _concerns(self, what: Any) -> bool:
        if isinstance(what, int):
            what = os.readlink(f"/proc/self/fd/{what}")
        return isinstance(what, peewee.Database) or (isinstance(what, str) and what.startswith(self._root))


def _synced(order: Mapping[str, Any], log: int) -> None:
    counter = _Counter(order)
    say = os.write
    counter.watch()
    root = order["root"]
    store = FileStore(root, layout=order["layout"], links=order["links"], durable=order["durable"])
    try:
        with (
            Recorder(f"sqlite:///{root}/.geofetch/units.db", durable=order["durable"]) as recorder,
            Pool(2, store=store, recorder=recorder, retries=0, progress=False) as pool,
        ):
            outcomes = list(map(told, pool.imap_unordered(order["specs"])))
    finally:
        store.close()
    say(log, json.dumps({"outcomes": outcomes, "done": counter.done}).encode())


def _in_a_fork(work: Callable[[int], None]) -> tuple[int, bytes]:
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
        status, said = _in_a_fork(partial(_synced, json.loads(line)))
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            answer: dict[str, Any] = {"killed": True}
        else:
            assert status == 0, f"a sync ended with {status}"
            answer = {"killed": False, **json.loads(said)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
