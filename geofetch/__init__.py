"""geofetch: many files fetched at once, proven, stored, and remembered; ``requests`` in plain sight.

    geofetch.get(url)                      a requests.Response; in a greenlet it yields to the others
    geofetch.fetch(url, to="a.rpm")        one file, proven and stored
    geofetch.Pool(64, store=…).map(specs)  many

Importing this patches nothing, opens nothing, and imports next to nothing: each name loads its room when it is first
used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Where each public name lives.
_ROOMS = {
    "delete": "session",
    "get": "session",
    "head": "session",
    "options": "session",
    "patch": "session",
    "post": "session",
    "put": "session",
    "request": "session",
    "Session": "session",
    "Pool": "pool",
    "fetch": "pool",
    "configure": "limits",
    "patch_all": "monkey",
    "patch_requests": "monkey",
    "Digest": "spec",
    "Profile": "spec",
    "Source": "spec",
    "Spec": "spec",
    "Attempt": "events",
    "Outcome": "events",
    "Verdict": "events",
    "Stage": "hooks",
    "FileStore": "store",
    "MemoryStore": "store",
    "Store": "store",
    "TempStore": "store",
    "Recorder": "records",
    "Report": "report",
    "Tally": "report",
    "read_manifest": "manifest",
    "repair": "upkeep",
    "verify": "upkeep",
    "BadResponse": "errors",
    "BadStatus": "errors",
    "Cancelled": "errors",
    "DeadlineExceeded": "errors",
    "DigestMismatch": "errors",
    "FetchError": "errors",
    "IntegrityError": "errors",
    "NotFound": "errors",
    "ProxyFailure": "errors",
    "RateLimited": "errors",
    "RecordError": "errors",
    "RedirectLoop": "errors",
    "RedirectRefused": "errors",
    "SizeMismatch": "errors",
    "SourceError": "errors",
    "SourcesExhausted": "errors",
    "SpecError": "errors",
    "Stalled": "errors",
    "StoreError": "errors",
    "TooLarge": "errors",
    "Truncated": "errors",
    "Unauthorized": "errors",
    "Undecodable": "errors",
    "Unreachable": "errors",
    "UntrustedTLS": "errors",
}

#: Names that are called otherwise in their room.
_CALLED = {"read_manifest": "read"}

__all__ = ["__version__", *sorted(_ROOMS)]


def __getattr__(name: str) -> Any:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'geofetch' has no attribute {name!r}")
    if room == "session":
        # The process' limits stand above every Session: pool.py wires them.
        import_module(".pool", __name__)
    found = getattr(import_module(f".{room}", __name__), _CALLED.get(name, name))
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# What the lazy door gives, told to type checkers.
if TYPE_CHECKING:
    from .errors import (
        BadResponse,
        BadStatus,
        Cancelled,
        DeadlineExceeded,
        DigestMismatch,
        FetchError,
        IntegrityError,
        NotFound,
        ProxyFailure,
        RateLimited,
        RecordError,
        RedirectLoop,
        RedirectRefused,
        SizeMismatch,
        SourceError,
        SourcesExhausted,
        SpecError,
        Stalled,
        StoreError,
        TooLarge,
        Truncated,
        Unauthorized,
        Undecodable,
        Unreachable,
        UntrustedTLS,
    )
    from .events import Attempt, Outcome, Verdict
    from .hooks import Stage
    from .limits import configure
    from .manifest import read as read_manifest
    from .monkey import patch_all, patch_requests
    from .pool import Pool, fetch
    from .records import Recorder
    from .report import Report, Tally
    from .session import Session, delete, get, head, options, patch, post, put, request
    from .spec import Digest, Profile, Source, Spec
    from .store import FileStore, MemoryStore, Store, TempStore
    from .upkeep import repair, verify
