"""Unit files: what is written is read again as it was, and a bad document is told by its field."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import geofetch.records
from geofetch.errors import SpecError
from geofetch.records import Health, Recorder, Unit, unit_files
from geofetch.spec import Digest, Source

from .test_records import sha256

SCHEMA = json.loads((Path(geofetch.records.__file__).parent / "unit_file.schema.json").read_text())

times = st.integers(-(10**15), 10**17)
text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
names = text.filter(str.strip)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(text, plain, max_size=3)
digests = st.one_of(
    [st.binary(min_size=size, max_size=size).map(lambda value, name=name: Digest(name, value)) for name, size in
     (("sha256", 32), ("md5", 16), ("sha3_512", 64), ("blake2b-256", 32))]
)  # fmt: skip
sources = st.builds(
    Source,
    st.from_regex(
        r"https?://[a-z]{1,8}\.example(:[1-9][0-9]{0,3})?/[a-z%20/]{0,9}(\?(page|x)=[0-9a-z]{0,5})?", fullmatch=True
    ),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**63 - 1),
    st.none() | names,
    expires_at=st.none() | st.floats(0, 250_000_000_000),
)
health = st.builds(
    Health,
    st.none() | times,
    st.none() | times,
    st.integers(0, 2**31 - 1),
    st.none() | text,
    st.none() | text,
    st.none() | text,
    st.none() | times,
)


@st.composite
def units(draw: st.DrawFn) -> Unit:
    proofs = draw(st.lists(digests, max_size=3, unique_by=lambda one: one.algorithm))
    places = draw(st.lists(sources, max_size=4, unique_by=lambda one: (one.url, one.profile)))
    state = draw(st.sampled_from(["present", "missing", "corrupt", "quarantined"]))
    never = st.none() if state == "missing" else st.nothing()
    return Unit(
        type=draw(text),
        key=draw(objects),
        path=draw(st.from_regex(r"[a-z0-9._+~ -]{1,9}(/[a-z0-9é…]{1,9})?", fullmatch=True).filter(safe)),
        store=draw(text),
        store_key=draw(text),
        size=draw(never | st.integers(0, 2**63 - 1)),
        mtime_ns=draw(st.none() | st.integers(-(2**63) + 1, 2**63 - 1)),
        inode=draw(st.none() | st.integers(0, 2**64 - 1)),
        state=state,
        verified=draw(st.sampled_from(["digest", "size", "framing", "nothing"])),
        digests=tuple(proofs),
        trusted=frozenset(one.algorithm for one in proofs if draw(st.booleans())),
        sources=tuple(places),
        health=tuple(draw(health) for _ in places),
        repositories=tuple(draw(st.lists(names, max_size=3))),
        metadata=draw(st.none() | objects),
        stored_at=draw(never | times),
        proven_at=draw(st.none() | times),
        scrubbed_at=draw(st.none() | times),
        scrub_result=draw(st.none() | st.just("") | text),
        policy=draw(st.sampled_from(["immediate", "on_demand", "streamed"])),
        pending=draw(st.sampled_from([None, "fetch"])),
        tries=draw(st.integers(0, 2**31 - 1)),
        unlisted_at=draw(st.none() | times),
    )


def safe(path: str) -> bool:
    return not set(path.split("/")) & {"", ".", ".."} and not path.startswith((".geofetch", ".part-"))


@given(units())
@settings(max_examples=50, deadline=None)
def test_a_unit_is_read_as_it_was_written(unit: Unit) -> None:
    text = unit_files.dumps(unit)
    jsonschema.validate(json.loads(text), SCHEMA)
    assert unit_files.loads(text) == unit


@given(st.lists(units(), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_units_go_through_the_records_unchanged(wanted: list[Unit]) -> None:
    with Recorder("sqlite:///:memory:") as recorder:
        by_key = {}
        for one in wanted:
            recorder.put_unit(one).get()
            by_key[one.type, json.dumps(one.key, sort_keys=True)] = one
        found = {(one.type, json.dumps(one.key, sort_keys=True)): one for one in recorder.units()}
        assert found == by_key


def document(**changes: Any) -> dict[str, Any]:
    unit = Unit(
        type="rpm",
        key={"name": "bash"},
        path="x/bash.rpm",
        store="file:///srv",
        store_key="x/bash.rpm",
        size=8,
        digests=(sha256(b"the file"),),
        trusted=frozenset({"sha256"}),
        sources=(Source("http://a.example/bash.rpm", profile="inside"),),
        repositories=("main",),
        stored_at=1_714_564_800_123_456,
    )
    found = unit_files.dump(unit)
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        at: Any = found
        for part in parents:
            at = at[part]
        if value is ...:
            del at[last]
        else:
            at[last] = value
    return found


def test_a_document_says_what_its_schema_says() -> None:
    found = document()
    assert found["stored_at"] == "2024-05-01T12:00:00.123456Z"
    assert found["digests"] == [{"algorithm": "sha256", "value": sha256(b"the file").hex, "trusted": True}]
    assert set(found) == set(SCHEMA["properties"])
    for part in ("unit", "stored"):
        assert set(found[part]) == set(SCHEMA["properties"][part]["properties"])
    for part in ("digests", "sources"):
        assert set(found[part][0]) == set(SCHEMA["properties"][part]["items"]["properties"])


def test_a_document_of_the_first_version_is_read() -> None:
    line = (Path(__file__).parent / "data" / "records_1.jsonl").read_text(encoding="utf-8").splitlines()[0]
    jsonschema.validate(json.loads(line), SCHEMA)
    unit = unit_files.loads(line)
    assert (unit.policy, unit.pending, unit.tries, unit.unlisted_at) == ("immediate", None, 0, None)
    assert unit_files.dump(unit)["schema"] == "geofetch-unit/2"


def test_one_that_was_never_stored_has_no_size_where_nobody_told_it() -> None:
    told = document(stored__state="missing", size_bytes=None, stored_at=None, policy="on_demand")
    jsonschema.validate(told, SCHEMA)
    unit = unit_files.load(told)
    assert (unit.size, unit.stored_at, unit.kept) == (None, None, None)
    for field in ("size_bytes", "stored_at"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document(**{field: None}), SCHEMA)


def test_what_a_document_may_leave_out_has_its_usual_value() -> None:
    told = document(
        digests=..., repositories=..., metadata=..., proven_at=..., scrubbed_at=..., scrub_result=...,
        stored__mtime_ns=..., stored__inode=..., sources=[{"url": "http://a.example/a"}],
    )  # fmt: skip
    jsonschema.validate(told, SCHEMA)
    unit = unit_files.load(told)
    assert unit.sources == (Source("http://a.example/a"),)
    assert (unit.digests, unit.repositories, unit.proven_at, unit.mtime_ns) == ((), (), None, None)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("schema", {"schema": "geofetch-unit/3"}),
        ("schema", {"schema": ...}),
        ("unit", {"unit": []}),
        ("unit.type", {"unit__type": ""}),
        ("unit.type", {"unit__type": "\udcff"}),
        ("unit.key", {"unit__key": "bash"}),
        ("unit.colour", {"unit__colour": "red"}),
        ("stored.path", {"stored__path": "../etc/passwd"}),
        ("stored.path", {"stored__path": "/etc/passwd"}),
        ("stored.state", {"stored__state": "lost"}),
        ("stored.store", {"stored__store": ""}),
        ("stored.inode", {"stored__inode": 2**64}),
        ("stored.mtime_ns", {"stored__mtime_ns": 2**63}),
        ("size_bytes", {"size_bytes": -1}),
        ("size_bytes", {"size_bytes": True}),
        ("size_bytes", {"size_bytes": 8.0}),
        ("size_bytes", {"size_bytes": None}),
        ("size_bytes", {"size_bytes": ...}),
        ("verified", {"verified": "luck"}),
        ("digests", {"digests": {}}),
        ("digests[0]", {"digests__0": "sha256:00"}),
        ("digests[0]", {"digests__0__value": "00"}),
        ("digests[0]", {"digests__0__algorithm": "sha9000"}),
        ("digests[0].trusted", {"digests__0__trusted": 1}),
        ("digests", {"digests": document()["digests"] * 2}),
        ("sources[0].url", {"sources__0__url": "gopher://a.example/a"}),
        ("sources[0].url", {"sources__0__url": ...}),
        ("sources[0].priority", {"sources__0__priority": -1}),
        ("sources[0].weight", {"sources__0__weight": "much"}),
        ("sources[0].failures", {"sources__0__failures": None}),
        ("sources[0].last_ok_at", {"sources__0__last_ok_at": "yesterday"}),
        ("sources[0].password", {"sources__0__password": "x"}),
        ("sources", {"sources": document()["sources"] * 2}),
        ("repositories[0]", {"repositories": [" "]}),
        ("repositories[1]", {"repositories": ["main", 5]}),
        ("metadata", {"metadata": []}),
        ("stored_at", {"stored_at": 1714564800}),
        ("stored_at", {"stored_at": None}),
        ("stored_at", {"stored_at": "2024-05-01T12:00:00+02:00"}),
        ("proven_at", {"proven_at": "2024-02-30T12:00:00Z"}),
        ("size", {"size": 8}),
        ("policy", {"policy": "never"}),
        ("policy", {"policy": None}),
        ("pending", {"pending": "clean"}),
        ("tries", {"tries": -1}),
        ("tries", {"tries": 2**31}),
        ("unlisted_at", {"unlisted_at": 5}),
        ("sources[0].etag", {"sources__0__etag": 5}),
        ("sources[0].expires_at", {"sources__0__expires_at": 5}),
        ("sources[0].cooldown_until", {"sources__0__cooldown_until": "soon"}),
    ],
)
def test_a_bad_document_is_told_by_its_field(field: str, change: dict[str, Any]) -> None:
    with pytest.raises(SpecError) as caught:
        unit_files.load(document(**change))
    assert f"{field} " in f"{caught.value} ".replace(":", " ")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "NaN", '{"size_bytes": Infinity}', '{"schema": 1, "schema": 2}', "[" * 100_000, b"\xff{"],
    ids=["empty", "cut", "list", "null", "nan", "infinity", "twice", "deep", "no-text"],
)
def test_what_is_no_document_is_refused(text: str | bytes) -> None:
    with pytest.raises(SpecError, match="unit file"):
        unit_files.loads(text)


def test_a_secret_in_a_document_does_not_come_in() -> None:
    url = "https://user:canary@a.example/a?X-Amz-Signature=canary"
    unit = unit_files.load(document(sources__0__url=url))
    assert unit.sources == (Source("https://a.example/a", profile="inside", secret_query=True),)
    told = document(sources__0__url="https://a.example/a?page=canary", sources__0__secret_query=True)
    assert unit_files.load(told).sources[0].url == "https://a.example/a"
    with pytest.raises(SpecError) as caught:
        unit_files.load(document(sources__0__url="https://user:canary@a.example:port/a"))
    assert "canary" not in str(caught.value)


def test_a_secret_in_a_unit_does_not_go_out() -> None:
    source = Source("https://user:canary@a.example/a?token=canary")
    unit = Unit("file", {}, "a", "s", "a", 1, sources=(source,))
    assert "canary" not in unit_files.dumps(unit)


# ------------------------------------------------------------------------------------------------- folders and streams


def unit(path: str, kind: str = "file") -> Unit:
    return Unit(kind, {"path": path}, path, "file:///srv", path, 8, stored_at=1)


def test_a_folder_holds_one_safe_name_a_unit(tmp_path: Path) -> None:
    paths = ["a/x.rpm", "b/x.rpm", "…/…", "x y\\z", "q" * 255, "..x", "-rf"]
    wanted = [unit(path) for path in paths] + [unit("a/x.rpm", "rpm")]
    assert unit_files.write(wanted, tmp_path / "out") == 8
    found = [file.name for file in (tmp_path / "out").iterdir()]
    assert len(found) == 8
    for name in found:
        assert len(name) < 130
        assert name[0] != "."
        assert name.isascii()
    assert unit_files.write(wanted, tmp_path / "out") == 8
    assert len(list((tmp_path / "out").iterdir())) == 8
    assert sorted(unit_files.read(tmp_path / "out"), key=repr) == sorted(wanted, key=repr)


def test_a_file_that_cannot_be_written_whole_is_not_there(tmp_path: Path) -> None:
    first = unit("a")
    unit_files.write([first], tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    (tmp_path / unit_files.file_name(unit("b"))).mkdir()
    with pytest.raises(OSError, match="directory"):
        unit_files.write([unit("b")], tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    wanted = [unit("a"), unit("b"), unit("c")]
    stream = io.StringIO()
    assert unit_files.write_lines(wanted, stream) == 3
    lines = stream.getvalue()
    assert lines.count("\n") == 3
    assert list(unit_files.read_lines(io.StringIO(f"\n{lines}\n"))) == wanted
    (tmp_path / "units.jsonl").write_text(lines)
    assert list(unit_files.read(tmp_path / "units.jsonl")) == wanted
    (tmp_path / "one.json").write_text(unit_files.dumps(wanted[0]))
    assert list(unit_files.read(tmp_path / "one.json")) == wanted[:1]


def test_a_bad_line_is_told_by_its_number_and_file(tmp_path: Path) -> None:
    line = json.dumps(document())
    bad = tmp_path / "units.jsonl"
    bad.write_text(f"{line}\n\n{json.dumps(document(size_bytes=-1))}\n")
    with pytest.raises(SpecError, match=r"units\.jsonl: line 3: unit file: size_bytes"):
        list(unit_files.read(bad))
    bad.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"units\.jsonl: not UTF-8"):
        list(unit_files.read(bad))
