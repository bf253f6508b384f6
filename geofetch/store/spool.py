"""Files that are handed over, and remembered nowhere.  In: attempts and their bytes.  Out: TempStore gives each as a
temporary file, OneStream copies them into a file that the caller has open.

Bytes wait in a spooled temporary file until they are proven: whoever is handed something is handed a whole file, and a
retry leaves nothing in the caller's.  Never: a name, a record, a file that is found again.
"""

from __future__ import annotations

import contextlib
import errno
import io
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, BinaryIO

import gevent
from gevent.lock import BoundedSemaphore

from ..digest import Digest
from ..errors import SpecError, StoreError
from ..events import Attempt, Found, Head, Kept, Recall
from ..spec import Spec
from . import native
from .part import OrderedPart
from .refusal import refused

__all__ = ["OneStream", "TempStore"]

#: Held in memory up to here, on the disk beyond.
SPOOLED_BYTES = 1 << 20
#: Copied in one go: by a native thread, and on the hub.
COPIED_BYTES = 1 << 22
COPIED_ON_HUB_BYTES = 1 << 17


class _Forgetful:
    """A store that knows no file once it is handed over."""

    name = ""
    address: str | None = None

    def ready(self) -> None:
        try:
            tempfile.gettempdir()  # looked for once, here: not on a thread in the middle of a file
        except OSError as exc:
            raise refused(exc, "looking for a folder for temporary files (TMPDIR names one)") from exc

    def have(self, spec: Spec, recall: Recall | None, reread: bool = False) -> Found | None:
        return None

    def open(self, key: str) -> BinaryIO:
        raise StoreError(f"{self!r} keeps nothing, {key!r} neither", errno=errno.ENOENT)

    def stat(self, key: str) -> Kept | None:
        return None

    def quarantine(self, key: str, seen: Kept | None = None) -> Any:
        raise StoreError(f"{self!r} keeps nothing, {key!r} neither", errno=errno.ENOENT)

    def keys(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None:
        """Nothing: what was handed over is the caller's."""


class TempStore(_Forgetful):
    """Each file as an open temporary file, at its first byte; it is gone when the caller closes it."""

    def __init__(self, spooled_bytes: int = SPOOLED_BYTES) -> None:
        self._spooled_bytes = spooled_bytes

    def begin(self, attempt: Attempt, head: Head) -> _SpooledPart:
        return _SpooledPart(self._spooled_bytes, _rewound)

    def __repr__(self) -> str:
        return "TempStore()"


class OneStream(_Forgetful):
    """A binary file that the caller has open: each file is appended where it stands, whole, and it is left open.

    A file of the system is written on a native thread, any other (one in memory, a wrapper) on the hub in pieces.  A
    copy that fails or is killed is taken back where the file can seek and stood at its end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        if hasattr(file, "encoding"):
            raise SpecError(f"{file!r} is open for text: open it with mode 'wb'")
        if not callable(getattr(file, "write", None)):
            raise SpecError(f"{file!r} cannot be written to: it has no write()")
        self._file = file
        self._turn = BoundedSemaphore(1)

    def begin(self, attempt: Attempt, head: Head) -> _SpooledPart:
        if getattr(self._file, "closed", False) or not getattr(self._file, "writable", lambda: True)():
            raise StoreError(f"{self._file!r} is closed, or open for reading only", errno=errno.EBADF)
        return _SpooledPart(SPOOLED_BYTES, self._copied)

    def _copied(self, spool: IO[bytes]) -> IO[bytes]:
        try:
            with self._turn, spool:
                spool.seek(0)
                self._copy(spool)
        except OSError as exc:
            raise refused(exc, f"copying into {self._file!r}") from exc
        return self._file

    def _copy(self, spool: IO[bytes]) -> None:
        back = _way_back(self._file)
        try:
            if isinstance(self._file, io.FileIO | io.BufferedWriter | io.BufferedRandom):
                while native.settle(_poured, spool, self._file, COPIED_BYTES):
                    pass
            else:
                while _poured(spool, self._file, COPIED_ON_HUB_BYTES):
                    gevent.sleep(0)
        except BaseException:  # killed between two pieces, or refused by the file
            back()
            raise

    def __repr__(self) -> str:
        return f"OneStream({self._file!r})"


class _SpooledPart(OrderedPart):
    __slots__ = ("_hand_over", "_spool")

    def __init__(self, spooled_bytes: int, hand_over: Callable[[IO[bytes]], Any]) -> None:
        super().__init__()
        self._hand_over = hand_over
        self._spool: IO[bytes] | None = tempfile.SpooledTemporaryFile(spooled_bytes)  # noqa: SIM115

    def _append(self, view: memoryview) -> None:
        assert self._spool is not None
        try:
            self._spool.write(view)
        except OSError as exc:
            raise refused(exc, f"writing a temporary file in {tempfile.gettempdir()}") from exc

    def _publish(self, digests: Mapping[str, Digest]) -> tuple[Any, Kept | None]:
        assert self._spool is not None
        location = self._hand_over(self._spool)
        self._spool = None
        return location, None

    def _drop(self) -> None:
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()


def _rewound(spool: IO[bytes]) -> IO[bytes]:
    try:
        spool.seek(0)  # and flushes what is buffered
    except OSError as exc:
        raise refused(exc, f"writing a temporary file in {tempfile.gettempdir()}") from exc
    return spool


def _poured(spool: IO[bytes], file: IO[bytes], count: int) -> bool:
    """Copy up to this many bytes; False, and everything flushed, once there are no more."""
    view = memoryview(spool.read(count))
    if not view:
        getattr(file, "flush", bool)()
        return False
    while view:
        written = file.write(view)
        if written is None and isinstance(file, io.RawIOBase):  # says so where it would have to wait
            raise BlockingIOError(errno.EAGAIN, "it is in non-blocking mode, and full")
        view = view[len(view) if written is None else written :]
    return True


def _way_back(file: IO[bytes]) -> Callable[[], None]:
    try:
        start, end = file.tell(), file.seek(0, io.SEEK_END)
        file.seek(start)
    except (OSError, AttributeError):  # a pipe, a terminal: what was written cannot be taken back
        return lambda: None

    def back() -> None:
        with contextlib.suppress(OSError):  # what went wrong first is what is reported
            file.seek(start)
            if start == end:
                file.truncate()

    return back
