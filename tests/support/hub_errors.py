"""What gevent's hubs print.  In: nothing.  Out: every error of a greenlet that nobody caught.

Never: the exception itself; its traceback would keep sockets and files open.
"""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

import pytest
from gevent.hub import Hub


class HubErrors:
    """The errors that hubs printed, as text; a test that means one calls ``expected`` with a part of it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def listen(self, patch: pytest.MonkeyPatch) -> None:
        """From now on, in every hub of this process."""
        patch.setattr(Hub, "print_exception", self._note)

    def _note(
        self, context: Any, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        told = "".join(traceback.format_exception(kind, exc, trace)) if kind is not None else "an error"
        self.seen.append(f"{told}in {context!r}")

    def expected(self, part: str) -> None:
        """There was such an error, and it was meant."""
        found = [error for error in self.seen if part in error]
        assert found, f"no greenlet failed with {part!r}"
        for error in found:
            self.seen.remove(error)
