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
    "Profiles": "profile_files",
    "Secret": "secret",
    "Source": "spec",
    "Spec": "spec",
    "Attempt": "events",
    "Outcome": "events",
    "Verdict": "events",
    "Stage": "hooks",
    "FileStore": "store",
    "MemoryStore": "store",
    "S3Store": "store.s3",
    "FsspecStore": "store.elsewhere",
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

__all__ = ["__version__", *sorted(_ROOMS)]


def __getattr__(name: str) -> Any:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'geofetch' has no attribute {name!r}")
    if room == "session":
        # The process' limits stand above every Session: pool.py wires them.
        import_module(".pool", __name__)
    found = getattr(import_module(f".{room}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# What the lazy door gives, told to type checkers.
if TYPE_CHECKING:
    from .errors import BadResponse as BadResponse
    from .errors import BadStatus as BadStatus
    from .errors import Cancelled as Cancelled
    from .errors import DeadlineExceeded as DeadlineExceeded
    from .errors import DigestMismatch as DigestMismatch
    from .errors import FetchError as FetchError
    from .errors import IntegrityError as IntegrityError
    from .errors import NotFound as NotFound
    from .errors import ProxyFailure as ProxyFailure
    from .errors import RateLimited as RateLimited
    from .errors import RecordError as RecordError
    from .errors import RedirectLoop as RedirectLoop
    from .errors import RedirectRefused as RedirectRefused
    from .errors import SizeMismatch as SizeMismatch
    from .errors import SourceError as SourceError
    from .errors import SourcesExhausted as SourcesExhausted
    from .errors import SpecError as SpecError
    from .errors import Stalled as Stalled
    from .errors import StoreError as StoreError
    from .errors import TooLarge as TooLarge
    from .errors import Truncated as Truncated
    from .errors import Unauthorized as Unauthorized
    from .errors import Undecodable as Undecodable
    from .errors import Unreachable as Unreachable
    from .errors import UntrustedTLS as UntrustedTLS
    from .events import Attempt as Attempt
    from .events import Outcome as Outcome
    from .events import Verdict as Verdict
    from .hooks import Stage as Stage
    from .limits import configure as configure
    from .manifest import read_manifest as read_manifest
    from .monkey import patch_all as patch_all
    from .monkey import patch_requests as patch_requests
    from .pool import Pool as Pool
    from .pool import fetch as fetch
    from .profile_files import Profiles as Profiles
    from .records import Recorder as Recorder
    from .report import Report as Report
    from .report import Tally as Tally
    from .secret import Secret as Secret
    from .session import Session as Session
    from .session import delete as delete
    from .session import get as get
    from .session import head as head
    from .session import options as options
    from .session import patch as patch
    from .session import post as post
    from .session import put as put
    from .session import request as request
    from .spec import Digest as Digest
    from .spec import Profile as Profile
    from .spec import Source as Source
    from .spec import Spec as Spec
    from .store import FileStore as FileStore
    from .store import MemoryStore as MemoryStore
    from .store import Store as Store
    from .store import TempStore as TempStore
    from .store.elsewhere import FsspecStore as FsspecStore
    from .store.s3 import S3Store as S3Store
    from .upkeep import repair as repair
    from .upkeep import verify as verify
