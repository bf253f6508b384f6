"""A plugin's own rows, written with the units that they are about, or not at all.

In: the plugins that a Recorder was given; units as they are recorded, with the specs that wanted them.  Out: the
plugins' tables, made where they are missing; their rows, in the transaction of the units.  Never: what is in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from peewee import Database, Model, SchemaManager

from ..errors import SpecError
from ..spec import Spec
from .database import kind_of
from .models import MODELS

__all__ = ["Plugin", "Recorded", "checked", "furnish", "tell"]


class Recorded(NamedTuple):
    """A unit that was just recorded, by its id in ``units``, and the Spec that wanted it."""

    unit: int
    spec: Spec


@runtime_checkable
class Plugin(Protocol):
    """What a plugin keeps beside the units.

    ``models`` are peewee Models, bound to no database; their tables are made when the database is opened.  A foreign
    key to :class:`geofetch.records.models.UnitRow` with ``on_delete="CASCADE"`` goes with its unit.
    """

    models: Sequence[type[Model]]

    def record(self, database: Database, recorded: Sequence[Recorded]) -> None:
        """Write what belongs to these units, with queries that are given ``database``: ``query.execute(database)``.

        Called on the records' native thread, within their transaction, once for many units, also for those that were
        known before and did not change: so upsert.  What it raises undoes the transaction; each unit is then tried for
        itself, and the download whose row cannot be written ends in a RecordError.  No greenlet may be waited for here.
        """


def checked(plugins: Iterable[Plugin]) -> tuple[Plugin, ...]:
    """The plugins themselves; a SpecError for what is none, or wants a table that is ours."""
    found = tuple(plugins)
    ours = {_table(model) for model in MODELS}
    for plugin in found:
        if not isinstance(plugin, Plugin) or not callable(plugin.record):
            raise SpecError(f"{plugin!r} is no plugin of records: it has no models and record(database, recorded)")
        for model in plugin.models:
            if _table(model) in ours:
                raise SpecError(f"{model.__name__}: the table {_table(model)!r} is geofetch's own; call it otherwise")
    return found


def furnish(database: Database, plugins: Sequence[Plugin]) -> None:
    """Make the tables that are missing."""
    if _missing(database, plugins):
        # IF NOT EXISTS does not do: of two PostgreSQL sessions that say it at once one fails, and MySQL has none for an
        # index.
        with kind_of(database).altering(database):
            for model in _missing(database, plugins):
                SchemaManager(model, database).create_all(safe=True)


def _missing(database: Database, plugins: Sequence[Plugin]) -> list[type[Model]]:
    wanted = [model for plugin in plugins for model in plugin.models]
    there = database.get_tables() if wanted else ()
    return [model for model in wanted if _table(model) not in there]


def tell(database: Database, plugins: Sequence[Plugin], recorded: Sequence[Recorded]) -> None:
    """Have each plugin write its rows."""
    if recorded:
        for plugin in plugins:
            try:
                plugin.record(database, recorded)
            except OSError as exc:
                # A file that it reads, or an error of ours: to the records that would be trouble with the database.
                raise PluginError(str(exc)) from exc
            except AttributeError as exc:
                # peewee's word for a column that is not there names a class, and not whose it is.
                raise PluginError(f"a plugin's record(): {exc}") from exc


class PluginError(Exception):
    """What a plugin could not do, for a reason that is no database's."""


def _table(model: type[Model]) -> str:
    return str(model._meta.table_name)
