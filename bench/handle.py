"""A rival's process as the bench sees it.  In: commands.  Out: its answers, within a time.  Never: a process that is
left behind, the caller's proxies, CA bundles or netrc.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .rivals import Settings

__all__ = ["Broken", "Process"]

ROOT = Path(__file__).resolve().parents[1]
#: What a machine may set and a comparison must not see.
FOREIGN = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC")


class Broken(Exception):
    """A rival that could not go on: it raised, it died, it did not end."""


class Process:
    """One rival in a process of its own, opened."""

    def __init__(self, rival: str, settings: Settings, home: Path) -> None:
        self._said = home / "stderr.txt"
        with open(self._said, "ab") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker"],
                cwd=ROOT,
                env=_environment(home),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._rest = b""
        try:
            self.open(rival, settings)
        except BaseException:
            self.end()
            raise

    def open(self, rival: str, settings: Settings) -> None:
        self.ask(60, do="open", rival=rival, settings=asdict(settings))

    def ask(self, limit_s: float, **told: Any) -> dict[str, Any]:
        """The answer to one command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Broken(self._last_words()) from None
        answer: dict[str, Any] = json.loads(self._line(limit_s))
        if "broken" in answer:
            raise Broken(answer["broken"])
        return answer

    def _line(self, limit_s: float) -> bytes:
        assert self._process.stdout is not None
        until = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, until - time.monotonic())):
                    self._kill()
                    raise Broken(f"not done after {limit_s:.0f} s")
                piece = os.read(self._process.stdout.fileno(), 1 << 20)
                if not piece:
                    raise Broken(self._last_words())
                self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _kill(self) -> None:
        # Its whole group: the command that a rival runs would go on without it, and keep the machine busy.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self._process.kill()

    def _last_words(self) -> str:
        lines = self._said.read_text(errors="replace").strip().splitlines()
        return f"died with {self._process.wait()}: {lines[-1] if lines else 'not a word'}"

    def end(self) -> None:
        """Close the rival if it can be, end the process."""
        try:
            if self._process.poll() is None:
                self.ask(10, do="close")
        except Broken:
            self._kill()
        finally:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def _wait(self) -> None:
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._kill()  # a thread of its client that does not end; its figures are taken
            self._process.wait()


def _environment(home: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in FOREIGN and not name.lower().endswith("_proxy") and not name.startswith("XDG_")
    }
    return kept | {"HOME": str(home), "PYTHONHASHSEED": "0"}
