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
    """A request that was answered; its body is here already, or still to be read on its connection.

    It is named as a Response and its raw are: ``read1`` gives the body as it arrives.
    """

    __slots__ = ("_conn", "_pool", "_reply", "body", "head", "headers", "url")

    def __init__(
        self,
        url: str,
        head: Head,
        body: memoryview | None,
        reply: Reply | None = None,
        pool: Any = None,
        conn: Any = None,
    ) -> None:
        self.url = url
        self.head = head
        self.headers = Fields(head.by_name)
        #: The whole body, if it came with the head: the connection rests already.
        self.body = body
        self._reply: Any = reply
        self._pool = pool
        self._conn = conn

    @property
    def status_code(self) -> int:
        return self.head.status

    def is_plain(self) -> bool:
        """Whether it is a 200 of which requests would note nothing."""
        head = self.head
        return head.status == 200 and not head.cut and "set-cookie" not in head.by_name

    def framing(self) -> Framing:
        """Where its body ends; chunks are read as RFC 9112 says from here on.  Raises BadFraming."""
        reply = self._reply
        reply.strict = True
        if reply.plain:
            rules: Framing = reply.rules
            return rules
        return framing("GET", reply.head.status, reply.head.fields)

    def read1(self, most: int) -> bytes:
        """What has arrived of the body, waiting for the first byte; nothing at its end."""
        found: bytes = self._reply.read1(most)
        return found

    def fill(self, room: Room) -> int:
        """The same, received into buffers of ``room``'s."""
        count: int = self._reply.fill(room)
        return count

    def tap(self) -> Tap | None:
        """The rest of the body for a native thread to receive, until it is ``tapped``; None where a thread cannot."""
        found: Tap | None = self._reply.tap()
        return found

    def tapped(self, tap: Tap) -> None:
        """Go on behind what the thread has received."""
        self._reply.tapped(tap)

    @property
    def waits(self) -> bool:
        """Whether the next read has to wait for the server."""
        return bool(self._reply.waits)

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
