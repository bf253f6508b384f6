"""A TCP proxy that meddles, a process of its own: a bit flipped on its way, an answer that never comes.

In: where to, and how; a word on stdin.  Out: a port; a line for each time that it meddled.

    flip      so many answers get one bit changed, this many bytes behind the end of their head
    swallow   once it was told "arm" on stdin, what answers the first message that has this in it is read and thrown
              away, and the connection ended; until it is told "go" it lets nobody else through

Never: a byte more or less but for that.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

from .process import ROOT

__all__ = ["Meddler"]


class Meddler:
    """One such process: ``port`` is where it listens."""

    def __init__(self, target: int, **how: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.meddling", json.dumps({"target": target, **how})],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.port = int(self.said())

    def said(self) -> str:
        """The next line that it says; waits for it, and so does the hub."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def __enter__(self) -> Meddler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


class _Proxy:
    def __init__(self, target: int, flip: int | None = None, times: int = 0, swallow: str | None = None) -> None:
        self._target = target
        self._flip, self._times = flip, times
        self._swallow = None if swallow is None else swallow.encode()
        self._armed = self._struck = False
        self._open = threading.Event()
        self._open.set()

    def serve(self) -> None:
        with socket.create_server(("127.0.0.1", 0), backlog=200) as listener:
            _say(listener.getsockname()[1])
            threading.Thread(target=self._listen, daemon=True).start()
            while True:
                client = listener.accept()[0]
                threading.Thread(target=self._through, args=(client,), daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line == "arm\n":
                self._armed = True
                _say("armed")
            else:
                self._open.set()

    def _through(self, client: socket.socket) -> None:
        self._open.wait()
        server = socket.create_connection(("127.0.0.1", self._target))
        threading.Thread(target=self._asked, args=(client, server), daemon=True).start()
        try:
            self._answered(client, server)
        except OSError:
            pass
        finally:
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # wakes the other thread, which reads from it
                end.close()

    def _asked(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                if self._armed and self._swallow is not None and self._swallow in data:
                    self._armed, self._struck = False, True
                    self._open.clear()
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _answered(self, client: socket.socket, server: socket.socket) -> None:
        head = b""
        while data := server.recv(65536):
            if self._struck:
                self._struck = False
                _say("swallowed")
                return
            if self._times > 0 and self._flip is not None:
                head += data
                at = head.find(b"\r\n\r\n") + 4 + self._flip - (len(head) - len(data))
                if b"\r\n\r\n" in head and 0 <= at < len(data):
                    data = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
                    self._times -= 1
                    head = b""
                    _say("flipped")
            client.sendall(data)


def _say(what: Any) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    _Proxy(**json.loads(sys.argv[1])).serve()
