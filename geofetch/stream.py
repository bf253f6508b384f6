"""Bytes from one source: an answer judged by its status and framing, its body read as it arrives.

In: a Session, a Source, patience.  Out: a Head, then chunks; every failure as one of ours, around the whole iteration.
Never: whether they are the right bytes, where they go, what to do after an error.
"""

from __future__ import annotations

import email.utils
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from functools import partial
from time import monotonic
from typing import Any, Protocol

import gevent
from requests import Response
from requests.structures import CaseInsensitiveDict

from . import auth
from .decoding import Decoder
from .errors import (
    BadResponse,
    BadStatus,
    NotFound,
    ProxyFailure,
    RateLimited,
    Stalled,
    Truncated,
    Unauthorized,
)
from .events import Head
from .frozen import unfrozen
from .names import shown
from .redirects import followed, host_of
from .session import Session
from .spec import Source
from .translate import printable, translated
from .transport import BadFraming, Exchange, Framing, Room, Tap, flawed, framing
from .within import within

log = logging.getLogger("geofetch")

__all__ = ["Body", "Patience", "host_of", "opened"]

#: Bytes asked for at once; what has arrived is taken, never waited for until it is so much.
READ = 256 * 1024
#: Bytes of an error's body that are kept with it.
ERROR_BODY = 64 * 1024

#: Seconds after which a body that keeps coming lets the others go on.
TURN_S = 0.01
#: Bytes there at once of a body that comes faster than we take it: a native thread may receive the next ones itself.
POURING = 256 * 1024

#: What may be the file: RFC 9110, 15.3.1 and 15.3.4 (a proxy's copy).  A 206 was not asked for, a 204 has nothing.
FILE = frozenset({200, 203})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait: ``connect_s`` for name, addresses and handshakes together, ``read_s`` for the head and then for
    each piece of the body; a body slower than ``low_speed_bps`` over ``low_speed_s`` is given up.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    low_speed_bps: float = 1024.0
    low_speed_s: float = 60.0


def opened(
    session: Session,
    source: Source,
    patience: Patience,
    *,
    decode: bool = False,
    moved: Callable[[str], None] | None = None,
) -> Body | Whole:
    """The body of a source that answered with what could be the file; closed at the end of a ``with`` around it.

    ``moved`` is called with the host of a redirect before it is asked: a slot may have to move along.  ``decode``
    undoes a Content-Encoding that the server applied although identity was asked for.
    """
    try:
        response = followed(session, source, patience, moved)
        if isinstance(response, Exchange) and response.body is not None:
            return Whole(response, response.body)
        try:
            return Body(source, response, patience, decode)
        except BaseException:
            response.close()
            raise
    except Exception as exc:
        error = translated(exc, source)
        if error is exc:
            raise
        raise error from error.__cause__


class Landing(Room, Protocol):
    """Where chunks are received."""

    def received(self, count: int) -> memoryview:
        """The bytes that came into ``space()``, as a chunk."""

    @property
    def refused(self) -> bool:
        """Whether one of those who work on the bytes wants no more of them."""

    def drain(self, tap: Tap) -> None:
        """Have the next bytes received where they are worked on, for as long as they are there at once.

        No chunk is made of them.
        """


_Unfrozen = unfrozen(Head)


class Whole:
    """An answer that could be the file, all of which is here: its ``head``, then its one chunk."""

    __slots__ = ("_body", "head", "landing", "received", "unseen")

    def __init__(self, response: Exchange, body: memoryview) -> None:
        self._body = body
        #: Bytes that came over the wire.
        self.received = len(body)
        self.landing: Landing | None = None
        self.unseen = False
        head: Any = _Unfrozen()
        head.status = 200
        head.headers = response.headers
        head.length = self.received
        head.framed = True
        head.encoding = ""
        head.url = shown(response.url)
        head.__class__ = Head
        self.head: Head = head

    def __enter__(self) -> Whole:
        return self

    def __exit__(self, *exc: object) -> None:
        """Nothing: its connection rests already."""

    def __iter__(self) -> Iterator[memoryview]:
        return iter((self._body,))


