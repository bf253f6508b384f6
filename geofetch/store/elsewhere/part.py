"""One file on its way to a filesystem.  In: its bytes, in order.  Out: a file under its key, whole.

Its bytes wait here until they are proven, in memory or in a temporary file: no connection of a server's is held for a
source that trickles, and a connection that breaks costs no second download.  Then they go to a name of ours beside the
target, are held against what the filesystem says is there, and are moved; where a filesystem cannot move (an object
store), they go to the target in one piece, which is to be seen when it is complete.
Never: a thread's filesystem on the hub; a part that is another one's.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from ...digest import Digest
from ...errors import StoreError
from ...events import Kept
from ...names import PART_PREFIX
from ...spec import Spec
from .. import native
from ..part import OrderedPart
from ..refusal import refused
from ..running import token
from ..s3.keys import Keys
from .asking import Wanted, passing
from .files import PIECE_BYTES, Files, Seen

__all__ = ["FilePart"]

#: Seconds that a publish has to end by itself when it is killed; then it is left to its thread, which takes it back.
GRACE_S = 0.5


class FilePart(OrderedPart):
    """The part of one attempt."""

    __slots__ = ("_bytes", "_files", "_keys", "_left", "_proves", "_size", "_spec", "_wanted")

    def __init__(self, files: Files, keys: Keys, spec: Spec, spooled_bytes: int, proves: bool) -> None:
        super().__init__()
        self._files = files
        self._keys = keys
        self._spec = spec
        self._proves = proves
        self._bytes: IO[bytes] = tempfile.SpooledTemporaryFile(spooled_bytes)  # noqa: SIM115
        self._size = 0
        self._wanted = Wanted()
        #: Whether a thread has the bytes, and nobody waits for it.
        self._left = False

    def _append(self, view: memoryview) -> None:
        try:
            self._bytes.write(view)
        except OSError as exc:
            raise refused(exc, f"writing a temporary file in {tempfile.gettempdir()}") from exc
        self._size += len(view)

    def _publish(self, digests: Mapping[str, Digest]) -> tuple[Any, Kept | None]:
        key, place = self._keys.final(self._spec, digests), self._files.place
        self._left = True
        seen = native.leave(
            self._placed, key, digests, kind=native.ELSEWHERE, killed=self._wanted.give_up, grace_s=GRACE_S
        )
        return place.url(key), seen.kept(place.name, key)

    def _placed(self, key: str, digests: Mapping[str, Digest]) -> Seen:
        """On a native thread, which has the bytes for itself from here on."""
        try:
            if self._keys.address is not None:
                there = self._same(key, digests)
                if there is not None:
                    return there
            return self._moved(key, digests) if self._files.place.moves else self._stored(key, digests)
        finally:
            self._bytes.close()

    def _same(self, key: str, digests: Mapping[str, Digest]) -> Seen | None:
        # It may have rotted, and then the new bytes are to mend it.
        there, wanted = self._files.seen(key, self._wanted), digests["sha256"]
        if there is None or there.size != self._size:
            return None
        found = self._files.digests(key, there, {"sha256": len(wanted.value)}, self._wanted)
        return there if found is not None and found["sha256"] == wanted else None

    def _moved(self, key: str, digests: Mapping[str, Digest]) -> Seen:
        """Beside the target, proven there, and then moved."""
        files, folder = self._files, key.rpartition("/")[0]
        part = f"{folder}/{PART_PREFIX}{token()}".lstrip("/")
        doing = f"storing {files.place.url(key)}"
        files.folder_of(key, self._wanted)
        try:
            self._sent(part, key, doing)
            self._held(part, key, digests)
            self._wanted.look(doing)
            self._renamed(part, key)
        except BaseException:
            self._taken_back(part)
            raise
        return self._there(key)

    def _sent(self, part: str, key: str, doing: str) -> None:
        files = self._files

        def send() -> None:
            files.asker.ask(doing, lambda fs: self._copied(fs, files.place.at(part), doing), self._wanted)

        try:
            send()
        except StoreError as exc:
            if self._wanted.given_up or passing(exc.__cause__):
                raise
            # Its folder may be gone meanwhile, and not every server says so in words that tell.
            files.forget_folder_of(key)
            files.folder_of(key, self._wanted)
            send()

    def _copied(self, fs: Any, path: str, doing: str) -> None:
        self._bytes.seek(0)
        with fs.open(path, "wb", block_size=PIECE_BYTES) as file:
            while piece := self._bytes.read(PIECE_BYTES):
                self._wanted.look(doing)
                file.write(piece)

    def _held(self, at: str, key: str, digests: Mapping[str, Digest]) -> None:
        """Nothing, if the filesystem has these bytes under this name, as far as it tells."""
        files, doing = self._files, f"storing {self._files.place.url(key)}"
        there = files.seen(at, self._wanted)
        if there is None:
            raise StoreError(f"{doing}: it is gone, right after it was stored", errno=errno.EIO)
        if there.size != self._size:
            raise StoreError(f"{doing}: {there.size} bytes are there, {self._size} were sent", errno=errno.EIO)
        told = dict(there.digests)
        if self._proves:
            proven = digests or {"sha256": self._sha256()}
            lengths = {name: len(one.value) for name, one in proven.items()}
            told |= files.digests(at, there, lengths, self._wanted) or {}
            if not proven.keys() <= told.keys():
                raise StoreError(f"{doing}: it changed while it was read", errno=errno.EIO)
        for name, one in digests.items():
            if told.get(name, one) != one:
                raise StoreError(f"{doing}: other bytes are there than were sent; they are not kept", errno=errno.EIO)

    def _sha256(self) -> Digest:
        self._bytes.seek(0)
        found = hashlib.sha256()
        while piece := self._bytes.read(PIECE_BYTES):
            found.update(piece)
        return Digest("sha256", found.digest())

    def _renamed(self, part: str, key: str) -> None:
        files = self._files
        try:
            files.move(part, key)
        except StoreError as exc:
            there = files.seen(key)
            whole = there is not None and there.size == self._size
            if exc.errno == errno.ENOENT and whole and files.seen(part) is None:
                return  # the answer was lost, and it was asked again
            if there is None or exc.errno in (errno.EACCES, errno.EPERM):
                raise
            # A server that replaces nothing: for a moment there is neither of them.
            files.remove(key)
            files.move(part, key)

    def _stored(self, key: str, digests: Mapping[str, Digest]) -> Seen:
        """Where nothing can be moved: in one go, and taken away again if it is not right."""
        files, doing = self._files, f"storing {self._files.place.url(key)}"
        path = files.place.at(key)

        def put(fs: Any) -> None:
            self._bytes.seek(0)
            if self._size <= PIECE_BYTES or files.place.protocol == "memory":
                fs.pipe_file(path, self._bytes.read())
            else:
                self._bytes.flush()
                fs.put_file(f"/dev/fd/{self._bytes.fileno()}", path)

        files.folder_of(key, self._wanted)
        files.asker.ask(doing, put, self._wanted)
        try:
            self._held(key, key, digests)
        except StoreError:
            files.remove(key)
            raise
        return self._there(key)

    def _there(self, key: str) -> Seen:
        seen = self._files.seen(key)
        if seen is None:
            raise StoreError(f"{self._files.place.url(key)} is gone, right after it was stored", errno=errno.EIO)
        return seen

    def _taken_back(self, part: str) -> None:
        with suppress(StoreError):  # what went wrong first is what is told; sweep() removes it later
            self._files.remove(part, patience_s=0.0)

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        self._wanted.give_up()

    def _drop(self) -> None:
        if not self._left:
            self._bytes.close()
