"""Files that nobody knew are written without looking each up: what the tables say is the same either way."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from geofetch.events import Kept
from geofetch.records import ledger as ledger_module
from geofetch.records import reader
from geofetch.records.changes import Change, Mark
from geofetch.records.database import located
from geofetch.records.database.sqlite import SQLITE
from geofetch.records.ledger import Ledger
from geofetch.records.put import Put
from geofetch.records.units import canonical, file_key, file_text, told_by
from geofetch.spec import Source, Spec

from .support.servers import Place
from .test_records import sha256
from .test_records_units import unit

TABLES = ("units", "digests", "sources", "repositories", "unit_repositories")


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger of SQLite's, which can be asked for what it did."""
    opened = Ledger(located(f"sqlite:///{tmp_path}/new.db"))
    yield opened
    opened.close()


@pytest.fixture
def ledger(database: Place) -> Iterator[Ledger]:
    opened = Ledger(located(database.url))
    yield opened
    opened.close()


@pytest.fixture
def general(monkeypatch: pytest.MonkeyPatch, database: Place) -> Iterator[Ledger]:
    """A ledger that takes every file for one that may be known."""
    opened, way = Ledger(located(database.another().url)), ledger_module.written_as_new
    monkeypatch.setattr(
        ledger_module,
        "written_as_new",
        lambda database, *told: database is not opened._database and way(database, *told),
    )
    yield opened
    opened.close()


def put(name: str, *, store: str = ".", key: str | None = None, **told: Any) -> Put:
    spec = Spec(f"http://a.example/{name}", path=name, repository=told.pop("repository", None))
    content = told.pop("content", name.encode())
    kept = Kept(store, key or name, len(content), told.pop("mtime", 1), told.pop("inode", 7))
    return Put(spec, kept, {"sha256": sha256(content)}, "digest", spec.source, told.pop("headers", None), 1)


def units_of(ledger: Ledger) -> list[Any]:
    """All units; without their ids, of which a server's sequence leaves out those of what was undone."""
    ids, _ = ledger.answer([lambda database: reader.page(database, reader.Wanted(), 0, 100_000)], False)[0]
    return list(ledger.answer([lambda database: reader.units(database, ids)], False)[0])


def said(ledger: Ledger) -> dict[str, list[Any]]:
    connection = sqlite3.connect(ledger.address.path)
    found = {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    return found


def selects(ledger: Ledger, changes: Sequence[Change]) -> list[str]:
    """The SELECTs that a batch took."""
    heard: list[str] = []
    assert ledger._database is not None
    ledger._database.connection().set_trace_callback(heard.append)
    assert set(ledger.write(changes, False)) <= {None, True}
    ledger._database.connection().set_trace_callback(None)
    return [line for line in heard if line.startswith("SELECT")]


def test_new_files_are_looked_up_by_their_place_alone(filed: Ledger) -> None:
    filed.write([put("first")], False)
    assert (
        len(selects(filed, [put(str(n)) for n in range(100)])) == 3
    )  # the places, the first number, whether there are leftovers
    assert len(said(filed)["units"]) == 101


@pytest.mark.parametrize("most_values", [900, 4000], ids=["sqlite-before-3.32", "sqlite"])
def test_whatever_the_size_of_a_batch_each_file_has_its_rows(
    filed: Ledger, monkeypatch: pytest.MonkeyPatch, most_values: int
) -> None:
    monkeypatch.setattr(type(SQLITE), "most_values", most_values)
    heard: list[str] = []
    wanted: set[str] = set()
    for size in (*range(1, 130), 300):
        names = [f"{size}-{number}" for number in range(size)]
        wanted.update(names)
        changes = [put(name, repository="r") for name in names]
        assert filed.write(changes, False) == [None] * size
        assert filed._database is not None
        filed._database.connection().set_trace_callback(heard.append)
    told = said(filed)
    assert {row[4] for row in told["units"]} == wanted
    numbers = [row[0] for row in told["units"]]
    assert numbers == sorted(row[0] for row in told["digests"]) == sorted(row[1] for row in told["sources"])
    assert numbers == sorted(row[0] for row in told["unit_repositories"])
    # Few statements, and few kinds of them: SQLite's driver keeps the programs of 128.
    inserts = [line for line in heard if line.startswith("INSERT")]
    assert len(inserts) < len(wanted) / 4
    assert len({line.count("), (") for line in inserts}) < 30


def test_where_all_is_known_nothing_is_tried_in_vain_but_once(filed: Ledger) -> None:
    filed.write([put("a"), put("b")], False)
    tried, general, after = (len(selects(filed, [put("a"), put("b")])) for _ in range(3))
    assert tried - 1 == general == after
    assert len(selects(filed, [put("c")])) > 3  # the general way finds out that news begins
    assert len(selects(filed, [put("d")])) == 3


def test_many_kinds_of_batches_say_the_same_either_way(ledger: Ledger, general: Ledger) -> None:
    dice = random.Random(5)
    for _ in range(120):
        names = [f"{dice.choice('ab')}/{dice.randrange(400)}" for _ in range(dice.choice((1, 2, 5, 30)))]
        chances = [dice.random() for _ in names]
        for one in (ledger, general):
            assert one.write([a_change(name, chance) for name, chance in zip(names, chances, strict=True)], False)
    assert units_of(ledger) == units_of(general)
    assert len(units_of(ledger)) > 300
    if ledger.address.is_file:
        assert said(ledger) == said(general)


def a_change(name: str, chance: float) -> Change:
    if chance < 0.02:
        return Mark(
            unit(name, store=".", key={"store": ".", "path": name}, size=len(name)), "missing", None, None, (), 2
        )
    return put(
        name,
        store="." if chance < 0.9 else "memory:",
        key=name if chance < 0.8 else f"by-digest/{int(chance * 100)}",
        content=name.encode() if chance < 0.7 else b"another",
        inode=2**64 - 1 if chance < 0.3 else None if chance < 0.5 else 7,
        repository=None if chance < 0.4 else f"r{int(chance * 10)}",
        headers={"ETag": "x"} if chance < 0.5 else None,
    )


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(put("a"), id="the same file once more"),
        pytest.param(put("a", key="elsewhere"), id="the same unit in another place"),
        pytest.param(put("b", key="a", content=b"other"), id="another unit in its place"),
        pytest.param(put("b", key="a", inode=8), id="another inode in its place"),
    ],
)
def test_what_is_known_is_merged_as_ever(ledger: Ledger, general: Ledger, known: Put) -> None:
    for one in (ledger, general):
        assert one.write([known], False) == [None]
        assert one.write([put("new"), put("a"), put("newer", repository="main")], False) == [None] * 3
    assert units_of(ledger) == units_of(general)
    assert ledger.commits == 2


