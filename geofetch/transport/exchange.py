"""One request that was answered, between a pool and whoever reads its body; without requests or urllib3 in the way.

In: a connection that has read a head.  Out: the answer, and at last the connection: to rest, or for good.  Never: what
the answer means.
"""

from __future__ import annotations

from typing import Any

from . import fields
from .buffers import Room
from .head import Fields, Head
from .raw import responding
from .reply import Reply
from .response import Framing, framing
from .tap import Tap

__all__ = ["Exchange"]


class Exchange:
    """A request that was answered, on its connection; its body is still to be read.

    It is named as a Response and its raw are: ``read1`` gives the body as it arrives.
    """

    __slots__ = ("_conn", "_pool", "_reply", "head", "headers", "url")

    def __init__(self, pool: Any, conn: Any, reply: Reply, url: str) -> None:
        self._pool = pool
        self._conn = conn
        self._reply = reply
        self.head: Head = reply.head
        self.headers = Fields(reply.head.by_name)
        self.url = url

    @property
    def status_code(self) -> int:
        return self.head.status

    @property
    def is_plain(self) -> bool:
        """Whether it is a 200 of which requests would note nothing."""
        head = self.head
        return head.status == 200 and not head.cut and "set-cookie" not in head.by_name

    def framing(self) -> Framing:
        """Where its body ends; chunks are read as RFC 9112 says from here on.  Raises BadFraming."""
        reply = self._reply
        reply.strict = True
        if reply.plain:
            return reply.rules
        return framing("GET", reply.head.status, reply.head.fields)

    def read1(self, most: int) -> bytes:
        """What has arrived of the body, waiting for the first byte; nothing at its end."""
        return self._reply.read1(most)

    def whole(self) -> bytes | None:
        """All of the body, if all of it has come; None if not, or if nobody said how long it is."""
        return self._reply.whole()

    def fill(self, room: Room) -> int:
        """The same, received into buffers of ``room``'s."""
        return self._reply.fill(room)

    def tap(self) -> Tap | None:
        """The rest of the body for a native thread to receive, until it is ``tapped``; None where a thread cannot."""
        return self._reply.tap()

    def tapped(self, tap: Tap) -> None:
        """Go on behind what the thread has received."""
        self._reply.tapped(tap)

    @property
    def waits(self) -> bool:
        """Whether the next read has to wait for the server."""
        return self._reply.waits

    def raw(self, target: str) -> Any:
        """The same as urllib3 has it; the connection is its own from here on.

        Raises urllib3's InvalidHeader for lengths that contradict each other; the connection is still ours then.
        """
        shutdown = getattr(self._conn.sock, "shutdown", None)
        reply = self._reply
        found = responding(reply, fields.told(reply.head.fields), "GET", target, (False, False, True), shutdown)
        found._connection, found._pool, self._conn = self._conn, self._pool, None
        return found

    def close(self) -> None:
        """Let the connection go: to rest if the body was read to its end, for good if not."""
        conn, self._conn = self._conn, None
        if conn is not None:
            self._reply.close()
            self._pool._put_conn(conn)
