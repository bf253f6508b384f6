"""Where files live.  In: whatever a caller calls a destination.  Out: a Store.

    None                a temporary file, handed over open                       TempStore
    "a.rpm"             this one file; nothing but it is left                    OneFile
    "folder/"           a file of the spec's last name in it                     OneFile
    an open file        the bytes go where it stands                             OneStream
    "s3://bucket/srv"   below this prefix, by the spec's path                    S3Store
    "fsspec+ftp://h/x"  below this folder, wherever fsspec reaches               FsspecStore
    a Store             itself                                                   FileStore, MemoryStore, a plugin's

Never: a byte under a final name that is not whole and proven.
"""

from __future__ import annotations

import os
from typing import IO, Any, Literal
from urllib.parse import unquote, urlsplit

from ..errors import SpecError
from .base import Part, Removing, Store, StoreStage
from .files import FileStore, OneFile
from .memory import MemoryStore
from .quarantine import Aside, Quarantining
from .spool import OneStream, TempStore

__all__ = [
    "Aside",
    "FileStore",
    "MemoryStore",
    "OneFile",
    "OneStream",
    "Part",
    "Quarantining",
    "Removing",
    "Store",
    "StoreStage",
    "TempStore",
    "store_for",
    "tree_for",
]


def store_for(to: str | os.PathLike[str] | IO[bytes] | Store | None, *, durable: bool = False) -> Store:
    """The store that a destination stands for; a SpecError if it stands for none.

    ``durable`` is for a path; a Store knows for itself.  A ``file:`` URL is a path, an ``s3:`` URL a prefix that the
    spec's path stands below, as does it below a ``fsspec+…:`` one.
    """
    if to is None:
        return TempStore()
    if isinstance(to, Store):
        return to
    if isinstance(to, str) and _elsewhere(to):
        return tree_for(to, durable=durable)
    if isinstance(to, str | bytes | os.PathLike):
        return OneFile(_path(os.fsdecode(os.fspath(to))), durable=durable)
    if callable(getattr(to, "write", None)):
        return OneStream(to)
    raise SpecError(f"a destination is a path, an open binary file or a Store, not {type(to).__name__}")


def tree_for(
    root: str | os.PathLike[str], *, layout: Literal["path", "digest"] = "path", durable: bool = False
) -> Store:
    """The store of many files at a folder, or at the URL of a prefix in a bucket, or of a folder elsewhere."""
    if isinstance(root, str) and _elsewhere(root):
        from .elsewhere import FsspecStore, is_elsewhere
        from .s3 import S3Store

        if is_elsewhere(root):
            return FsspecStore(root, layout=layout, durable=durable)
        return S3Store(root, layout=layout, durable=durable)
    return FileStore(root, layout=layout, durable=durable)


def _elsewhere(text: str) -> bool:
    if "://" not in text:  # nearly all: what an object store needs stays unloaded
        return False
    from .elsewhere import is_elsewhere
    from .s3 import is_s3

    return is_s3(text) or is_elsewhere(text)


def _path(text: str) -> str:
    if "://" not in text:
        return text
    parts: Any = urlsplit(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise SpecError(f"no store here takes {parts.scheme}: URLs; give a path, or ./{text} for a folder of that name")
    return unquote(parts.path, errors="surrogateescape")
