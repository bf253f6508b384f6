"""One file on its way into a bucket.  In: its bytes, in order.  Out: an object under its key, at once and whole.

Up to ``part_bytes`` a file waits in memory, and is stored by one request; a larger one is sent part by part, each when
the next byte comes that finds no room: so many bytes a download, and no disk.  On the hub only memory is touched,
unless a whole part is full there; then a native thread sends it.  Large files come on a native lane, and are sent
there.
Never: a name that anybody sees before the file is proven.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ... import hubs
from ...digest import Digest
from ...errors import StoreError
from ...events import Kept
from ...spec import Spec
from .. import native
from ..part import OrderedPart
from .awaited import Awaited, Who
from .bucket import NEW, Bucket, Seen
from .checks import sums_of, told
from .keys import Keys
from .reading import digests_of
from .refusals import UNMET, Refused
from .uploads import ABORT_S, Upload, part_bytes

__all__ = ["S3Part"]

#: How often a key is tried for that others take and give up meanwhile.
TRIES = 5

#: Stores under a key on a condition; the ETag and the size of what is there then.
_Storing: TypeAlias = Callable[[str, Mapping[str, Digest], str | None], tuple[str, int]]


class S3Part(OrderedPart):
    """The part of one attempt."""

    __slots__ = ("_awaited", "_bucket", "_buffer", "_keys", "_least", "_named", "_spec", "_upload")

    def __init__(self, bucket: Bucket, keys: Keys, spec: Spec, least: int) -> None:
        super().__init__()
        self._bucket = bucket
        self._keys = keys
        self._spec = spec
        self._least = least
        self._buffer = bytearray()
        self._upload: Upload | None = None
        self._awaited = Awaited()
        #: What an upload says of its digests, before its bytes are all there: it is held against them at the end.
        self._named = tuple(spec.digests)

    def give_up(self) -> None:
        """Nobody waits for it any more: a request under way has a moment to end by itself, then it is broken off."""
        self._awaited.give_up()

    def discard(self) -> None:
        if not self._over:
            self.give_up()
        super().discard()
        self._awaited.over()

    def _append(self, view: memoryview) -> None:
        while len(view):
            size = part_bytes(self._least, len(self._upload.parts) + 1 if self._upload else 1)
            room = size - len(self._buffer)
            if not room:
                self._send_apart()
                continue
            self._buffer += view[:room]
            view = view[room:]

    def _send_apart(self) -> None:
        if hubs.native():
            self._send()
        else:
            native.settle(self._send, kind=native.OBJECTS, killed=self._awaited.give_up)

    def _send(self) -> None:
        if self._upload is None:
            key = self._keys.begin(self._spec)
            self._upload = Upload.begun(self._bucket, key, told(self._named), self._awaited)
        self._upload.send(self._buffer, self._awaited)
        self._buffer = bytearray()

    def _publish(self, digests: Mapping[str, Digest]) -> tuple[Any, Kept | None]:
        if self._upload is not None:
            self._hold(digests)
        key = self._keys.final(self._spec, digests)
        seen = native.finish(self._place, key, digests, kind=native.OBJECTS, killed=self._awaited.give_up)
        return self._bucket.place.url(key), seen.kept(self._bucket.place.name, key)

    def _hold(self, digests: Mapping[str, Digest]) -> None:
        for one in self._named:
            if digests.get(one.algorithm) != one:
                raise StoreError(f"the upload of {self._spec.path!r} says {one}, and nobody has proven that")

    def _place(self, key: str, digests: Mapping[str, Digest]) -> Seen:
        """On a native thread."""
        if self._upload is None:
            seen = self._placed(key, digests, self._put_whole)
        else:
            self._send()
            known = self._upload.key == key
            seen = self._placed(key, digests, self._completed) if known else self._renamed(self._upload, key, digests)
        self._drop_here(self._awaited.finishing)  # the same bytes were there already
        return seen

    def _put_whole(self, key: str, digests: Mapping[str, Digest], condition: str | None) -> tuple[str, int]:
        sums = sums_of(self._buffer)
        if digests.get("sha256", Digest("sha256", sums.sha256)).value != sums.sha256:
            raise StoreError(f"storing {self._bucket.place.url(key)}: the bytes have changed since they were proven")
        etag = self._bucket.put(key, self._buffer, sums, told(digests.values()), condition, self._awaited)
        return etag, len(self._buffer)

    def _completed(self, key: str, digests: Mapping[str, Digest], condition: str | None) -> tuple[str, int]:
        assert self._upload is not None
        etag, size = self._upload.complete(condition, self._awaited), self._upload.size
        self._upload = None
        return etag, size

    def _placed(self, key: str, digests: Mapping[str, Digest], store: _Storing) -> Seen:
        """Stored, unless the same bytes are there already in a store that files by digest."""
        if self._keys.address is None:
            return self._seen(key, *store(key, digests, None))
        looked = False
        for _ in range(TRIES):
            knows = self._bucket.conditional
            # A server that knows no conditions is asked first; what comes between is the same bytes, by their name.
            there = self._bucket.head(key, self._awaited) if looked or not knows else None
            if there is not None and self._same(key, there, digests):
                return there
            try:
                return self._seen(key, *store(key, digests, NEW if there is None else there.etag))
            except Refused as exc:
                if exc.code not in UNMET and self._bucket.conditional == knows:
                    raise
                looked = True
        raise StoreError(f"storing {self._bucket.place.url(key)}: others replace it whenever it is stored")

    def _same(self, key: str, there: Seen, digests: Mapping[str, Digest]) -> bool:
        # It may have rotted, and then the new bytes are to mend it: what its head says does not do.
        wanted = digests["sha256"]
        size = self._upload.size if self._upload is not None else len(self._buffer)
        if there.size != size:
            return False
        found = digests_of(self._bucket, key, there, {"sha256": len(wanted.value)}, self._awaited)
        return found is not None and found["sha256"] == wanted

    def _renamed(self, upload: Upload, key: str, digests: Mapping[str, Digest]) -> Seen:
        """An upload whose key nobody knew before its last byte, moved to it within the server."""
        there, last = self._bucket.head(key, self._awaited), self._awaited.finishing
        if there is not None and self._same(key, there, digests):
            return there
        etag, size = self._completed(upload.key, digests, None)
        try:
            passing = self._seen(upload.key, etag, size)
            self._bucket.copy(upload.key, key, passing, told(digests.values()), last)
        finally:
            self._bucket.delete(upload.key, last)
        seen = self._bucket.head(key, last)
        if seen is None or seen.size != size:
            raise StoreError(
                f"storing {self._bucket.place.url(key)}: it is not there, or not whole, after it was copied"
            )
        return seen

    def _seen(self, key: str, etag: str, size: int) -> Seen:
        last = self._awaited.finishing
        seen = self._bucket.head(key, last)
        if seen is None:
            raise StoreError(f"storing {self._bucket.place.url(key)}: it is gone, right after it was stored")
        if seen.etag != etag:  # another writer's by now, and whole, too
            return Seen(size, None, etag)
        if seen.size != size:
            self._bucket.delete(key, last)
            raise StoreError(f"storing {self._bucket.place.url(key)}: {seen.size} bytes are there, {size} were sent")
        return seen

    def _drop(self) -> None:
        if self._upload is not None:
            awaited = Awaited()
            awaited.give_up_in(ABORT_S)  # a server that stands still has it swept later
            try:
                native.settle(self._drop_here, awaited, kind=native.OBJECTS)
            finally:
                awaited.over()
        self._buffer = bytearray()

    def _drop_here(self, who: Who) -> None:
        self._buffer = bytearray()
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.abort(who)
