"""Child processes; the origin's is one, with a wire to it.  In: commands.  Out: their answers.  Never: waiting for a
client."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Child(subprocess.Popen[str]):
    """A child process that does not outlive its ``with`` block: where that is left by an error, nobody waits for it."""

    def __exit__(self, kind: type[BaseException] | None, value: Any, traceback: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)


class OriginProcess:
    """One origin for a whole test run; its calls take well under a millisecond, so they may block."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C goes to the test run, which ends the origin when it is ready to.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.origin"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, command: str, **arguments: Any) -> Any:
        """The answer to one command; AssertionError with the origin's own traceback if it cannot be obeyed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # No greenlet switch happens between asking and reading, and native threads wait for one another.
        with self._lock:
            self._process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        assert line, f"the origin's process ended with {self._process.poll()}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    def end(self) -> None:
        """Let it go; it ends with its stdin."""
        self._process.communicate(timeout=10)
