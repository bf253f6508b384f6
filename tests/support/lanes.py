"""Which lane a download takes: straight to a connection (geofetch/express.py), or the whole way through requests.

In: a lane that is shut.  Out: the lane of each request, in their order.  Never: another way to ask.
"""

from __future__ import annotations

from typing import Any

import pytest

from geofetch import express

#: The fixtures; a test file imports them all, and the names by name.
__all__ = ["LANES", "lane", "lanes"]

#: Every test of ``lane`` runs once on each.
LANES = ("express", "requests")


class Lanes:
    """Which lane each request of a download took; ``closed``: the express lane is shut."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.taken: list[str] = []
        self._asked = express.asked
        self.closed = False
        patch.setattr(express, "asked", self._noted)

    def _noted(self, *about: Any) -> Any:
        try:
            found = None if self.closed else self._asked(*about)
        except BaseException:
            self.taken.append("express")
            raise
        self.taken.append("requests" if found is None else "express")
        return found


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> Lanes:
    return Lanes(monkeypatch)


@pytest.fixture(params=LANES)
def lane(request: pytest.FixtureRequest, lanes: Lanes) -> str:
    """The lane that every request of the test takes."""
    lanes.closed = request.param == "requests"
    return str(request.param)
