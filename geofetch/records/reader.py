"""Questions to the tables: which units are there, in pages.

In: a database, and what is asked.  Out: values.  Never: a write.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from peewee import Database, fn

from ..errors import RecordError, SpecError
from .models import RepositoryRow, UnitRepositoryRow, UnitRow
from .rows import load, load_ids, unit_of
from .sql import fetched
from .units import POLICIES, STATES, Unit, canonical, identity

__all__ = [
    "SeveralUnits",
    "Wanted",
    "count",
    "find",
    "member_ids",
    "members",
    "page",
    "repositories",
    "units",
    "unlisted",
]

#: Seconds before and after 1970 beyond which nothing was ever scrubbed.
LONG_AGO_S = 1e12


class SeveralUnits(RecordError):
    """More than one unit goes by what was asked for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which units are asked for; None: any.  Checked, so that a misspelt state is not an empty answer."""

    repository: str | None = None
    type: str | None = None
    state: str | Collection[str] | None = None
    store: str | None = None
    scrubbed_before: float | None = None
    path: str | None = None
    policy: str | None = None
    pending: bool | None = None
    fetched: bool | None = None
    due: Collection[str] | None = None
    pattern: re.Pattern[str] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        states = (self.state,) if isinstance(self.state, str) else tuple(self.state or ())
        for state in states:
            if state not in STATES:
                raise SpecError(f"no unit is {state!r}; they are {', '.join(STATES)}")
        for policy in (*(() if self.policy is None else (self.policy,)), *(self.due or ())):
            if policy not in POLICIES:
                raise SpecError(f"a policy is {', '.join(POLICIES)}, not {policy!r}")
        object.__setattr__(self, "state", states if self.state is not None else None)
        if self.path is not None and re.search(r"[*?\[]", self.path):
            object.__setattr__(self, "pattern", re.compile(fnmatch.translate(self.path)))

    @property
    def walks_members(self) -> bool:
        """Whether pages are cut from the repository's units; a path is found by its index, and leads to a few."""
        return self.repository is not None and (self.path is None or self.pattern is not None)

    def where(self, after: int = 0, *, within: bool = False) -> list[Any]:
        """The conditions, all of which hold, for units beyond this id; ``within``: they are the repository's anyway."""
        found: list[Any] = [UnitRow.id > after]
        for column, value in ((UnitRow.type, self.type), (UnitRow.store, self.store), (UnitRow.policy, self.policy)):
            if value is not None:
                found.append(column == value)
        if self.pending is not None:
            found.append(UnitRow.pending.is_null(not self.pending))
        if self.fetched is not None:
            found.append(UnitRow.stored_at.is_null(not self.fetched))
        if self.due is not None:
            is_due = UnitRow.stored_at.is_null(False) | UnitRow.pending.is_null(False)
            found.append(is_due | UnitRow.policy.in_(list(self.due)) if self.due else is_due)
        if self.state is not None:
            found.append(UnitRow.state.in_(list(self.state)))
        if self.path is not None and self.pattern is None:
            found.append(UnitRow.path == self.path)
        if self.scrubbed_before is not None:
            # No column holds more: a million years ago is as good as for ever.
            limit = int(max(-LONG_AGO_S, min(self.scrubbed_before, LONG_AGO_S)) * 1_000_000)
            found.append(UnitRow.scrubbed_at.is_null() | (UnitRow.scrubbed_at < limit))
        if self.repository is not None and not within:
            of = UnitRepositoryRow.select(UnitRepositoryRow.unit).join(RepositoryRow)
            found.append(
                fn.EXISTS(of.where(UnitRepositoryRow.unit == UnitRow.id, RepositoryRow.name == self.repository))
            )
        return found


def page(database: Database, wanted: Wanted, after: int, most: int) -> tuple[list[int], int | None]:
    """The ids of wanted units beyond ``after``, of at most ``most`` rows; and the last id looked at, None: no more."""
    query = UnitRow.select(UnitRow.id, UnitRow.path)
    last = None
    if wanted.walks_members:
        assert wanted.repository is not None
        some = [ident for (ident,) in fetched(database, member_ids(wanted.repository, after, most))]
        if not some:
            return [], None
        found = fetched(database, query.where(UnitRow.id.in_(some), *wanted.where(within=True)).order_by(UnitRow.id))
        last = some[-1] if len(some) == most else None
    else:
        found = fetched(database, query.where(*wanted.where(after)).order_by(UnitRow.id).limit(most))
        last = found[-1][0] if len(found) == most else None
    pattern = wanted.pattern
    return [ident for ident, path in found if pattern is None or pattern.match(path)], last


