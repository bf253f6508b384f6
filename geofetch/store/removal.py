"""A file taken away for good.  In: a path, what is known of the file.  Out: whether it was there.

The file is first given another name, a part's, and looked at there: nobody can put another one in its place between
the look and the removal.  Blocks, for a native thread.
Never: a file removed that is another one than was meant; a folder that is not empty.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time

from ..errors import StoreError
from ..events import Kept
from .refusal import refused
from .running import part_prefix, token

__all__ = ["aside_in", "beside", "differs", "fold", "remove_file", "replaced", "sweep_removed"]

#: How what is on its way out is called in a store's ``.geofetch``.
REMOVED = "removed-"
#: Seconds after which it is a dead process's: it lives there for two calls to the system.
DEAD_S = 60.0


def replaced(what: str) -> StoreError:
    """The error of whoever wanted to remove what is another one by now."""
    return StoreError(f"{what} is not what was to be removed: it was replaced since, and is left", errno=errno.ESTALE)


def differs(kept: Kept, seen: Kept) -> bool:
    """Whether what is seen is another file than is meant, by all that is told of that one."""
    return (
        seen.size != kept.size
        or (kept.mtime_ns is not None and seen.mtime_ns != kept.mtime_ns)
        or (kept.inode is not None and seen.inode != kept.inode)
    )


def aside_in(home: str) -> str:
    """A name in a store's ``.geofetch``, which is made if need be."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(home)
    return f"{home}/{REMOVED}{token()}"


def beside(path: str) -> str:
    """A part's name beside a file."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{part_prefix(name)}{token()}"


def remove_file(path: str, aside: str, kept: Kept) -> bool:
    """Remove this file, by way of a name ``aside``; False if there is none.

    A StoreError (errno ESTALE) if another one is there.
    """
    try:
        if _differs(kept, os.lstat(path)):
            raise replaced(path)
        aside = _renamed(path, aside)
        if _differs(kept, os.lstat(aside)):
            _put_back(aside, path)
            raise replaced(path)
        os.unlink(aside)
    except StoreError:  # an OSError too
        raise
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise refused(exc, f"removing {path}") from exc
    return True


def _renamed(path: str, aside: str) -> str:
    try:
        os.rename(path, aside)
    except OSError as exc:
        if exc.errno != errno.EXDEV:  # another file system is mounted below the root
            raise
        aside = beside(path)
        os.rename(path, aside)
    return aside


def _differs(kept: Kept, seen: os.stat_result) -> bool:
    if not stat.S_ISREG(seen.st_mode):
        return True
    return differs(kept, Kept(kept.store, kept.key, seen.st_size, seen.st_mtime_ns, seen.st_ino))


def _put_back(aside: str, path: str) -> None:
    try:
        os.link(aside, path)
    except FileExistsError:  # a still newer one
        pass
    except OSError:  # a file system without hard links
        os.rename(aside, path)
        return
    os.unlink(aside)


def sweep_removed(home: str) -> int:
    """Remove what a process that died left on its way out; how many that were.  Blocks."""
    count = 0
    with contextlib.suppress(FileNotFoundError), os.scandir(home) as entries:
        for entry in entries:
            if entry.name.startswith(REMOVED) and time.time() - entry.stat(follow_symlinks=False).st_ctime > DEAD_S:
                os.unlink(entry.path)
                count += 1
    return count


def fold(root: str, folder: str) -> None:
    """Remove this folder below the root, and those above it, as far as they are empty."""
    while folder.startswith(root.rstrip("/") + "/"):
        try:
            os.rmdir(folder)
        except FileNotFoundError:  # somebody else did
            pass
        except OSError:  # not empty, a link, not ours to remove
            return
        folder = os.path.dirname(folder)
