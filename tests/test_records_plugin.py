"""A plugin's own rows: there with their unit, or neither of both."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from peewee import CharField, Database, ForeignKeyField, Model, TextField

from geofetch.errors import RecordError, SpecError
from geofetch.records import Recorded, Recorder
from geofetch.records.models import UnitRow
from geofetch.spec import Spec

from .support.servers import Place
from .test_records import attempt, store


class Package(Model):
    unit = ForeignKeyField(UnitRow, primary_key=True, on_delete="CASCADE")
    name = CharField(unique=True)
    version = TextField()

    class Meta:
        table_name = "rpm_packages"


class Packages:
    """Name and version of each RPM; what has none is no business of this plugin."""

    models = (Package,)

    def __init__(self) -> None:
        self.batches: list[int] = []

    def record(self, database: Database, recorded: Sequence[Recorded]) -> None:
        self.batches.append(len(recorded))
        rows = [
            {"unit": one.unit, "name": one.spec.meta["name"], "version": one.spec.meta["version"]}
            for one in recorded
            if one.spec.meta is not None
        ]
        if rows:
            # Not ON CONFLICT, which MySQL has for any key at once.
            Package.delete().where(Package.unit.in_([row["unit"] for row in rows])).execute(database)
            Package.insert_many(rows).execute(database)


def spec(name: str, version: str | None = "1") -> Spec:
    meta = None if version is None else {"name": name, "version": version}
    return Spec(f"http://a.example/{name}", path=f"{name}.rpm", meta=meta)


def rows(database: Place) -> list[tuple[Any, ...]]:
    return database.rows(
        "SELECT u.path, p.name, p.version FROM units u LEFT JOIN rpm_packages p ON p.unit_id = u.id ORDER BY 1"
    )


def opened(database: Place, *plugins: Any) -> Recorder:
    return Recorder(database.url, plugins=plugins)


def test_a_plugins_rows_are_written_with_their_units(database: Place) -> None:
    with opened(database, Packages()) as recorder:
        store(recorder, spec("a"))
        store(recorder, spec("b", None))
    assert rows(database) == [("a.rpm", "a", "1"), ("b.rpm", None, None)]


def test_what_is_known_already_is_told_again(database: Place) -> None:
    for version in ("1", "2"):
        with opened(database, Packages()) as recorder:
            store(recorder, spec("a", version))
            store(recorder, spec("b", version))
    assert rows(database) == [("a.rpm", "a", "2"), ("b.rpm", "b", "2")]


def test_many_at_once_are_told_at_once(database: Place) -> None:
    import gevent

    plugin = Packages()
    with opened(database, plugin) as recorder:
        gevent.joinall([gevent.spawn(store, recorder, spec(f"{number}")) for number in range(50)], raise_error=True)
    assert len(rows(database)) == 50
    assert sum(plugin.batches) == 50
    assert max(plugin.batches) > 10


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_a_row_that_cannot_be_written_ends_its_own_download_alone(database: Place, known: bool) -> None:
    import gevent

    def kept(one: Spec) -> RecordError | None:
        try:
            store(recorder, one)
        except RecordError as exc:
            return exc
        return None

    with opened(database, Packages()) as recorder:
        store(recorder, spec("taken"))
        if known:
            store(recorder, spec("0"))
        clash = Spec("http://a.example/x", path="x.rpm", meta={"name": "taken", "version": "9"})
        jobs = [gevent.spawn(kept, one) for one in (spec("0"), clash, spec("2"))]
        gevent.joinall(jobs, raise_error=True)
    assert [job.value is None for job in jobs] == [True, False, True]
    assert re.search("(?i)unique|duplicate", str(jobs[1].value))
    assert jobs[1].value.spec is clash
    assert [row[0] for row in rows(database)] == ["0.rpm", "2.rpm", "taken.rpm"]


@pytest.mark.parametrize("error", [OSError(2, "no header there"), SpecError("no header there")], ids=["os", "ours"])
def test_what_a_plugin_cannot_read_ends_its_own_download_alone(database: Place, error: Exception) -> None:
    import gevent

    class Reading(Packages):
        def record(self, database: Database, recorded: Sequence[Recorded]) -> None:
            super().record(database, recorded)
            if any(one.spec.path == "1.rpm" for one in recorded):
                raise error

    def kept(one: Spec) -> str | None:
        try:
            store(recorder, one)
        except RecordError as exc:
            return str(exc)
        return None

    with opened(database, Reading()) as recorder:
        jobs = [gevent.spawn(kept, spec(str(number))) for number in range(3)]
        gevent.joinall(jobs, raise_error=True)
    assert [job.value is None for job in jobs] == [True, False, True]
    assert "no header there" in str(jobs[1].value)
    assert [row[0] for row in rows(database)] == ["0.rpm", "2.rpm"]


def test_a_column_that_is_not_there_is_told_as_the_plugins(database: Place) -> None:
    class Wrong(Packages):
        def record(self, database: Database, recorded: Sequence[Recorded]) -> None:
            Package.insert_many([{"unit": one.unit, "nope": 1} for one in recorded]).execute(database)

    with (
        opened(database, Wrong()) as recorder,
        pytest.raises(RecordError, match=r"a plugin's record\(\): .*has no attribute 'nope'"),
    ):
        store(recorder, spec("a"))
    assert rows(database) == []


def test_its_tables_are_made_once_however_many_begin_at_once(database: Place) -> None:
    import gevent

    models = [
        type(f"Extra{number}", (Model,), {"unit": ForeignKeyField(UnitRow, primary_key=True), "told": TextField()})
        for number in range(12)
    ]

    class Many:
        def __init__(self) -> None:
            self.models = models

        def record(self, database: Database, recorded: Sequence[Recorded]) -> None:
            for model in self.models:
                model.insert(unit=recorded[0].unit, told="x").execute(database)

    with opened(database) as first:
        store(first, spec("first"))
    recorders = [opened(database, Many()) for _ in range(6)]
    jobs = [gevent.spawn(store, one, spec(f"{number}")) for number, one in enumerate(recorders)]
    gevent.joinall(jobs, raise_error=True)
    for one in recorders:
        one.close()
    assert database.rows("SELECT count(*) FROM extra11") == [(6,)]


def test_a_plugin_that_raises_undoes_its_unit(database: Place) -> None:
    class Broken(Packages):
        def record(self, database: Database, recorded: Sequence[Recorded]) -> None:
            super().record(database, recorded)
            raise ValueError("no such package")

    with opened(database, Broken()) as recorder, pytest.raises(RecordError, match="no such package"):
        recorder.bind(attempt(spec("a")))["stored"]("anywhere")
    assert rows(database) == []


def test_its_tables_are_made_in_a_database_that_is_there(database: Place) -> None:
    with opened(database) as recorder:
        store(recorder, spec("old"))
    with opened(database, Packages()) as recorder:
        store(recorder, spec("a"))
    with opened(database) as recorder:  # and one without the plugin goes on
        store(recorder, spec("b"))
    assert rows(database) == [("a.rpm", "a", "1"), ("b.rpm", None, None), ("old.rpm", None, None)]


KILLED = """
import os, signal, sys
from geofetch.records import Recorder
from tests.test_records import store
from tests.test_records_plugin import Packages, spec

class Deadly(Packages):
    def record(self, database, recorded):
        super().record(database, recorded)
        if recorded[0].spec.meta["name"] == "b":
            os.kill(os.getpid(), signal.SIGKILL)

with Recorder(sys.argv[1], plugins=[Deadly()]) as recorder:
    store(recorder, spec("a"))
    store(recorder, spec("b"))
"""


def test_whoever_is_killed_between_both_has_neither(database: Place) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, database.url], env={**os.environ}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert rows(database) == [("a.rpm", "a", "1")]


class Mine(Model):
    class Meta:
        table_name = "units"


class Thief(Packages):
    models = (Mine,)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("plugin", "why"),
    [(object(), "is no plugin of records"), (Thief(), "'units' is geofetch's own")],
)
def test_what_is_no_plugin_is_refused_before_anything_is_opened(database: Place, plugin: Any, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        opened(database, plugin)
