"""What the tests of the fault matrix have in common.

In: an Outcome, or a client's word of it.  Out: an AssertionError unless it is a store's refusal: the state is failed,
the error a StoreError with the system's number, its verdict STOP, and one source was asked at most.  Besides: one file
at two origins, and a store of each kind for it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from geofetch import plan
from geofetch.errors import StoreError
from geofetch.events import Outcome, Verdict
from geofetch.store import FileStore, OneFile
from tests.origin.content import made

from .diary import sha256
from .mirrors import Handle, Origins

__all__ = ["BODY", "KINDS", "nobody_was_asked", "refused_by_the_store", "stopped", "stores", "two", "wanted"]

BODY = made(30_000, "the file")
KINDS = ("path", "durable", "digest", "hardlink", "one")


@pytest.fixture
def two(origins: Origins) -> tuple[Handle, Handle]:
    """The same file at two origins; neither sends a byte of its body before it is released."""
    first, second = (origins.http().serves(BODY, stall=0) for _ in range(2))
    return first, second


def wanted(path: str, handles: Sequence[Handle], body: bytes = BODY) -> dict[str, Any]:
    """The spec of a file at these origins, to be asked in this order."""
    sources = [{"url": handle.url, "priority": number} for number, handle in enumerate(handles)]
    return {"sources": sources, "path": path, "size": len(body), "digests": sha256(body)}


def nobody_was_asked(handles: Sequence[Handle]) -> None:
    """No connection came to any of them."""
    assert [handle.mirror.accepted for handle in handles] == [0] * len(handles)


def stores(kind: str, root: Path) -> FileStore:
    """A store of one of KINDS, whose file "a" is ``root/a``."""
    if kind == "one":
        return OneFile(root / "a")
    if kind in ("path", "durable"):
        return FileStore(root, durable=kind == "durable")
    return FileStore(root, layout="digest", links="hardlink" if kind == "hardlink" else "symlink")


def stopped(outcome: Outcome, number: int) -> StoreError:
    """The error of a download that the store refused with this number."""
    error = outcome.error
    assert type(error) is StoreError, error
    assert (outcome.state, outcome.ok) == ("failed", False)
    assert error.errno == number, errno.errorcode.get(error.errno or 0)
    assert plan.verdict(error) is Verdict.STOP
    assert len([attempt for attempt in outcome.attempts if attempt.source is not None]) <= 1
    return error


def refused_by_the_store(told: dict[str, Any], number: int) -> dict[str, Any]:
    """The same of what a client told; itself."""
    assert (told["state"], told["error"], told["verdict"]) == ("failed", "StoreError", "STOP"), told
    assert errno.errorcode.get(told["errno"]) == errno.errorcode[number], told
    assert told["location"] is None
    assert len(told["sources"]) <= 1
    return told
