"""Repositories as wholes: how much is in each, and what one has that another lacks.

In: a database, names.  Out: values, in pages where there may be many.  Never: a write; a unit's own fields (reader.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from peewee import JOIN, Case, Database, fn

from .models import RepositoryRow, UnitRepositoryRow, UnitRow
from .reader import member_ids
from .sql import fetched

__all__ = ["RepositorySum", "only_in", "repositories", "stores"]


STORED = UnitRow.stored_at.is_null(False)


@dataclass(frozen=True, slots=True)
class RepositorySum:
    """A repository: how many units it has, of how many bytes, and how many of them are in which state.

    ``not_fetched``: how many are wanted and were never stored; they are in no state, and have no bytes.
    """

    name: str
    units: int
    size: int
    states: Mapping[str, int] = field(hash=False)
    not_fetched: int = 0


def repositories(database: Database) -> list[RepositorySum]:
    """All of them, in the order of their names."""
    counts = fn.COUNT(UnitRow.id), fn.COUNT(UnitRow.stored_at), fn.SUM(Case(None, ((STORED, UnitRow.size),)))
    query = RepositoryRow.select(RepositoryRow.name, UnitRow.state, *counts)
    query = query.join(UnitRepositoryRow, JOIN.LEFT_OUTER).join(UnitRow, JOIN.LEFT_OUTER)
    by_name: dict[str, dict[str, tuple[int, int]]] = {}
    later: Counter[str] = Counter()
    for name, state, count, stored, size in fetched(database, query.group_by(RepositoryRow.name, UnitRow.state)):
        states = by_name.setdefault(name, {})
        if stored:
            states[state] = int(stored), int(size or 0)
        later[name] += int(count) - int(stored)
    return [
        RepositorySum(
            name,
            sum(count for count, _ in states.values()) + later[name],
            sum(size for _, size in states.values()),
            {state: count for state, (count, _) in sorted(states.items())},
            later[name],
        )
        for name, states in sorted(by_name.items())
    ]


def only_in(database: Database, repository: str, other: str, after: int, most: int) -> tuple[list[int], int | None]:
    """The ids beyond ``after`` of units in ``repository`` and not in ``other``, of at most ``most`` units; and the last
    one looked at, None: there are no more."""
    some = [ident for (ident,) in fetched(database, member_ids(repository, after, most))]
    if not some:
        return [], None
    there = UnitRepositoryRow.select(UnitRepositoryRow.unit).join(RepositoryRow)
    there = there.where(RepositoryRow.name == other, UnitRepositoryRow.unit.in_(some))
    common = {ident for (ident,) in fetched(database, there)}
    return [ident for ident in some if ident not in common], some[-1] if len(some) == most else None


def stores(database: Database) -> list[str]:
    """The names of all stores that units lie in, in order."""
    return sorted(name for (name,) in fetched(database, UnitRow.select(UnitRow.store).distinct()))
