"""Where files live.  In: whatever a caller calls a destination.  Out: a Store.

    None                a temporary file, handed over open                       TempStore
    "a.rpm"             this one file; nothing but it is left                    OneFile
    "folder/"           a file of the spec's last name in it                     OneFile
    an open file        the bytes go where it stands                             OneStream
    a Store             itself                                                   FileStore, MemoryStore, a plugin's

Never: a byte under a final name that is not whole and proven.
"""

from __future__ import annotations

import os
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from ..errors import SpecError
from .base import Part, Store, StoreStage
from .files import FileStore, OneFile
from .memory import MemoryStore
from .spool import OneStream, TempStore

__all__ = ["FileStore", "MemoryStore", "OneFile", "OneStream", "Part", "Store", "StoreStage", "TempStore", "store_for"]


def store_for(to: str | os.PathLike[str] | IO[bytes] | Store | None, *, durable: bool = False) -> Store:
    """The store that a destination stands for; a SpecError if it stands for none.

    ``durable`` is for a path; a Store knows for itself.  A ``file:`` URL is a path.
    """
    if to is None:
        return TempStore()
    if isinstance(to, Store):
        return to
    if isinstance(to, str | bytes | os.PathLike):
        return OneFile(_path(os.fsdecode(os.fspath(to))), durable=durable)
    if callable(getattr(to, "write", None)):
        return OneStream(to)
    raise SpecError(f"a destination is a path, an open binary file or a Store, not {type(to).__name__}")


def _path(text: str) -> str:
    if "://" not in text:
        return text
    parts: Any = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise SpecError(f"no store here takes {parts.scheme}: URLs; give a path, or ./{text} for a folder of that name")
    return unquote(parts.path, errors="surrogateescape")