class Body:
    """An answer that could be the file: its ``head``, then its chunks, once."""

    def __init__(self, source: Source, response: Response | Exchange, patience: Patience, decode: bool) -> None:
        self._source = source
        self._response = response
        self._patience = patience
        self._express = response if isinstance(response, Exchange) else None
        if self._express is not None:
            self._read: Callable[[int], bytes] = self._express.read1
            self._fill: Callable[[Room], int] | None = self._express.fill
        else:
            _check_status(response)  # type: ignore[arg-type]
            self._read = _reader(response.raw)
            self._fill = getattr(response.raw, "fill", None)
        found = _framing(response)
        encoding = response.headers.get("content-encoding") or ""
        if encoding:
            encoding = encoding.strip().lower()
            encoding = "" if encoding == "identity" else encoding
        self._decoder = Decoder(encoding) if encoding and decode else None
        #: Nothing at all is slower than any speed that is wanted.
        self._longest_s = min(patience.read_s, patience.low_speed_s) if patience.low_speed_bps else patience.read_s
        self._length = found.length
        #: Where the next chunks are received, if they come as they are; else each is bytes of its own.
        self.landing: Landing | None = None
        #: Whether ``landing`` may receive by itself: nobody here wants to see the chunks.
        self.unseen = False
        self._came = 0
        self._tap: Tap | None = None
        self.head = Head(
            status=response.status_code,
            headers=response.headers,
            length=None if self._decoder else found.length,
            framed=found.kind != "close",
            encoding="" if self._decoder else encoding,
            url=shown(response.url),
        )

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *exc: object) -> None:
        self._response.close()

    @property
    def received(self) -> int:
        """Bytes that came over the wire so far."""
        return self._came + (self._tap.count if self._tap is not None else 0)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        try:
            if self._decoder is None:
                yield from self._raw()
            else:
                for chunk in self._raw():
                    yield from self._decoder.decoded(chunk)
                self._decoder.finish()
        except Exception as exc:
            error = translated(exc, self._source, self)
            if error is exc:
                raise
            raise error from error.__cause__

    def _raw(self) -> Iterator[bytes | memoryview]:
        patience = self._patience
        since = yielded = monotonic()
        before = 0
        pours = False
        while True:
            if pours:
                pours = self._drained()
                if self.landing is not None and self.landing.refused:
                    return  # whoever waits for the lane to finish hears why
            else:
                chunk = self._arrived()
                if not chunk:
                    break
                self._came += len(chunk)
                yield chunk
                pours = self.unseen and self._decoder is None and len(chunk) >= POURING
            if self.received == self._length:
                return
            now = monotonic()
            if now - yielded >= TURN_S:
                # What has arrived already is read without a switch: tiny chunks would keep the hub for ever.
                gevent.sleep(0)
                yielded = monotonic()
            if now - since >= patience.low_speed_s:
                if self.received - before < patience.low_speed_bps * (now - since):
                    raise Stalled(
                        f"{self.received - before} bytes in {now - since:.0f} s: slower than "
                        f"{patience.low_speed_bps:g} bytes/s"
                    )
                since, before = now, self.received
        if self._length is not None and self.received < self._length:
            raise Truncated(f"the body was cut: {self.so_far()}")

    def _arrived(self) -> bytes | memoryview:
        """What has arrived since, waiting for the first byte; nothing at the end."""
        if self._express is not None and not self._express.waits:
            return self._next()
        # A timeout of requests is one recv's: a chunk's head or trailers, dripped byte by byte, outlive it.
        with within(self._longest_s, self._silent):
            # read1 gives what has arrived; iter_content would throw away a chunk's beginning when the peer dies.
            return self._next()

    def _drained(self) -> bool:
        """Have it received where it lands, for as long as it pours; whether it still does."""
        exchange, landing = self._express, self.landing
        tap = exchange.tap() if exchange is not None else None
        if exchange is None or landing is None or tap is None:
            return False
        self._tap = tap
        landing.drain(tap)
        # Not where a kill struck: the thread may be at the socket still, and the connection is of no more use.
        exchange.tapped(tap)
        self._came, self._tap = self.received, None
        return tap.pours

    def _next(self) -> bytes | memoryview:
        if self.landing is None or self._fill is None or self._decoder is not None:
            return self._read(READ)
        return self.landing.received(self._fill(self.landing))

    def _silent(self, seconds: float) -> Stalled:
        return Stalled(f"nothing more of the body within {seconds:g} s: {self.so_far()}")

    def so_far(self) -> str:
        """How much of it came, in words."""
        return f"{self.received} of {'an unknown number of' if self._length is None else self._length} bytes"


