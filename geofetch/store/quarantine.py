"""What a store put aside, and takes away for good when it is told to.  In: what lies in a quarantine.  Out: Asides.

A key's file is put aside under the key itself, or where that name is taken with ``.<token>`` behind the key's first
part.  Never: whether a file may go; that is upkeep's question, who has the records.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from ..errors import SpecError
from ..events import Kept
from ..names import OURS, checked_path

__all__ = ["FIRST_MOST", "QUARANTINE", "Aside", "Quarantining", "aside_of", "asides_in", "other_key"]

#: What the keys of files that were put aside begin with.
QUARANTINE = f"{OURS}/quarantine/"
#: Bytes of a key's first part that are kept where a token follows: a file system takes 255 for both.
FIRST_MOST = 230
_WITH_TOKEN = re.compile(r"(.+)\.[0-9a-f]{16}", re.DOTALL)


class Aside(NamedTuple):
    """A file that was put aside.

    ``kept``: it, as the store knows it now; its key begins with ``.geofetch/quarantine/``.  ``since_ns``: since when it
    is there; None: nobody knows.  ``keys``: the keys that it may have had; none where its name does not tell.
    """

    kept: Kept
    since_ns: int | None
    keys: tuple[str, ...]


@runtime_checkable
class Quarantining(Protocol):
    """A store whose quarantine a gc empties: all of ours that find again what they stored.

    Not a part of Store, as Removing is not: what a plugin's store puts aside stays there if it lacks this.
    """

    def asides(self) -> Iterator[Aside]:
        """Every file that was put aside, in no order.  Called on the hub."""

    def remove_aside(self, kept: Kept) -> bool:
        """Remove a file that was put aside, as ``remove`` does: only the very one that is meant; False if there is
        nothing.  Called on native threads, several at once, and on the hub."""


def other_key(key: str, token: str) -> str:
    """The key in quarantine of a file whose own is taken there."""
    first, slash, rest = key.partition("/")
    return f"{os.fsdecode(os.fsencode(first)[:FIRST_MOST])}.{token}{slash}{rest}"


def aside_of(kept: Kept, since_ns: int | None) -> Aside | None:
    """What lies there in the quarantine; None if it is nothing that was put aside."""
    key = kept.key.removeprefix(QUARANTINE)
    try:
        checked_path(key)
    except SpecError:
        return None
    first, slash, rest = key.partition("/")
    found = _WITH_TOKEN.fullmatch(first)
    if found is None:
        return Aside(kept, since_ns, (key,))
    if len(os.fsencode(found[1])) >= FIRST_MOST:  # more of it may be cut off
        return Aside(kept, since_ns, ())
    return Aside(kept, since_ns, (key, found[1] + slash + rest))


def asides_in(root: str, store: str) -> Iterator[Aside]:
    """What lies in the quarantine of a store's folder.  Blocks."""
    folders = [QUARANTINE.rstrip("/")]
    while folders:
        folder = folders.pop()
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                key = f"{folder}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    folders.append(key)
                    continue
                with contextlib.suppress(FileNotFoundError):
                    seen = entry.stat(follow_symlinks=False)
                    # A rename changes the time of the inode, and leaves that of the bytes.
                    kept = Kept(store, key, seen.st_size, seen.st_mtime_ns, seen.st_ino)
                    one = aside_of(kept, seen.st_ctime_ns) if stat.S_ISREG(seen.st_mode) else None
                    if one is not None:
                        yield one
