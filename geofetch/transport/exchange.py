"""One request that was answered, between a pool and whoever reads its body; without requests or urllib3 in the way.

In: a connection that has read a head.  Out: the answer, and at last the connection: to rest, or for good.  Never: what
the answer means.
"""

from __future__ import annotations

from typing import Any

from urllib3._collections import HTTPHeaderDict

from .head import Head
from .raw import responding
from .reply import Reply

__all__ = ["Exchange"]


class Exchange:
    """A request that was answered, on its connection; its body is still to be read."""

    __slots__ = ("_conn", "_pool", "fields", "reply")

    def __init__(self, pool: Any, conn: Any, reply: Reply, fields: HTTPHeaderDict) -> None:
        self._pool = pool
        self._conn = conn
        self.reply = reply
        self.fields = fields

    @property
    def head(self) -> Head:
        return self.reply.head

    @property
    def is_plain(self) -> bool:
        """Whether it is a 200 of which requests would note nothing."""
        return self.head.status == 200 and not self.head.cut and "set-cookie" not in self.fields

    def raw(self, target: str) -> Any:
        """The same as urllib3 has it; the connection is its own from here on."""
        conn, self._conn = self._conn, None
        shutdown = getattr(conn.sock, "shutdown", None)
        found = responding(self.reply, self.fields, "GET", target, (False, False, True), shutdown)
        found._connection, found._pool = conn, self._pool
        return found

    def close(self) -> None:
        """Let the connection go: to rest if the body was read to its end, for good if not."""
        conn, self._conn = self._conn, None
        if conn is not None:
            self.reply.close()
            self._pool._put_conn(conn)
