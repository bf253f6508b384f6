"""The files of one place, asked for one by one.  In: keys.  Out: what the filesystem says of them, their bytes.

Everything here blocks, and runs on native threads.  Never: a name of its own making; bytes of two files as those of
one: what a file is, is asked before it is read and after.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import IO, Any, BinaryIO, cast

from ...digest import Digest, hasher
from ...errors import StoreError
from ...events import Kept
from ...names import OURS, PART_PREFIX
from .asking import Asker, Wanted

__all__ = ["Files", "Seen"]

#: Bytes of one request, and of a file that is read at one go.
PIECE_BYTES = 4 << 20
#: Folders that are remembered as made.
REMEMBERED = 4096
#: Where filesystems say when a file was changed.
_TIMES = ("mtime", "modify", "LastModified", "last_modified", "updated", "modified", "created")
#: Where some say its digest: in hex, or in base64 as of Google's and Microsoft's.
_DIGESTS = {"md5": "md5", "sha256": "sha256", "md5Hash": "md5", "content_md5": "md5"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A file, as its filesystem tells of it."""

    size: int
    mtime_ns: int | None
    #: A number for all that is told of it, where records have an inode: this very file, and no later one of its key.
    number: int
    digests: Mapping[str, Digest] = field(default_factory=dict)

    def kept(self, store: str, key: str) -> Kept:
        return Kept(store, key, self.size, self.mtime_ns, self.number)


