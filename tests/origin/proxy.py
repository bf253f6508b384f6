"""A forward proxy: plain requests and CONNECT.  In: a request, and how to treat it.  Out: whether to go on.

    {"auth": "Basic …", "connect": status or "hang", "close", "garbage", "plain": status, "cut_after": bytes}

Never: a cache, a changed byte of an answer.
"""

from __future__ import annotations

import contextlib
import select
import socket
from typing import Any
from urllib.parse import urlsplit

from .wire import Request, Wire

_OWN = frozenset({"connection", "proxy-connection", "proxy-authorization", "keep-alive"})


def answer(wire: Wire, request: Request, how: dict[str, Any]) -> bool:
    """Treat one request; whether the connection is good for another one."""
    if how.get("auth") and request.header("Proxy-Authorization") != how["auth"]:
        return _refuse(wire, 407, 'Proxy-Authenticate: Basic realm="the way out"\r\n')
    if request.method == "CONNECT":
        return _tunnel(wire, request, how)
    if how.get("plain"):
        return _refuse(wire, how["plain"])
    return _relay(wire, request, how.get("cut_after"))


def _refuse(wire: Wire, status: int, more: str = "") -> bool:
    wire.sock.sendall(f"HTTP/1.1 {status} No\r\n{more}Content-Length: 10\r\n\r\nno way out".encode())
    return True


def _tunnel(wire: Wire, request: Request, how: dict[str, Any]) -> bool:
    match how.get("connect"):
        case None:
            _connected(wire, request, how.get("cut_after"))
        case "hang":
            wire.hang()
        case "close":
            wire.close()
        case "garbage":
            wire.sock.sendall(b"\x16\x03\x01 what?\r\n\r\n")
        case status:
            return _refuse(wire, status)
    return False


def _connected(wire: Wire, request: Request, cut_after: int | None) -> None:
    host, _, port = request.target.rpartition(":")
    upstream = _reached(wire, host.strip("[]"), int(port))
    if upstream is None:
        return
    with upstream:
        wire.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        upstream.sendall(wire.ahead())
        _pump(wire.sock, upstream, cut_after)


def _reached(wire: Wire, host: str, port: int) -> socket.socket | None:
    try:
        return socket.create_connection((host, port), timeout=10)
    except OSError:
        _refuse(wire, 502)
        return None


def _pump(client: socket.socket, upstream: socket.socket, cut_after: int | None) -> None:
    """Bytes both ways until one side ends; at most so many to the client."""
    upstream.settimeout(None)
    while True:
        # A TLS record holds 16 KiB at most: recv takes it whole, so that select sees whatever is left.
        ready = select.select([client, upstream], [], [])[0]
        for source, target in ((client, upstream), (upstream, client)):
            if source not in ready:
                continue
            data = source.recv(65536)
            if source is upstream and cut_after is not None:
                data, cut_after = data[:cut_after], cut_after - len(data)
            if not data:
                return
            target.sendall(data)


def _relay(wire: Wire, request: Request, cut_after: int | None) -> bool:
    url = urlsplit(request.target)
    if url.scheme != "http" or not url.hostname:
        return _refuse(wire, 400)
    upstream = _reached(wire, url.hostname, url.port or 80)
    if upstream is None:
        return True
    with contextlib.closing(upstream):
        upstream.settimeout(None)
        upstream.sendall(_rewritten(request, f"{url.path or '/'}{'?' + url.query if url.query else ''}"))
        return _answered(wire, Wire(upstream), request, cut_after)


def _rewritten(request: Request, target: str) -> bytes:
    # A body that came in chunks was read whole: it goes on with its length.
    pairs = [pair for pair in request.headers if pair[0].lower() not in _OWN | {"transfer-encoding", "content-length"}]
    if request.body or request.header("Content-Length"):
        pairs.append(("Content-Length", str(len(request.body))))
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs), "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + request.body


def _answered(wire: Wire, upstream: Wire, request: Request, cut_after: int | None) -> bool:
    """Pass the answer on as it comes; go on only where its length says that it was all."""
    head = upstream.until(b"\r\n\r\n")
    if head is None:
        wire.close()
        return False
    want = _length(head, request)
    sent, data = 0, upstream.ahead()
    if want is None:
        # We close when it ends. Unsaid, whoever is quick would send its next request into that.
        head = head[:-2] + b"Connection: close\r\n\r\n"
    wire.sock.sendall(head)
    while data or sent != want:
        data = data[: cut_after - sent] if cut_after is not None else data
        if data:
            wire.sock.sendall(data)
        sent += len(data)
        if sent in (want, cut_after) or not (data := upstream.sock.recv(65536)):
            break
    return sent == want


def _length(head: bytes, request: Request) -> int | None:
    if request.method == "HEAD":
        return 0
    lines = head.decode("latin-1").lower().split("\r\n")
    lengths = [line.partition(":")[2].strip() for line in lines if line.startswith("content-length:")]
    return int(lengths[0]) if len(lengths) == 1 and lengths[0].isdigit() else None
