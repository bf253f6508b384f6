"""What the documents say is so: their examples run, their tables are the code's, the tests they name exist."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import geofetch
from geofetch import errors, plan
from geofetch.cli import codes
from tests import documents
from tests.origin.scenes import Scene
from tests.support import objects
from tests.support.certs import Authority
from tests.support.mirrors import Mirror, Origins
from tests.support.objects import ObjectServer

from .test_layers import MAP, NOUNS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SOURCES = [ROOT / "README.rst", *sorted(path for path in DOCS.rglob("*.rst") if "_build" not in path.parts)]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}


# ----------------------------------------------------------------------------------------------------------- examples

#: What the documents' mirrors serve; "test" is the file whose SHA-256 everybody knows.
CONTENTS = {"a.rpm": b"test", "b.rpm": b"b.rpm\n", "c.rpm": b"c.rpm\n"}
#: For the bucket of the documents.
KEYS = {"AWS_ACCESS_KEY_ID": objects.KEY, "AWS_SECRET_ACCESS_KEY": objects.SECRET}
SUMS = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in CONTENTS.items())
WITH_EXAMPLES = [path for path in SOURCES if list(documents.steps(path.read_text(encoding="utf-8")))]


def _furnished(mirror: Mirror) -> str:
    for name, content in CONTENTS.items():
        mirror.serves(content, at=f"/{name}", headers={"Content-Type": "application/x-rpm"})
    mirror.serves(SUMS.encode(), at="/SHA256SUMS")
    mirror.serves(b"<html>", at="/page.rpm", headers={"Content-Type": "text/html"})
    mirror.serves(b"rotten", at="/rotten.rpm")
    mirror.plays([Scene(status=401), Scene(body=CONTENTS["a.rpm"])], at="/guarded/a.rpm")
    mirror.plays([Scene(status=503), Scene(body=CONTENTS["a.rpm"])], at="/busy/a.rpm")
    return mirror.base


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def swaps(origins: Origins, ca: Authority, tmp_path: Path) -> dict[str, str]:
    """The hosts that the documents name, and where they are in this run; the files that they take for granted."""
    (tmp_path / "SHA256SUMS").write_text(SUMS)
    (tmp_path / "ca.pem").write_bytes(ca.pem)
    client = ca.client("reader")
    (tmp_path / "client.pem").write_bytes(client.cert.read_bytes())
    (tmp_path / "client-key.pem").write_bytes(client.key.read_bytes())
    private = origins.https(wants=ca)
    fingerprint = ca.server("localhost", "127.0.0.1", expired=False).digest
    port = _free_port()
    return {
        "https://mirror.example": _furnished(origins.http()),
        "https://other.example": _furnished(origins.http("127.0.0.2")),
        "https://private.example": _furnished(private),
        "http://proxy.example:3128": origins.proxy().url,
        "http://gone.example": origins.refusing().base,
        "the-sha256-of-its-certificate": fingerprint,
        "127.0.0.1:8000": f"127.0.0.1:{port}",
        "http.server 8000": f"http.server {port}",
    }


def _bucket(server: ObjectServer) -> dict[str, str]:
    endpoint = server.endpoint
    return {"s3+https://s3.example": f"s3+{endpoint}", "https://s3.example": endpoint, "my-bucket": objects.BUCKET}


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_runs_and_says_what_stands_below_it(
    path: Path, swaps: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    told, keys = tmp_path / ".steps.json", {}
    if "https://s3.example" in text(str(path)):
        swaps, keys = {**swaps, **_bucket(request.getfixturevalue("object_server"))}, KEYS
    told.write_text(documents.plan(path.read_text(encoding="utf-8"), swaps), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.documents", str(told)],
        cwd=tmp_path,
        env={**environment(), **keys},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, f"{path.name}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def test_an_example_that_is_wrong_is_found(tmp_path: Path) -> None:
    for wrong in (
        ".. code-block:: python\n\n    assert 1 == 2\n",
        ".. code-block:: python\n\n    >>> 1 + 1\n    3\n",
        ".. code-block:: console\n\n    $ echo one\n    two\n",
        ".. code-block:: console\n\n    $ false\n",
    ):
        told = tmp_path / "steps.json"
        told.write_text(documents.plan(wrong, {}))
        run = [sys.executable, "-m", "tests.documents", str(told)]
        assert subprocess.run(run, env=environment(), capture_output=True, check=False).returncode != 0, wrong


def test_the_store_of_the_how_to_keeps_what_every_store_promises(tmp_path: Path) -> None:
    classes = [step.text for step in documents.steps(text("docs/howto/stores.rst")) if "\nclass " in step.text]
    # Pytest must not see the fetch that the first of them ends with: its host is not there.
    program = "\n".join(["import io", "import geofetch", classes[0].partition("\nstore = ")[0], *classes[1:]])
    (tmp_path / "test_how_to.py").write_text(program)
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "test_how_to.py"]
    done = subprocess.run(run, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout


def test_what_is_not_run_says_why() -> None:
    excused = [step for path in SOURCES for step in documents.steps(path.read_text(encoding="utf-8")) if step.not_run]
    assert all(step.not_run.startswith("because ") for step in excused)
    assert len(excused) <= 8, "an example that nobody runs is soon wrong"


def test_the_two_commands_stand_in_the_readme_word_for_word_and_are_what_ci_runs() -> None:
    for command in ("pip install . && geofetch demo", "pip install -r requirements.txt && python -m pytest"):
        assert f"\n    {command}\n" in text("README.rst")
        assert f"bash -c '{command}'" in text(".ci/run")


# ------------------------------------------------------------------------------------------------------- the reference


def _referred() -> set[str]:
    directive = re.compile(r"^\.\. auto(?:class|function|exception|data):: geofetch\.(\w+)(?:\(.*\))?$", re.MULTILINE)
    return {name for path in (DOCS / "reference").glob("*.rst") for name in directive.findall(path.read_text("utf-8"))}


def test_every_public_name_is_in_the_reference() -> None:
    assert _referred() == set(geofetch.__all__) - {"__version__"}


def test_every_room_is_in_the_reference() -> None:
    named = re.findall(r"^\.\. automodule:: geofetch\.([\w.]+)$", text("docs/reference/rooms.rst"), re.MULTILINE)
    assert {name.split(".")[0] for name in named} == {*MAP, "cli"}


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-d", tmp_path / "trees", DOCS, tmp_path / "site"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "site" / "index.html").exists()


# ---------------------------------------------------------------------------------------------------------- the design


def _map_as_drawn() -> dict[str, set[str]]:
    drawn: dict[str, set[str]] = {}
    for line in documents.literal(text("docs/design.rst"), "the map"):
        room, *may = line.split()
        drawn[room] = {name for word in may for name in (NOUNS if word == "nouns" else {word}) if word != "nothing"}
    return drawn


def test_the_map_that_is_drawn_is_the_map_that_is_held() -> None:
    assert _map_as_drawn() == MAP


def test_the_verdicts_are_those_of_the_plan() -> None:
    told = {row[0].strip("`"): (row[1], row[2]) for row in documents.rows(text("docs/design.rst"), "verdicts")}
    held = {
        kind.__name__: (verdict.name, "yes" if heals else "no")
        for kind, verdict, heals in plan.VERDICTS
        if kind is not errors.ProxyFailure  # it depends on what the proxy said: the text below the table tells
    }
    assert told == held


def test_the_tree_of_errors_is_the_tree() -> None:
    drawn = documents.literal(text("docs/design.rst"), "the errors")
    above: list[str] = []
    for line in drawn:
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        above[depth:] = [name]
        kind = getattr(errors, name)
        assert depth == 0 or issubclass(kind, getattr(errors, above[depth - 1])), line
        also = re.search(r"\+ ([\w, ]+)\)", line)
        bases = {base.__name__ for base in kind.__mro__}
        assert {one.strip() for one in also[1].split(",")} <= bases if also else True, line
    assert sorted(line.split()[0] for line in drawn) == sorted({*errors.__all__})


# ----------------------------------------------------------------------------------------------------------- the tests


def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def _named_tests(page: str) -> set[tuple[str, str]]:
    # A row may name several tests of one file: tests/test_x.py::test_a, ::test_b.
    found: set[tuple[str, str]] = set()
    last = ""
    for cell in re.findall(r"``(tests/\w+\.py(?:::\w+)?|::\w+)``", text(page)):
        file, _, name = cell.partition("::")
        last = file or last
        found.add((last, name))
    return found


@pytest.mark.parametrize("page", ["docs/design.rst", "docs/faults.rst"])
def test_every_test_that_is_named_exists(page: str) -> None:
    named = _named_tests(page)
    assert named
    gone = sorted(
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).exists() or (name and name not in _tests_in(ROOT / file))
    )
    assert not gone


#: The rows of the fault matrix that this release answers for.
WANTED = {
    *(f"B{n}" for n in range(1, 31)),
    *(f"D{n}" for n in range(1, 10)),
    "E1",
    "E2",
    *(f"E{n}" for n in range(5, 14)),
    "E15",
    "E16",
    "E17",
    *(f"E{n}" for n in range(21, 27)),
    *(f"F{n}" for n in range(1, 7)),
    "F7, F8",
    "G",
    *(f"H{n}" for n in range(1, 11)),
    *(f"S{n}o" for n in range(1, 7)),
}


def test_the_table_of_faults_has_every_row_that_was_promised() -> None:
    told = {row[0] for row in documents.rows(text("docs/faults.rst"), "faults")}
    assert told >= WANTED


# --------------------------------------------------------------------------------------------------------- the command


def test_the_exit_codes_that_are_told_are_those_there_are() -> None:
    told = {int(row[0]): row[1] for row in documents.rows(text("docs/reference/command.rst"), "exit-codes")}
    assert told == codes.MEANINGS
    causes = {row[0]: row[2] for row in documents.rows(text("docs/reference/command.rst"), "exit-codes")}
    for kind, code in codes.CAUSES.items():
        assert kind in causes[str(code)], f"{kind} ends with {code}"


def _said(*arguments: str) -> list[dict[str, Any]]:
    run = [sys.executable, "-m", "geofetch", *arguments, "--json"]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    return [json.loads(line) for line in done.stdout.splitlines()]


def _fields(name: str) -> set[str]:
    rows = documents.rows(text("docs/reference/command.rst"), name)
    return {field for row in rows for field in re.findall(r"``(\w+)``", row[0])}


def test_the_json_that_is_told_is_the_json_that_is_said(mirror: Mirror, tmp_path: Path) -> None:
    base, into = _furnished(mirror), str(tmp_path / "into")
    fetched = _said("get", f"{base}/a.rpm", f"{base}/nothing", "--into", into, "--progress", "json")
    assert [one["event"] for one in fetched].count("file") == 2
    for one in fetched:
        assert set(one) == _fields(f"json-{one['event']}")
    failed = next(one for one in fetched if one["event"] == "file" and not one["ok"])
    assert set(failed["error"]) == _fields("json-error")
    (tmp_path / "list").write_text(f"{base}/a.rpm\n")
    for one in _said("sync", str(tmp_path / "list"), "--later", "--into", into):
        assert set(one) == _fields(f"json-{one['event']}")
    (tmp_path / "into" / "a.rpm").write_bytes(b"tost")
    verified = _said("verify", "--repair", "--into", into)
    assert [one["event"] for one in verified] == ["file", "repair", "summary"]
    for one in verified:
        assert set(one) == _fields(f"json-verify-{one['event']}")
    (tmp_path / "into" / "a.rpm").unlink()
    _said("verify", "--into", into)
    repair, summary = _said("repair", "--into", into)
    assert set(repair) == _fields("json-verify-repair")
    assert set(summary) == _fields("json-repair-summary")


def test_the_json_of_sources_and_repositories_that_is_told_is_what_is_said(mirror: Mirror, tmp_path: Path) -> None:
    base, into = _furnished(mirror), str(tmp_path / "into")
    for name in ("a", "b"):
        assert _said("get", f"{base}/{name}.rpm", "--into", into, "--repository", name)[-1]["ok"]
    source, *_ = _said("sources", "list", "--into", into)
    assert set(source) == _fields("json-sources-list")
    (origin,) = _said("sources", "list", "--origins", "--into", into)
    assert set(origin) == _fields("json-sources-origins")
    for one in _said("sources", "test", "--into", into):
        assert set(one) == _fields(f"json-sources-{one['event']}")
    one, _ = _said("repositories", "list", "--into", into)
    assert set(one) == _fields("json-repositories")
    added, removed = _said("repositories", "diff", "a", "b", "--into", into)
    assert set(added) == set(removed) == _fields("json-repositories-diff")
    assert set(added["after"]) == {"id", "size_bytes", "digests"}
    (one,) = _said("repositories", "add", "b", "--from", "a", "--into", into)
    assert set(one) == _fields("json-repositories-add")
    (one,) = _said("repositories", "remove", "a", "--into", into)
    assert set(one) == _fields("json-repositories-remove")


def test_the_json_of_gc_that_is_told_is_what_is_said(mirror: Mirror, tmp_path: Path) -> None:
    base, into = _furnished(mirror), str(tmp_path / "into")
    listed = tmp_path / "list"
    for names in (("a", "b"), ("a",)):
        listed.write_text("".join(f"{base}/{name}.rpm\n" for name in names))
        _said("sync", str(listed), "--into", into, "--repository", "main", "--mirror")
    unit, file, summary = _said("units", "gc", "--into", into, "--grace", "0s")
    assert set(unit) == set(file) == _fields("json-gc-collected") - {"id", "type", "key", "path"}
    assert set(unit["unit"]) == {"id", "type", "key", "path"}
    assert set(summary) == _fields("json-gc-summary")


def test_the_json_of_progress_that_is_told_is_what_is_said(mirror: Mirror, tmp_path: Path) -> None:
    url = f"{_furnished(mirror)}/a.rpm"
    run = [sys.executable, "-m", "geofetch", "get", url, "-o", str(tmp_path / "a"), "--progress", "json"]
    done = subprocess.run(run, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert set(json.loads(done.stderr.splitlines()[-1])) == _fields("json-progress")


def test_the_fields_of_a_unit_file_are_those_of_its_schema() -> None:
    schema = json.loads((ROOT / "geofetch" / "records" / "unit_file.schema.json").read_text(encoding="utf-8"))
    told = {row[0].strip("`") for row in documents.rows(text("docs/howto/records.rst"), "unit-file")}
    inner = {f"{name}.{field}" for name in ("unit", "stored") for field in schema["properties"][name]["properties"]}
    inner |= {
        f"{name}[].{f}" for name in ("digests", "sources") for f in schema["properties"][name]["items"]["properties"]
    }
    outer = set(schema["properties"]) - {"unit", "stored", "digests", "sources"}
    assert told == inner | outer


@pytest.mark.parametrize(
    "command", ["get", "sync", "verify", "repair", "units", "sources", "repositories", "doctor", "demo"]
)
def test_every_flag_is_told_in_the_reference(command: str) -> None:
    assert f".. command:: {command}" in text("docs/reference/command.rst")
