"""What arrived on one connection and was not read yet.

In: a connected socket.  Out: bytes in their order, as soon as there are any.  Never: what they mean; a buffer that is
owned while nothing is there to be read.
"""

from __future__ import annotations

import http.client
import re
import select
import socket as native
import ssl
from time import monotonic
from types import BuiltinFunctionType
from typing import Any

import gevent
import gevent.socket
import gevent.ssl

from ..hubs import process
from .buffers import Buffer, Room, buffers
from .tap import Tap

__all__ = ["Inflow"]

#: Bytes asked for at once where not much is expected: a head, and with it the whole of a small file.
PIECE = 64 * 1024
#: Seconds after which whoever finds something there each time lets the others go on.
TURN_S = 0.01

#: The system's poll(2).  gevent's own stands in its place where the process was patched before, and would wait.
POLL = getattr(select, "poll", None)

#: What a socket says that would have to wait.
NOTHING_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

#: The line before a chunk, as everybody writes it.
_PLAIN = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")


class Inflow:
    """The bytes of one socket, read by one greenlet."""

    __slots__ = (
        "_at",
        "_early",
        "_end",
        "_ended",
        "_failed",
        "_free",
        "_held",
        "_lent",
        "_native",
        "_news",
        "_plain",
        "_process",
        "_since",
        "_sock",
        "heard",
    )

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        # The non-blocking socket inside gevent's own: asked directly, it tells that nothing is there, and a buffer need
        # not be kept while we wait. TLS gives a record at a time (16 KiB), for which no large buffer is of use.
        self._plain: Any = sock._sock if type(sock) is gevent.socket.socket else None
        while not hasattr(sock, "_sock") and hasattr(sock, "socket"):  # TLS in TLS wraps the socket once more
            sock = sock.socket
        self._native: Any = getattr(sock, "_sock", None)
        #: Says whether there is anything; a receive that finds nothing says it by an exception, for four times as much.
        self._news: Any = None
        if self._native is not None and type(POLL) is BuiltinFunctionType:
            self._news = POLL()
            self._news.register(self._native.fileno(), select.POLLIN)
        self._free = buffers()
        self._held: bytes | bytearray = b""
        self._at = 0
        self._end = 0
        #: Whether the other side's end was seen, where what came before it was still to be read.
        self._ended = False
        self._failed: Exception | None = None
        self._lent: Buffer | None = None
        self._since = monotonic()
        self._early = False
        self._process = process()
        #: Whether anything came since a request was sent.
        self.heard = False

    def __len__(self) -> int:
        return self._end - self._at

    def begin(self) -> None:
        """A request is sent: nothing of its answer was heard yet."""
        self.heard = False
        self._since = monotonic()

    def ask(self, payload: bytes) -> None:
        """Send a request; nothing of its answer was heard yet."""
        self.heard = False
        self._since = monotonic()
        if self._plain is not None:
            try:
                sent = self._plain.send(payload)
            except BlockingIOError:
                sent = 0
        elif isinstance(self._sock, gevent.ssl.SSLSocket):
            sent = self._sock.write(payload)
        else:  # TLS within TLS, which waits for itself
            self._sock.sendall(payload)
            return
        if sent < len(payload):
            self._sock.sendall(memoryview(payload)[sent:])
        # The answer cannot be there yet: a look would find nothing, and say so by an exception.
        self._early = True

    def quiet(self) -> bool:
        """Whether the socket has nothing to tell, neither bytes nor an end; a look without waiting."""
        if self._news is not None:
            return not self._news.poll(0)
        try:
            if self._native is not None:
                self._native.recv(1, native.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def fileno(self) -> int:
        """The socket's descriptor."""
        found: int = self._sock.fileno()
        return found

    def more(self, large: bool = False) -> bool:
        """Wait until something is there to be read; False when the other side has ended.

        Only for when everything that was there has been read.  ``large``: much more is to come.
        """
        if self._early:
            self._early = False
            self._wait(self._sock._wait)
        else:
            self.turn()
        if (self._ended or self._failed is not None) and self._over():
            return False
        if large and self._plain is not None:
            return self._borrowed()
        data = self._received()
        if not data:
            return False
        self._held, self._at, self._end = data, 0, len(data)
        self.heard = True
        return True

    def _received(self) -> bytes:
        while self._plain is not None:
            try:
                data: bytes = self._plain.recv(PIECE)
                return data
            except BlockingIOError:
                self._wait(self._sock._wait)
        data = self._sock.recv(PIECE)
        return data

    def _borrowed(self) -> bool:
        while True:
            buffer = self._free.take()
            try:
                count = self._plain.recv_into(buffer.view)
            except BlockingIOError:
                count = -1
            except BaseException:
                self._free.give(buffer)
                raise
            if count > 0:
                self._lent, self._held, self._at, self._end = buffer, buffer.bytes, 0, count
                self.heard = True
                return True
            self._free.give(buffer)
            if count == 0:
                return False
            self._wait(self._sock._wait)

    def into(self, view: memoryview) -> int:
        """Receive into somebody else's buffer; 0 when the other side has ended.  Only for when all was read."""
        self.turn()
        while (count := self.at_once(view)) is None:
            if not hasattr(self._sock, "_wait"):  # TLS within TLS waits for itself
                count = self._sock.recv_into(view)
                self.heard = self.heard or count > 0
                break
            self._wait(self._sock._wait)
        return count

    def fill(self, room: Room, most: int) -> int:
        """Receive into ``room``, ``most`` bytes at most, waiting for the first; 0 when the other side has ended.

        Only for when all was read.  No buffer is kept while nothing is there, unless TLS lies within TLS.
        """
        self.turn()
        while (count := self.at_once(room.space()[:most])) is None:
            room.rest()
            wait = getattr(self._sock, "_wait", None)
            if wait is None:
                return self.into(room.space()[:most])
            self._wait(wait)
        return count

    def tap(self, most: int) -> Tap | None:
        """So many bytes to come, for a native thread to receive; None where some are here already, or TLS is between.

        Nothing may be read here until it was ``tapped``.
        """
        if self._plain is None or self._end > self._at or self._ended or self._failed is not None:
            return None
        return Tap(self._plain, most)

    def tapped(self, tap: Tap) -> None:
        """Go on behind what the thread has received."""
        self._ended, self._failed = tap.ended, tap.error
        self.heard = self.heard or tap.count > 0

    def at_once(self, view: memoryview) -> int | None:
        """Receive into ``view`` what is there at once; 0 when the other side has ended, None when nothing is there."""
        if self._over():
            return 0
        try:
            count: int = self._plain.recv_into(view) if self._plain is not None else self._decrypted(view)
        except NOTHING_YET:
            return None
        self._ended = count == 0
        self.heard = self.heard or count > 0
        return count

    def pull(self) -> bool:
        """Whether something is there to be read, without waiting for it."""
        if self._end > self._at:
            return True
        buffer, count = self._free.take(), 0
        try:
            while count < len(buffer.bytes) and (more := self.at_once(buffer.view[count:])):
                count += more
        except Exception as exc:
            self._failed = exc.with_traceback(None)
        finally:
            if count:
                self._lent, self._held, self._at, self._end = buffer, buffer.bytes, 0, count
            else:
                self._free.give(buffer)
        if not count:
            self._over()
        return count > 0

    def _over(self) -> bool:
        """Whether the end was seen already; raises what was seen in its place."""
        if self._failed is not None:
            raise self._failed
        return self._ended

    def has_line(self) -> bool:
        """Whether a line is there with its end."""
        return self._held.find(b"\n", self._at, self._end) >= 0

    def _decrypted(self, view: memoryview) -> int:
        patience = self._sock.gettimeout()
        self._sock.settimeout(0.0)
        try:
            count: int = self._sock.recv_into(view)
        finally:
            self._sock.settimeout(patience)
        return count

    def pour(self, view: memoryview) -> int:
        """As many of the bytes that are there as ``view`` takes."""
        at = self._at
        count = min(self._end - at, len(view))
        view[:count] = memoryview(self._held)[at : at + count]
        self._at = at + count
        if self._at == self._end:
            self.drop()
        return count

    def _wait(self, wait: Any) -> None:
        """Until something is there.  In a process that was forked off meanwhile it is its parent's to read."""
        wait(self._sock._read_event)
        if self._process != process():
            raise gevent.GreenletExit

    def turn(self) -> None:
        """Let the others go on, if they have waited long: what has arrived is read without a switch."""
        now = monotonic()
        if now - self._since >= TURN_S:
            gevent.sleep(0)
            self._since = monotonic()

    def hold(self, data: bytes, at: int) -> None:
        """Go on with these bytes, of which the first ``at`` were read."""
        self._held, self._at, self._end = data, at, len(data)

    def take(self, most: int) -> bytes:
        """So many of the bytes that are there, or all of them."""
        at, end = self._at, self._end
        if end - at > most:
            end = at + most
        if self._lent is not None:
            data = self._lent.view[at:end].tobytes()
        else:
            data = self._held[at:end]  # type: ignore[assignment]  # bytes: a bytearray is only ever lent
        self._at = end
        if end == self._end:
            self.drop()
        return data

    def all_of(self, count: int) -> memoryview | None:
        """What is there, if it is just so many bytes and none behind them."""
        at, end = self._at, self._end
        if end - at != count or self._lent is not None or (self._plain is None and self._decrypted_more()):
            return None
        found = memoryview(self._held)[at:end]
        self.drop()
        return found

    def block(self, most: int) -> bytes | None:
        """The bytes up to an empty line, and with it, waiting for the first byte; nothing when the other side has
        ended.

        None where no such line is there, or none within ``most`` bytes, or where a line before it ends in LF alone.
        """
        if self._end == self._at and not self.more():
            return b""
        held, at = self._held, self._at
        end = held.find(b"\n\r\n", at, self._end) + 3
        if end < 3 or end - at > most or held.find(b"\n\n", at, end) >= 0:
            return None
        return self.take(end - at)

    def line(self, limit: int, what: str) -> bytes:
        """A line with its end; without one where the other side ended first.  Raises LineTooLong."""
        found = b""
        pieces = bytearray()
        while self._at < self._end or self.more():
            cut = self._held.find(b"\n", self._at, self._end)
            found = self.take((cut + 1 if cut >= 0 else self._end) - self._at)
            if len(pieces) + len(found) > limit:
                raise http.client.LineTooLong(what)
            if cut >= 0:
                return bytes(pieces + found) if pieces else found
            pieces += found
        return bytes(pieces)

    def chunk(self, most: int) -> bytes | None:
        """The next chunk, if all of it is there with both its lines' ends, and neither empty nor beyond ``most``."""
        found = _PLAIN.match(self._held, self._at, self._end)
        if found is None:
            return None
        start = found.end()
        end = start + int(found[1], 16)
        if end + 2 > self._end or end - start > most or end == start or self._held[end : end + 2] != b"\r\n":
            return None
        lent = self._lent
        data = self._held[start:end] if lent is None else lent.view[start:end].tobytes()
        self._at = end + 2
        if self._at == self._end:
            self.drop()
        return data  # type: ignore[return-value]  # a bytearray is only ever lent

    def drop(self) -> None:
        """Forget what is there, and give a lent buffer back."""
        lent, self._lent = self._lent, None
        self._held, self._at, self._end = b"", 0, 0
        if lent is not None:
            self._free.give(lent)

    def pending(self) -> bool:
        """Whether something is there that nobody has read; a look without a system call."""
        return self._end > self._at or (self._plain is None and self._decrypted_more())

    def _decrypted_more(self) -> bool:
        """Whether TLS has decrypted something that nobody has read."""
        decrypted = getattr(self._sock, "pending", None)
        try:
            return bool(decrypted is not None and decrypted())
        except (OSError, ValueError):
            return False
