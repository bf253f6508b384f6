"""Whether a database still says what was written to it.

In: a database.  Out: what is wrong with it, each in a sentence; nothing where it is sound.  What its own kind can tell
comes first; then each unit is held against itself: the hash that it is found by against the key that made it, its path
against that of the key, and where it is filed by digest its place against that digest.  Never: a write; a stored file
(that is upkeep's); a guess at what a damaged row said.
"""

from __future__ import annotations

import re

from peewee import Database

from ..errors import SpecError
from .book import Row
from .database import kind_of
from .models import UnitRow
from .rows import load_ids, unit_of
from .sql import fetched
from .units import FILE, identity

__all__ = ["database_faults", "unit_faults"]

_BY_DIGEST = re.compile(r"sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")


def database_faults(database: Database) -> list[str]:
    """What the database finds wrong with itself."""
    return kind_of(database).faults(database)


def unit_faults(database: Database, after: int, most: int) -> tuple[list[str], int | None]:
    """What is wrong with the units beyond this id, of at most ``most`` rows; and the last id, None: there are no more.

    These are the faults that no database sees: a bit that another byte took is as good a byte.
    """
    query = UnitRow.select(UnitRow.id).where(UnitRow.id > after).order_by(UnitRow.id).limit(most)
    ids = [ident for (ident,) in fetched(database, query)]
    found = [f"unit {row.id} is damaged: {why}" for row in load_ids(database, ids) if (why := _fault(row)) is not None]
    return found, ids[-1] if len(ids) == most else None


def _fault(row: Row) -> str | None:
    try:
        unit = unit_of(row)
    except (SpecError, ValueError, TypeError) as exc:
        return str(exc)
    key, digest = unit.key, unit.digest_map.get("sha256")
    if identity(row.type, row.key) != row.identity:
        return "it is not found by its type and its natural key"
    if (
        unit.type == FILE
        and key.keys() == {"path", "store"}
        and key["store"] == unit.store
        and key["path"] != unit.path
    ):
        return f"its path is {unit.path!r}, and its natural key says {key['path']!r}"
    filed = _BY_DIGEST.fullmatch(unit.store_key)
    if filed is not None and digest is not None and digest.hex != filed[2]:
        return "it is filed by another digest than it has"
    return None
