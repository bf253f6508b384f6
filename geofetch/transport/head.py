"""The head of an answer: read until its end, with caps, and parsed by llhttp, or by the standard library where that is
more tolerant.

In: bytes as they arrive.  Out: a Head: version, status, reason, fields in their order.  Never: the body; what a status
means.

llhttp takes a subset of what the email parser under http.client takes, and what it takes it reads the same way
(test_fast_heads holds them against each other). It is given a whole head and nothing behind it: fed on, it would parse
what a server smuggled after the first answer. It has no caps of its own, so they are here.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator, Mapping
from email import errors
from email.message import Message
from email.parser import HeaderParser
from http.client import HTTPMessage
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from .inflow import Inflow

__all__ = ["Fields", "Head", "flawed", "head_of", "unfolded"]

#: Header lines of a head, the bytes of one line, and of all of it.
HEADERS = 100
LINE = 65536
HEAD = 1 << 20
#: Interim answers (1xx) read past before a server is given up.
INTERIM = 16
#: What every answer begins with.
BEGINNING = b"HTTP/1."

_END = re.compile(rb"\n\r?\n")
#: What splits a line for the email parser, or ends a string for somebody else's: a download refuses it.
_ODD = re.compile(rb"\0|\r(?!\n)")


class Fields(Mapping[str, str]):
    """Header fields by name, in any case of letters; what came several times is joined by commas (RFC 9110, 5.3)."""

    __slots__ = ("by_name",)

    def __init__(self, by_name: dict[str, str]) -> None:
        #: By the lower case of each name.
        self.by_name = by_name

    def __getitem__(self, name: str) -> str:
        return self.by_name[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        return self.by_name.get(name.lower(), default)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self.by_name

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def __repr__(self) -> str:
        return f"Fields({self.by_name!r})"


class Head:
    """The head of an answer."""

    __slots__ = ("_lines", "_message", "by_name", "cut", "reason", "repeated", "status", "version")

    def __init__(self, status: tuple[int, int, str], lines: list[str] | None, message: HTTPMessage | None) -> None:
        """``lines`` are its fields where they are plain; ``message`` is what http.client read where they are not."""
        #: 10 or 11, as http.client tells it.
        self.version, self.status, self.reason = status
        #: Whether the connection ended before the head did; what came of it counts.
        self.cut = False
        self._lines = lines
        self._message = message
        #: Names, in lower case, that came more than once.
        self.repeated: set[str] | None = None
        #: As Fields has them.
        self.by_name: dict[str, str] = {}
        if lines is None:
            self._join()
            return
        by_name = self.by_name
        for line in lines:
            name, _, value = line.partition(":")
            by_name[name.lower()] = value.lstrip(" \t")
        if len(by_name) < len(lines):
            self._join()

    def _join(self) -> None:
        """Put together what came several times."""
        self.by_name.clear()
        for name, value in self.fields:
            lowered = name.lower()
            if lowered in self.by_name:
                value = f"{self.by_name[lowered]}, {value}"
                self.repeated = {lowered} if self.repeated is None else self.repeated | {lowered}
            self.by_name[lowered] = value

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Names and values in their order, as often as they came."""
        if self._lines is None:
            return [(name, unfolded(value)) for name, value in self.message.items()]
        each = (line.partition(":") for line in self._lines)
        return [(name, value.lstrip(" \t")) for name, _, value in each]

    @property
    def message(self) -> HTTPMessage:
        """As http.client has it: with ``get_all`` for cookies, and what the email parser found wrong."""
        if self._message is None:
            self._message = HTTPMessage()
            for name, value in self.fields:
                self._message.set_raw(name, value)
        return self._message

    def is_flawed(self) -> bool:
        """Whether something in it is no header; what llhttp read has no such thing."""
        return self._message is not None and flawed(self._message)


#: What the email parser misses where a type promises parts: they are the body's, which it has not seen.  Older ones
#: (of Python 3.11.2) miss the second even where they are told not to look.
_OF_A_BODY = (
    errors.InvalidMultipartContentTransferEncodingDefect,
    errors.MultipartInvariantViolationDefect,
    errors.NoBoundaryInMultipartDefect,
    errors.StartBoundaryNotFoundDefect,
)


def flawed(message: Message) -> bool:
    """Whether something in a head is no header, by the email parser, also if it looked for parts behind the head."""
    if not all(isinstance(defect, _OF_A_BODY) for defect in message.defects):
        return True
    left: Any = message.get_payload()
    if isinstance(left, list) and message.get_content_maintype() == "message":
        return any(part.items() or part.defects or part.get_payload() for part in left)  # it finds one in nothing
    return bool(left)


def head_of(flow: Inflow) -> Head:
    """The head of the answer that comes in, behind its interim answers.

    Raises http.client's exceptions: RemoteDisconnected where nothing came, BadStatusLine, LineTooLong, HTTPException.
    """
    for _ in range(INTERIM + 1):
        block, cut = _block(flow)
        try:
            status = status_of(block)
        except http.client.BadStatusLine as exc:
            if not (cut and (BEGINNING.startswith(block) or block.startswith(BEGINNING))):
                raise
            words = "Remote end closed connection within the first line of its answer"
            raise http.client.RemoteDisconnected(words) from exc
        if 100 <= status[1] < 200 and status[1] != 101:
            _check_lines(block)
            if cut:
                raise http.client.RemoteDisconnected("Remote end closed connection without response")
            continue
        head = _parsed(block, status)
        head.cut = cut
        return head
    raise http.client.BadStatusLine(f"more than {INTERIM} interim answers")


