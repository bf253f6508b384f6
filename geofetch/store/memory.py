"""Files in memory, for tests and small things.  In: attempts and their bytes.  Out: bytes by key.

Never: a place that records know; it ends with the process.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator, Mapping
from functools import partial
from typing import BinaryIO

from ..digest import Digest
from ..errors import StoreError
from ..events import Attempt, Found, Head, Kept, Recall
from ..spec import Spec
from . import native, proof
from .part import OrderedPart
from .removal import replaced

__all__ = ["MemoryStore"]

#: From here on, hashing is done off the hub: a hop to a thread costs as much as hashing this many bytes.
LARGE_BYTES = 1 << 18


class MemoryStore:
    """``store[key]`` are the bytes; a key is the spec's path, and a location is a key."""

    name = ""
    address: str | None = None

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        #: What was moved aside, by key.
        self.quarantined: dict[str, bytes] = {}

    def __getitem__(self, key: str) -> bytes:
        return self._files[key]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._files))

    def __contains__(self, key: str) -> bool:
        return key in self._files

    def __len__(self) -> int:
        return len(self._files)

    def __bool__(self) -> bool:
        return True  # an empty store is a store

    def ready(self) -> None:
        pass

    def have(self, spec: Spec, recall: Recall | None, reread: bool = False) -> Found | None:
        content = self._files.get(spec.path)
        if content is None:
            return None
        read = partial(proof.read_bytes, content)
        if len(content) >= LARGE_BYTES:
            read = partial(native.call, proof.read_bytes, content)
        found = proof.held(spec, len(content), {}, reread, read)
        return found and Found(spec.path, len(content), found.digests, found.verified)

    def begin(self, attempt: Attempt, head: Head) -> _MemoryPart:
        return _MemoryPart(self._files, attempt.spec.path)

    def open(self, key: str) -> BinaryIO:
        return io.BytesIO(self._there(key))

    def stat(self, key: str) -> Kept | None:
        content = self._files.get(key)
        return None if content is None else Kept(self.name, key, len(content))

    def quarantine(self, key: str, seen: Kept | None = None) -> str:
        if seen is not None and key in self._files and self.stat(key) != seen:
            raise StoreError(f"{key!r}: it was replaced while it was to be put aside", errno=errno.ESTALE)
        aside = key
        while aside in self.quarantined:
            aside += "~"
        self.quarantined[aside] = self._there(key)
        del self._files[key]
        return aside

    def remove(self, kept: Kept) -> bool:
        content = self._files.get(kept.key)
        if content is None:
            return False
        if len(content) != kept.size:
            raise replaced(repr(kept.key))
        del self._files[kept.key]
        return True

    def keys(self) -> Iterator[str]:
        return iter(self)

    def close(self) -> None:
        """Nothing: what is stored stays readable."""

    def _there(self, key: str) -> bytes:
        try:
            return self._files[key]
        except KeyError:
            raise StoreError(f"nothing is stored under {key!r}", errno=errno.ENOENT) from None

    def __repr__(self) -> str:
        return f"MemoryStore({len(self)} files)"


class _MemoryPart(OrderedPart):
    __slots__ = ("_bytes", "_files", "_key")

    def __init__(self, files: dict[str, bytes], key: str) -> None:
        super().__init__()
        self._files = files
        self._key = key
        self._bytes = io.BytesIO()

    def _append(self, view: memoryview) -> None:
        self._bytes.write(view)

    def _publish(self, digests: Mapping[str, Digest]) -> tuple[str, Kept | None]:
        self._files[self._key] = self._bytes.getvalue()
        self._drop()
        return self._key, None

    def _drop(self) -> None:
        self._bytes.close()
