"""A database of version 2 is carried to version 3: on each kind of server, killed anywhere, with what others put in."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from geofetch.errors import RecordError
from geofetch.records import Recorder, unit_files
from geofetch.records.database import located
from geofetch.records.migrations import bring_up
from geofetch.records.sql import done
from geofetch.spec import Spec

from .support.servers import Place, Server
from .test_records import sha256, store

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
TABLES = ("geofetch_schema", "units", "digests", "sources", "repositories", "unit_repositories")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A file of version 2."""
    path = tmp_path / "units.db"
    with closing(sqlite3.connect(path)) as found:
        found.executescript((DATA / "records_2.sql").read_text(encoding="utf-8"))
    return path


@pytest.fixture(params=["postgresql", "mariadb"])
def served(request: pytest.FixtureRequest, old: Path) -> Iterator[Place]:
    """The same on a server, made as version 2 made it."""
    place = request.getfixturevalue(request.param).place()
    with closing(sqlite3.connect(old)) as told:
        rows = {table: told.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    address = located(place.url)
    database = address.kind.connected(address)
    for statement in (DATA / f"records_2.{request.param}.sql").read_text(encoding="utf-8").split(";\n"):
        if statement:
            done(database, statement)
    for table, found in rows.items():
        truths = [
            at for at, column in enumerate(database.get_columns(table)) if column.name in ("trusted", "secret_query")
        ]
        for row in found:
            values = [bool(value) if at in truths else value for at, value in enumerate(row)]
            done(database, f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", values)
    if request.param == "postgresql":
        for table in ("units", "sources", "repositories"):
            done(database, f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
    database.close()
    yield place
    place.drop()


def known() -> list[Any]:
    return [unit_files.loads(line) for line in (DATA / "records_2.jsonl").read_text(encoding="utf-8").splitlines()]


def columns(place: Place) -> list[Any]:
    return sorted(
        place.rows(
            "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
            f" WHERE table_schema = '{place.name}' AND column_name <> 'id'"
        )
    )


def indexes(place: Place) -> list[Any]:
    if place.kind == "mariadb":
        return sorted(
            place.rows(
                "SELECT table_name, index_name, seq_in_index, column_name, sub_part FROM information_schema.statistics"
                f" WHERE table_schema = '{place.name}'"
            )
        )
    found = place.rows(f"SELECT indexdef FROM pg_indexes WHERE schemaname = '{place.name}'")
    return sorted(text.replace(f"{place.name}.", "") for (text,) in found)


def checks(place: Place) -> list[Any]:
    if place.kind == "mariadb":
        return sorted(
            place.rows(
                "SELECT table_name, constraint_name, check_clause FROM information_schema.check_constraints"
                f" WHERE constraint_schema = '{place.name}'"
            )
        )
    query = (
        "SELECT conrelid::regclass::text, contype::text, pg_get_constraintdef(oid) FROM pg_constraint"
        f" WHERE connamespace = '{place.name}'::regnamespace"
    )
    return sorted(tuple(text.replace(f"{place.name}.", "") for text in row) for row in place.rows(query))


def shape(place: Place) -> Any:
    return columns(place), indexes(place), checks(place)


def test_a_server_of_version_2_has_the_schema_of_a_new_one_and_all_its_rows(served: Place) -> None:
    with Recorder(served.url) as found:
        assert list(found.units()) == known()
        store(found, Spec("http://new.example/a", path="pool/02.rpm", digests=sha256(b"2"), repository="new"), b"2")
        assert "new" in next(iter(found.units(path="pool/02.rpm"))).repositories
    new = served.another()
    with Recorder(new.url) as found:
        found.count()
    assert shape(served) == shape(new)
    new.drop()


@pytest.mark.parametrize("taken", range(1, 7))
def test_a_step_that_ended_half_way_is_gone_on_with(mariadb: Server, taken: int) -> None:
    """Each statement about a table commits by itself there; the process is gone after the first, the second …"""
    place = mariadb.place()
    for statement in (DATA / "records_2.mariadb.sql").read_text(encoding="utf-8").split(";\n"):
        if statement:
            place.rows(statement)
    place.rows("INSERT INTO geofetch_schema VALUES (2, 5)")
    address = located(place.url)
    database = address.kind.connected(address)
    count = 0

    class Gone(BaseException):
        pass

    whole = database.execute_sql

    def execute(text: str, *more: Any) -> Any:
        nonlocal count
        if count == taken:
            raise Gone
        count += text.startswith(("ALTER", "CREATE", "DROP"))
        return whole(text, *more)

    database.execute_sql = execute
    with pytest.raises(Gone):
        bring_up(database, "it")
    database.close()
    with Recorder(place.url) as found:
        store(found, Spec("http://new.example/a"))
        assert found.count() == 1
    new = place.another()
    with Recorder(new.url) as found:
        found.count()
    assert shape(place) == shape(new)
    new.drop()
    place.drop()


# --------------------------------------------------------------------------------------------------------------- SQLite


def test_what_others_made_of_a_table_stays(old: Path) -> None:
    """A plugin's index, its rows, a trigger, a view that somebody reads by."""
    with closing(sqlite3.connect(old)) as found:
        found.executescript(
            "CREATE INDEX by_size ON units (size_bytes);"
            "CREATE VIEW large AS SELECT path FROM units WHERE size_bytes > 1;"
            "CREATE TABLE packages (unit_id INTEGER PRIMARY KEY REFERENCES units (id) ON DELETE CASCADE);"
            "INSERT INTO packages SELECT id FROM units;"
            "CREATE TRIGGER noted AFTER DELETE ON units BEGIN DELETE FROM packages WHERE unit_id > 1000; END;"
        )
        before = found.execute("SELECT count(*) FROM packages, large").fetchall()
    with Recorder(f"sqlite:///{old}") as recorder:
        assert list(recorder.units()) == known()
    with closing(sqlite3.connect(old)) as found:
        assert found.execute("SELECT count(*) FROM packages, large").fetchall() == before
        made = {name for (name,) in found.execute("SELECT name FROM sqlite_master")}
        assert {"by_size", "large", "packages", "noted"} <= made
        assert found.execute("PRAGMA foreign_key_check").fetchall() == []
        assert "REFERENCES units (id)" in str(found.execute("SELECT sql FROM sqlite_master").fetchall())


def test_rows_that_refer_to_no_unit_are_told_and_nothing_is_changed(old: Path) -> None:
    with closing(sqlite3.connect(old)) as found, found:
        found.execute("DELETE FROM units WHERE id = 3")  # somebody's, with foreign keys off
    with (
        Recorder(f"sqlite:///{old}") as recorder,
        pytest.raises(RecordError, match=r"rows of .* refer to units that are"),
    ):
        recorder.count()
    assert versions(old) == [2]


def test_foreign_keys_are_held_to_afterwards(old: Path) -> None:
    with Recorder(f"sqlite:///{old}") as recorder:
        recorder.count()
        assert recorder._answer(lambda found: done(found, "PRAGMA foreign_keys").fetchone()) == (1,)
        assert recorder._answer(lambda found: done(found, "PRAGMA legacy_alter_table").fetchone()) == (0,)


def versions(path: Path) -> list[int]:
    with closing(sqlite3.connect(path)) as found:
        return [number for (number,) in found.execute("SELECT version FROM geofetch_schema ORDER BY version")]


#: Carries copies of a file forwards, each in a fork that is killed before its first statement, its second, and so on to
#: the one that is not killed any more; says how many they were.
KILLED = """
import os, shutil, signal, sys
import peewee
from geofetch.records.database import located
from geofetch.records.opening import open_database

count, strike, whole = 0, 0, peewee.SqliteDatabase.execute_sql

def execute(self, sql, *more):
    global count
    count += 1
    if count == strike:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, sql, *more)

peewee.SqliteDatabase.execute_sql = execute
ended = signal.SIGKILL
while ended == signal.SIGKILL:
    strike += 1
    path = f"{sys.argv[1]}-{strike}"
    shutil.copy(sys.argv[1], path)
    child = os.fork()
    if child == 0:
        open_database(located(f"sqlite:///{path}"), False).close()
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
print(strike, ended)
"""


def test_killed_anywhere_it_is_at_one_version_whole(old: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(old)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    killed, ended = map(int, ran.stdout.split())
    assert ended == 0, ran.stderr
    seen = []
    for strike in range(1, killed):
        path = old.with_name(f"{old.name}-{strike}")
        seen.append(tuple(versions(path)))
        with Recorder(f"sqlite:///{path}") as recorder:
            assert list(recorder.units()) == known()
        assert versions(path)[-1] == 3
    assert set(seen) == {(2,), (2, 3)}
    assert seen.count((2,)) > 10
