"""A database as records use it: connected, ours, at the newest schema.

In: an address.  Out: an open database; the driver's error or a RecordError, and what was there is as it was.
Never: a second try.
"""

from __future__ import annotations

from peewee import Database

from .database import Address
from .migrations import bring_up, version_of

__all__ = ["open_database"]


def open_database(address: Address, durable: bool) -> Database:
    """The database, open, its parent folder made, its schema the newest."""
    kind = address.kind
    database = kind.connected(address)
    try:
        version_of(database, str(address))  # before anything is changed: it may be somebody else's
        kind.prepared(database, durable)
        bring_up(database, str(address))
        kind.settled(database)
    except BaseException:
        database.close()
        raise
    return database
