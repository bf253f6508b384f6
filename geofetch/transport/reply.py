"""One answer of a server, as urllib3 knows http.client's: its head, and its body to be read.

In: an Inflow behind a head, the Head.  Out: the bytes of the body, as they arrive; where it ended, and how.  Never: a
Content-Encoding; which connection serves next (``clean`` says whether this one may).

A body with a length is counted off, without a parser. So are chunks: their sizes are lines, what is between them is
taken as it lies there. llhttp would copy each chunk once more, run on into whatever follows the last one, and refuse
what requests takes: lines that end in LF alone, white space around a size.
"""

from __future__ import annotations

import http.client
import re
import sys
from http.client import HTTPMessage, IncompleteRead
from typing import Any

from .buffers import LARGE, Room
from .head import Head
from .inflow import Inflow
from .response import Framing
from .tap import Tap

__all__ = ["Reply"]

#: Trailer fields after the last chunk, and the bytes of a line between chunks.
TRAILERS = 100
LINE = 65536
#: Chunks put together in one piece at most: a flood of chunks of one byte takes its time.
TOGETHER = 2000
#: A body of which more than this is to come is worth a large buffer.
WORTH = 2 * 65536


class Reply:
    """What http.client's response is to urllib3 and to requests; ``read`` waits for all it is asked for, ``read1``
    for something.

    What arrived before an error is given out first; the error comes with the next call.
    """

    __slots__ = (
        "_error",
        "_flow",
        "_left",
        "_method",
        "clean",
        "closed",
        "cut",
        "head",
        "length",
        "plain",
        "rules",
        "strict",
    )

    debuglevel = 0

    def __init__(self, flow: Inflow, method: str, head: Head, rules: Framing) -> None:
        self._flow = flow
        self._method = method
        self.rules = rules
        self.head = head
        #: Whether the connection ended before the message did, in its head or after its last chunk.
        self.cut = head.cut
        #: Bytes that are still to come, where that is told.
        self.length = rules.length
        #: What is left of a chunk: 0 behind it, None before the next one's size, LAST behind the last one.
        self._left: int | None = None
        self._error: Exception | None = None
        self.closed = False
        #: Whether it was read to its very end, and nothing came behind it.
        self.clean = False
        #: Whether its framing is what framing() says of it, too.
        self.plain = False
        #: A download refuses what is framed in any other way than RFC 9112 says; requests takes it.
        self.strict = False

    # ------------------------------------------------------------------------------------------- what http.client's has

    @property
    def version(self) -> int:
        return self.head.version

    @property
    def status(self) -> int:
        return self.head.status

    @property
    def reason(self) -> str:
        return self.head.reason

    @property
    def msg(self) -> HTTPMessage:
        """The head as http.client has it; cookie jars read it."""
        return self.head.message

    headers = msg

    @property
    def chunked(self) -> bool:
        return self.rules.kind == "chunked"

    def getheader(self, name: str, default: Any = None) -> Any:
        found = self.msg.get_all(name)
        return ", ".join(found) if found else default

    def getheaders(self) -> list[tuple[str, str]]:
        return self.msg.items()

    def fileno(self) -> int:
        return self._flow.fileno()

    def isclosed(self) -> bool:
        """Whether there is nothing more to be read, or it was given up."""
        return self.closed

    def close(self) -> None:
        """Give up what was not read."""
        if not self.closed:
            self.closed = True
            self._flow.drop()

    # ------------------------------------------------------------------------------------------------------- the body

    @property
    def waits(self) -> bool:
        """Whether the next ``read1`` may have to wait; of chunks what is there may be a part of a line."""
        return not self.closed and (not self._flow or self.rules.kind == "chunked")

    def read1(self, most: int = LARGE) -> bytes:
        """What has arrived, ``most`` bytes at most, waiting for the first; nothing at the end.

        Raises IncompleteRead, LineTooLong, HTTPException, and what the socket raises.
        """
        if self.closed or most == 0:
            return b""
        self._raise_kept()
        if self.rules.kind == "chunked":
            return self._chunks(most)
        return self._counted(most)

    def read(self, amount: int | None = None) -> bytes:
        """So many bytes, fewer at the end of the body or before an error; all of them for None."""
        first = self.read1(LARGE if amount is None else amount)
        if self.closed or not first or len(first) == amount:
            return first
        pieces, size = [first], len(first)
        try:
            while amount is None or size < amount:
                piece = self.read1(LARGE if amount is None else amount - size)
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
        except Exception as exc:
            if amount is None:
                raise
            self._error = exc.with_traceback(None)  # a traceback would keep this frame, and it us
        return b"".join(pieces)

    def chunk(self, most: int | None) -> bytes:
        """The rest of a chunk, ``most`` bytes of it at most, waiting for that much; nothing at the end.

        Whoever frames messages by chunks gets them apart.
        """
        if self.closed or self.rules.kind != "chunked":
            return self.read1(LARGE if most is None else most)  # HEAD has none, whatever its head says
        self._raise_kept()
        if self._is_between() and (whole := self._flow.chunk(LARGE if most is None else most)) is not None:
            self._flow.turn()
            return whole
        self._raise_kept()
        left = self._size()
        if not left:
            return self._trailers()
        want = left if most is None else min(left, most)
        pieces: list[bytes] = []
        try:
            while want:
                piece = self._within(want)
                want -= len(piece)
                pieces.append(piece)
        except Exception as exc:
            if not pieces:
                raise
            self._error = exc.with_traceback(None)
        return b"".join(pieces) if len(pieces) != 1 else pieces[0]

    def into(self, view: memoryview) -> int:
        """What has arrived, written to a buffer of the caller's; 0 at the end.  As ``read1``, and without a copy where
        the caller's buffer takes what the socket has.
        """
        straight = self.rules.kind != "chunked" and not self.closed and self._error is None and not self._flow
        if not straight or self.length == 0 or not view:
            piece = self.read1(len(view))
            view[: len(piece)] = piece
            return len(piece)
        if self.length is not None and self.length < len(view):
            view = view[: self.length]
        return self._counts(self._flow.into(view))

    def fill(self, room: Room) -> int:
        """What has arrived, received into ``room``; 0 at the end.  As ``into``, but all that there is at once: records
        of TLS and chunks are gathered.
        """
        if self.closed:
            return 0
        self._raise_kept()
        if self.rules.kind == "chunked":
            return self._filled_with_chunks(room)
        left, flow = self.length, self._flow
        most = sys.maxsize if left is None else left
        if flow and most:
            return self._counts(flow.pour(room.space()[:most]))
        return self._counts(self._gathered(room, most) if most else 0)

    def tap(self) -> Tap | None:
        """What is left of it, for a native thread to receive; None where a thread cannot: chunks, TLS, no length."""
        if self.closed or self._error is not None or not self.length:
            return None
        return self._flow.tap(self.length)

    def tapped(self, tap: Tap) -> None:
        """Go on behind what the thread has received."""
        self._flow.tapped(tap)
        if tap.count:
            self._counts(tap.count)

    def _gathered(self, room: Room, most: int) -> int:
        flow = self._flow
        count = flow.fill(room, most)
        view = room.space()[:most]
        try:
            while 0 < count < len(view) and (more := flow.at_once(view[count:])):
                count += more
        except Exception as exc:
            self._error = exc.with_traceback(None)
        return count

    def _raise_kept(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _counted(self, most: int) -> bytes:
        left, flow = self.length, self._flow
        if left is not None and left < most:
            most = left
        if most and not flow and not flow.more(left is None or left > WORTH):
            self._counts(0)
            return b""
        piece = flow.take(most)
        self._counts(len(piece))
        return piece

    def _counts(self, count: int) -> int:
        """So many bytes more were read, 0 at the end of the connection."""
        if self.length is not None:
            self.length -= count
            if self.length == 0:
                self._end()
        elif not count:
            self.close()  # the end of the connection is the end of the body
        return count

    def _end(self) -> None:
        self.closed = True
        surplus = self._flow.pending()
        self.clean = self.rules.reusable and not surplus
        if surplus:
            self._flow.drop()

    # --------------------------------------------------------------------------------------------------------- chunks

    def _chunks(self, most: int) -> bytes:
        """What is there of this chunk, and those behind it that are there whole."""
        if not self._size():
            return self._trailers()
        piece = self._within(most)
        flow = self._flow
        if not flow or len(piece) == most:
            return piece
        pieces, size = [piece], len(piece)
        while len(pieces) < TOGETHER and self._is_between() and (next_one := flow.chunk(most - size)) is not None:
            pieces.append(next_one)
            size += len(next_one)
        return b"".join(pieces)

    def _filled_with_chunks(self, room: Room) -> int:
        """What is there of this chunk and of those behind it, without waiting for more than the first byte."""
        left, flow = self._size(), self._flow
        if not left:
            self._trailers()
            return 0
        if not flow and left > WORTH:
            count = self._gathered(room, left)
            self._left = left - count
        else:
            count = self._gathered_chunks(room) if flow or flow.more() else 0
        if not count:
            raise IncompleteRead(b"", left)
        return count

    def _gathered_chunks(self, room: Room) -> int:
        view = room.space()
        count = self._poured(view)
        try:
            for _ in range(TOGETHER):
                more = self._at_once(view[count:])
                if not more:
                    break
                count += more
        except Exception as exc:
            self._error = exc.with_traceback(None)
        return count

    def _poured(self, view: memoryview) -> int:
        left = self._left or 0
        count = self._flow.pour(view[:left])
        self._left = left - count
        return count

    def _at_once(self, view: memoryview) -> int:
        """More of this chunk, or of the next one behind its size, as far as it is there."""
        flow = self._flow
        if not view or not flow.pull():
            return 0
        if self._is_between():
            whole = flow.chunk(len(view))
            if whole is not None:
                view[: len(whole)] = whole
                return len(whole)
            if not flow.has_line() or not self._size():
                return 0
            flow.pull()
        return self._poured(view)

    def _is_between(self) -> bool:
        """Whether the next byte that is there is that of a chunk's size."""
        if self._left == 0 and len(self._flow) > 2:
            try:
                self._toss()
            except IncompleteRead as exc:
                self._error = exc.with_traceback(None)
                return False
        return self._left is None

    def _size(self) -> int:
        """What is left of this chunk, or the size of the next one; 0 when the last one was reached."""
        left = self._left
        if left == 0:
            self._toss()
        elif left is not None:
            return left if left > 0 else 0
        self._flow.turn()
        line = self._flow.line(LINE, "chunk size")
        if not line:
            raise IncompleteRead(b"")
        # A line without its end may be part of another number; then what follows is missed all the same.
        size = self._read_size(line.partition(b";")[0])
        self._left = size or LAST
        return size

    def _read_size(self, text: bytes) -> int:
        try:
            size = int(text, 16)
            if size < 0 or size >> 63 or (self.strict and not _HEX.fullmatch(text)):
                raise ValueError(f"chunk size {text[:40]!r}")
        except ValueError as exc:
            raise IncompleteRead(b"") from exc
        return size

    def _within(self, most: int) -> bytes:
        """What is there of this chunk, waiting for the first byte of it."""
        flow, left = self._flow, self._left or 0
        if not flow and not flow.more(left > WORTH):
            raise IncompleteRead(b"", left)
        piece = flow.take(min(left, most))
        self._left = left - len(piece)
        return piece

    def _toss(self) -> None:
        """The line's end behind a chunk; http.client takes any two bytes for it."""
        flow, end = self._flow, b""
        while len(end) < 2:
            if not flow and not flow.more():
                raise IncompleteRead(b"")
            end += flow.take(2 - len(end))
        if self.strict and end != b"\r\n":
            raise IncompleteRead(b"") from ValueError(f"a chunk is longer than it says: {end!r} behind it")
        self._left = None

    def _trailers(self) -> bytes:
        """Read past what stands behind the last chunk, up to the empty line."""
        for _ in range(TRAILERS + 1):
            line = self._flow.line(LINE, "trailer line")
            if line in (b"\r\n", b"\n"):
                self._end()
                return b""
            if not line.endswith(b"\n"):
                return self._cut_trailers()
        raise http.client.HTTPException(f"more than {TRAILERS} trailers")

    def _cut_trailers(self) -> bytes:
        # The body is whole (RFC 9112, 8): some servers close behind the last chunk, and requests takes it.
        self.cut = True
        self.close()
        if self.strict:
            raise IncompleteRead(b"")
        return b""


#: Where the last chunk was reached.
LAST = -1
_HEX = re.compile(rb"[0-9A-Fa-f]+[ \t]*\r?\n?")
