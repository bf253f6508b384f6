"""An origin that takes its time, over HTTP and HTTPS, and two proxies to it; ordinary threads, nothing patched.

In     a folder with cert.pem and key.pem (argv); the end of stdin ends it
Out    one line of JSON: the URL of each listener
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SLOW_S = 0.3
PIECES = 10
COUNTS: Counter[str] = Counter()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None, before_tls_s: float) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.tls = tls
        self.before_tls_s = before_tls_s
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://localhost:{self.server_port}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.tls is None:
            return super().finish_request(request, client_address)
        time.sleep(self.before_tls_s)
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            self.RequestHandlerClass(wrapped, client_address, self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        COUNTS["broken"] += 1


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A head and a body in two packets meet the peer's delayed acknowledgement otherwise: 40 ms a call.
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        COUNTS["connections"] += 1

    def log_message(self, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


class Origin(Handler):
    def do_GET(self) -> None:
        kind, *rest = [part for part in self.path.split("/") if part != "bucket"][1:]
        getattr(self, f"get_{kind}")(*rest)

    def get_slow(self) -> None:
        time.sleep(SLOW_S)
        self.answer(200, b"slow")

    def get_fast(self) -> None:
        self.answer(200, b"fast")

    def get_counts(self) -> None:
        self.answer(200, json.dumps(COUNTS).encode())

    def get_failing(self, key: str, times: str, retry_after: str = "") -> None:
        """503 so many times, then 200; ``key`` keeps the tests apart."""
        COUNTS[key] += 1
        told = {"Retry_After": retry_after} if retry_after else {}
        self.answer(503 if COUNTS[key] <= int(times) else 200, b"", **told)

    def get_drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(PIECES))
        self.end_headers()
        for _ in range(PIECES):
            self.wfile.flush()
            time.sleep(SLOW_S / 3)
            self.wfile.write(b".")

    def get_digest(self) -> None:
        time.sleep(SLOW_S / 6)
        if self.headers.get("Authorization", "").startswith("Digest "):
            return self.answer(200, b"in")
        self.answer(401, b"", WWW_Authenticate='Digest realm="worlds", nonce="0123456789abcdef", qop="auth"')


class Proxy(Handler):
    """Forwards absolute URLs, tunnels CONNECT."""

    def do_GET(self) -> None:
        COUNTS["forwarded"] += 1
        target = urlsplit(self.path)
        upstream = http.client.HTTPConnection(target.hostname or "", target.port)
        upstream.request("GET", target.path)
        answer = upstream.getresponse()
        self.answer(answer.status, answer.read(), Via="1.1 worlds")
        upstream.close()

    def do_CONNECT(self) -> None:
        COUNTS["tunnels"] += 1
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            self._relay(self.connection, upstream)
        self.close_connection = True

    def _relay(self, near: Any, far: socket.socket) -> None:
        while True:
            ready = [near] if getattr(near, "pending", int)() else select.select([near, far], [], [])[0]
            for one in ready:
                piece = one.recv(65536)
                if not piece:
                    return
                (far if one is near else near).sendall(piece)


def main(folder: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    listeners = {
        "http": Server(Origin, None, 0),
        "https": Server(Origin, tls, 0),
        "slow_handshake": Server(Origin, tls, SLOW_S),
        "proxy": Server(Proxy, None, 0),
        "tls_proxy": Server(Proxy, tls, 0),
    }
    print(json.dumps({name: server.url for name, server in listeners.items()}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
