"""Which name a file gets below the root.  In: a Spec, a part, its digests.  Out: a key, the file in its place.

:class:`ByPath` puts a file where the spec says.  :class:`ByDigest` puts it under its SHA-256, once however many specs
want these bytes, and a link where each spec says.
A key is always the file's path below the root.  Never: threads, syncing, proving.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from ..digest import Digest
from ..errors import StoreError
from ..spec import Spec
from .filepart import FilePart
from .refusal import refused
from .running import part_prefix, token
from .tree import Tree, refuse_taken

__all__ = ["ByDigest", "ByPath", "Layout", "Links", "Placed"]

Links: TypeAlias = Literal["symlink", "hardlink"] | None


@dataclass(slots=True)
class Placed:
    """A file that has its name: where it is, its key, what the system says of it, what to sync for it to last."""

    location: Path
    key: str
    seen: os.stat_result
    touched: tuple[str, ...]


class Layout(Protocol):
    """How a FileStore names its files."""

    address: str | None
    #: The folder below the root that all keys are in; "" for the root itself.
    within: str
    #: Whether there is also a link at each spec's path.
    linked: bool

    def prepare(self, spec: Spec, vacant: bool = False) -> tuple[str, str]:
        """The folder for a part of this spec, made if need be, and the name that the part stands for; refuses early.

        ``vacant``: nothing was at ``spec.path`` a moment ago.
        """

    def place(self, part: FilePart, spec: Spec, digests: Mapping[str, Digest]) -> Placed:
        """Give the part its name.  May block where ``reads`` says so."""

    def reads(self, digests: Mapping[str, Digest]) -> bool:
        """Whether ``place`` will read files."""

    def find(self, spec: Spec) -> str | None:
        """The key that this spec's file has if it is here; None if there is no telling."""

    def claimed(self, key: str) -> Mapping[str, Digest]:
        """The digests that a key claims by itself."""

    def adopt(self, key: str, spec: Spec) -> Path:
        """Make the file under this key the spec's; where the spec finds it."""

    def links_at(self, path: str) -> bool:
        """Whether a symbolic link of the layout's own making is at this path."""

    def holds(self, key: str) -> bool:
        """Whether the folder of this key is the layout's own, and stays though it be empty."""


class ByPath:
    """Where the spec says; ``naming`` may say otherwise."""

    address: str | None = None
    within = ""
    linked = False

    def __init__(self, tree: Tree, naming: Callable[[Spec], str] = attrgetter("path")) -> None:
        self._tree = tree
        self._naming = naming

    def prepare(self, spec: Spec, vacant: bool = False) -> tuple[str, str]:
        above, _, name = self._naming(spec).rpartition("/")
        folder = self._tree.folder(above)
        if not vacant:
            refuse_taken(f"{folder}/{name}")
        return folder, name

    def place(self, part: FilePart, spec: Spec, digests: Mapping[str, Digest]) -> Placed:
        key = self._naming(spec)
        seen = part.land(self._tree.at(key))
        return Placed(self._tree.location(key), key, seen, (part.folder,))

    def reads(self, digests: Mapping[str, Digest]) -> bool:
        return False

    def find(self, spec: Spec) -> str | None:
        return self._naming(spec)

    def claimed(self, key: str) -> Mapping[str, Digest]:
        return {}

    def adopt(self, key: str, spec: Spec) -> Path:
        return self._tree.location(key)

    def links_at(self, path: str) -> bool:
        return False

    def holds(self, key: str) -> bool:
        return False


