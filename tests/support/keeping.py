"""A store that shows what reached a part, and when it was over.  In: attempts and their bytes.  Out: Kept parts.

Never: a file; bytes taken after the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geofetch.events import Attempt, Head
from geofetch.events import Kept as Place
from geofetch.store import TempStore

__all__ = ["Keeping", "Part"]


class Part:
    """The part of one attempt: ``data`` is what had reached it when it was published, or when ``failed`` was told."""

    __slots__ = ("_data", "ended", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.ended: str | None = None
        self._data = bytearray()

    @property
    def data(self) -> bytes:
        return bytes(self._data)

    def write(self, view: memoryview) -> None:
        assert self.ended is None, f"written when it was {self.ended}"
        self._data += view

    def publish(self, digests: Mapping[str, Any]) -> tuple[bytes, Place | None]:
        assert self.ended is None
        self.ended = "published"
        return self.data, None

    def discard(self) -> None:
        assert self.ended is None
        self.ended = "discarded"


class Keeping(TempStore):
    """Every part that was begun; a location is the bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Part] = []

    def begin(self, attempt: Attempt, head: Head) -> Any:
        assert attempt.source is not None
        part = Part(attempt.source.url)
        self.parts.append(part)
        return part

    def of(self, url: str) -> bytes | None:
        """What reached the one part of this URL; None where none was begun."""
        found = [part for part in self.parts if part.url == url]
        assert len(found) <= 1
        return found[0].data if found else None
