"""A client of plain sockets.  In: a port, a handle.  Out: bytes as they came.  Never: HTTP's rules."""

from __future__ import annotations

import socket

from tests.support.mirrors import Handle, Port

PATIENCE_S = 10


def connected(port: Port) -> socket.socket:
    return socket.create_connection((port.host, port.port), timeout=PATIENCE_S)


def ask(sock: socket.socket, handle: Handle, method: str = "GET", more: str = "") -> None:
    sock.sendall(f"{method} {handle.path} HTTP/1.1\r\nHost: here\r\n{more}\r\n".encode())


def rest(sock: socket.socket) -> bytes:
    """Everything up to the end of the connection."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


def heard(handle: Handle, method: str = "GET") -> bytes:
    """The whole answer, byte for byte; the connection is given back to the origin's closing."""
    with connected(handle.mirror) as sock:
        ask(sock, handle, method, "Connection: close\r\n")
        return rest(sock)


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def exactly(sock: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        data = sock.recv(size - len(found))
        assert data, f"only {len(found)} of {size} bytes came"
        found += data
    return found


def head(sock: socket.socket) -> bytes:
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        found += exactly(sock, 1)
    return found
