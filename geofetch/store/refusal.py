"""What the system refused, in words that help.  In: an OSError and what was being done.  Out: a StoreError.

Never: I/O, or a decision what to do about it.
"""

from __future__ import annotations

import errno
import os

from ..errors import StoreError

__all__ = ["refused"]

#: What whoever reads the message can do about it.
CURES = {
    errno.ENOSPC: "free some space or inodes there, or store elsewhere",
    errno.EDQUOT: "the quota is used up: free some of it, or store elsewhere",
    errno.EROFS: "the file system is mounted read-only: remount it, or store elsewhere",
    errno.EACCES: "give this user the right to write there, or store elsewhere",
    errno.EPERM: "it may be immutable (lsattr shows that) or belong to someone else: change that, or store elsewhere",
    errno.ENAMETOOLONG: "this file system takes no name that long: give the spec a shorter path",
    errno.EISDIR: "a folder has that name: move it away, or give the spec another path",
    errno.ENOTDIR: "a part of that path is a file: move it away, or give the spec another path",
    errno.ELOOP: "a symbolic link is in the way: remove it, or give the spec another path",
    errno.EMFILE: "too many open files: raise `ulimit -n`, or fetch fewer at once",
    errno.ENFILE: "the system has too many open files: fetch fewer at once",
    errno.EFBIG: "a limit on the size of files: raise `ulimit -f`, or store elsewhere",
    errno.EIO: "the disk or the way to it fails: look into the system's log",
    errno.EXDEV: "two file systems: the store's folders, .geofetch included, must lie on one",
}


def refused(exc: OSError, doing: str) -> StoreError:
    """The StoreError to raise from it: what was being done, why it failed, what helps; ``errno`` is kept."""
    why = str(exc) if exc.errno is None else os.strerror(exc.errno)
    cure = CURES.get(exc.errno) if exc.errno is not None else None
    return StoreError(f"{doing}: {why}" + (f"; {cure}" if cure else ""), errno=exc.errno)
