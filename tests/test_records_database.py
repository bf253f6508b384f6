"""Which database a URL names, how its schema moves forwards, and what is refused, untouched."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
from peewee import Database, SqliteDatabase

from geofetch.errors import RecordError, SpecError
from geofetch.records import Recorder, migrations, unit_files
from geofetch.records.database import located, of_database
from geofetch.records.migrations import bring_up, version_of
from geofetch.spec import Spec

from .support.servers import Place
from .test_records import STORE, only, sha256, store

#: The schema of version 1, as it was first given out; it never changes.
VERSION_1 = """
CREATE TABLE geofetch_schema (version INTEGER NOT NULL PRIMARY KEY, applied_at_us INTEGER NOT NULL);
CREATE TABLE units (
    id INTEGER NOT NULL PRIMARY KEY, identity BLOB NOT NULL, type TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL,
    store TEXT NOT NULL, store_key TEXT NOT NULL, size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0), mtime_ns INTEGER,
    inode INTEGER, state TEXT NOT NULL CHECK (state IN ('present', 'missing', 'corrupt', 'quarantined')),
    verified TEXT NOT NULL CHECK (verified IN ('digest', 'size', 'framing', 'nothing')), metadata TEXT,
    stored_at_us INTEGER NOT NULL, proven_at_us INTEGER, scrubbed_at_us INTEGER, scrub_result TEXT
);
CREATE UNIQUE INDEX unitrow_identity ON units (identity);
CREATE INDEX unitrow_path ON units (path);
CREATE INDEX unitrow_store_key ON units (store_key);
CREATE TABLE digests (
    unit_id INTEGER NOT NULL, algorithm TEXT NOT NULL, value BLOB NOT NULL, trusted INTEGER NOT NULL,
    PRIMARY KEY (unit_id, algorithm), FOREIGN KEY (unit_id) REFERENCES units (id) ON DELETE CASCADE
);
CREATE TABLE sources (
    id INTEGER NOT NULL PRIMARY KEY, unit_id INTEGER NOT NULL, url TEXT NOT NULL, profile TEXT NOT NULL,
    priority INTEGER NOT NULL, weight INTEGER NOT NULL, secret_query INTEGER NOT NULL, last_ok_at_us INTEGER,
    last_failed_at_us INTEGER, failures INTEGER NOT NULL, last_error TEXT,
    FOREIGN KEY (unit_id) REFERENCES units (id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX sourcerow_unit_id_url_profile ON sources (unit_id, url, profile);
CREATE TABLE repositories (id INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL);
CREATE UNIQUE INDEX repositoryrow_name ON repositories (name);
CREATE TABLE unit_repositories (
    unit_id INTEGER NOT NULL, repository_id INTEGER NOT NULL, PRIMARY KEY (unit_id, repository_id),
    FOREIGN KEY (unit_id) REFERENCES units (id) ON DELETE CASCADE,
    FOREIGN KEY (repository_id) REFERENCES repositories (id) ON DELETE CASCADE
);
CREATE INDEX unitrepositoryrow_repository_id ON unit_repositories (repository_id);
INSERT INTO geofetch_schema VALUES (1, 1700000000000000);
INSERT INTO units VALUES (
    3, X'a484b94613f6676b31e5beb70009199e', 'file', '{"path":"a","store":"file:///srv/mirror"}', 'a', 'file:///srv/mirror',
    'a', 8, 1, 7, 'present', 'digest', NULL, 1700000000000000, 1700000000000000, NULL, NULL
);
INSERT INTO digests VALUES (3, 'sha256', X'DIGEST', 1);
INSERT INTO sources VALUES (1, 3, 'http://a.example/a', '', 0, 1, 0, 1700000000000000, NULL, 0, NULL);
"""


#: What a CHECK of that time says, and what says the same today (records/models.py).
ONE_OF = re.compile(r"(\w+)IN\(((?:'\w+',?)+)\)")


def _reworded(sql: str) -> str:
    return ONE_OF.sub(lambda told: "OR".join(f"{told[1]}={value}" for value in told[2].split(",")), sql)


def shape(path: Path) -> list[str]:
    """The schema as SQLite has it, without quotes and line breaks."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return sorted("".join(sql.replace('"', "").split()) for (sql,) in found)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "units.db"


@pytest.fixture
def old(path: Path) -> Path:
    """A file of version 1, with one unit in it."""
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1.replace("DIGEST", sha256(b"the file").hex))
    connection.close()
    return path


def recorder(path: Path) -> Recorder:
    return Recorder(f"sqlite:///{path}")


# --------------------------------------------------------------------------------------------------------- addresses


def test_three_slashes_are_relative_four_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert located("sqlite:///units.db").path == str(tmp_path / "units.db")
    assert located("sqlite:////srv/a b%20/units.db").path == "/srv/a b%20/units.db"
    assert located("sqlite:///:memory:").path == ":memory:"


def test_a_relative_address_stays_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Recorder("sqlite:///units.db") as found:
        monkeypatch.chdir("/")
        store(found, Spec("http://a.example/a"))
    assert (tmp_path / "units.db").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("oracle://user:canary@db.example/units", "'oracle' are not supported"),
        ("units.db", "no database URL"),
        ("/srv/units.db", "no database URL"),
        ("", "no database URL"),
        ("sqlite://units.db", "three slashes"),
        ("sqlite://me:canary@host/units.db", "three slashes"),
        ("sqlite:///", "three slashes"),
        ("sqlite:////srv/", "three slashes"),
        ("sqlite:///units.db?mode=ro", "no options"),
        ("sqlite:///a\0b", "three slashes"),
        ("http://[", "bad database URL"),
    ],
)
def test_any_other_url_is_refused_with_what_is_supported(url: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        Recorder(url)
    assert "sqlite:///" in str(caught.value)
    assert "canary" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------ schema


def test_a_new_database_has_the_schema_of_one_that_was_carried_forwards(old: Path, tmp_path: Path) -> None:
    for path in (old, tmp_path / "new.db"):
        with recorder(path) as found:
            found.count()
    assert shape(tmp_path / "new.db") == [_reworded(sql) for sql in shape(old)]


def test_a_database_of_version_1_is_read_and_written(old: Path) -> None:
    with recorder(old) as found:
        assert found.recall(STORE, "a") is not None
        before = only(found)
        assert (before.id, before.trusted, before.sources[0].url) == (3, {"sha256"}, "http://a.example/a")
        store(found, Spec("http://b.example/a", digests=sha256(b"the file")))
        assert [source.url for source in only(found).sources] == ["http://a.example/a", "http://b.example/a"]


#: What older versions left behind, as SQL, and what they knew then, as unit files: records_1 and so on.
DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("version", range(1, len(migrations.MIGRATIONS) + 1))
def test_what_an_older_version_recorded_is_all_there(path: Path, tmp_path: Path, version: int) -> None:
    connection = sqlite3.connect(path)
    connection.executescript((DATA / f"records_{version}.sql").read_text(encoding="utf-8"))
    connection.close()
    known = (DATA / f"records_{version}.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(known) > 40
    with recorder(path) as found:
        units = list(found.units())
        assert units == [unit_files.loads(line) for line in known]
        for unit in units:  # the same news changes nothing
            found.put_unit(unit)
        found.flush()
        assert list(found.units()) == units
        recorded = next(unit for unit in units if unit.path == "pool/02.rpm")
        store(found, Spec("http://new.example/a", path=recorded.path, digests=sha256(b"2")), b"2")
        sources = [source.url for source in found.unit(recorded.id).sources]
        assert sources == [*(source.url for source in recorded.sources), "http://new.example/a"]
    with recorder(tmp_path / "new.db") as found:
        found.count()
    assert shape(path) == shape(tmp_path / "new.db")
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_what_one_database_knows_another_is_told(database: Place) -> None:
    known = [unit_files.loads(line) for line in (DATA / "records_1.jsonl").read_text(encoding="utf-8").splitlines()]
    with Recorder(database.url) as found:
        for unit in known:
            found.put_unit(unit)
        found.flush()
        assert list(found.units()) == known


def add_note(database: Database) -> None:
    database.execute_sql("ALTER TABLE units ADD COLUMN note TEXT")


def fill_note(database: Database) -> None:
    database.execute_sql("UPDATE units SET note = 'from before'")


def fail_half_way(database: Database) -> None:
    database.execute_sql("UPDATE units SET note = 'half'")
    raise ValueError("no further")


def versions(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    found = [version for (version,) in connection.execute("SELECT version FROM geofetch_schema ORDER BY version")]
    connection.close()
    return found


def test_an_older_database_is_carried_forwards_step_by_step(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = migrations.MIGRATIONS
    monkeypatch.setattr(migrations, "MIGRATIONS", (*ours, add_note, fill_note))
    with recorder(old) as found:
        assert only(found).path == "a"
    assert versions(old) == list(range(1, len(ours) + 4))
    with recorder(old) as found:  # once is enough
        assert only(found).path == "a"
    connection = sqlite3.connect(old)
    assert connection.execute("SELECT note FROM units").fetchall() == [("from before",)]
    connection.close()


def test_a_step_that_fails_leaves_the_database_at_the_step_before(old: Path) -> None:
    database = SqliteDatabase(str(old), lock_type="IMMEDIATE")
    with pytest.raises(ValueError, match="no further"):
        bring_up(database, "it", (add_note, fail_half_way))
    assert version_of(database, "it", 3) == 2
    assert database.execute_sql("SELECT note FROM units").fetchall() == [(None,)]
    assert bring_up(database, "it", (add_note, fill_note)) == 3
    assert database.execute_sql("SELECT note FROM units").fetchall() == [("from before",)]
    database.close()


def test_a_newer_database_is_refused_untouched(old: Path) -> None:
    connection = sqlite3.connect(old)
    connection.execute("INSERT INTO geofetch_schema VALUES (99, 0)")
    connection.commit()
    connection.close()
    before = old.read_bytes()
    with recorder(old) as found, pytest.raises(RecordError, match=r"newer geofetch: its schema is 99") as caught:
        found.count()
    assert str(old) in str(caught.value)
    assert old.read_bytes() == before


# ------------------------------------------------------------------------------------------------- what is no database


@pytest.mark.parametrize(
    "content",
    [b"this is a letter, not a database\n" * 200, b"SQLite format 3\0" + b"\xff" * 5000],
    ids=["text", "header-alone"],
)
def test_a_file_that_is_no_database_is_refused_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with recorder(path) as found:
        for _ in range(2):
            with pytest.raises(RecordError, match=r"units\.db: .*(not a database|malformed)"):
                store(found, Spec("http://a.example/a"))
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["units.db"]


def test_somebody_elses_database_is_refused_untouched(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE cookies (name TEXT)")
    connection.close()
    before = path.read_bytes()
    with recorder(path) as found, pytest.raises(RecordError, match=r"something else: it holds cookies"):
        found.count()
    assert path.read_bytes() == before


def test_a_page_that_went_bad_is_an_error_that_names_the_file(path: Path) -> None:
    with recorder(path) as found:
        for number in range(200):
            found.put_unit(only_one(number))
        found.flush()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with recorder(path) as found, pytest.raises(RecordError, match=r"units\.db"):
        list(found.units())


def only_one(number: int) -> object:
    from geofetch.records import Unit

    return Unit("file", {"n": number}, str(number), STORE, str(number), number)


def test_a_place_where_nothing_can_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        recorder(tmp_path / "file" / "units.db") as found,
        pytest.raises(RecordError, match=r"file/units\.db") as caught,
    ):
        found.count()
    assert isinstance(caught.value.__cause__, OSError)


def test_trouble_with_a_database_is_told_from_a_bad_row() -> None:
    assert of_database(sqlite3.OperationalError("database is locked"))
    assert of_database(sqlite3.DatabaseError("malformed"))
    assert of_database(PermissionError("no"))
    assert not of_database(sqlite3.IntegrityError("CHECK"))
    assert not of_database(OverflowError("too large"))
