"""An origin for ``geofetch demo``: made-up files and their SHA256SUMS, on the loopback, in a process of its own.

In: how many files.  Out: a line of JSON with the port, then HTTP; a line with the count of requests for each line on
stdin.  It ends with its stdin.  Never: a file on the disk, an address that others reach.

    python -m geofetch.cli.demo_origin 300
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["contents", "name_of", "serve", "sums"]

SMALLEST, SPREAD = 2_000, 80_000


def name_of(number: int) -> str:
    """The name of a file; some are of the kind that is percent-encoded wrongly again and again."""
    folder = ("main", "extra", "with space")[number % 3]
    return f"{folder}/lib{number:03}_1%3a{number % 7}.{number % 10}.pkg"


@cache
def contents(number: int) -> bytes:
    """The bytes of a file: always the same, and not worth compressing."""
    seed = hashlib.sha256(str(number).encode()).digest()
    return hashlib.shake_128(seed).digest(SMALLEST + int.from_bytes(seed[:4], "big") % SPREAD)


@cache
def sums(count: int) -> bytes:
    """All of them as sha256sum writes it."""
    lines = (f"{hashlib.sha256(contents(number)).hexdigest()}  {name_of(number)}\n" for number in range(count))
    return "".join(lines).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Bursts of connections are what this is for; the default of 5 would drop some of them.
    request_queue_size = 128

    def __init__(self, count: int) -> None:
        from urllib.parse import quote

        super().__init__(("127.0.0.1", 0), _Handler)
        self.served = 0
        self.lock = threading.Lock()
        self.count = count
        self.numbers = {"/" + quote(name_of(number)): number for number in range(count)}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no news; what else may be is printed, as ever."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in one piece; else Nagle and delayed ACKs make 40 ms of each answer.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        number = self.server.numbers.get(_plain(self.path))
        body = sums(self.server.count) if self.path == "/SHA256SUMS" else None if number is None else contents(number)
        if number is not None:
            with self.server.lock:
                self.server.served += 1
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what is shown is the command's."""


def _plain(path: str) -> str:
    from urllib.parse import quote, unquote

    # One file has many spellings ("~" and "%7E"); this one is quote()'s.
    return quote(unquote(path))


def serve(count: int) -> None:
    """Serve until stdin ends."""
    for number in range(count):
        contents(number)
    sums(count)
    with _Server(count) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(json.dumps({"port": server.server_address[1]}), flush=True)
        for _ in sys.stdin:
            print(json.dumps({"served": server.served}), flush=True)
        server.shutdown()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
