"""Files wherever fsspec reaches: FTP, SFTP, SMB, WebHDFS, and more.  In: attempts and their bytes.  Out: files.

How it works is told by its parts: place.py (which filesystem), asking.py (one of them a thread), files.py (what is
asked), part.py (one file on its way).
Never: a filesystem on the hub; a file under a final name that is not whole and proven.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO, Literal, TypeVar

from ... import hubs
from ...digest import Digest
from ...errors import SpecError, StoreError
from ...events import Attempt, Found, Head, Kept, Recall
from ...hubs import process
from ...names import OURS, checked_path
from ...spec import Spec
from .. import native, proof
from ..quarantine import QUARANTINE, Aside, aside_of, other_key
from ..removal import differs, replaced
from ..running import token
from ..s3.keys import ByDigest, ByPath, Keys
from .asking import Asker, Wanted
from .files import Files, Seen
from .part import FilePart
from .place import is_elsewhere, place_of

__all__ = ["FsspecStore", "is_elsewhere"]

T = TypeVar("T")

#: Bytes of a file that wait in memory until it is proven; of a larger one they wait in a temporary file.
SPOOLED_BYTES = 1 << 20
#: Seconds after which a part that nobody gave its name is a dead process's: no upload takes two days.
DEAD_S = 2 * 86_400.0


class FsspecStore:
    """A folder of any filesystem that fsspec knows: ``FsspecStore("ftp://host/srv", username=…, password=…)``.

    ``FsspecStore(fs, "/srv")``: of one that is there already; each native thread makes its own like it.  ``options``
    are the filesystem's, and are never shown; fsspec's settings (``FSSPEC_FTP_PASSWORD`` …) say what they do not.

    ``layout``: as with FileStore, but without links; ``"digest"`` files under sha256/ab/<hex>, the same bytes once.
    ``proves=True`` reads each file back before it gets its name; else its size is held against what the filesystem
    says, and its digests as far as that tells any.  What does not pass at once is tried again for ``patience_s``.

    What fsspec cannot promise, this store does not: that bytes are on a disk (``durable`` is refused), and that two
    writers of one path hear of each other (the last one's file stays, whole).  A file gets its name by the
    filesystem's own move, which replaces at once on nearly all servers; on one that replaces nothing, there is neither
    file for a moment.  A part that a killed process left is removed by ``sweep``, not by the next run.  Folders are
    listed anew for each look where a protocol has no other way (FTP): keep them small.  Filesystems on asyncio need a
    process that gevent has not patched as a whole.  For S3 there is S3Store, which promises more.

    A key is the file's path below the root; ``name`` is the URL, without user and password.
    """

    durable = False

    def __init__(
        self,
        where: Any,
        root: str | None = None,
        *,
        layout: Literal["path", "digest"] = "path",
        durable: bool = False,
        proves: bool = False,
        patience_s: float = 30.0,
        **options: Any,
    ) -> None:
        if durable:
            raise SpecError("fsspec does not say when bytes are on a disk: durable is for FileStore and S3Store")
        if layout not in ("path", "digest"):
            raise SpecError(f"layout is 'path' or 'digest', not {layout!r}")
        place = place_of(where, root, options)
        self._layout: Keys = ByDigest(_Passing()) if layout == "digest" else ByPath()
        self._patience_s = patience_s
        self._files = Files(Asker(place, patience_s))
        self._proves = proves
        self._fit_in: int | None = None
        self.name = place.name
        self.address = self._layout.address

    def ready(self) -> None:
        if self._fit_in == process():
            return
        _apart(self._files.there)  # there or not: it answers, and the first file makes its folders
        self._fit_in = process()

    def there(self) -> bool:
        """Whether the root is there: where it is not, no file in it is a missing one."""
        return _apart(self._files.there)

    def have(self, spec: Spec, recall: Recall | None, reread: bool = False) -> Found | None:
        key = self._layout.find(spec)
        if key is None or (spec.size is None and not spec.digests):
            return None
        seen = _apart(self._files.seen, key)
        if seen is None:
            return None
        kept = seen.kept(self.name, key)

        def read(lengths: Mapping[str, int]) -> Mapping[str, Digest] | None:
            return _apart(self._files.digests, key, seen, lengths)

        known = {**seen.digests, **proof.remembered(kept, recall)}
        found = proof.held(spec, seen.size, known, reread, read, self._layout.claimed(key))
        if found is None:
            return None
        return Found(self._files.place.url(key), seen.size, found.digests, found.verified, kept)

    def begin(self, attempt: Attempt, head: Head) -> FilePart:
        return FilePart(self._files, self._layout, attempt.spec, SPOOLED_BYTES, self._proves)

    def open(self, key: str) -> BinaryIO:
        """Its bytes as they are now: copied into memory, or a temporary file where they are many."""
        seen = self._there(key)
        return _apart(self._files.snapshot, key, seen)

    def stat(self, key: str) -> Kept | None:
        seen = _apart(self._files.seen, checked_path(key, "key"))
        return None if seen is None else seen.kept(self.name, key)

    def quarantine(self, key: str, seen: Kept | None = None) -> str:
        """Move it to ROOT/.geofetch/quarantine/<key>, with ``.<token>`` where that is taken."""
        there = self._there(key)
        if seen is not None and there.kept(self.name, key) != seen:
            where = self._files.place.url(key)
            raise StoreError(f"{where}: it was replaced while it was to be put aside", errno=errno.ESTALE)
        aside = QUARANTINE + key
        if _apart(self._files.seen, aside) is not None:
            aside = QUARANTINE + other_key(key, token())
        _apart(self._files.folder_of, aside)
        _apart(self._files.move, key, aside)
        return self._files.place.url(aside)

    def keys(self) -> Iterator[str]:
        folders = [self._layout.within.rstrip("/")]
        while folders:
            for key, is_folder, _ in _apart(self._files.listed, folders.pop()):
                if is_folder:
                    if key != OURS:
                        folders.append(key)
                elif _is_key(key):
                    yield key

    def remove(self, kept: Kept) -> bool:
        """Remove what is stored under ``kept.key``, if it is the very file; False if there is nothing.

        A StoreError (errno ESTALE) where it is another one by now.
        """
        return self._removed(kept, checked_path(kept.key, "key"))

    def asides(self) -> Iterator[Aside]:
        folders = [QUARANTINE.rstrip("/")]
        while folders:
            for key, is_folder, _ in _apart(self._files.listed, folders.pop()):
                if is_folder:
                    folders.append(key)
                    continue
                seen = _apart(self._files.seen, key)
                # A filesystem tells no other time than the file's own, which one that moves files may leave as it was.
                one = None if seen is None else aside_of(seen.kept(self.name, key), seen.mtime_ns)
                if one is not None:
                    yield one

    def remove_aside(self, kept: Kept) -> bool:
        return self._removed(kept, QUARANTINE + checked_path(kept.key.removeprefix(QUARANTINE), "key"))

    def _removed(self, kept: Kept, key: str) -> bool:
        seen = _apart(self._files.seen, key)
        if seen is None:
            return False
        if differs(kept, seen.kept(self.name, key)):
            raise replaced(self._files.place.url(key))
        _apart(self._files.remove, key)
        return True

    def sweep(self, older_than_s: float = DEAD_S) -> int:
        """Remove parts that dead processes left, as old as that by the filesystem's clock; how many there were.

        It lists every folder.  One whose filesystem tells no time stays.
        """
        return _apart(self._swept, older_than_s)

    def close(self) -> None:
        """Each native thread lets go of its filesystem when it next asks one."""
        self._files.asker.over = True
        self._files = Files(Asker(self._files.place, self._patience_s))
        self._fit_in = None

    def _swept(self, older_than_s: float, wanted: Wanted | None = None) -> int:
        before, count = time.time_ns() - int(older_than_s * 10**9), 0
        for key, seen in self._files.parts(wanted):
            if seen.mtime_ns is not None and seen.mtime_ns <= before:
                self._files.remove(key, wanted)
                count += 1
        return count

    def _there(self, key: str) -> Seen:
        seen = _apart(self._files.seen, checked_path(key, "key"))
        if seen is None:
            raise StoreError(f"nothing is stored at {self._files.place.url(key)}", errno=errno.ENOENT)
        return seen

    def __repr__(self) -> str:
        return f"FsspecStore({self.name!r})"


class _Passing:
    """No key is on its way under another one here."""

    passing = f"{OURS}/parts/"


def _apart(work: Callable[..., T], *args: Any) -> T:
    """The result of what blocks: on a native thread of ours, unless this is one.  It stops once nobody waits for it."""
    if hubs.native():
        return work(*args)
    wanted = Wanted()
    try:
        return native.call(partial(work, wanted=wanted), *args, kind=native.ELSEWHERE)
    except BaseException:
        wanted.give_up()
        raise


def _is_key(key: str) -> bool:
    try:
        checked_path(key)
    except SpecError:  # a part's, or somebody else's
        return False
    return True
