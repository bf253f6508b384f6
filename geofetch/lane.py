"""The native lane of one large file: its chunk hooks run on a native thread, in order, while the next bytes come in.

In: chunks, and the hooks that may leave the hub.  Out: nothing; a hook's refusal surfaces at the next chunk or at the
end. Never: two hooks of one file at once; more than a few buffers in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gevent.threadpool import ThreadPool

from .hubs import own

__all__ = ["Lane"]

#: Native threads for all lanes of a hub: digests and disks of as many files go on side by side.
THREADS = 4
#: Bytes handed over at once: a hop to a thread and back costs some 100 µs, SHA-256 of this some 700.
BATCH = 1 << 20
#: Batches that may wait or run before the receiver waits: memory is bounded by (WAITING + 1) * BATCH a file.
WAITING = 3


def _threads() -> ThreadPool:
    return ThreadPool(THREADS)


class Lane:
    """Chunks in, hooks run elsewhere, in order.  One file's own; used by one greenlet."""

    def __init__(self, hooks: Sequence[Callable[[memoryview], Any]]) -> None:
        self._hooks = tuple(hooks)
        self._filling: list[bytes] = []
        self._filled = 0
        self._waiting: list[list[bytes]] = []
        self._running: Any = None
        self._pool = own("lane", _threads)

    def put(self, chunk: bytes) -> None:
        """Take a chunk; waits while the lane is full.  Raises what a hook raised for an earlier one."""
        self._filling.append(chunk)
        self._filled += len(chunk)
        if self._filled >= BATCH:
            self._hand_over()
            while len(self._waiting) >= WAITING:
                self._settle()

    def finish(self) -> None:
        """Wait until every hook has seen every chunk.  Raises what a hook raised."""
        self._hand_over()
        while self._running is not None:
            self._settle()

    def stop(self) -> None:
        """Drop what waits, wait for what runs: nobody touches the part any more.  Never raises what a hook raised."""
        self._filling, self._waiting = [], []
        killed: BaseException | None = None
        while self._running is not None:
            try:
                self._running.wait()
                self._running = None
            except BaseException as exc:  # a kill while we wait: the thread still holds the file
                killed = exc
        if killed is not None:
            raise killed

    def _hand_over(self) -> None:
        if self._filling:
            self._waiting.append(self._filling)
            self._filling, self._filled = [], 0
        self._go_on()

    def _go_on(self) -> None:
        if self._running is not None and self._running.ready():
            done, self._running = self._running, None
            refusal = done.get()
            if refusal is not None:
                raise refusal
        if self._running is None and self._waiting:
            self._running = self._pool.spawn(_run, self._hooks, self._waiting.pop(0))

    def _settle(self) -> None:
        if self._running is not None:
            self._running.wait()
        self._go_on()


def _run(hooks: Sequence[Callable[[memoryview], Any]], chunks: list[bytes]) -> BaseException | None:
    # What leaves a thread's function as an exception is also printed by the hub: a refusal travels as a value instead.
    try:
        for chunk in chunks:
            view = memoryview(chunk)
            for hook in hooks:
                hook(view)
    except BaseException as exc:
        return exc
    return None
