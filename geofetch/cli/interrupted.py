"""Notes of verifies that are under way, so that one that was ended can be gone on with.

In: the records' URL, what a verify was asked for.  Out: when it began.  Never: which files it has read: the records
know.

A note lies beside a database that is a file (``units.db.verify``), else in the user's folder for such things.  Verifies
of the same flags share one: it is written when one begins, and removed when that one has read all.  Notes are changed
under a lock: one that came back after its verify was over would have the next one believe that all was read.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Note"]


class Note:
    """The note of a verify of this scope."""

    def __init__(self, url: str, scope: Mapping[str, Any]) -> None:
        self._path = _beside(url)
        self._scope = json.dumps(scope, sort_keys=True)
        self._written: float | None = None

    def began_at(self) -> float | None:
        """When the verify of this scope began that was ended, in seconds since 1970; None if there is none."""
        found = self._notes().get(self._scope)
        self._written = float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None
        return self._written

    def write(self, began_at: float) -> None:
        """It begins.  An OSError where no note can be kept."""
        with self._alone():
            self._save({**self._notes(), self._scope: began_at})
        self._written = began_at

    def remove(self) -> None:
        """All was read; the note of a verify that began since stays."""
        with suppress(OSError), self._alone():
            notes = self._notes()
            if self._written is not None and notes.get(self._scope) == self._written:
                del notes[self._scope]
                self._save(notes)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self._path is None:
            yield
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # The folder is locked: nothing is left behind.  Nobody holds it for longer than a note takes.
        number = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
            yield
        finally:
            os.close(number)

    def _notes(self) -> dict[str, Any]:
        try:
            found = json.loads(self._path.read_text(encoding="utf-8")) if self._path is not None else {}
        except (OSError, ValueError):  # a note that cannot be read is none: all is read again
            return {}
        return found if isinstance(found, dict) else {}

    def _save(self, notes: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        if not notes:
            self._path.unlink(missing_ok=True)
            return
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        new.write_text(json.dumps(notes), encoding="utf-8")
        os.replace(new, self._path)


def _beside(url: str) -> Path | None:
    """Where the notes are of the records of this URL; None: nowhere, they are in memory."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        path = rest.removeprefix("/")
        return None if path in ("", ":memory:") else Path(os.path.abspath(f"{path}.verify"))
    from platformdirs import user_state_path

    parts = urlsplit(url)
    # Whoever signs in, and how, makes no other database of it, and is nobody's to find here.
    named = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return Path(user_state_path("geofetch")) / f"verify-{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"
