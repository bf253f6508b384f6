"""Units put into a repository, and taken off it, by whoever has chosen them.

In: units, in any number; a repository's name.  Out: how many of them changed, once that is committed, in transactions
of so many units.  Never: a file, a policy, a source; a unit that is not recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from peewee import Database

from ..errors import SpecError
from .changes import Join, Leave
from .lane import Pending
from .many import chunks
from .models import RepositoryRow, UnitRepositoryRow
from .sql import fetched, run
from .units import Unit, canonical, identity

__all__ = ["AT_ONCE", "changed", "drop", "identities", "named"]

#: Units of one transaction.
AT_ONCE = 500

Write: TypeAlias = Callable[[Join | Leave], Pending]


def named(repository: str) -> str:
    """The name, if it is one."""
    if not isinstance(repository, str) or not repository:
        raise SpecError(f"a repository has a name, not {repository!r}")
    return repository


def identities(units: Iterable[Unit], kept: Callable[[Unit], Unit]) -> Iterator[bytes]:
    """How the records know these; ``kept`` gives a unit as it is kept."""
    for unit in units:
        if not isinstance(unit, Unit):
            raise SpecError(f"units are wanted, as recorder.units() gives them, not {type(unit).__name__}")
        known = kept(unit)
        yield identity(known.type, canonical(known.key))


def changed(each: Iterable[Join | Leave], write: Write) -> int:
    """How many of these changed something; committed."""
    count = 0
    for some in chunks(each, AT_ONCE):
        count += sum(bool(one.get()) for one in [write(change) for change in some])
    return count


def drop(database: Database, repository: str) -> bool:
    """Forget the name of a repository, if no unit is in it; whether it is gone."""
    of = UnitRepositoryRow.select(UnitRepositoryRow.unit).join(RepositoryRow).where(RepositoryRow.name == repository)
    if fetched(database, of.limit(1)):
        return False
    run(database, RepositoryRow.delete().where(RepositoryRow.name == repository))
    return True