class ByDigest:
    """Under ``sha256/ab/<hex>``, and a link at the spec's path: a symbolic one, a hard one, or none."""

    address: str | None = "sha256"
    within = "sha256"
    _KEY = re.compile(r"sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")

    def __init__(self, tree: Tree, links: Links) -> None:
        self._tree = tree
        self._links = links
        self.linked = links is not None

    def prepare(self, spec: Spec, vacant: bool = False) -> tuple[str, str]:
        if self._links is not None:
            refuse_taken(self._link_path(spec))
        return self._tree.folder(self.within), spec.path.rpartition("/")[2]

    def place(self, part: FilePart, spec: Spec, digests: Mapping[str, Digest]) -> Placed:
        digest = digests.get("sha256")
        if digest is None:
            raise StoreError(f"this store files by {self.address}, and nobody computed that of {spec.path!r}")
        key = _key(digest)
        folder = self._tree.folder(os.path.dirname(key))
        blob = self._tree.at(key)
        kept = self._kept(part, blob)
        seen = kept or part.land(blob)
        location = self.adopt(key, spec)
        linked = (self._tree.folder(spec.path.rpartition("/")[0]),) if self._links else ()
        return Placed(location, key, seen, (folder, *((blob,) if kept else ()), *linked))

    def _kept(self, part: FilePart, blob: str) -> os.stat_result | None:
        # The file that is there stays: its records hold its mtime and inode, and hard links share it.  But it may have
        # rotted: only the same bytes, compared, make the new part needless.
        if not _there(blob):
            return None
        part.whole()
        seen = part.twin(blob)
        if seen is not None:
            part.discard()
        return seen

    def reads(self, digests: Mapping[str, Digest]) -> bool:
        digest = digests.get("sha256")
        return digest is not None and _there(self._tree.at(_key(digest)))

    def find(self, spec: Spec) -> str | None:
        for digest in spec.digests:
            if digest.algorithm == self.address:
                return _key(digest)
        if self._links != "symlink":  # a hard link does not say what else the file is called
            return None
        return self._led_to(spec.path)

    def _led_to(self, path: str) -> str | None:
        """The key of the file that the symbolic link at this path leads to."""
        link = self._tree.at(path)
        above = path.rpartition("/")[0]
        if self._tree.straight(above):
            try:
                target = os.readlink(link)
            except OSError:  # nothing there, or a file
                return None
            # As this store makes them, in a folder that is where its path says: thirty calls to the system less.
            key = target.removeprefix(_up(above))
            if self._KEY.fullmatch(key) and target == _up(above) + key:
                return key
        root = os.path.realpath(self._tree.root)
        key = os.path.realpath(link).removeprefix(root.rstrip("/") + "/")
        return key if self._KEY.fullmatch(key) and key != path else None

    def claimed(self, key: str) -> Mapping[str, Digest]:
        known = self._KEY.fullmatch(key)
        return {"sha256": Digest("sha256", bytes.fromhex(known[2]))} if known else {}

    def adopt(self, key: str, spec: Spec) -> Path:
        if self._links is None:
            return self._tree.location(key)
        for _ in range(100):
            link = self._link_path(spec)
            if self._linked(link, key, spec.path.rpartition("/")[0]):
                return self._tree.location(spec.path)
            self._tree.forget()  # a gc may have removed the folder, empty as it was
        raise StoreError(f"linking {link}: someone else takes it away whenever it is made")

    def _link_path(self, spec: Spec) -> str:
        above, _, name = spec.path.rpartition("/")
        if spec.path.split("/")[0] == self.within:
            raise StoreError(f"{spec.path!r} lies in {self.within}/, which holds this store's files: give another path")
        return f"{self._tree.folder(above)}/{name}"

    def _linked(self, link: str, key: str, above: str) -> bool:
        """Whether the link is there now; False if a sweep took the new one on its way."""
        folder, _, name = link.rpartition("/")
        blob = self._tree.at(key)
        try:
            target = self._target(above, key) if self._links == "symlink" else None
            if _leads_to(link, target) if target is not None else _same_file(link, blob):
                return True
            refuse_taken(link)
            passing = f"{folder}/{part_prefix(name)}{token()}"
            if target is None:
                return _renamed(lambda: os.link(blob, passing), passing, link, hard=True)
            return _renamed(lambda: os.symlink(target, passing), passing, link, hard=False)
        except StoreError:  # an OSError too
            raise
        except FileNotFoundError as exc:
            if not os.path.lexists(blob):
                raise refused(exc, f"linking {link} to {blob}") from exc
            return False
        except OSError as exc:
            raise refused(exc, f"linking {link} to {blob}") from exc

    def links_at(self, path: str) -> bool:
        return not self.holds(path) and os.path.islink(self._tree.at(path)) and self._led_to(path) is not None

    def holds(self, key: str) -> bool:
        # There are 256 of them at most, and whoever stores a file relies on the one that it has just seen.
        return key.startswith(f"{self.within}/")

    def _target(self, above: str, key: str) -> str:
        """What a symbolic link in this folder holds in order to lead to this key."""
        if self._tree.straight(above) and self._tree.straight(key.rpartition("/")[0]):
            return _up(above) + key
        blob, folder = self._tree.at(key), self._tree.at(above)
        return os.path.relpath(os.path.realpath(blob), os.path.realpath(folder))


def _up(folder: str) -> str:
    """The way from this folder to the root."""
    return "../" * (folder.count("/") + 1) if folder else ""


def _there(path: str) -> bool:
    # As refuse_taken: no exception where nothing is there, as for nearly every new file.
    return os.access(path, os.F_OK, follow_symlinks=False)


def _key(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def _leads_to(link: str, target: str) -> bool:
    try:
        return os.readlink(link) == target
    except OSError:  # nothing there, or a file: to be replaced
        return False


def _same_file(link: str, blob: str) -> bool:
    try:
        return os.path.samestat(os.lstat(link), os.lstat(blob))
    except FileNotFoundError:
        return False


def _renamed(make: Callable[[], None], passing: str, final: str, *, hard: bool) -> bool:
    make()
    try:
        os.rename(passing, final)
    except BaseException:
        _gone(passing)
        raise
    if hard:  # where both were the same file already rename does nothing, and leaves it there
        _gone(passing)
    return True


def _gone(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
