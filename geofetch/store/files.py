"""Files on a disk.  In: attempts and their bytes.  Out: whole files under their names; FileStore for a tree of them,
OneFile for a target that is one file, or a folder that is nobody's store.

How it works is told by its parts: tree.py (folders, never outside), running.py (what dead processes left), filepart.py
(one part), layouts.py (names), group.py (durable publishing), proof.py (files that are there already).
Never: a byte under a final name that is not whole and proven.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal
from weakref import WeakKeyDictionary

import gevent

from ..digest import Digest
from ..errors import SpecError, StoreError
from ..events import Attempt, Found, Head, Kept, Recall
from ..hubs import process
from ..names import OURS, PART_PREFIX, checked_path, store_name
from ..spec import Spec
from . import native, proof
from .filepart import FilePart
from .group import Group
from .layouts import ByDigest, ByPath, Layout, Links
from .quarantine import QUARANTINE, Aside, asides_in, other_key
from .refusal import refused
from .removal import aside_in, beside, fold, remove_file, sweep_removed
from .running import Running, dead_markers, sweep, sweep_target, token, unswept
from .tree import Tree, absolute, nothing_at

__all__ = ["FileStore", "OneFile"]

LISTED_AT_ONCE = 512
#: A name in quarantine is reserved within so many tries.
RESERVED_TRIES = 5
#: Keys that are remembered as vacant between the question for a file and its first byte.
REMEMBERED = 4096


class FileStore:
    """A folder of files.

    ``layout="path"``: a file lies at ROOT/spec.path.

    ``layout="digest"``: its bytes lie at ROOT/sha256/ab/<hex>, the same bytes once, and ``links`` says what is made at
    ROOT/spec.path: a relative symbolic link (True or ``"symlink"``: a repair of the bytes repairs every path), a hard
    link (``"hardlink"``: for programs that follow no links; the other paths of bytes that rotted keep the rotten ones
    until they are fetched again), or nothing (False or None: the records alone know).  Without symbolic links only a
    spec that names its sha256 is recognised as there already.

    ``durable=True``: a published file outlives a cut of power; publishing waits for the disk, many files at a time.

    A key is the path below ROOT in either layout; ``name`` is ROOT as a file: URL.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        layout: Literal["path", "digest"] = "path",
        durable: bool = False,
        links: bool | Links = True,
    ) -> None:
        self._tree = Tree(absolute(_text(root)))
        self._layout = self._laid_out(layout, links)
        self.durable = durable
        self._shown = f"{type(self).__name__}({self._tree.root!r})"
        self.name = store_name(self._tree.root)
        self.address = self._layout.address
        self._home = self._tree.at(OURS)
        #: Keys that were asked for, and that nothing had.
        self._vacant: set[str] = set()
        #: Whether the last one that was asked for was there.
        self._full = False
        self._begun_in: int | None = None
        #: Parts of dead processes that were removed, since somebody asked.
        self._swept = 0
        #: Whether removals went by way of the folder ``.geofetch``.
        self._asides = False
        self._fit_in: int | None = None
        self._running: Running | None = None
        self._groups: WeakKeyDictionary[Any, Group] = WeakKeyDictionary()

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self._tree.root)

    @property
    def linked(self) -> bool:
        """Whether there is a link to a file at the path of each spec that wants it."""
        return self._layout.linked

    def ready(self) -> None:
        if self._fit_in == process():
            return
        _refuse_unfit(self._tree.root)
        self._enter()
        self._fit_in = process()

    def have(self, spec: Spec, recall: Recall | None, reread: bool = False) -> Found | None:
        if spec.size is None and not spec.digests:
            return None
        key = self._layout.find(spec)
        if key is None:
            return None
        # A spec has checked its own path already.
        path = self._inside(key) if key == spec.path else self._path(key)
        # Where the last one was, this one will be: of two calls to the system, each of which lets go of the GIL, the
        # first is spared.
        if not self._full and self._noted_vacant(key, path):
            return None
        seen = self._seen(key, path)
        self._full = seen is not None
        if seen is None:
            self._noted_vacant(key, path)
            return None
        given_up: list[bool] = []

        def read(lengths: Mapping[str, int]) -> Mapping[str, Digest] | None:
            try:
                return native.call(proof.read_file, path, seen, lengths, given_up)
            except OSError as exc:
                raise refused(exc, f"reading {path}") from exc
            finally:
                given_up.append(True)

        known = proof.remembered(seen, recall)
        found = proof.held(spec, seen.size, known, reread, read, self._layout.claimed(key))
        if found is None:
            return None
        return Found(self._layout.adopt(key, spec), seen.size, found.digests, found.verified, seen)

    def _noted_vacant(self, key: str, path: str) -> bool:
        if not nothing_at(path):
            return False
        if len(self._vacant) >= REMEMBERED:
            self._vacant.clear()
        self._vacant.add(key)
        return True

    def begin(self, attempt: Attempt, head: Head) -> FilePart:
        self._enter()
        try:
            return self._part(attempt.spec)
        except FileNotFoundError:
            self._tree.forget()  # a folder that was there is gone: once more, from the top
        try:
            return self._part(attempt.spec)
        except FileNotFoundError as exc:
            raise refused(exc, f"opening a part in {self._tree.root}") from exc

    def _part(self, spec: Spec) -> FilePart:
        # What was seen to be vacant a moment ago is not looked at again before its name is needed.
        vacant = spec.path in self._vacant
        self._vacant.discard(spec.path)
        folder, name = self._layout.prepare(spec, vacant)
        running = self._running
        if running is None:
            running = self._running = self._announced()
        return FilePart(spec, folder, name, running, self._publish)

    def _publish(self, part: FilePart, spec: Spec, digests: Mapping[str, Digest]) -> tuple[Any, Kept | None]:
        if self.durable:
            placed = self._group().publish(part, partial(self._layout.place, part, spec, digests))
        elif self._layout.reads(digests):
            placed = native.finish(self._layout.place, part, spec, digests)
        else:
            # Three cheap calls to the system: a hop to a thread and back would cost more than they do.
            placed = self._layout.place(part, spec, digests)
        return placed.location, self._kept(placed.key, placed.seen)

    def _group(self) -> Group:
        hub = gevent.get_hub()
        found = self._groups.get(hub)
        if found is None:
            found = self._groups[hub] = Group(self._tree)
        return found

    def open(self, key: str) -> BinaryIO:
        path = self._path(key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as exc:
            raise refused(exc, f"opening {path}") from exc
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                return os.fdopen(fd, "rb")
        except OSError as exc:
            os.close(fd)
            raise refused(exc, f"opening {path}") from exc
        os.close(fd)
        raise StoreError(f"{path} is no file", errno=errno.ENOENT)

    def stat(self, key: str) -> Kept | None:
        return self._seen(key, self._path(key))

    def _seen(self, key: str, path: str) -> Kept | None:
        try:
            seen = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            raise refused(exc, f"looking at {path}") from exc
        return self._kept(key, seen) if stat.S_ISREG(seen.st_mode) else None

    def quarantine(self, key: str, seen: Kept | None = None) -> Path:
        """Move it to ROOT/.geofetch/quarantine/<key>; ``.<token>`` follows the key's first part where that is taken."""
        path = self._path(key)
        now = self.stat(key)
        if now is None:
            raise StoreError(f"nothing is stored at {path}", errno=errno.ENOENT)
        if seen is not None and now != seen:
            raise _overtaken(path)
        try:
            aside = _reserved(self._tree.at(QUARANTINE + key))
            if aside is None:
                aside = _reserved(self._tree.at(QUARANTINE + other_key(key, token())))
            if aside is None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            _moved(path, aside)
            if seen is not None and self._kept(key, os.lstat(aside)) != seen:
                # Another process put it there since we looked: its record says so.
                _put_back(aside, path)
                raise _overtaken(path)
        except StoreError:  # an OSError, too
            raise
        except OSError as exc:
            raise refused(exc, f"moving {path} into quarantine") from exc
        return Path(aside)

    def remove(self, kept: Kept) -> bool:
        """As of any store; a key may also be the path of a link to a file of the digest layout."""
        path = self._path(kept.key)
        if self._layout.links_at(kept.key):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return False
            except OSError as exc:
                raise refused(exc, f"removing {path}") from exc
        elif not remove_file(path, self._aside(path), kept):
            return False
        if not self._layout.holds(kept.key):
            fold(self._tree.root, os.path.dirname(path))
        return True

    def asides(self) -> Iterator[Aside]:
        walk = asides_in(self._tree.root, self.name)
        try:
            while batch := native.call(lambda: list(islice(walk, LISTED_AT_ONCE))):
                yield from batch
        except OSError as exc:
            raise refused(exc, f"listing {self._tree.at(QUARANTINE)}") from exc

    def remove_aside(self, kept: Kept) -> bool:
        path = self._inside(QUARANTINE + checked_path(kept.key.removeprefix(QUARANTINE), "key"))
        if not remove_file(path, self._aside(path), kept):
            return False
        fold(self._home, os.path.dirname(path))
        return True

    def sweep(self, older_than_s: float) -> int:
        """Remove the parts that dead processes left, however old they are: nobody needs them; how many there were."""
        self._begun_in = None
        self._enter()
        count, self._swept = self._swept, 0
        try:
            return count + native.call(sweep_removed, self._home)
        except OSError as exc:
            raise refused(exc, f"sweeping {self._home}") from exc

    def keys(self) -> Iterator[str]:
        walk = self._walk(self._layout.within)
        while batch := native.call(lambda: list(islice(walk, LISTED_AT_ONCE))):
            yield from batch

    def _walk(self, within: str) -> Iterator[str]:
        folders = [within]
        while folders:
            folder = folders.pop()
            for name, is_folder, is_file in _listed(self._tree.at(folder) if folder else self._tree.root):
                key = f"{folder}/{name}" if folder else name
                if is_folder:
                    folders.append(key)
                elif is_file and _is_key(key):
                    yield key

    def close(self) -> None:
        # What is forgotten is ended, too (running.py): one with open parts must be kept.
        if self._running is not None and self._running.retired():
            self._running = None
        self._begun_in = self._fit_in = None
        if self._asides:
            self._asides = False
            with contextlib.suppress(OSError):  # not empty: records, a quarantine, another process
                os.rmdir(self._home)

    def _aside(self, path: str) -> str:
        self._asides = True
        try:
            return aside_in(self._home)
        except OSError as exc:
            raise refused(exc, f"making the folder {self._home}") from exc

    def _laid_out(self, layout: str, links: bool | Links) -> Layout:
        if links not in (True, False, None, "symlink", "hardlink"):
            raise SpecError(f"links is True, False, 'symlink' or 'hardlink', not {links!r}")
        if layout == "path":
            return ByPath(self._tree)
        if layout == "digest":
            return ByDigest(self._tree, "symlink" if links is True else links or None)
        raise SpecError(f"layout is 'path' or 'digest', not {layout!r}")

    def _enter(self) -> None:
        """At first use, and first use after a fork: remove what dead processes left.  Others do not wait for it."""
        if self._begun_in == process():
            return
        self._begun_in = process()
        if self._running is not None and self._running.pid != process():  # a fork's child has not begun anything
            self._running = None
            self._groups = WeakKeyDictionary()
        self._sweep()

    def _sweep(self) -> None:
        markers = dead_markers(self._home)
        if not markers:
            return
        try:
            self._swept += native.call(sweep, self._tree.root, markers)
        except BaseException:
            if unswept(markers):  # a kill before the sweep began: it never does, and the next who enters looks anew
                self._begun_in = None
            raise

    def _announced(self) -> Running:
        self._tree.folder("")
        running = Running(self._home)
        try:
            running.announce()
        except FileNotFoundError:  # the root itself is gone: begin makes it again
            raise
        except OSError as exc:
            raise refused(exc, f"marking {self._home} as in use") from exc
        return running

    def _path(self, key: str) -> str:
        return self._inside(checked_path(key, "key"))

    def _inside(self, key: str) -> str:
        self._tree.peek(key.rpartition("/")[0])  # refuses what leads out of the root
        return self._tree.at(key)

    def _kept(self, key: str, seen: os.stat_result) -> Kept:
        return Kept.made(self.name, key, seen.st_size, seen.st_mtime_ns, seen.st_ino)

    def __repr__(self) -> str:
        return self._shown


class OneFile(FileStore):
    """A target that is one file, or a folder that files go into under their last names: nothing but the file is left.

    ``path`` is a folder if it ends in a slash or is one.  It has no marker: what a dead process left beside a target is
    removed when that target is fetched again.
    """

    def __init__(self, path: str | os.PathLike[str], *, durable: bool = False) -> None:
        text = _text(path)
        folder, _, name = text.rpartition("/")
        self._only: str | None = None
        if name in ("", ".", "..") or os.path.isdir(text):
            folder = text
        else:
            self._only = checked_path(name, "name")
            folder = folder or ("/" if "/" in text else ".")
        super().__init__(folder, durable=durable)
        self._shown = f"OneFile({text!r})"

    def begin(self, attempt: Attempt, head: Head) -> FilePart:
        native.call(sweep_target, self._tree.root, self._name(attempt.spec))
        return super().begin(attempt, head)

    def keys(self) -> Iterator[str]:
        if self._only is None:
            yield from (name for name, _, is_file in _listed(self._tree.root) if is_file and _is_key(name))
        elif self.stat(self._only) is not None:
            yield self._only

    def _laid_out(self, layout: str, links: bool | Links) -> Layout:
        return ByPath(self._tree, self._name)

    def _name(self, spec: Spec) -> str:
        return self._only if self._only is not None else spec.path.rpartition("/")[2]

    def _sweep(self) -> None:
        """Nothing: each target is swept when it is begun."""

    def _aside(self, path: str) -> str:
        return beside(path)

    def _announced(self) -> Running:
        return Running(None)


def _text(path: str | os.PathLike[str]) -> str:
    text = os.fsdecode(os.fspath(path))
    if not text or "\0" in text:
        raise SpecError(f"a place for files is a path, not {text!r}")
    return text


def _refuse_unfit(root: str) -> None:
    there = root
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    try:
        if not os.path.isdir(there):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            _tried(there)  # which says why not
    except OSError as exc:
        raise refused(exc, f"storing files in {root}") from exc


def _tried(folder: str) -> None:
    probe = f"{folder}/{PART_PREFIX}{token()}"
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
    os.unlink(probe)


def _reserved(path: str) -> str | None:
    """A new empty file there, to be replaced by a rename; None if its name, or a folder's above it, is taken."""
    for _ in range(RESERVED_TRIES):
        with contextlib.suppress(FileNotFoundError):  # a gc removes the folders that it finds empty
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC))
            except (FileExistsError, NotADirectoryError):
                return None
            return path
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def _moved(path: str, reserved: str) -> None:
    try:
        os.rename(path, reserved)
    except OSError:
        os.unlink(reserved)
        raise


def _put_back(aside: str, path: str) -> None:
    with contextlib.suppress(FileExistsError):  # yet another one is there by now: nothing of this one is lost
        os.link(aside, path, follow_symlinks=False)
        os.unlink(aside)


def _overtaken(path: str) -> StoreError:
    return StoreError(f"{path}: it was replaced while it was to be put aside", errno=errno.ESTALE)


def _listed(folder: str) -> list[tuple[str, bool, bool]]:
    try:
        with os.scandir(folder) as entries:
            return [
                (one.name, one.is_dir(follow_symlinks=False), one.is_file(follow_symlinks=False)) for one in entries
            ]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise refused(exc, f"listing {folder}") from exc


def _is_key(key: str) -> bool:
    # What no spec can be called is not ours; part files are among it.
    with contextlib.suppress(SpecError):
        return bool(checked_path(key))
    return False
