"""A real FTP server, pyftpdlib's, in a process of its own.  In: a folder to serve.  Out: its port, its user.

It can be told to count, to break connections, to stand still.  Never: a server that outlives the one that made it: it
ends with its stdin.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from .process import ROOT

__all__ = ["PASSWORD", "USER", "FtpServer"]

USER = "uploader"
PASSWORD = "canary-ftp-5e/c@ret"


class FtpServer:
    """A server on a free port of loopback."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self._command = [sys.executable, "-W", "ignore", "-m", "tests.support.ftp", str(folder)]
        self.port = port
        self._process: subprocess.Popen[str]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [*self._command, str(self.port)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def stop(self) -> None:
        """End it at once: connections break."""
        self._process.kill()
        self._process.communicate(timeout=20)

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def end(self) -> None:
        self._process.communicate(timeout=20)

    @property
    def options(self) -> dict[str, Any]:
        return {"username": USER, "password": PASSWORD}

    def url(self, path: str) -> str:
        """Without user and password."""
        return f"ftp://127.0.0.1:{self.port}/{path}"


def main(folder: str, port: int) -> None:
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import FTPHandler
    from pyftpdlib.log import config_logging
    from pyftpdlib.servers import FTPServer

    config_logging(level=50)
    people = DummyAuthorizer()
    people.add_user(USER, PASSWORD, folder, perm="elradfmwMT")

    class Handler(FTPHandler):  # type: ignore[misc]
        authorizer = people
        banner = "ready"
        auth_failed_timeout = 0

    server = FTPServer(("127.0.0.1", port), Handler)
    print(server.address[1], flush=True)

    def with_stdin() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=with_stdin, daemon=True).start()
    server.serve_forever(handle_exit=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
