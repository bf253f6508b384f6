"""Who may import whom: the map of docs/design.rst, read from the imports with ast."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import geofetch

ROOT = Path(geofetch.__file__).parent

#: Below everything but the nouns: where a hub keeps what is its own, and what ends a greenlet.
CELLAR = {"hubs", "kills", "pipes", "within"}
NOUNS = {"names", "digest", "errors", "frozen", "secret", "profile", "spec", "events"}
RULES = {"plan", "hooks"}
TYPES_OF_RULES = {"hooks", "plan"}
WALK = {"ending", "pipeline", "jobs", "runs"}

#: What a room may import of geofetch, and nothing else.
MAP: dict[str, set[str]] = {
    "names": {"errors"},
    "digest": {"errors", "frozen"},
    "errors": set(),
    "frozen": set(),
    "secret": {"errors"},
    "profile": {"names", "errors", "secret"},
    "spec": {"names", "digest", "errors", "frozen", "profile"},
    "events": {"errors", "frozen", "spec"},
    "plan": NOUNS,
    "hooks": NOUNS,
    "monkey": {"errors", "auth"},
    "limits": NOUNS | {"hubs"},
    "turns": set(),
    "hubs": set(),
    "pipes": {"hubs"},
    "within": {"hubs"},
    "kills": {"errors"},
    "lane": NOUNS | CELLAR | {"transport"},
    "transport": NOUNS | CELLAR,
    "lean": set(),
    "auth": set(),
    "unlock": NOUNS | {"hubs"},
    "session": NOUNS | {"transport", "lean", "auth", "unlock"},
    "translate": NOUNS,
    "express": NOUNS | {"transport", "session", "lean"},
    "decoding": {"errors"},
    "redirects": NOUNS | {"auth", "transport", "session", "translate", "express", "within"},
    "stream": NOUNS | {"auth", "transport", "session", "translate", "redirects", "within", "decoding"},
    "validate": NOUNS,
    "store": NOUNS | CELLAR,
    "testing": NOUNS | {"store"},
    "records": NOUNS | CELLAR,
    "report": NOUNS,
    "manifest": NOUNS,
    "ending": NOUNS | {"plan", "kills"},
    "pipeline": NOUNS | RULES | {"ending", "stream", "session", "limits", "turns", "lane", "kills", "hubs"},
    "jobs": NOUNS | {"pipeline", "kills"},
    "runs": NOUNS | {"jobs"},
    "settings": NOUNS | {"stream"},
    "profiles": NOUNS | {"session"},
    "profile_files": NOUNS | {"hubs", "pipes", "unlock"},
    "pool": NOUNS
    | RULES
    | {"settings", "profiles", "pipeline", "jobs", "runs"}
    | {"session", "limits", "validate", "store", "records", "report"},
    "upkeep": NOUNS | {"pool", "store", "records", "session", "lane", "report", "translate", "redirects", "stream"},
}
#: The top may import anything below it.
TOP = {"__init__", "__main__", "cli"}

#: Libraries that one room alone may know.
ONLY = {
    "gevent.monkey": {"monkey"},
    "peewee": {"records"},
    "playhouse": {"records"},
    "psycopg": {"records"},
    "pymysql": {"records"},
    "rich": {"report", "cli"},
    "click": {"cli"},
    "urllib3": {"transport", "translate", "monkey", "cli"},
    "http.client": {"transport", "translate"},
    "httptools": {"transport"},
    "tomlkit": {"profile_files"},
    "tomllib": {"profile_files"},
    "keyring": {"unlock"},
    "cryptography": {"unlock", "profile_files", "cli"},
    "boto3": {"store"},
    "fsspec": {"store"},
    "botocore": {"store"},
    "pytest": {"testing"},
    "grequests": set(),
    "niquests": set(),
}
#: What pure rooms never touch.
IMPURE = {"gevent", "requests", "urllib3", "os", "time", "random", "socket", "threading", "queue"}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).parts[0].removesuffix(".py"), path


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, absolute; what stands under TYPE_CHECKING is no import."""
    package = ("geofetch", *path.relative_to(ROOT).parts[:-1])
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(one) for statement in node.body for one in ast.walk(statement)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            start = ".".join(part for part in (base, node.module or "") if part)
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    own = [name.split(".")[1] for name in imports(path) if name.startswith("geofetch.")]
    return {name for name in own if (ROOT / f"{name}.py").exists() or (ROOT / name).is_dir()}


@pytest.mark.parametrize(("room", "path"), [pytest.param(r, p, id=str(p.relative_to(ROOT))) for r, p in modules()])
def test_a_room_imports_only_what_stands_below_it(room: str, path: Path) -> None:
    if room in TOP:
        return
    assert room in MAP, f"{room} is a new room: draw it on the map"
    assert rooms_imported(path) - {room} <= MAP[room]


@pytest.mark.parametrize(("library", "rooms"), ONLY.items(), ids=list(ONLY))
def test_a_library_stays_in_its_room(library: str, rooms: set[str]) -> None:
    users = {
        room
        for room, path in modules()
        if any(name == library or name.startswith(library + ".") for name in imports(path))
    }
    assert users <= rooms


@pytest.mark.parametrize("room", sorted((NOUNS | RULES) - {"spec"}))
def test_rules_and_nouns_touch_nothing_outside(room: str) -> None:
    found = {name.split(".")[0] for name in imports(ROOT / f"{room}.py")}
    allowed = {"requests"} if room == "errors" else set()
    assert found & IMPURE <= allowed


def test_the_map_names_no_room_that_is_gone() -> None:
    assert set(MAP) <= {room for room, _ in modules()}


def test_the_walk_cannot_see_what_listens_at_the_door() -> None:
    seen = rooms_imported(ROOT / "pipeline.py")
    assert not seen & {"validate", "store", "records", "report", "manifest", "pool", "upkeep", "cli"}
