"""What records say, read without a word to them.  In: a folder that a sync filled.  Out: rows, as plain values.

Never: a change to what is there.  A reader of SQLite's takes part in its log, so a copy is asked.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Recorded", "recorded"]

_QUESTION = """
    SELECT path, store_key, size_bytes, hex(value) FROM units LEFT JOIN digests ON unit_id = id AND algorithm = 'sha256'
    WHERE state = 'present'
"""


@dataclass(frozen=True)
class Recorded:
    """One unit that is present: the file's key in its store, its size, its SHA-256 in hex."""

    key: str
    size: int
    sha256: str


def recorded(root: Path, database: str = ".geofetch/units.db") -> dict[str, Recorded]:
    """The units that are present, by path; none where there is no database yet, or no table in it."""
    with tempfile.TemporaryDirectory() as aside:
        # The index of the log is made anew from the log, as after a crash; what made the database has a journal.
        for end in ("", "-wal", "-journal"):
            if (root / (database + end)).exists():
                shutil.copyfile(root / (database + end), Path(aside, f"units.db{end}"))
        with closing(sqlite3.connect(Path(aside, "units.db"))) as asked:
            if not asked.execute("SELECT 1 FROM sqlite_schema WHERE name = 'digests'").fetchall():
                return {}
            return {path: Recorded(key, size, digest.lower()) for path, key, size, digest in asked.execute(_QUESTION)}
