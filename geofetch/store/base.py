"""What a store is: where files live, under names that hold only whole, proven bytes.

In: an attempt, its bytes, the word to publish or discard.  Out: a location, and what the file system says of it.
Never: whether the bytes are right; that is validation's, and it has spoken before ``publish``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Protocol, runtime_checkable

from ..digest import Digest
from ..events import Attempt, Found, Head, Kept, Listener, Recall
from ..spec import Spec

__all__ = ["Part", "Removing", "Store", "StoreStage"]


class Part(Protocol):
    """A file on its way in.  Every method raises StoreError where the system refuses.

    One that waits for a network may have ``give_up()``, too: said on the hub before ``discard`` where a write is under
    way on a native thread that nobody waits for any more.  It waits for nothing; the write ends soon, by any error.
    """

    def write(self, view: memoryview) -> None:
        """Append these bytes; called in order, perhaps on a native thread, never by two at once."""

    def publish(self, digests: Mapping[str, Digest]) -> tuple[Any, Kept | None]:
        """Give it its final name, at once and whole; its location, and how records know it (None: not at all).

        Called on the hub, may wait, and at most once: after a refusal the part is discarded.  Whoever is killed in here
        finds it published whole, or not at all.
        """

    def discard(self) -> None:
        """Leave nothing of it; nothing is done once it is published, or the second time.

        Called on the hub, at any time: a write that is under way on a native thread is waited for.
        """


@runtime_checkable
class Store(Protocol):
    """Where files live.  One store may serve many pools and greenlets at once.

    ``stat`` and ``open`` are called on native threads too, several at once: a verify reads there.  All other methods
    are called on the hub alone, and may wait as greenlets do.

    ``name`` is how records name it (``file:///srv/mirror``); a store without one is not recorded as a place.
    ``durable``: what it has published outlives a cut of power, and so shall its record; a store may lack it (False).
    ``address`` is the digest algorithm that it files under, which is then always computed; None: by path.
    """

    name: str
    address: str | None

    def ready(self) -> None:
        """Nothing, if files can be put here; a StoreError that says why not.  Cheap after the first time."""

    def have(self, spec: Spec, recall: Recall | None, reread: bool = False) -> Found | None:
        """The file, if it is there and is what the spec wants; None otherwise.

        With no size and no digest in the spec there is nothing to hold it against: None.  A file that ``recall`` knows,
        unchanged in size, mtime and inode, is not read unless ``reread``; any other is read and hashed off the hub.
        """

    def begin(self, attempt: Attempt, head: Head) -> Part:
        """A part for this attempt; nothing is visible under the final name."""

    def open(self, key: str) -> BinaryIO:
        """What is stored under this key, to be read; a StoreError (errno ENOENT) if there is nothing.

        Called on the hub or on a native thread; what it gives is read and closed where it was opened.
        """

    def stat(self, key: str) -> Kept | None:
        """What the file system says of this key; None if there is nothing.  On the hub or on a native thread."""

    def quarantine(self, key: str, seen: Kept | None = None) -> Any:
        """Move what is stored under this key aside, where nobody takes it for good; where it is now.

        A StoreError: errno ENOENT if there is nothing, ESTALE if ``seen`` is told, what ``stat`` said, and something
        else is there by now: that stays.
        """

    def keys(self) -> Iterator[str]:
        """The key of every file that is published here, in no order; not of what is in quarantine."""

    def close(self) -> None:
        """Let go of what the store holds; a second time does nothing."""


@runtime_checkable
class Removing(Protocol):
    """A store that can also remove what it keeps: all of ours that find again what they stored.

    Not a part of Store, which plugins' stores were written for before there was this: of one that lacks it a gc says
    that it cannot remove.  A store may also have ``sweep(older_than_s) -> int``: remove what dead processes left
    (parts, uploads, as old as that where there is no other way to tell); how many there were.
    """

    def remove(self, kept: Kept) -> bool:
        """Remove what is stored under ``kept.key`` for good; False if there is nothing.

        Only the very file that is meant: where size, mtime or inode are not those of ``kept`` (as far as it tells
        them) it is somebody else's now, and stays: a StoreError (errno ESTALE).  Called on native threads, several at
        once, and on the hub.
        """


class StoreStage:
    """A store as a stage: a part at ``headers``, bytes at ``chunk``, its name at ``accepted``, gone at ``failed``."""

    offload = True

    def __init__(self, store: Store, recall: Recall | None = None, reread: bool = False) -> None:
        self._store = store
        self._recall = recall
        self._reread = reread

    def have(self, spec: Spec) -> Found | None:
        self._store.ready()
        return self._store.have(spec, self._recall, self._reread)

    def bind(self, attempt: Attempt) -> Listener | None:
        # An adoption: the file has its name already.
        return None if attempt.source is None else _Kept(self._store, attempt)

    def __repr__(self) -> str:
        return f"storing in {self._store!r}"


class _Kept(Listener):
    """The part of one attempt."""

    __slots__ = ("_attempt", "_part", "_store")

    def __init__(self, store: Store, attempt: Attempt) -> None:
        self._store = store
        self._attempt = attempt
        self._part: Part | None = None

    def on_headers(self, head: Head) -> None:
        self._part = self._store.begin(self._attempt, head)

    def on_chunk(self, view: memoryview) -> None:
        assert self._part is not None
        self._part.write(view)

    def on_accepted(self) -> None:
        assert self._part is not None
        attempt = self._attempt
        attempt.location, attempt.kept = self._part.publish(attempt.digests)
        self._part = None  # what fails from here on (a record, a hook) never unpublishes

    def on_failed(self, error: BaseException) -> None:
        if self._part is not None:
            self._part.discard()

    def give_up(self) -> None:
        give_up = getattr(self._part, "give_up", None)
        if give_up is not None:
            give_up()
