"""A plugin's own rows: there with their unit, or neither of both."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from peewee import Database, ForeignKeyField, Model, TextField

from geofetch.errors import RecordError, SpecError
from geofetch.records import Recorded, Recorder
from geofetch.records.models import UnitRow
from geofetch.spec import Spec

from .test_records import attempt, store


class Package(Model):
    unit = ForeignKeyField(UnitRow, primary_key=True, on_delete="CASCADE")
    name = TextField(unique=True)
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
            query = Package.insert_many(rows)
            query.on_conflict(conflict_target=[Package.unit], preserve=[Package.name, Package.version]).execute(
                database
            )


def spec(name: str, version: str | None = "1") -> Spec:
    meta = None if version is None else {"name": name, "version": version}
    return Spec(f"http://a.example/{name}", path=f"{name}.rpm", meta=meta)


def rows(path: Path) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        found = "SELECT u.path, p.name, p.version FROM units u LEFT JOIN rpm_packages p ON p.unit_id = u.id ORDER BY 1"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return connection.execute(found).fetchall()
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "units.db"


def opened(path: Path, *plugins: Any) -> Recorder:
    return Recorder(f"sqlite:///{path}", plugins=plugins)


def test_a_plugins_rows_are_written_with_their_units(path: Path) -> None:
    with opened(path, Packages()) as recorder:
        store(recorder, spec("a"))
        store(recorder, spec("b", None))
    assert rows(path) == [("a.rpm", "a", "1"), ("b.rpm", None, None)]


def test_what_is_known_already_is_told_again(path: Path) -> None:
    for version in ("1", "2"):
        with opened(path, Packages()) as recorder:
            store(recorder, spec("a", version))
            store(recorder, spec("b", version))
    assert rows(path) == [("a.rpm", "a", "2"), ("b.rpm", "b", "2")]


def test_many_at_once_are_told_at_once(path: Path) -> None:
    import gevent

    plugin = Packages()
    with opened(path, plugin) as recorder:
        gevent.joinall([gevent.spawn(store, recorder, spec(f"{number}")) for number in range(50)], raise_error=True)
    assert len(rows(path)) == 50
    assert sum(plugin.batches) == 50
    assert max(plugin.batches) > 10


@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_a_row_that_cannot_be_written_ends_its_own_download_alone(path: Path, known: bool) -> None:
    import gevent

    def kept(one: Spec) -> RecordError | None:
        try:
            store(recorder, one)
        except RecordError as exc:
            return exc
        return None

    with opened(path, Packages()) as recorder:
        store(recorder, spec("taken"))
        if known:
            store(recorder, spec("0"))
        clash = Spec("http://a.example/x", path="x.rpm", meta={"name": "taken", "version": "9"})
        jobs = [gevent.spawn(kept, one) for one in (spec("0"), clash, spec("2"))]
        gevent.joinall(jobs, raise_error=True)
    assert [job.value is None for job in jobs] == [True, False, True]
    assert "UNIQUE constraint failed: rpm_packages.name" in str(jobs[1].value)
    assert jobs[1].value.spec is clash
    assert [row[0] for row in rows(path)] == ["0.rpm", "2.rpm", "taken.rpm"]


def test_a_plugin_that_raises_undoes_its_unit(path: Path) -> None:
    class Broken(Packages):
        def record(self, database: Database, recorded: Sequence[Recorded]) -> None:
            super().record(database, recorded)
            raise ValueError("no such package")

    with opened(path, Broken()) as recorder, pytest.raises(RecordError, match="no such package"):
        recorder.bind(attempt(spec("a")))["stored"]("anywhere")
    assert rows(path) == []


def test_its_tables_are_made_in_a_database_that_is_there(path: Path) -> None:
    with opened(path) as recorder:
        store(recorder, spec("old"))
    with opened(path, Packages()) as recorder:
        store(recorder, spec("a"))
    with opened(path) as recorder:  # and one without the plugin goes on
        store(recorder, spec("b"))
    assert rows(path) == [("a.rpm", "a", "1"), ("b.rpm", None, None), ("old.rpm", None, None)]


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


def test_whoever_is_killed_between_both_has_neither(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, f"sqlite:///{path}"], env={**os.environ}, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert rows(path) == [("a.rpm", "a", "1")]


class Mine(Model):
    class Meta:
        table_name = "units"


class Thief(Packages):
    models = (Mine,)  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("plugin", "why"),
    [(object(), "is no plugin of records"), (Thief(), "'units' is geofetch's own")],
)
def test_what_is_no_plugin_is_refused_before_anything_is_opened(path: Path, plugin: Any, why: str) -> None:
    with pytest.raises(SpecError, match=why):
        opened(path, plugin)
    assert not path.exists()
