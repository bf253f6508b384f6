"""What one database does otherwise than another: one module for each, and this door, which asks the one it is.

    address      which database a URL names, and how it may be shown
    kind         what is asked of each of them
    sqlite       a file, or memory: the embedded default
    postgresql   a server, through psycopg 3
    mysql        MariaDB or MySQL, through PyMySQL

In: ``sqlite:///units.db``, ``postgresql://host/units``, ``mysql://host/units``.  Out: an Address, whose ``kind`` opens
it; the few things that have another name in each.  Never: what is written to it; the password of a URL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peewee import Database

from ...errors import RecordError
from .address import Address, located
from .kind import Kind, reason
from .mysql import MYSQL, MySQL
from .postgresql import POSTGRESQL, PostgreSQL
from .sqlite import SQLITE

__all__ = ["Address", "Kind", "kind_of", "located", "of_database", "reason", "translated"]

_KINDS: dict[type[Database], Kind] = {PostgreSQL: POSTGRESQL, MySQL: MYSQL}


def kind_of(database: Database) -> Kind:
    """Which kind of database this is."""
    return _KINDS.get(type(database), SQLITE)


def of_database(exc: BaseException) -> bool:
    """Whether an error is trouble with the database as such (locked, full, gone), not with one row."""
    # By name: drivers have classes of their own for the same errors (PEP 249).
    names = {kind.__name__ for kind in type(exc).__mro__}
    if type(exc).__name__ != "DatabaseError" and not names & {
        "OperationalError",
        "InternalError",
        "InterfaceError",
        "OSError",
    }:
        return False
    return not any(kind.of_row(exc) for kind in (POSTGRESQL, MYSQL))


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Whatever goes wrong inside is a RecordError that names the database."""
    try:
        yield
    except RecordError:
        raise
    except Exception as exc:
        raise RecordError(f"{address}: {address.masked(reason(exc))}") from exc
