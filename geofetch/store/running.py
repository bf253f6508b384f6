"""Who is at work on a root, and what dead processes left there.

In: a root, or one target in a folder.  Out: parts of dead processes removed, those of living ones left alone.
A part is locked (flock) as long as it is open, and so is the marker ``.geofetch/running-…`` that a store puts into its
root before its first part and removes at its end.  Only where a marker is left that nobody holds did a process die, and
only then is the tree walked.  The system drops the locks of whoever dies, however it dies.
Never: what another user left, what cannot be locked (a file system without locks), a wait for a lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
import weakref
import zlib
from collections.abc import Iterator

from ..hubs import process
from ..names import OURS, PART_PREFIX

__all__ = ["Running", "claimed", "dead_markers", "locked", "part_prefix", "sweep", "sweep_target", "token", "unswept"]

log = logging.getLogger(__name__)

MARKER = "running-"
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF})


#: Names drawn and not given yet: one call to the system for many costs an eighth of one for each.
_drawn: list[str] = []
_DRAWN_AT_ONCE = 128
os.register_at_fork(after_in_child=_drawn.clear)  # parent and child must not give the same ones


def token() -> str:
    """A name that nobody can guess and plant."""
    try:
        return _drawn.pop()
    except IndexError:
        first, *others = os.urandom(8 * _DRAWN_AT_ONCE).hex(" ", 8).split()
        _drawn.extend(others)
        return first


def part_prefix(name: str) -> str:
    """How the parts of a file of this name begin: short however long the name is, and the same in every process."""
    # A checksum is enough: two names that share one share at worst the sweeping of what is dead anyway.
    checksum = zlib.crc32(name.encode("utf-8", "surrogateescape"))
    return f"{PART_PREFIX}{checksum.to_bytes(4, 'big').hex()}-"


def locked(fd: int) -> bool | None:
    """Whether this file is ours now; None where the file system knows no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as exc:
        if exc.errno in _NO_LOCKS:
            return None
        raise
    return True


def claimed(path: str, fd: int) -> os.stat_result | None:
    """What the system says of a file that was made just now and is locked now; else its descriptor is closed.

    None: a sweep of another process took it for a dead one's before it was locked, and it is gone, or about to be.
    """
    try:
        if locked(fd) is not False and (seen := os.fstat(fd)).st_nlink:
            return seen
    except BaseException:
        _removed(path)
        os.close(fd)
        raise
    os.close(fd)
    return None


class Running:
    """This process at work on one root: the parts it has open, and the marker that says so to others.

    ``home`` is the root's ``.geofetch``; None: no marker, for a target that is one file.
    """

    def __init__(self, home: str | None) -> None:
        self.home = home
        self.pid = process()
        #: The paths of the parts that are there, and whether they are open; one that is not could not be removed.
        self.live: dict[str, bool] = {}
        self._marker: dict[str, int] = {}
        # Also run at the interpreter's end, for whoever closes nothing: a part left by a clean exit is nobody's later.
        self._end = weakref.finalize(self, _ended, self.pid, home, self.live, self._marker)

    def announce(self) -> None:
        """Put the marker there, if it is not yet."""
        if self.home is None or self._marker:
            return
        path, fd = _new_marker(self.home)
        self._marker[path] = fd
        _everyones.add(self)

    def retired(self) -> bool:
        """Remove the marker, unless parts are still there: it then stays until the process ends, and this is False."""
        for path, is_open in list(self.live.items()):
            if not is_open and self.pid == process() and _removed(path):
                del self.live[path]
        if self.live:
            return False
        self._end()
        return True

    def forked(self) -> None:
        """In a child: the marker is its parent's, and must not be held for longer than that one lives.

        Where parts were open it is: their locks are the child's, too, and a sweep that cannot remove them yet would
        remove the marker that leads to them.
        """
        _let_go(self.live, self._marker)


#: Those that have a marker.
_everyones: weakref.WeakSet[Running] = weakref.WeakSet()


def _forked() -> None:
    for running in list(_everyones):
        running.forked()


os.register_at_fork(after_in_child=_forked)  # later these numbers may be other files': a daemon closes all it has