def test_two_of_one_batch_in_one_place_are_not_taken_for_new(filed: Ledger) -> None:
    filed.write([put("a", key="x"), put("b", key="x", content=b"later")], False)
    assert [(row[4], row[10]) for row in said(filed)["units"]] == [("a", "missing"), ("b", "present")]


def test_two_sources_and_two_digests_are_rows_of_their_own(ledger: Ledger, general: Ledger, database: Place) -> None:
    for one in (ledger, general):
        made = put("a")
        sources = [Source("http://a.example/a"), Source("http://b.example/a?token=secret", profile="cdn")]
        made.spec = Spec(sources=sources, path="a", digests=["md5:" + "0" * 32, sha256(b"told")])
        made.source = made.spec.sources[1]
        one.write([made, put("b")], False)
    assert units_of(ledger) == units_of(general)
    counted = [database.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("units", "digests", "sources")]
    assert counted == [2, 3, 3]


@pytest.mark.parametrize(
    "key",
    [
        {},
        {"path": "a/b", "store": "file:///srv"},
        {"b": "1", "a": "2", "": "3"},
        {"path": 'q"\\/\x00\x1f\x7f\u2028é\U0001f600\udcff'},
        {"a": 1, "b": None, "c": True, "d": 1.5, "e": ["x", {"z": 1, "y": 2}]},
        {"a": {"b": "c"}},
        {1: "a"},
        {"a": "b", "c": 2**70},
    ],
)
def test_a_key_of_text_is_the_same_json_as_any(key: dict[Any, Any]) -> None:
    assert canonical(key) == json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)


@pytest.mark.parametrize("store", [".", "file:///srv/a%20b", "", 'q"\\/\x00\x1f\x7f\u2028é\U0001f600\udcff'])
@pytest.mark.parametrize("path", ["a/b", 'q"\\/\x00\x1f\x7f\u2028é\U0001f600\udcff'])
def test_the_key_of_a_file_is_the_same_text_as_any(store: str, path: str) -> None:
    assert file_text(store, path) == canonical(file_key(store, path))


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, None),
        ({"Server": "x", "ETag": ""}, None),
        ({"ETag": 'W/"a"', "Content-Type": "a/b"}, {"etag": 'W/"a"', "content_type": "a/b"}),
        ({"etag": "a", "last-modified": "b"}, {"etag": "a", "last_modified": "b"}),
        (
            {"Last-Modified": "é\udcff", "Content-Type": "x" * 5000},
            {"last_modified": "é\udcff", "content_type": "x" * 1000},
        ),
    ],
)
def test_what_a_head_says_of_a_file_is_the_same_text_as_any(headers: dict[str, str], told: Any) -> None:
    assert told_by(headers)[0] == (told and canonical(told))


@pytest.mark.parametrize("key", [{"a": float("nan")}, {"a": b"bytes"}, {"a": "x", 1: "y"}])
def test_what_is_no_json_is_no_key(key: dict[Any, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        canonical(key)
