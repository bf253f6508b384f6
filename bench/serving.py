"""Our own origin: what nginx cannot do or where there is none.  In: a JSON line that says what to serve, then one
"count" a line.  Out: JSON lines, first the ports, then how many connections were accepted so far.

Several processes share the listening sockets.  A file's name says what goes wrong with it (content.FAULTS).
Never: an access to the disk while it serves small files, a process that outlives its stdin.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import gevent.ssl
from gevent.server import StreamServer

from .content import BLOCK, FAULTS

BACKLOG = 4096
#: The greatest head of a request that is read.
HEAD_MOST = 1 << 16
COUNTER = struct.Struct("@Q")


class Shelf:
    """The files of one folder by path; those of up to a block stay in memory with their heads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[bytes, bytes | mmap.mmap] = {}

    def body(self, path: bytes) -> bytes | mmap.mmap | None:
        found = self._kept.get(path)
        if found is None:
            file = self._folder / os.path.basename(path.decode("latin-1"))
            if not file.is_file():
                return None
            found = self._kept[path] = self._read(file)
        return found

    def _read(self, file: Path) -> bytes | mmap.mmap:
        if file.stat().st_size <= BLOCK:
            return file.read_bytes()
        with open(file, "rb") as opened:
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)


class Door:
    """One port.  ``kept``: whether a connection serves a second request; ``delay_s``: how long each answer waits."""

    def __init__(self, shelf: Shelf, kept: bool, delay_s: float, counter: mmap.mmap, place: int) -> None:
        self._shelf = shelf
        self._kept = kept
        self._delay_s = delay_s
        self._counter = counter
        self._place = place * COUNTER.size

    def __call__(self, client: Any, address: Any) -> None:
        """One connection, to its end."""
        (seen,) = COUNTER.unpack_from(self._counter, self._place)
        COUNTER.pack_into(self._counter, self._place, seen + 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for path in _requests(client):
                if self._delay_s:
                    gevent.sleep(self._delay_s)
                if not self._answered(client, path):
                    return
        except OSError:
            pass  # a client that goes away is no news here: what it lacks, it reports itself
        finally:
            client.close()

    def _answered(self, client: Any, path: bytes) -> bool:
        """Whether the connection goes on."""
        fault = next((one for one in FAULTS if path.endswith(f"-{one}.bin".encode())), "")
        body = self._shelf.body(path)
        if body is None or fault in ("404", "500"):
            said = b"500 Internal Server Error" if fault == "500" else b"404 Not Found"
            client.sendall(self._head(said, 2) + b"no")
            return self._kept
        head = self._head(b"200 OK", len(body))
        if fault in ("reset", "truncated"):
            client.sendall(head + body[: len(body) // 2])
            if fault == "reset":
                _reset(client)
            return False
        if fault == "wrong":
            body = body[:-1] + bytes([body[-1] ^ 1])
        if len(body) <= BLOCK:
            client.sendall(head + body[:])
        else:
            client.sendall(head)
            with memoryview(body) as view:
                client.sendall(view)
        return self._kept

    def _head(self, status: bytes, length: int) -> bytes:
        connection = b"" if self._kept else b"Connection: close\r\n"
        return b"HTTP/1.1 %s\r\nContent-Type: application/octet-stream\r\n%sContent-Length: %d\r\n\r\n" % (
            status,
            connection,
            length,
        )


def _requests(client: Any) -> Iterator[bytes]:
    """The path of each request; nobody sends us a body."""
    waiting = b""
    while True:
        while (end := waiting.find(b"\r\n\r\n")) < 0:
            received = client.recv(HEAD_MOST)
            if not received or len(waiting) > HEAD_MOST:
                return
            waiting += received
        yield waiting[: waiting.index(b"\r\n")].split(b" ")[1]
        waiting = waiting[end + 4 :]


def _reset(client: Any) -> None:
    """Close so that the other side gets a RST, not a FIN, once it has had time to take what was sent."""
    gevent.sleep(0.01)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _listening() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _serve(listeners: dict[str, socket.socket], told: dict[str, Any], counter: mmap.mmap, place: int) -> None:
    shelf = Shelf(Path(told["folder"]))
    servers = []
    for name, listener in listeners.items():
        secure: dict[str, Any] = {}
        if name != "http":
            # gevent's: a handshake on the standard library's stops the hub until its client has answered.
            context = gevent.ssl.SSLContext(gevent.ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(told["certificate"])
            secure = {"ssl_context": context}
        door = Door(shelf, name != "https_new", told["delay_s"], counter, place)
        servers.append(StreamServer(_green(listener), door, **secure))
    for server in servers:
        server.start()
    gevent.wait()


def _green(listener: socket.socket) -> Any:
    return gevent.socket.socket(listener.family, listener.type, listener.proto, fileno=listener.detach())


def main() -> None:
    """Serve until stdin ends."""
    told = json.loads(sys.stdin.readline())
    names = ["http", "https", "https_new"] if told["certificate"] else ["http"]
    listeners = {name: _listening() for name in names}
    ports = {name: listener.getsockname()[1] for name, listener in listeners.items()}
    counter = mmap.mmap(-1, told["processes"] * COUNTER.size)
    children = []
    for place in range(told["processes"]):
        child = os.fork()
        if not child:
            sys.stdin.close()
            _serve(listeners, told, counter, place)
            os._exit(0)
        children.append(child)
    try:
        _answer(ports, counter)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _answer(ports: dict[str, int], counter: mmap.mmap) -> None:
    print(json.dumps(ports), flush=True)
    for _ in sys.stdin:
        print(sum(seen for (seen,) in COUNTER.iter_unpack(counter[:])), flush=True)


if __name__ == "__main__":
    main()