def _block(flow: Inflow) -> tuple[bytes, bool]:
    """The bytes of a head with the empty line at its end; True where the other side ended before that."""
    whole = flow.block(HEAD)
    if whole is None:
        return _gathered(flow)
    if not whole:
        raise http.client.RemoteDisconnected("Remote end closed connection without response")
    return whole, False


def _gathered(flow: Inflow) -> tuple[bytes, bool]:
    """A head that comes in pieces, or whose lines end in LF alone; refused as soon as it goes beyond a cap."""
    held, searched, caps = bytearray(), 0, _Caps()
    while True:
        held += flow.take(HEAD)
        found = _END.search(held, max(0, searched - 2))
        if found is not None:
            if len(held) > found.end():
                flow.hold(bytes(held[found.end() :]), 0)
            return bytes(held[: found.end()]), False
        caps.check(held, searched)
        searched = len(held)
        if not flow.more():
            return bytes(held), True


class _Caps:
    """What is known of a head whose end has not come: how many lines, where the last one begins."""

    def __init__(self) -> None:
        self._lines = 0
        self._line = 0

    def check(self, held: bytearray, since: int) -> None:
        before, more = self._lines, held.count(b"\n", since)
        if more:
            self._lines += more
            self._line = held.rfind(b"\n") + 1
        if len(held) - self._line > LINE:
            raise http.client.LineTooLong("header line")
        if not before and more:
            status_of(bytes(held[: held.find(b"\n") + 1]))  # of another protocol: no end of a head will come
        if self._lines > HEADERS + 1:
            raise http.client.HTTPException(f"got more than {HEADERS} headers")
        if len(held) > HEAD:
            raise http.client.HTTPException(f"a head of more than {HEAD} bytes")


def status_of(block: bytes) -> tuple[int, int, str]:
    """Version, status and reason from the first line; what http.client takes, and its exceptions for the rest."""
    line = block[: block.find(b"\n") + 1] or block
    known = _KNOWN.get(line)
    if known is not None:
        return known
    if len(line) > LINE:
        raise http.client.LineTooLong("status line")
    words = str(line, "latin-1").split(None, 2)
    if len(words) < 2 or not words[0].startswith("HTTP/"):
        raise http.client.BadStatusLine(str(line, "latin-1"))
    try:
        status = int(words[1])
    except ValueError:
        status = 0
    if not 100 <= status <= 999:
        raise http.client.BadStatusLine(str(line, "latin-1"))
    interim = status < 200 and status != 101  # nobody looks at the version of what is read past
    return 11 if interim else _version(words[0]), status, words[2].strip() if len(words) > 2 else ""


#: What nearly every answer begins with.
_KNOWN = {b"HTTP/1.1 200 OK\r\n": (11, 200, "OK"), b"HTTP/1.0 200 OK\r\n": (10, 200, "OK")}


def _version(word: str) -> int:
    if word == "HTTP/1.1":
        return 11
    if word in ("HTTP/1.0", "HTTP/0.9"):
        return 10
    if word.startswith("HTTP/1."):
        return 11
    raise http.client.UnknownProtocol(word)


class _Judge:
    """What llhttp reports to: nothing, since only its verdict is asked for.

    A callback a header would cost more than splitting the lines; and a name that is looked up and missing is dear too.
    """

    on_message_begin = on_status = on_header = on_headers_complete = on_body = on_message_complete = None
    on_chunk_header = on_chunk_complete = None


_JUDGE = _Judge()


def _parsed(block: bytes, status: tuple[int, int, str]) -> Head:
    _check_lines(block)
    # Some releases of llhttp let a folded header pass; split into lines it would be two.
    # (Not "in", which tries a number first, and throws away the error that says it is none.)
    if not block.endswith(b"\r\n\r\n") or block.find(b"\n ") >= 0 or block.find(b"\n\t") >= 0:
        return _tolerated(block, status)
    try:
        HttpResponseParser(_JUDGE).feed_data(block)
    except (HttpParserError, HttpParserUpgrade):
        return _tolerated(block, status)
    return Head(status, str(block, "latin-1").split("\r\n")[1:-2], None)


def _check_lines(block: bytes) -> None:
    if block.count(b"\n") > HEADERS + 2:
        raise http.client.HTTPException(f"got more than {HEADERS} headers")
    if len(block) > LINE and max(map(len, block.split(b"\n"))) >= LINE:
        raise http.client.LineTooLong("header line")


def _tolerated(block: bytes, status: tuple[int, int, str]) -> Head:
    """What requests takes, as it takes it: folded headers, LF alone, odd names, a line without a colon."""
    # http.client has the body parsed as well, of which there is nothing yet: it misses the parts of a multipart, and
    # chokes on a boundary whose number or encoding is odd.
    message: Any = HeaderParser(_class=HTTPMessage).parsestr(str(block.partition(b"\n")[2], "latin-1"))
    if _ODD.search(block):
        message.defects.append(http.client.HTTPException("a NUL, or a CR without LF"))
    return Head(status, None, message)


def unfolded(value: str) -> str:
    """A value in one line."""
    # RFC 9112, 5.2: an obsolete line folding, with the white space around it, counts as a space.
    return " ".join(part.strip(" \t") for part in value.split("\r\n")) if "\r\n" in value else value