class Files:
    """A place, and how it is asked.  Keys are those below its root."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker
        self.place = asker.place
        #: Folders that were there a while ago: some servers list one to see whether it is.
        self._folders: dict[str, None] = {}

    def there(self, wanted: Wanted | None = None) -> bool:
        """Whether the root is there."""
        where = self.place.root or "/"
        return self.asker.ask(f"looking into {self.place.name}", lambda fs: bool(fs.exists(where)), wanted)

    def seen(self, key: str, wanted: Wanted | None = None) -> Seen | None:
        """The file, or None if there is none."""
        doing, path = f"looking at {self.place.url(key)}", self.place.at(key)

        def look(fs: Any) -> Seen | None:
            try:
                info = fs.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return seen_of(info) if info.get("type") == "file" else None

        return self.asker.ask(doing, look, wanted)

    def read(self, key: str, seen: Seen, sink: Callable[[bytes], Any], wanted: Wanted | None = None) -> None:
        """All its bytes, piece by piece; a StoreError (ESTALE) where it is not as it was seen, or did not stay so."""
        doing, path = f"reading {self.place.url(key)}", self.place.at(key)

        def copy(fs: Any) -> None:
            counted = _Sink(sink, doing, wanted)
            try:
                if seen.size <= PIECE_BYTES or self.place.protocol == "memory":
                    counted.write(fs.cat_file(path))
                elif getattr(fs, "async_impl", False):
                    with fs.open(path, "rb", block_size=PIECE_BYTES) as file:
                        while piece := file.read(PIECE_BYTES):
                            counted.write(piece)
                else:
                    fs.get_file(path, cast(Any, counted))
            except Exception as exc:
                if counted.count:  # half of it is told already: it is not to be begun again
                    raise StoreError(f"{doing}: it broke off ({type(exc).__name__})", errno=errno.EIO) from exc
                raise
            if counted.count != seen.size:
                raise StoreError(f"{doing}: {counted.count} bytes came, it has {seen.size}", errno=errno.ESTALE)

        self.asker.ask(doing, copy, wanted)
        if self.seen(key, wanted) != seen:
            raise StoreError(f"{doing}: it was replaced while it was read", errno=errno.ESTALE)

    def snapshot(self, key: str, seen: Seen, wanted: Wanted | None = None) -> BinaryIO:
        """A file of its bytes, here: in memory, or where they are many in a temporary file."""
        held: IO[bytes] = tempfile.SpooledTemporaryFile(PIECE_BYTES)  # noqa: SIM115
        try:
            self.read(key, seen, held.write, wanted)
            held.seek(0)
        except BaseException:
            held.close()
            raise
        return cast(BinaryIO, held)

    def digests(
        self, key: str, seen: Seen, lengths: Mapping[str, int], wanted: Wanted | None = None
    ) -> Mapping[str, Digest] | None:
        """Its digests; None where it does not stay as it was seen."""
        hashers = {name: hasher(name) for name in lengths}

        def update(piece: bytes) -> None:
            for one in hashers.values():
                one.update(piece)

        try:
            self.read(key, seen, update, wanted)
        except StoreError as exc:
            if exc.errno in (errno.ESTALE, errno.ENOENT):
                return None
            raise
        return {
            name: Digest(name, one.digest() if one.digest_size else one.digest(lengths[name]))
            for name, one in hashers.items()
        }

    def move(self, key: str, to: str, wanted: Wanted | None = None) -> None:
        """Give it another key, in a folder that is there."""
        doing = f"moving {self.place.url(key)} to {self.place.url(to)}"
        self.asker.ask(doing, lambda fs: fs.mv(self.place.at(key), self.place.at(to)), wanted)

    def remove(self, key: str, wanted: Wanted | None = None, patience_s: float | None = None) -> None:
        doing = f"removing {self.place.url(key)}"

        def remove(fs: Any) -> None:
            try:
                fs.rm_file(self.place.at(key))
            except NotImplementedError:
                fs.rm(self.place.at(key))

        self.asker.ask(doing, remove, wanted, patience_s)

    def folder_of(self, key: str, wanted: Wanted | None = None) -> None:
        """Make the folder that it lies in, where there are folders."""
        path = self.place.at(key).rpartition("/")[0]

        def make(fs: Any) -> None:
            try:
                fs.makedirs(path, exist_ok=True)
            except Exception:
                if not fs.isdir(path):  # else somebody else made it just now
                    raise

        if path and path not in self._folders:
            self.asker.ask(f"making the folder of {self.place.url(key)}", make, wanted)
            if len(self._folders) >= REMEMBERED:
                self._folders.clear()
            self._folders[path] = None

    def forget_folder_of(self, key: str) -> None:
        """Look again: it may be gone."""
        self._folders.pop(self.place.at(key).rpartition("/")[0], None)

    def listed(self, folder: str, wanted: Wanted | None = None) -> list[tuple[str, bool, Mapping[str, Any]]]:
        """What lies in a folder: each key, whether it is a folder, and what is told of it."""
        path = self.place.at(folder) if folder else self.place.root

        def look(fs: Any) -> list[tuple[str, bool, Mapping[str, Any]]]:
            try:
                infos = fs.ls(path or "/", detail=True)
            except FileNotFoundError:
                return []
            found = []
            for info in infos:
                name = str(info["name"]).rstrip("/").rpartition("/")[2]
                key = f"{folder}/{name}" if folder else name
                if info["type"] in ("file", "directory"):
                    found.append((key, info["type"] == "directory", info))
            return found

        return self.asker.ask(f"listing {self.place.url(folder)}", look, wanted)

    def parts(self, wanted: Wanted | None = None) -> Iterator[tuple[str, Seen]]:
        """Files that never got their names."""
        folders = [""]
        while folders:
            for key, is_folder, info in self.listed(folders.pop(), wanted):
                if is_folder and key != OURS:
                    folders.append(key)
                elif not is_folder and key.rpartition("/")[2].startswith(PART_PREFIX):
                    yield key, seen_of(info)


class _Sink:
    """What a filesystem writes a file into, as if it were one."""

    closed = False

    def __init__(self, sink: Callable[[bytes], Any], doing: str, wanted: Wanted | None) -> None:
        self._sink = sink
        self._doing = doing
        self._wanted = wanted
        self.count = 0

    def write(self, piece: bytes) -> int:
        if self._wanted is not None:
            self._wanted.look(self._doing)
        self._sink(piece)
        self.count += len(piece)
        return len(piece)

    def read(self, *_: Any) -> bytes:  # fsspec takes for a file what has this, tell() and close()
        return b""

    def tell(self) -> int:
        return self.count

    def close(self) -> None:
        """Its filesystem does not own it."""


def seen_of(info: Mapping[str, Any]) -> Seen:
    """What a filesystem tells of a file."""
    told = sorted((str(name), str(value)) for name, value in info.items() if name not in ("name", "created"))
    if not any(name in info for name in _TIMES[:-1]):
        told.append(("created", str(_nanoseconds(info.get("created")))))
    number = int.from_bytes(hashlib.sha256(repr(told).encode()).digest()[:8]) >> 1
    times = (_nanoseconds(info[name]) for name in _TIMES if info.get(name) is not None)
    return Seen(int(info["size"]), next(times, None), number, _digests(info))


def _nanoseconds(said: Any) -> int | None:
    if isinstance(said, datetime):
        return int(said.timestamp() * 10**6) * 1000
    if isinstance(said, int | float):
        return int(said * 10**6) * 1000
    if isinstance(said, str):
        for form in ("%Y%m%d%H%M%S", "%Y%m%d%H%M%S.%f"):
            try:
                return int(datetime.strptime(said, form).replace(tzinfo=UTC).timestamp() * 10**6) * 1000
            except ValueError:
                continue
    return None


def _digests(info: Mapping[str, Any]) -> dict[str, Digest]:
    found = {}
    for name, algorithm in _DIGESTS.items():
        said = info.get(name)
        if isinstance(said, str) and said:
            try:
                found[algorithm] = Digest.parse(f"{algorithm}:{said}")
            except ValueError:
                continue
    return found
