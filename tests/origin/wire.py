"""One socket: requests come in, steps go out.  In: a connected socket.  Out: Requests; whether to go on.

Never: which scene is played for whom, or what is counted.
"""

from __future__ import annotations

import array
import base64
import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR | select.POLLNVAL
_HEAD_LIMIT = 1 << 20


class Left(Exception):
    """The client is no longer there."""


class Gate(Protocol):
    """Where a scene waits until the test lets it go on."""

    def reached(self) -> int:
        """Somebody waits here now; what becomes readable when it opens."""


@dataclass(slots=True)
class Request:
    """One request as it came; ``headers`` are pairs in their order, as they were written."""

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    connection: int = 0
    at: float = 0.0

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The first value under that name, whatever its case."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), None)

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; of a body the first 64 KiB."""
        return {**asdict(self), "body": base64.b64encode(self.body[:65536]).decode()}


class Wire:
    """A connection's socket with what was read ahead of it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._ahead = b""
        # Heads and bodies go out apart; Nagle's algorithm would hold the second one for 40 ms.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def request(self) -> Request | None:
        """The next request with its body; None when the client is done."""
        head = self.until(b"\r\n\r\n")
        if head is None:
            return None
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = (*first.split(" "), "", "")[:3]
        pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        request = Request(method, target, version, pairs, at=time.monotonic())
        request.body = self._body(request)
        return request

    def until(self, end: bytes) -> bytes | None:
        """What comes up to that end, with it; None if the client leaves first."""
        while end not in self._ahead:
            data = self.sock.recv(65536)
            if not data or len(self._ahead) > _HEAD_LIMIT:
                return None
            self._ahead += data
        found, _, self._ahead = self._ahead.partition(end)
        return found + end

    def _body(self, request: Request) -> bytes:
        if "chunked" in (request.header("Transfer-Encoding") or "").lower():
            return b"".join(iter(self._chunk, b""))
        return self._exactly(int(request.header("Content-Length") or 0))

    def _chunk(self) -> bytes:
        size = int((self.until(b"\r\n") or b"0\r\n").split(b";")[0], 16)
        return self._exactly(size + 2)[:-2]

    def _exactly(self, size: int) -> bytes:
        while len(self._ahead) < size:
            data = self.sock.recv(65536)
            if not data:
                raise Left
            self._ahead += data
        found, self._ahead = self._ahead[:size], self._ahead[size:]
        return found

    def ahead(self) -> bytes:
        """What was read and belongs to nobody yet; it is forgotten here."""
        found, self._ahead = self._ahead, b""
        return found

    def rest(self, timeout_s: float | None = None, wake: int | None = None) -> None:
        """Wait so long, or until ``wake`` is readable; Left as soon as the client goes."""
        poll = select.poll()
        poll.register(self.sock.fileno(), _GONE)
        if wake is not None:
            poll.register(wake, select.POLLIN)
        events = poll.poll(None if timeout_s is None else timeout_s * 1000)
        if any(fd == self.sock.fileno() for fd, _ in events):
            raise Left

    def play(self, steps: list[list[Any]], gate: Gate) -> bool:
        """Play the steps in order; whether the connection is still good for another request."""
        for name, *arguments in steps:
            if name in _ENDINGS:
                _ENDINGS[name](self)
                return False
            if name == "gate":
                self.rest(wake=gate.reached())
            else:
                _STEPS[name](self, *arguments)
        return True

    def close(self) -> None:
        """Close as servers do: what is on its way still arrives, and TLS says goodbye."""
        if isinstance(self.sock, ssl.SSLSocket):
            # Without blocking: close_notify goes out, the client's own is not waited for.
            with contextlib.suppress(OSError, ValueError):
                self.sock.settimeout(0)
                self.sock.unwrap()
        self.chop()

    def chop(self) -> None:
        """Close as servers that die: FIN, and no close_notify."""
        with contextlib.suppress(OSError):
            self.sock.close()

    def reset(self) -> None:
        """Close with RST, after what was sent has reached the other side."""
        with contextlib.suppress(OSError):
            self._flush()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.chop()

    def _flush(self) -> None:
        # A reset throws away what is not acknowledged yet: without this, "after n bytes" would be "after some".
        left, waiting = time.monotonic() + 2, array.array("i", [1])
        while waiting[0] and time.monotonic() < left:
            fcntl.ioctl(self.sock.fileno(), termios.TIOCOUTQ, waiting)
            if waiting[0]:
                time.sleep(0.001)

    def hang(self) -> None:
        """Say nothing more until the client goes."""
        self.rest()


def _send(wire: Wire, data: str, times: int) -> None:
    block = base64.b64decode(data)
    for _ in range(times):
        wire.sock.sendall(block)


def _drip(wire: Wire, data: str, size: int, pause_s: float) -> None:
    block = base64.b64decode(data)
    for at in range(0, len(block), size):
        wire.sock.sendall(block[at : at + size])
        wire.rest(pause_s)


def _endless(wire: Wire, data: str, pause_s: float) -> None:
    block = base64.b64decode(data)
    while True:
        wire.sock.sendall(block)
        if pause_s:
            wire.rest(pause_s)


_STEPS: dict[str, Callable[..., None]] = {"send": _send, "drip": _drip, "endless": _endless, "sleep": Wire.rest}
_ENDINGS: dict[str, Callable[[Wire], None]] = {
    "close": Wire.close,
    "chop": Wire.chop,
    "reset": Wire.reset,
    "hang": Wire.hang,
}