def member_ids(repository: str, after: int, most: int) -> Any:
    """The query for the ids of the next units of a repository, in order.

    By its id, from the index that has them in order: asked with a join or EXISTS, PostgreSQL lists the whole repository
    anew for each page where it takes that for less (94 s for 100,000 units of a million).
    """
    ident = RepositoryRow.select(RepositoryRow.id).where(RepositoryRow.name == repository)
    query = UnitRepositoryRow.select(UnitRepositoryRow.unit)
    query = query.where(UnitRepositoryRow.repository == ident, UnitRepositoryRow.unit > after)
    return query.order_by(UnitRepositoryRow.unit).limit(most)


def unlisted(
    database: Database, stores: Collection[str], before: int, after: int, most: int
) -> tuple[list[int], int | None]:
    """The ids beyond ``after`` of units in these stores that left their last repository before this; and the last one,
    None: there are no more."""
    query = UnitRow.select(UnitRow.id).where(
        UnitRow.id > after, UnitRow.unlisted_at <= before, UnitRow.store.in_(list(stores))
    )
    found = [ident for (ident,) in fetched(database, query.order_by(UnitRow.id).limit(most))]
    return found, found[-1] if len(found) == most else None


def count(database: Database, wanted: Wanted) -> int:
    """How many units those are; not for a pattern, which the database does not know."""
    return int(fetched(database, UnitRow.select(fn.COUNT(UnitRow.id)).where(*wanted.where()))[0][0])


def units(database: Database, ids: Iterable[int]) -> list[Unit]:
    """The units of these ids, in ascending order of them."""
    return [_unit(row) for row in load_ids(database, ids)]


def _unit(row: Any) -> Unit:
    try:
        return unit_of(row)
    except (SpecError, ValueError, TypeError) as exc:
        raise RecordError(f"unit {row.id} is damaged: {exc}") from exc


def repositories(database: Database) -> list[str]:
    """The names of all repositories, in order."""
    return sorted(name for (name,) in fetched(database, RepositoryRow.select(RepositoryRow.name)))


def members(database: Database, repository: str, after: int, most: int) -> tuple[list[tuple[int, bytes]], int | None]:
    """Id and identity of the next units of this repository, beyond the id ``after``; and the last id, None: no more."""
    some = [ident for (ident,) in fetched(database, member_ids(repository, after, most))]
    query = UnitRow.select(UnitRow.id, UnitRow.identity).where(UnitRow.id.in_(some))
    found = fetched(database, query.order_by(UnitRow.id)) if some else []
    return [(ident, bytes(key)) for ident, key in found], some[-1] if len(some) == most else None


def find(database: Database, ident: int | str | Mapping[str, Any]) -> Unit | None:
    """The unit of this id, this path, this place in its store, or this key (as in ``spec.unit``)."""
    if isinstance(ident, Mapping):
        key = {name: value for name, value in ident.items() if name != "type"}
        return _only(ident, list(load(database, "identity", [identity(str(ident.get("type")), canonical(key))])))
    if isinstance(ident, int):
        return _only(ident, list(load(database, "id", [ident])))
    for column in ("path", "store_key"):
        rows = list(load(database, column, [ident]))
        if rows:
            return _only(ident, rows)
    # ASCII digits alone: int() would take "²" for an error and "٣" for a three.
    if re.fullmatch(r"[0-9]{1,18}", ident):
        return _only(ident, list(load(database, "id", [int(ident)])))
    return _by_json(database, ident)


def _by_json(database: Database, text: str) -> Unit | None:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return find(database, told) if isinstance(told, dict) else None


def _only(ident: Any, rows: Sequence[Any]) -> Unit | None:
    if len(rows) > 1:
        ids = ", ".join(str(row.id) for row in rows[:10])
        raise SeveralUnits(f"{len(rows)} units go by {ident!r}; ask for one by its id: {ids}")
    return _unit(rows[0]) if rows else None
