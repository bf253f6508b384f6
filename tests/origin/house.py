"""Listeners, what is played on them, and what was seen.  In: plain JSON values.  Out: plain JSON values.

A native thread a connection.  Never: waiting; only connections wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import ssl
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from . import proxy
from .content import tree_file, tree_name
from .scenes import Scene, raw
from .wire import Left, Request, Wire

_BAD_SCRIPT = Scene(status=404, body=b"nothing is played here").script()


class Play:
    """What is played at one path: a script a hit, the last one for ever; and a gate in it."""

    def __init__(self, scripts: list[dict[str, Any]]) -> None:
        self.scripts = scripts
        self.hits = 0
        self.at_gate = 0
        gated = any(["gate"] in [*script["head"], *script["body"]] for script in scripts)
        self._inner: socket.socket | None = None
        self._outer: socket.socket | None = None
        if gated:
            self._inner, self._outer = socket.socketpair()

    def next(self) -> dict[str, Any]:
        script = self.scripts[min(self.hits, len(self.scripts) - 1)]
        self.hits += 1
        return script

    def reached(self) -> int:
        assert self._inner is not None
        self.at_gate += 1
        return self._inner.fileno()

    def release(self) -> None:
        # The other end's end-of-file is readable for everyone, for ever: an open gate stays open.
        if self._outer is not None:
            self._outer.close()


@dataclass(slots=True)
class Tree:
    """Many small files under one prefix, made when they are asked for."""

    prefix: str
    count: int
    size: tuple[int, int]
    seed: str
    hits: Counter[str] = field(default_factory=Counter)

    def script(self, name: str) -> dict[str, Any]:
        self.hits[name] += 1
        if name == "SHA256SUMS":
            return Scene(body=self._sums()).script()
        number = int(name[1:6]) if name[1:6].isdigit() else self.count
        if number >= self.count or name != tree_name(number):
            return _BAD_SCRIPT
        return Scene(body=tree_file(number, self.size, self.seed)).script()

    def _sums(self) -> bytes:
        each = ((tree_name(n), tree_file(n, self.size, self.seed)) for n in range(self.count))
        return "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in each).encode()


@dataclass(slots=True)
class Cuts:
    """One answer, broken off behind any of its bytes: the path says behind which, and ``end`` how."""

    prefix: str
    data: bytes
    end: str

    def script(self, name: str) -> dict[str, Any]:
        return raw(self.data[: int(name)], then=self.end).script()


@dataclass(slots=True)
class Connection:
    """One accepted connection."""

    number: int
    wire: Wire
    opened: float = field(default_factory=time.monotonic)
    requests: int = 0
    open: bool = True
    tls: str | None = None
    client: str | None = None
    client_digest: str | None = None
    sni: str | None = None
    error: str | None = None

    def plain(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name != "wire"}


class Listener:
    """One port, and everything that happens on it."""

    def __init__(
        self, host: str, tls: dict[str, Any] | None, greets: list[str], forward: dict[str, Any] | None
    ) -> None:
        self.sock = socket.create_server((host, 0), backlog=1024)
        self.port: int = self.sock.getsockname()[1]
        self.plays: dict[str, Play] = {}
        self.trees: list[Tree | Cuts] = []
        self.requests: deque[Request] = deque(maxlen=20_000)
        self.connections: list[Connection] = []
        self.hits = 0
        self.latency_s = 0.0
        self._greets = greets or ["serve"]
        self._proxy = forward
        self._lock = threading.Lock()
        self._names: dict[int, str] = {}
        self._tls = tls or {}
        self._context = None if tls is None else _context(tls, self._names)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        for number in count(1):
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            connection = Connection(number, Wire(sock))
            self.connections.append(connection)
            greeting = self._greets[min(number, len(self._greets)) - 1]
            threading.Thread(target=self._serve, args=(connection, greeting), daemon=True).start()

    def _serve(self, connection: Connection, greeting: str) -> None:
        try:
            if greeting == "serve":
                self._converse(connection)
            else:
                GREETINGS[greeting](connection.wire)
        except (Left, OSError, ValueError, AttributeError) as exc:
            # ValueError and AttributeError: a TLS socket that was shut down meanwhile by the other thread.
            connection.error = f"{type(exc).__name__}: {exc}"
        finally:
            connection.wire.close()
            connection.open = False

    def _converse(self, connection: Connection) -> None:
        if self._context is not None:
            self._shake_hands(connection, self._context)
        while (request := connection.wire.request()) is not None:
            connection.requests += 1
            request.connection = connection.number
            goes_on = (
                self._forward(connection, request) if self._proxy is not None else self._answer(connection, request)
            )
            if not goes_on or (request.header("Connection") or "").lower() == "close":
                return

    def _shake_hands(self, connection: Connection, context: ssl.SSLContext) -> None:
        plain = connection.wire.sock
        sock = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        connection.wire = Wire(sock)
        sock.do_handshake()
        connection.tls = sock.version()
        connection.sni = self._names.pop(id(sock), None)
        if given := sock.getpeercert(binary_form=True):
            connection.client_digest = hashlib.sha256(given).hexdigest()
            subject: Any = (sock.getpeercert() or {}).get("subject", ())
            connection.client = dict(pair for part in subject for pair in part).get("commonName")

    def _answer(self, connection: Connection, request: Request) -> bool:
        with self._lock:
            play, script = self._chosen(request)
        if connection.requests > 1 and script["reused"]:
            connection.wire.play([[script["reused"]]], play)
            return False
        if self.latency_s:
            connection.wire.rest(self.latency_s)
        steps = script["head"] if request.method == "HEAD" else [*script["head"], *script["body"]]
        return connection.wire.play(steps, play)

    def _chosen(self, request: Request) -> tuple[Any, dict[str, Any]]:
        self.hits += 1
        self.requests.append(request)
        if play := self.plays.get(request.path):
            return play, play.next()
        for tree in self.trees:
            if request.path.startswith(tree.prefix):
                return None, tree.script(request.path.removeprefix(tree.prefix))
        return None, _BAD_SCRIPT

    def _forward(self, connection: Connection, request: Request) -> bool:
        with self._lock:
            self.hits += 1
            self.requests.append(request)
        assert self._proxy is not None
        return proxy.answer(connection.wire, request, self._proxy)

    def renew(self, cert: str) -> None:
        """Show another certificate from the next connection on."""
        self._context = _context({**self._tls, "cert": cert}, self._names)

    def drop(self, reset: bool) -> None:
        """End every connection from this side."""
        for connection in [one for one in self.connections if one.open]:
            # The connection's own thread wakes and closes: a descriptor closed under a waiting thread wakes nobody.
            # socket.socket's shutdown, since SSLSocket's takes the TLS state away from under that thread.
            with contextlib.suppress(OSError):
                if reset:
                    connection.wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                socket.socket.shutdown(connection.wire.sock, socket.SHUT_RD if reset else socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for play in self.plays.values():
            play.release()
        self.drop(reset=False)


def _context(tls: dict[str, Any], names: dict[int, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls["cert"])
    if tls.get("ciphers"):
        context.set_ciphers(tls["ciphers"])
    for name in ("minimum_version", "maximum_version"):
        if tls.get(name):
            setattr(context, name, ssl.TLSVersion[tls[name]])
    if tls.get("client_ca"):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(tls["client_ca"])

    def asked_for(sock: Any, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None:
            names[id(sock)] = name

    context.sni_callback = asked_for
    return context


def _drip_handshake(wire: Wire) -> None:
    # The head of a TLS record of 16 KiB, and then hardly any of it.
    wire.sock.sendall(b"\x16\x03\x03\x3f\xff")
    while True:
        wire.sock.sendall(b"\x02")
        wire.rest(0.02)


def _garbage(wire: Wire) -> None:
    wire.sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


#: What a listener may do with a connection before it has read anything.
GREETINGS = {
    "silent": Wire.hang,
    "close": Wire.close,
    "reset": Wire.reset,
    "drip": _drip_handshake,
    "garbage": _garbage,
}


class Closed:
    """A port that stays bound and refuses; or, with ``full``, one whose backlog has no place left."""

    def __init__(self, host: str, full: bool) -> None:
        self.sock = socket.socket()
        self.sock.bind((host, 0))
        self.port: int = self.sock.getsockname()[1]
        self._crowd: list[socket.socket] = []
        if full:
            self.sock.listen(0)
            while self._one_more((host, self.port)) and len(self._crowd) < 16:
                pass

    def _one_more(self, address: tuple[str, int]) -> bool:
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(address)
        self._crowd.append(sock)
        return bool(select.select([], [sock], [], 0.2)[1])

    def close(self) -> None:
        for sock in (*self._crowd, self.sock):
            sock.close()