def _new_marker(home: str) -> tuple[str, int]:
    for _ in range(100):
        with contextlib.suppress(FileExistsError):
            os.mkdir(home)
        path = f"{home}/{MARKER}{token()}"
        try:
            fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # another store ended just now, and took the empty folder along
            continue
        if claimed(path, fd) is not None:
            return path, fd
    raise FileNotFoundError(errno.ENOENT, "the folder vanishes whenever it is made", home)


def _ended(pid: int, home: str | None, live: dict[str, bool], marker: dict[str, int]) -> None:
    if process() != pid:  # a fork's child: all of this is its parent's
        _let_go(live, marker)
        return
    left = [path for path in list(live) if not _removed(path)]
    for path, fd in marker.items():
        if not left:  # else it stays, as a dead one: whoever comes next looks for them
            _removed(path)
        os.close(fd)
    live.clear()
    if marker and home is not None:
        marker.clear()
        with contextlib.suppress(OSError):  # not empty: records, a quarantine, another process
            os.rmdir(home)


def _let_go(live: dict[str, bool], marker: dict[str, int]) -> None:
    """Close a parent's marker in its child, unless a part is open here."""
    if not any(live.values()):
        while marker:
            os.close(marker.popitem()[1])


def _removed(path: str) -> bool:
    """Whether nothing is at this path any more."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        log.debug("left at the end: %s: %s", path, exc)
        return False
    return True


def dead_markers(home: str) -> list[tuple[str, int]]:
    """The markers of dead processes, each with the descriptor that locks it now; cheap where there are none."""
    try:
        with os.scandir(home) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(MARKER)]
    except OSError:
        return []
    found = ((path, _held(path)) for path in (f"{home}/{name}" for name in names))
    return [(path, fd) for path, fd in found if fd is not None]


def sweep(root: str, markers: list[tuple[str, int]]) -> int:
    """Remove every part below the root that no living process holds, then the markers, which are taken out of the list.
    How many parts there were.  Blocks, for a native thread.
    """
    taken = _taken(markers)
    if not taken:
        return 0
    count = 0
    try:
        for path in _parts_below(root):
            count += _remove_dead(path)
        for path, _ in taken:
            _unlink(path)
    finally:
        for _, fd in taken:
            os.close(fd)
    return count


def unswept(markers: list[tuple[str, int]]) -> bool:
    """Let go of these markers, unless a sweep has taken them; whether it had not."""
    taken = _taken(markers)
    for _, fd in taken:
        os.close(fd)
    return bool(taken)


def _taken(markers: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """What is left in the list, taken out one by one: each goes to one thread, and that closes it."""
    taken = []
    with contextlib.suppress(IndexError):
        while True:
            taken.append(markers.pop())
    return taken


def sweep_target(folder: str, name: str) -> None:
    """Remove what dead processes left beside one target.  Blocks, for a native thread."""
    prefix = part_prefix(name)
    try:
        names = os.listdir(folder)
    except OSError:  # the folder is not there: nothing was left in it
        return
    for found in names:
        if found.startswith(prefix):
            _remove_dead(f"{folder}/{found}")


def _parts_below(root: str) -> Iterator[str]:
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            entries = [(entry.name, entry.path, entry.is_dir(follow_symlinks=False)) for entry in os.scandir(folder)]
        except OSError as exc:
            log.warning("parts of an earlier run may be left in %s: %s", folder, exc)
            continue
        for name, path, is_folder in entries:
            if name.startswith(PART_PREFIX):
                yield path
            elif is_folder and not (folder == root and name == OURS):
                folders.append(path)


def _remove_dead(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    if stat.S_ISLNK(mode):
        # A link under way to its name lives for microseconds; whose link is taken makes it again (layouts.py).
        _unlink(path)
        return True
    fd = _held(path)
    if fd is None:
        return False
    _unlink(path)
    os.close(fd)
    return True


def _held(path: str) -> int | None:
    """A descriptor that locks what a dead process of this user left; None if it is alive, foreign or no file."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        seen = os.fstat(fd)
        if stat.S_ISREG(seen.st_mode) and seen.st_uid == os.geteuid() and locked(fd):
            return fd
    except OSError as exc:
        log.debug("not swept: %s: %s", path, exc)
    os.close(fd)
    return None


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError as exc:
        log.warning("left by an earlier run, and still there: %s: %s", path, exc)
