"""How a message is framed, and a parser of http.client's that reads past interim answers and sees what is left over.

In: a head; bytes.  Out: a Framing, or BadFraming; http.client responses.  Never: what the status means to a download.
"""

from __future__ import annotations

import http.client
import io
import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Protocol

__all__ = ["Answer", "BadFraming", "Framing", "framing", "tolerated"]

#: Interim answers (1xx) read past before a server is given up.
INTERIM = 16
#: Trailer fields after the last chunk, and the bytes of one: what http.client takes of a head.
TRAILERS = 100
TRAILER_BYTES = 65536


class BadFraming(http.client.HTTPException):
    """A head whose framing headers do not say where the body ends, or say it twice."""


class Framing(NamedTuple):
    """Where a body ends: after ``length`` bytes, with its last chunk, or with the connection."""

    kind: Literal["length", "chunked", "close"]
    length: int | None = None
    #: False where nothing may follow on the connection (RFC 9112, 6.3: Transfer-Encoding beside Content-Length).
    reusable: bool = True


def framing(method: str, status: int, headers: Iterable[tuple[str, str]]) -> Framing:
    """The framing of a response (RFC 9112, 6.3), strictly: what is ambiguous raises BadFraming.

    ``headers`` are all fields in order, doubled ones as often as they came.
    """
    lengths: list[str] = []
    codings: list[str] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == "content-length":
            lengths += value.split(",")
        elif lowered == "transfer-encoding":
            codings += value.split(",")
    if method == "HEAD" or status in (204, 304) or 100 <= status < 200:
        return Framing("length", 0)
    if codings:
        if [coding.strip().lower() for coding in codings] != ["chunked"]:
            raise BadFraming(f"Transfer-Encoding {', '.join(codings)!r} is not 'chunked' alone")
        return Framing("chunked", reusable=not lengths)
    if lengths:
        return Framing("length", _length(lengths))
    return Framing("close", reusable=False)


def _length(values: list[str]) -> int:
    told = {value.strip() for value in values}
    if len(told) != 1:
        raise BadFraming(f"Content-Length is told as {', '.join(sorted(told))}")
    text = told.pop()
    # RFC 9110, 8.6: digits and nothing else; int() would take '+5', '1_0' and '-1' as well.
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise BadFraming(f"Content-Length {text[:40]!r} is no number")
    return int(text)


def plain_length(head: Head) -> int | None:
    """The length of a body that is framed as nearly all are: by one Content-Length, and nothing else that might say.

    What it gives, :func:`framing` gives as well for a 200 to a GET.
    """
    told = head.by_name.get("content-length")
    if told is None or head.repeated is not None or "transfer-encoding" in head.by_name:
        return None
    return int(told) if _NUMBER.fullmatch(told) else None


def tolerated(method: str, status: int, fields: Iterable[tuple[str, str]]) -> Framing:
    """The framing of a response as requests has always read it, where :func:`framing` would refuse."""
    told = [(name.lower(), value) for name, value in fields]
    lengths = [value for name, value in told if name == "content-length"]
    codings = [value for name, value in told if name == "transfer-encoding"]
    try:
        return framing(method, status, told)
    except BadFraming:
        pass
    if "chunked" in [coding.strip().lower() for coding in ",".join(codings).split(",")]:
        return Framing("chunked", reusable=False)
    try:
        length = int(lengths[0])
    except (IndexError, ValueError):
        length = -1
    if length < 0:
        return Framing("close", reusable=False)
    return Framing("length", length, reusable=not codings)


#: A length that framing() takes as well, found faster.
_NUMBER = re.compile(r"[0-9]{1,19}")


class Head(Protocol):
    """What is known of the fields of a head (transport/head.py)."""

    by_name: dict[str, str]
    repeated: set[str] | None


class _Lines:
    """A head on its way in, line by line: whether anything came, whether it ended early."""

    def __init__(self, fp: Any) -> None:
        self._fp = fp
        self.heard = False
        self.cut = False

    def readline(self, limit: int = -1) -> bytes:
        if not self.heard:
            # A reset in the middle of the first line loses what came of it; this look does not.
            self.heard = bool(self._fp.peek(1))
        line: bytes = self._fp.readline(limit)
        self.cut = not line
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fp, name)


class Answer(http.client.HTTPResponse):
    """http.client's response, made fit: 102 and 103 are no answers yet, and bytes after the end are noticed."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._sock = sock
        self._lines = _Lines(self.fp)
        #: Whether the server sent more than its answer: the connection cannot be trusted any more.
        self.surplus = False

    @property
    def heard(self) -> bool:
        """Whether any byte of an answer came."""
        return self._lines.heard

    @property
    def cut(self) -> bool:
        """Whether the connection ended before the head did; http.client takes what came for the whole of it."""
        return self._lines.cut

    def begin(self) -> None:
        fp: Any = self.fp
        lines: Any = self._lines
        self.fp = lines
        super().begin()
        if self.fp is lines:
            self.fp = fp

    def _read_status(self) -> tuple[str, int, str]:
        # begin() itself skips 100 alone, without end; 103 with an empty body would be a "successful" empty file.
        for _ in range(INTERIM + 1):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200 or status == 101:
                return version, status, reason
            http.client._read_headers(self.fp)  # type: ignore[attr-defined]
        raise http.client.BadStatusLine(f"more than {INTERIM} interim answers")

    def _read_and_discard_trailer(self) -> None:
        # http.client reads trailers for as long as they come.
        for _ in range(TRAILERS):
            line = self.fp.readline(TRAILER_BYTES + 1)
            if len(line) > TRAILER_BYTES:
                raise http.client.LineTooLong("trailer line")
            if line in (b"\r\n", b"\n", b""):
                return
        raise http.client.HTTPException(f"more than {TRAILERS} trailers")

    def _close_conn(self) -> None:
        if self.length == 0 or self.chunked:
            self.surplus = self._left_over()
        self._sock = None
        super()._close_conn()  # type: ignore[misc]

    def _left_over(self) -> bool:
        """Whether bytes came that nobody asked for; a look without waiting."""
        fp: Any = self.fp
        if not isinstance(fp, io.BufferedReader) or self._sock is None:
            return False
        patience = self._sock.gettimeout()
        try:
            self._sock.settimeout(0.0)
            return bool(fp.peek(1))
        except (OSError, ValueError):
            return False
        finally:
            if self._sock.fileno() >= 0:
                self._sock.settimeout(patience)
