"""Connections that rest between two requests.  In: those that are free.  Out: the latest; or their end, after a while.

Never: which of them serves whom.
"""

from __future__ import annotations

import queue
from collections import OrderedDict
from time import monotonic
from typing import Any

__all__ = ["Idle", "Rest", "keep"]

#: Seconds after which a connection that rests is closed rather than trusted to be still open.
REST_S = 90.0
#: Connections at rest in one hub, over all origins, at most; ``keep`` says otherwise.
AT_REST = 256


class Rest:
    """Connections at rest, over all pools of a hub; the one that rests longest is closed first."""

    def __init__(self) -> None:
        self._since: OrderedDict[Any, float] = OrderedDict()

    def enter(self, conn: Any) -> None:
        now = monotonic()
        self._since[conn] = now
        while self._since:
            oldest, since = next(iter(self._since.items()))
            if len(self._since) <= AT_REST and since > now - REST_S:
                return
            del self._since[oldest]
            oldest.close()

    def leave(self, conn: Any) -> bool:
        """Whether it rested here until now."""
        return self._since.pop(conn, None) is not None

    def taken(self) -> list[Any]:
        """All of them; they rest here no longer."""
        found = [*self._since]
        self._since.clear()
        return found

    def __len__(self) -> int:
        return len(self._since)


def keep(most: int) -> None:
    """Let so many connections rest: fewer than are in use at once, and a burst of short answers would close them."""
    global AT_REST
    AT_REST = most


class Idle:
    """The connections of one pool that rest, the latest on top: what urllib3 wants of a queue, without its blocking."""

    def __init__(self, maxsize: int = 0) -> None:
        self._stack: list[Any] = []

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is not None:
            self._stack.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self._stack.pop()
        except IndexError:
            raise queue.Empty from None

    def qsize(self) -> int:
        return len(self._stack)
