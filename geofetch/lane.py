"""The native lane of one large file: its chunk hooks run on a native thread, in order, while the next bytes come in.

In: bytes, received straight into the lane's own buffers or copied into them, or a Tap from which the thread receives
them itself for as long as they pour; and the hooks that may leave the hub.  Out: nothing; a hook's refusal surfaces at
the next chunk or at the end.  Never: two hooks of one file at once; more than IN_FLIGHT buffers a file; a buffer that
the hub fills while the thread still reads it; a thread that waits for the network.

Hub and thread meet in deques alone.  Two are filled by one of them and emptied by the other; the third holds the turn:
whoever takes it out sees to it that what waits is worked on, and nobody else does meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import gevent
from gevent.hub import Waiter

from .hubs import threads
from .transport import BROAD, Tap, broad_buffers

__all__ = ["Lane"]

#: Native threads for all lanes of a hub: digests and disks of as many files go on side by side.
THREADS = 4
#: Bytes handed over at once while the thread is busy.
BATCH = BROAD
#: Bytes for which a thread with nothing to do is woken.
EARLY = 256 * 1024
#: Buffers that one file has at most, the one that is being filled among them.
IN_FLIGHT = 4
#: Buffers lent to all files, beyond which nobody keeps one to gather more: there are many files, and slow ones.
MANY = 64
#: Buffers, and seconds of receiving, after which a thread gives other files their turn.
TURN = 32
TURN_S = 0.02


class Lane:
    """Bytes in, hooks run elsewhere, in order.  One file's own; used by one greenlet."""

    def __init__(self, hooks: Sequence[Callable[[memoryview], Any]]) -> None:
        self._hooks = tuple(hooks)
        self._buffers = broad_buffers()
        self._filling: Any = None
        self._filled = 0
        #: The last bytes that were received into a buffer of ours, not yet put.
        self._received: memoryview | None = None
        self._waiting: deque[tuple[Any, int]] = deque()
        self._done: deque[Any] = deque()
        self._turn = deque([True])
        self._in_flight = 0
        self._running: Any = None
        self._refusal: BaseException | None = None
        self._stopped = False
        self._watcher: Any = None
        self._pool = threads("lane", THREADS)
        #: Bytes that the thread has received itself.
        self.drained = 0

    def space(self) -> memoryview:
        """Where the next bytes are to be received."""
        if self._filling is None:
            self._filling = self._buffers.take()
        view: memoryview = self._filling.view[self._filled : BATCH]
        return view

    def rest(self) -> None:
        """Nothing comes for a while: an empty buffer goes back."""
        if self._filling is not None and not self._filled:
            self._buffers.give(self._filling)
            self._filling = None

    def received(self, count: int) -> memoryview:
        """The bytes that were received into ``space()``, to be looked at and then put."""
        self._received = self.space()[:count].toreadonly()
        return self._received

    def put(self, chunk: bytes | memoryview) -> None:
        """Take what was received, or a copy of other bytes; waits while the lane is full.  Raises what a hook raised
        for earlier ones.
        """
        if chunk is self._received:
            self._received = None
            self._took(len(chunk))
            return
        left = memoryview(chunk)
        while left:
            space = self.space()
            part, left = left[: len(space)], left[len(space) :]
            space[: len(part)] = part
            self._took(len(part))

    @property
    def refused(self) -> bool:
        """Whether a hook has raised, as far as is known here."""
        return self._refusal is not None

    def drain(self, tap: Tap) -> None:
        """Have the thread receive for as long as something is there.  What a hook raises is told by the next ``put``,
        or by ``finish``.

        Received, hashed and written on one core, a buffer is still in its cache: that takes a fifth less than the hub's
        receiving for the thread does, and two files go on on two cores.
        """
        try:
            self.finish()
        except Exception:
            if self._refusal is None:
                raise  # somebody ends us, and the thread is still at what waits: it is to be stopped
            return
        view = self.space()  # all of a buffer: nothing waits, nothing is half full
        running = self._running = self._pool.spawn(self._drain, tap, view)
        running.wait()  # who is killed here stops the lane, and that waits, too
        self._running = None
        self.drained += tap.count
        self._refusal = running.get()

    def finish(self) -> None:
        """Wait until every hook has seen every chunk.  Raises what a hook raised."""
        self._hand_over()
        while self._running is not None:
            self._running.wait()
            self._go_on()

    def flush(self) -> None:
        """As ``finish``, behind an error that somebody else tells: what a hook raises is nothing new then."""
        with suppress(Exception):
            self.finish()

    def stop(self) -> None:
        """Drop what waits, wait for what runs: nobody touches the part any more, and every buffer is given back.
        Never raises what a hook raised.
        """
        self._stopped = True
        killed: BaseException | None = None
        while self._running is not None:
            try:
                self._running.wait()
                self._running = None
            except BaseException as exc:  # a kill while we wait: the thread still holds the file
                killed = exc
        self._done.extend(buffer for buffer, _ in self._waiting)
        self._waiting.clear()
        self._filled = 0
        self.rest()
        self._collect()
        if killed is not None:
            raise killed

    def _took(self, count: int) -> None:
        self._filled += count
        if self._filled >= self._enough():
            self._hand_over()
            while self._in_flight >= IN_FLIGHT:
                self._wait()
                self._go_on()
        elif self._refusal is not None or (self._running is not None and self._running.ready()):
            self._go_on()

    def _enough(self) -> int:
        if self._buffers.lent >= MANY:
            return 1
        return BATCH if self._running is not None else min(EARLY, BATCH)

    def _hand_over(self) -> None:
        if self._filled:
            self._waiting.append((self._filling, self._filled))
            self._filling, self._filled = None, 0
            self._in_flight += 1
        self._go_on()

    def _go_on(self) -> None:
        """Take back what the thread is through with, and see to it that it has what waits."""
        self._collect()
        if self._running is not None and self._running.ready():
            done, self._running = self._running, None
            self._refusal = done.get()
        if self._refusal is not None:
            raise self._refusal
        if self._waiting and self._takes_turn():
            if self._running is not None:
                self._running.wait()  # it gave the turn away, and ends: there are never two, of which stop() knows one
            self._running = self._pool.spawn(self._run)
            self._running.rawlink(self._collect)  # while nothing comes, too

    def _takes_turn(self) -> bool:
        try:
            return self._turn.pop()
        except IndexError:
            return False

    def _collect(self, ended: Any = None) -> None:
        while self._done:
            self._buffers.give(self._done.popleft())
            self._in_flight -= 1

    def _wait(self) -> None:
        """Until the thread is through with a buffer, or ends."""
        running = self._running
        if running is None:
            return
        waiter = Waiter()
        self._watcher = gevent.get_hub().loop.async_()
        self._watcher.start(waiter.switch, None)
        running.rawlink(waiter.switch)
        try:
            if not self._done:  # the thread has not looked for a watcher yet, and will
                waiter.get()
        finally:
            running.unlink(waiter.switch)
            watcher, self._watcher = self._watcher, None
            watcher.stop()

    def _run(self) -> BaseException | None:
        """On the thread.  A refusal is returned: what leaves a thread's function as an exception, the hub prints."""
        left = TURN
        try:
            while left and self._waiting and not self._stopped:
                self._work()
                left -= 1
                if not self._waiting or not left:
                    self._turn.append(True)
                    # What came just now found no turn to take: it is for us, unless the hub looked again.
                    if not left or not self._waiting or not self._takes_turn():
                        break
        except BaseException as exc:
            return exc
        return None

    def _drain(self, tap: Tap, view: memoryview) -> BaseException | None:
        """On the thread, as ``_run``."""
        until, filled = monotonic() + TURN_S, 0
        try:
            while tap.left and not self._stopped:
                count = tap.into(view[filled:])
                filled += count
                if count and filled < len(view) and tap.left:
                    continue
                if not filled:
                    break
                self._show(view[:filled].toreadonly())
                # Whatever came while that was hashed and written is looked for once more, before the hub is to wait.
                filled = 0
                if monotonic() >= until:
                    tap.pours = True
                    break
        except BaseException as exc:
            return exc
        return None

    def _work(self) -> None:
        buffer, count = self._waiting[0]
        self._show(buffer.view[:count].toreadonly())
        self._done.append(buffer)
        self._waiting.popleft()
        if (watcher := self._watcher) is not None:
            watcher.send()

    def _show(self, view: memoryview) -> None:
        for hook in self._hooks:
            hook(view)
        with suppress(BufferError):  # who keeps a view hears of it, who made an array of it cannot be stopped
            view.release()
