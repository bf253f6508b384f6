"""A proxy in a process of its own, in front of a real object server, that does wrong what it is told to.

In: lines of JSON on stdin, each a list of faults.  Out: its port, then for each list how often each fault struck up to
now.  It ends with its stdin.  What no fault concerns goes through as it came: signatures hold, since the Host is kept.

    {"method": "PUT", "has": "partNumber=2", "times": 2, "does": "503 SlowDown"}   answers so, the server hears nothing
    … "does": "reset"      breaks the connection        "does": "silence"    answers nothing, as long as it runs
    … "does": "swap"       stores other bytes of the same length, and hands on what the server says of them
    … "does": "hold"       waits until the list of faults is another one, then lets it through

``times``: how often, for ever without it.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from .objects import BUCKET, ObjectServer
from .process import ROOT

__all__ = ["Faults", "faults_before"]

#: What S3 says besides its code.
_SAID = (
    "<?xml version='1.0'?><Error><Code>{}</Code><Message>for AWSAccessKeyId {}</Message><AWSAccessKeyId>{}"
    "</AWSAccessKeyId><SignatureProvided>s1gn4tur3</SignatureProvided></Error>"
)


class Faults:
    """A proxy under way."""

    def __init__(self, server: ObjectServer) -> None:
        command = [sys.executable, "-m", "tests.support.object_faults", server.endpoint]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        self.endpoint = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def are(self, *faults: dict[str, Any]) -> list[int]:
        """From now on there are these; how often each of those before them struck."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(faults) + "\n")
        self._process.stdin.flush()
        struck: list[int] = json.loads(self._process.stdout.readline())
        return struck

    def struck(self) -> int:
        """How often a fault struck up to now."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return sum(json.loads(self._process.stdout.readline()))

    def end(self) -> None:
        self._process.communicate(timeout=20)


@contextmanager
def faults_before(server: ObjectServer) -> Iterator[Faults]:
    faults = Faults(server)
    try:
        yield faults
    finally:
        faults.end()


# ---------------------------------------------------------------------------------------------- in a process of its own


class _Told:
    """The faults that there are now, and how often each struck."""

    def __init__(self) -> None:
        self.faults: list[dict[str, Any]] = []
        self.struck: list[int] = []
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)

    def now(self, faults: list[dict[str, Any]]) -> list[int]:
        with self.changed:
            before, self.faults, self.struck = self.struck, faults, [0] * len(faults)
            self.changed.notify_all()
        return before

    def of(self, method: str, path: str) -> dict[str, Any] | None:
        with self.lock:
            for at, fault in enumerate(self.faults):
                fits = method == fault["method"] and fault.get("has", "") in path
                if fits and self.struck[at] < fault.get("times", sys.maxsize):
                    self.struck[at] += 1
                    return fault
        return None

    def hold(self, fault: dict[str, Any]) -> None:
        with self.changed:
            self.changed.wait_for(lambda: all(fault is not one for one in self.faults))


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    told = _Told()
    upstream = ("", 0)
    boto: Any = None

    def _any(self) -> None:
        body = self._body()
        fault = self.told.of(self.command, self.path)
        does = "" if fault is None else fault["does"]
        if does == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif does == "silence":
            threading.Event().wait()
        elif does == "swap":
            self._swapped(body)
        elif does == "hold":
            assert fault is not None
            self.told.hold(fault)
            self._through(body)
        elif does:
            status, code = does.split()
            key = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
            self._answered(int(status), {"Content-Type": "application/xml"}, _SAID.format(code, key, key).encode())
        else:
            self._through(body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            pass  # http.server has said that it may come
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _through(self, body: bytes) -> None:
        upstream = http.client.HTTPConnection(*self.upstream, timeout=60)
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "expect"):
                upstream.putheader(name, value)
        upstream.endheaders(body or None)
        answer = upstream.getresponse()
        self._answered(answer.status, dict(answer.getheaders()), answer.read())
        upstream.close()

    def _swapped(self, body: bytes) -> None:
        other = bytes([body[0] ^ 1]) + body[1:]
        key = unquote(self.path.partition("?")[0]).removeprefix(f"/{BUCKET}/")
        answer = self.boto.put_object(Bucket=BUCKET, Key=key, Body=other)
        self._answered(200, {"ETag": answer["ETag"]}, b"")

    def _answered(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *said: Any) -> None:
        pass


def main(endpoint: str) -> None:
    host, _, port = endpoint.removeprefix("http://").partition(":")
    _Proxy.upstream = (host, int(port))
    shown = object.__new__(ObjectServer)
    shown.endpoint = endpoint
    _Proxy.boto = shown.boto()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    for line in sys.stdin:
        told = json.loads(line) if line.strip() else None
        print(json.dumps(_Proxy.told.struck if told is None else _Proxy.told.now(told)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
