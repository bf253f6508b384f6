"""A part's order of events, the same in every store: written, then published or discarded, each of it once.

In: what one kind of part does at each step.  Out: a Part.  The bytes may be written on a native thread while the hub
discards: whoever discards waits for that thread, also when killed again, so that nothing is closed under its hands.
Never: files; a kind of part knows its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gevent
from gevent.hub import Waiter

from ..digest import Digest
from ..errors import StoreError
from ..events import Kept

__all__ = ["OrderedPart"]


class OrderedPart:
    """What every part has in common; a kind of part brings ``_append``, ``_publish`` and ``_drop``."""

    __slots__ = ("_busy", "_over", "_waiter")

    def __init__(self) -> None:
        self._busy = False
        self._over = False
        self._waiter: Any = None

    def write(self, view: memoryview) -> None:
        # No lock: _busy is set before _over is read here, and the other way round in discard, so one sees the other.
        self._busy = True
        try:
            if self._over:
                raise StoreError("the part is published or discarded already")
            self._append(view)
        finally:
            self._busy = False
            if self._waiter is not None:
                self._waiter.send()

    def publish(self, digests: Mapping[str, Digest]) -> tuple[Any, Kept | None]:
        if self._over:
            raise StoreError("the part is published or discarded already")
        self._over = True
        return self._publish(digests)

    def discard(self) -> None:
        self._over = True
        killed = self._writer_gone() if self._busy else None
        self._drop()
        if killed is not None:
            raise killed

    def _writer_gone(self) -> BaseException | None:
        killed: BaseException | None = None
        while self._busy:
            waiter = Waiter()
            watcher = gevent.get_hub().loop.async_()
            watcher.start(waiter.switch, None)
            self._waiter = watcher
            try:
                if self._busy:  # the writer has not looked for a waiter yet, and will
                    waiter.get()
            except BaseException as exc:
                killed = killed or exc
            finally:
                self._waiter = None
                watcher.stop()
        return killed

    def _append(self, view: memoryview) -> None:
        raise NotImplementedError

    def _publish(self, digests: Mapping[str, Digest]) -> tuple[Any, Kept | None]:
        raise NotImplementedError

    def _drop(self) -> None:
        """Leave nothing of it, unless it is published; called any number of times."""
        raise NotImplementedError
