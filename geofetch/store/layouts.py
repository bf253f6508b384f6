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
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

from ..digest import Digest
from ..errors import StoreError
from ..spec import Spec
from .filepart import FilePart
from .refusal import refused
from .running import part_prefix, token
from .tree import Tree, refuse_taken

__all__ = ["ByDigest", "ByPath", "Layout", "Links", "Placed"]

Links: TypeAlias = Literal["symlink", "hardlink"] | None


class Placed(NamedTuple):
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

    def prepare(self, spec: Spec) -> tuple[str, str]:
        """The folder for a part of this spec, made if need be, and the name that the part stands for; refuses early."""

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


class ByPath:
    """Where the spec says; ``naming`` may say otherwise."""

    address: str | None = None
    within = ""

    def __init__(self, tree: Tree, naming: Callable[[Spec], str] = lambda spec: spec.path) -> None:
        self._tree = tree
        self._naming = naming

    def prepare(self, spec: Spec) -> tuple[str, str]:
        above, _, name = self._naming(spec).rpartition("/")
        folder = self._tree.folder(above)
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


class ByDigest:
    """Under ``sha256/ab/<hex>``, and a link at the spec's path: a symbolic one, a hard one, or none."""

    address: str | None = "sha256"
    within = "sha256"
    _KEY = re.compile(r"sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")

    def __init__(self, tree: Tree, links: Links) -> None:
        self._tree = tree
        self._links = links

    def prepare(self, spec: Spec) -> tuple[str, str]:
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
        touched = (folder, *((blob,) if kept else ()), *((str(location.parent),) if self._links else ()))
        return Placed(location, key, seen, touched)

    def _kept(self, part: FilePart, blob: str) -> os.stat_result | None:
        # The file that is there stays: its records hold its mtime and inode, and hard links share it.  But it may have
        # rotted: only the same bytes, compared, make the new part needless.
        part.whole()
        seen = part.twin(blob)
        if seen is not None:
            part.discard()
        return seen

    def reads(self, digests: Mapping[str, Digest]) -> bool:
        digest = digests.get("sha256")
        return digest is not None and os.path.lexists(self._tree.at(_key(digest)))

    def find(self, spec: Spec) -> str | None:
        for digest in spec.digests:
            if digest.algorithm == self.address:
                return _key(digest)
        if self._links != "symlink":  # a hard link does not say what else the file is called
            return None
        root = os.path.realpath(self._tree.root)
        key = os.path.realpath(self._tree.at(spec.path)).removeprefix(root.rstrip("/") + "/")
        return key if self._KEY.fullmatch(key) and key != spec.path else None

    def claimed(self, key: str) -> Mapping[str, Digest]:
        known = self._KEY.fullmatch(key)
        return {"sha256": Digest("sha256", bytes.fromhex(known[2]))} if known else {}

    def adopt(self, key: str, spec: Spec) -> Path:
        if self._links is None:
            return self._tree.location(key)
        link = self._link_path(spec)
        for _ in range(100):
            if self._linked(link, key):
                return self._tree.location(spec.path)
        raise StoreError(f"linking {link}: someone else takes it away whenever it is made")

    def _link_path(self, spec: Spec) -> str:
        above, _, name = spec.path.rpartition("/")
        if spec.path.split("/")[0] == self.within:
            raise StoreError(f"{spec.path!r} lies in {self.within}/, which holds this store's files: give another path")
        return f"{self._tree.folder(above)}/{name}"

    def _linked(self, link: str, key: str) -> bool:
        """Whether the link is there now; False if a sweep took the new one on its way."""
        refuse_taken(link)
        folder, _, name = link.rpartition("/")
        blob = self._tree.at(key)
        passing = f"{folder}/{part_prefix(name)}{token()}"
        try:
            if self._links == "hardlink":
                return _same_file(link, blob) or _renamed(lambda: os.link(blob, passing), passing, link)
            target = os.path.relpath(os.path.realpath(blob), os.path.realpath(folder))
            return _leads_to(link, target) or _renamed(lambda: os.symlink(target, passing), passing, link)
        except FileNotFoundError as exc:
            if not os.path.lexists(blob):
                raise refused(exc, f"linking {link} to {blob}") from exc
            return False
        except OSError as exc:
            raise refused(exc, f"linking {link} to {blob}") from exc


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


def _renamed(make: Callable[[], None], passing: str, final: str) -> bool:
    make()
    try:
        os.rename(passing, final)
    finally:
        # Still there after an error, and where both were the same file already: rename then does nothing.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(passing)
    return True