def _check_status(response: Response) -> None:
    status = response.status_code
    if status in FILE:
        return
    if status == 206:
        raise BadResponse("status 206: a part, where the whole was asked for")
    reason = f"status {status} {printable(response.reason or '')}".rstrip()
    choked = auth.unanswered(response)
    if choked is not None:
        reason += f": the challenge cannot be answered ({type(choked).__name__})"
    if status == 407:  # RFC 9110, 15.5.8: no origin says so
        raise ProxyFailure(reason, response=_remembered(response))
    told = _retry_after_s(response.headers.get("retry-after"))
    kind: type[BadStatus] = BadStatus
    if status in (401, 403):
        kind = Unauthorized
    elif status in (404, 410):
        kind = NotFound
    elif status == 429 or (status == 503 and told is not None):
        kind = RateLimited
    error = kind(reason, response=_remembered(response))
    error.retry_after_s = told
    raise error from choked


def _retry_after_s(text: str | None) -> float | None:
    """Seconds to wait by Retry-After, a number or a date (RFC 9110, 10.2.3); None for what is neither."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _remembered(response: Response) -> Response:
    """A response that can be kept with an error: closed, a bounded body, no socket, nothing secret."""
    found = Response()
    found.status_code = response.status_code
    found.reason = response.reason
    found.url = shown(response.url)
    found.headers = CaseInsensitiveDict((k, v) for k, v in response.headers.items() if k.lower() != "set-cookie")
    found.encoding = response.encoding
    body = b""
    try:
        with gevent.Timeout(5, False):
            while len(body) < ERROR_BODY and (more := response.raw.read1(ERROR_BODY - len(body), decode_content=False)):
                body += more
    except Exception as exc:
        # An error's body is a courtesy; the error itself is told.
        log.debug("the body of a status %d did not come: %r", response.status_code, exc)
    response.close()
    found._content = body
    found._content_consumed = True
    return found


def _framing(response: Response | Exchange) -> Framing:
    try:
        if isinstance(response, Exchange):
            is_flawed, found = response.head.is_flawed(), response.framing()
        else:
            raw: Any = response.raw
            original: Any = getattr(raw, "_original_response", None)
            if hasattr(original, "strict"):
                original.strict = True  # chunks that requests lets pass (transport/reply.py)
            # Whoever answers in the server's place (a mock, a cache) has but a part of what urllib3's responses have.
            message = getattr(original, "msg", None)
            is_flawed = isinstance(message, Message) and flawed(message)
            fields = getattr(raw, "headers", response.headers)
            found = framing("GET", response.status_code, fields.items())
    except BadFraming as exc:
        raise BadResponse(str(exc)) from exc
    if is_flawed:
        raise BadResponse("the head holds a line that is no header")
    return found


def _reader(raw: Any) -> Callable[[int], bytes]:
    """What reads of a body what has arrived."""
    if hasattr(raw, "headers"):
        return partial(raw.read1, decode_content=False)
    return getattr(raw, "read1", None) or raw.read  # type: ignore[no-any-return]  # a file in a response's place
