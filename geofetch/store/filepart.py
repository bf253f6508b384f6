"""A part that is a file beside its target.  In: bytes.  Out: a whole file, ready to be given its name.

Between the first byte and the last look nobody else may have touched it: its size, its links, its name and its mtime
must be what our own writes left.  (An edit within one tick of the file system's clock, of the same size, is not seen.)
Never: which name it gets, or when; the layout and the store say that.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, TypeAlias

from ..digest import Digest
from ..errors import StoreError
from ..events import Kept
from ..hubs import process
from ..spec import Spec
from . import syncing
from .part import OrderedPart
from .refusal import refused
from .running import Running, claimed, part_prefix, token
from .tree import refuse_taken

__all__ = ["FilePart", "Publisher"]

Publisher: TypeAlias = Callable[["FilePart", Spec, Mapping[str, Digest]], tuple[Any, Kept | None]]

_numbers = count()

FLAGS = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
COMPARED_BYTES = 1 << 18
#: Bytes of one write(2).  The system takes memory for its cache in blocks as large as a write; for large ones it goes
#: to memory that nobody has used for long, which in a virtual machine may have to come from the host: more than twice
#: the system time for 2 GiB written 512 KiB at a time.
WRITTEN_BYTES = 1 << 16


class FilePart(OrderedPart):
    """A part in ``folder`` for a spec's file called ``name``; ``running`` lists it until it has its name or is gone.

    Raises FileNotFoundError if the folder is not there, StoreError for whatever else the system refuses.
    """

    __slots__ = ("_fd", "_identity", "_mtime_ns", "_publisher", "_running", "_spec", "folder", "number", "path", "size")

    def __init__(self, spec: Spec, folder: str, name: str, running: Running, publisher: Publisher) -> None:
        super().__init__()
        self._spec = spec
        self.folder = folder
        self.size = 0
        self._running = running
        self._publisher = publisher
        self.path, self._fd, seen = _opened(folder, name)
        #: The later it was opened, the higher.
        self.number = next(_numbers)
        self._identity = (seen.st_dev, seen.st_ino)
        self._mtime_ns = seen.st_mtime_ns
        running.live[self.path] = True

    def _append(self, view: memoryview) -> None:
        fd = self._fd
        try:
            if self.size and not self._unchanged(os.fstat(fd)):
                raise self._touched("it changed between two writes")
            left = len(view)
            while left:
                written = os.write(fd, view if left <= WRITTEN_BYTES else view[:WRITTEN_BYTES])
                self.size += written
                left -= written
                if left:  # a write may also be short: of a full disk, at a limit
                    view = view[written:]
            self._mtime_ns = os.fstat(fd).st_mtime_ns
        except StoreError:  # an OSError too, as all of requests' tree is; it says already what happened
            raise
        except OSError as exc:
            raise refused(exc, f"writing {self.path}") from exc

    def _publish(self, digests: Mapping[str, Digest]) -> tuple[Any, Kept | None]:
        return self._publisher(self, self._spec, digests)

    def whole(self) -> os.stat_result:
        """What the system says of it, if it is what was written and nothing else; a StoreError otherwise."""
        try:
            seen = os.lstat(self.path)
        except FileNotFoundError:
            raise self._touched("it was removed") from None
        except OSError as exc:
            raise refused(exc, f"looking at {self.path}") from exc
        if (seen.st_dev, seen.st_ino) != self._identity:
            raise self._touched("another file has its name")
        if seen.st_nlink != 1:
            raise self._touched("it has a second name")
        if not self._unchanged(seen):
            raise self._touched(f"{self.size} bytes were written, it has {seen.st_size}, or its time of change differs")
        return seen

    def _unchanged(self, seen: os.stat_result) -> bool:
        return seen.st_size == self.size and seen.st_mtime_ns == self._mtime_ns

    def _touched(self, how: str) -> StoreError:
        return StoreError(f"someone else touched {self.path} while it was written: {how}; nothing was published")

    def sync(self) -> None:
        """Bring its bytes to the disk.  Blocks, for a native thread.  Never tried twice: after a failure the system
        forgets which pages it could not write, and a second call would say that all is well."""
        try:
            os.fsync(self._fd)
        except OSError as exc:
            raise refused(exc, f"syncing {self.path}") from exc

    @property
    def device(self) -> int:
        """Where its bytes lie."""
        return self._identity[0]

    def sync_all(self) -> None:
        """Bring everything on its file system to the disk.  Blocks.  OSError if any write there failed since then."""
        syncing.syncfs(self._fd)

    def land(self, final: str) -> os.stat_result:
        """Give it its name, in place of a file or a symbolic link that has it; what the system says of it."""
        seen = self.whole()
        refuse_taken(final)  # as when the part began: it may have come since
        try:
            # Network file systems write at close, and say only then what failed.  A second descriptor closed hears it
            # just so, while the first still holds the lock that keeps sweeps away until the name is there.
            os.close(os.dup(self._fd))
            os.rename(self.path, final)
        except OSError as exc:
            raise refused(exc, f"publishing {final}") from exc
        self._running.live.pop(self.path, None)
        self._shut(f"closing {final}")
        return seen

    def twin(self, path: str) -> os.stat_result | None:
        """What the system says of the file at this path, if it holds the very same bytes.  Blocks if they are many."""
        try:
            other = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            seen = os.fstat(other)
            same = stat.S_ISREG(seen.st_mode) and seen.st_size == self.size and self._same_bytes(other)
            return seen if same else None
        except OSError:  # it cannot be read: it is to be replaced
            return None
        finally:
            os.close(other)

    def _same_bytes(self, other: int) -> bool:
        offset = 0
        while offset < self.size:
            ours = os.pread(self._fd, COMPARED_BYTES, offset)
            if not ours or ours != os.pread(other, len(ours), offset):
                return False
            offset += len(ours)
        return True

    def _drop(self) -> None:
        if self._fd < 0:
            return
        mine = self._running.pid == process()  # a fork's child lets go of the descriptor; the file is its parent's
        self._running.live.pop(self.path, None)
        try:
            if mine:
                os.unlink(self.path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            self._running.live[self.path] = False
            raise refused(exc, f"removing {self.path}") from exc
        finally:
            self._shut(f"closing {self.path}")

    def _shut(self, doing: str) -> None:
        fd, self._fd = self._fd, -1
        try:
            os.close(fd)
        except OSError as exc:
            raise refused(exc, doing) from exc


def _opened(folder: str, name: str) -> tuple[str, int, os.stat_result]:
    prefix = f"{folder}/{part_prefix(name)}"
    while True:
        path = prefix + token()
        try:
            fd = os.open(path, FLAGS, 0o666)
        except FileExistsError:
            continue
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise refused(exc, f"opening a part beside {folder}/{name}") from exc
        try:
            seen = claimed(path, fd)
        except OSError as exc:
            raise refused(exc, f"opening a part beside {folder}/{name}") from exc
        if seen is not None:
            return path, fd, seen
