"""The folders below one root.  In: a relative path.  Out: where it is, on this disk; folders are made as needed.

Never: a folder outside of the root, not even by a symbolic link.  How strictly: a folder is resolved, and refused if it
is not below the root, once before its first use; what is refused is not made either.  Links that stay inside are
followed.  Whoever may write in the root can still swap a folder for a link after that look.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

from ..errors import StoreError
from .refusal import refused

__all__ = ["Tree", "absolute", "nothing_at", "refuse_taken"]

#: Folders that are remembered as good; at most this many, so that a store of a million folders needs no more memory.
REMEMBERED = 4096
#: Names shorter than this fit everywhere (143 bytes on an encrypted disk): those of ASCII, and those in any script.
SURE_ASCII = 144
SURE_LETTERS = 36
#: So do whole paths, in any script.
SURE_PATH = 1000
#: pathlib's own step from a folder to a name in it, which parses nothing: a sixth of what Path(text) takes in 3.11, and
#: less in 3.12.  Python 3.13 has none, and parses late itself.
_step: Any = getattr(Path, "_make_child_relpath", None)


def absolute(path: str) -> str:
    """The absolute path, as a name that lasts: a later chdir changes nothing."""
    # "link/../x" is not "x" where link leads elsewhere: only the file system can say what ".." means.
    return os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)


class Tree:
    """The folders below ``root``, which is absolute and need not exist yet."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._start = root.rstrip("/") + "/"
        self._good: dict[str, str] = {}
        self._as_paths: dict[str, Path] = {}
        self._straight: dict[str, bool] = {}
        # Folders that were made, and whose parents the disk may not know durably yet.
        self._made: dict[str, None] = {}

    def at(self, key: str) -> str:
        """Where a key's file is, whether its folder exists or not."""
        return self._start + key

    def location(self, key: str) -> Path:
        """The same as a Path."""
        if _step is None:
            return Path(self.at(key))
        above, _, name = key.rpartition("/")
        folder = self._as_paths.get(above)
        if folder is None:
            if len(self._as_paths) >= REMEMBERED:
                self._as_paths.clear()
            folder = self._as_paths[above] = Path(self.at(above))
        return _step(folder, name)  # type: ignore[no-any-return]

    def folder(self, relative: str) -> str:
        """The folder, made if it is not there; ``""`` is the root."""
        known = self._good.get(relative)
        if known is not None:
            return known
        path = self._inside(relative)
        try:
            self._make(path)
        except OSError as exc:
            raise refused(exc, f"making the folder {path}") from exc
        return self._remember(relative, path)

    def peek(self, relative: str) -> str | None:
        """The folder if it is there; None if it is not."""
        known = self._good.get(relative)
        if known is not None:
            return known
        path = self._inside(relative)
        return self._remember(relative, path) if os.path.isdir(path) else None

    def straight(self, relative: str) -> bool:
        """Whether this folder is there, and no symbolic link on the way from the root to it: its path says where it is.

        Looked at once, as whether it is below the root.
        """
        known = self._straight.get(relative)
        if known is None:
            path = self.at(relative) if relative else self.root
            if not os.path.isdir(path):
                return False
            known = os.path.realpath(path) == os.path.join(os.path.realpath(self.root), relative).rstrip("/")
            if len(self._straight) >= REMEMBERED:
                self._straight.clear()
            self._straight[relative] = known
        return known

    def forget(self) -> None:
        """Look again: a folder was gone."""
        self._good.clear()
        self._straight.clear()

    def unsynced(self, folder: str) -> list[str]:
        """The folder, and each one above that must be synced too because the one below it in this list was made."""
        chain = [folder]
        while chain[-1] in self._made:
            chain.append(os.path.dirname(chain[-1]))
        return chain

    def synced(self, chain: list[str]) -> None:
        """All of these are on the disk now."""
        for made in chain[:-1]:
            self._made.pop(made, None)

    def _inside(self, relative: str) -> str:
        path = self.at(relative) if relative else self.root
        if relative:
            root, real = os.path.realpath(self.root), os.path.realpath(path)
            if not real.startswith(root.rstrip("/") + "/"):
                raise StoreError(
                    f"{path} leads out of the store, to {real}: remove that symbolic link, or give another path",
                    errno=errno.ELOOP,
                )
        return path

    def _make(self, path: str) -> None:
        missing = []  # no recursion: a path may have two thousand folders
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not os.path.isdir(folder):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None
            else:
                self._made[folder] = None

    def _remember(self, relative: str, path: str) -> str:
        if len(self._good) >= REMEMBERED:
            self._good.clear()
        self._good[relative] = path
        return path


def nothing_at(path: str) -> bool:
    """Whether it is sure that nothing has this name; False may mean that it is too long here."""
    # access() says "nothing there" without an exception, which costs twice as much.  It also says so of what is too
    # long, which lstat tells apart.
    return _fits(path) and not os.access(path, os.F_OK, follow_symlinks=False)


def _fits(path: str) -> bool:
    if len(path) < SURE_LETTERS or (len(path) < SURE_ASCII and path.isascii()):
        return True  # and so does its last name
    letters = len(path) - path.rfind("/") - 1
    return letters < (SURE_ASCII if path.isascii() else SURE_LETTERS) and len(path) < SURE_PATH


def refuse_taken(final: str) -> None:
    """Nothing, if a file may be put under this name: nothing has it, or a regular file or a symbolic link does."""
    if nothing_at(final):
        return
    try:
        mode = os.lstat(final).st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise refused(exc, f"looking at {final}") from exc
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        return
    if stat.S_ISDIR(mode):
        taken = IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), final)
        raise refused(taken, f"putting a file at {final}") from taken
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    raise StoreError(
        f"{final} is {kind}: only a file is ever replaced; remove it, or store elsewhere", errno=errno.EEXIST
    )
