"""Unit files: a unit as one JSON document, written and read.

In: Units, or documents by the schema in ``unit_file.schema.json`` (``"schema": "geofetch-unit/2"``; one of version 1
leaves out what is new, and is read as well).  Out: documents, or Units; a SpecError that names the field for a document
that is none.  Never: a secret on the way out or in (userinfo and signed queries are left out of any URL that is read),
a file half written, a file outside the folder.

These functions do plain file I/O, a small file at a time; a program that downloads at the same moment calls them in a
native thread.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from .. import pipes
from ..errors import SpecError
from ..names import checked_path, checked_url, kept
from ..spec import Digest, Source
from .units import (
    POLICIES,
    PROOFS,
    STATES,
    WORKS,
    Health,
    Unit,
    canonical,
    identity,
    loses_query,
    micros,
    profile_name,
    seconds,
)

__all__ = ["SCHEMA", "dump", "dumps", "file_name", "load", "loads", "read", "read_lines", "write", "write_lines"]

SCHEMA = "geofetch-unit/2"
#: What is read.
READ = ("geofetch-unit/1", SCHEMA)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST = 2**63 - 1


def dump(unit: Unit) -> dict[str, Any]:
    """The document of a unit."""
    return {
        "schema": SCHEMA,
        "unit": {"type": unit.type, "key": dict(unit.key)},
        "stored": {
            "store": unit.store,
            "key": unit.store_key,
            "path": unit.path,
            "state": unit.state,
            "mtime_ns": unit.mtime_ns,
            "inode": unit.inode,
        },
        "size_bytes": unit.size,
        "verified": unit.verified,
        "digests": [
            {"algorithm": one.algorithm, "value": one.hex, "trusted": one.algorithm in unit.trusted}
            for one in unit.digests
        ],
        "sources": [_source(one, health) for one, health in zip(unit.sources, unit.health, strict=True)],
        "repositories": list(unit.repositories),
        "metadata": None if unit.metadata is None else dict(unit.metadata),
        "stored_at": _time(unit.stored_at),
        "proven_at": _time(unit.proven_at),
        "scrubbed_at": _time(unit.scrubbed_at),
        "scrub_result": unit.scrub_result,
        "policy": unit.policy,
        "pending": unit.pending,
        "tries": unit.tries,
        "unlisted_at": _time(unit.unlisted_at),
    }


def _source(source: Source, health: Health) -> dict[str, Any]:
    return {
        "url": source.kept,
        "priority": source.priority,
        "weight": source.weight,
        "profile": profile_name(source.profile) or None,
        "secret_query": loses_query(source),
        "last_ok_at": _time(health.last_ok_at),
        "last_failed_at": _time(health.last_failed_at),
        "failures": health.failures,
        "last_error": health.last_error,
        "expires_at": None if source.expires_at is None else _time(micros(source.expires_at)),
        "etag": health.etag,
        "last_modified": health.last_modified,
        "cooldown_until": _time(health.cooldown_until),
    }


def _time(us: int | None) -> str | None:
    # isoformat(timespec=) keeps every microsecond; through a float the last ones are lost from 1985 on.
    return None if us is None else f"{(_EPOCH + timedelta(microseconds=us)).isoformat(timespec='microseconds')[:-6]}Z"


class _Fields:
    """A JSON object whose fields are taken one by one, each checked, and named where it is wrong."""

    def __init__(self, told: Any, at: str = "") -> None:
        self.at = at
        if not isinstance(told, Mapping):
            raise SpecError(f"unit file: {at or 'the document'} is not an object")
        self._left = dict(told)

    def name(self, field: str) -> str:
        return f"{self.at}.{field}" if self.at else field

    def bad(self, field: str, want: str) -> SpecError:
        return SpecError(f"unit file: {self.name(field)} is not {want}")

    def take(self, field: str, kind: type, want: str, default: Any = ...) -> Any:
        value = self._left.pop(field, default)
        if value is ...:
            raise SpecError(f"unit file: {self.name(field)} is missing")
        if value is None and default is None:
            return None
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.bad(field, want)
        return value

    def text(self, field: str, default: Any = ..., least: int = 1) -> Any:
        value = self.take(field, str, "text", default)
        if value is not None and (len(value) < least or not _storable(value)):
            raise self.bad(field, "text that can be stored" if value else "a text with something in it")
        return value

    def number(self, field: str, default: Any = ..., most: int = _MOST, least: int = 0) -> Any:
        value = self.take(field, int, "a whole number", default)
        if value is not None and not least <= value <= most:
            raise self.bad(field, f"a number from {least} to {most}")
        return value

    def choice(self, field: str, among: tuple[str, ...], default: Any = ...) -> Any:
        value = self.take(field, str, "text", default)
        if value not in among and value is not default:
            raise self.bad(field, f"one of {', '.join(among)}")
        return value

    def time(self, field: str, default: Any = None) -> int | None:
        value = self.take(field, str, "a time", default)
        if value is None:
            return None
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", value, re.ASCII):
            raise self.bad(field, "a time in UTC, as in 2024-05-01T12:00:00.000000Z")
        try:
            return (datetime.fromisoformat(f"{value[:-1]}+00:00") - _EPOCH) // timedelta(microseconds=1)
        except ValueError as exc:
            raise self.bad(field, "a time that there is") from exc

    def list(self, field: str) -> list[Any]:
        return list(self.take(field, list, "a list", []))

    def object(self, field: str) -> _Fields:
        return _Fields(self.take(field, Mapping, "an object"), self.name(field))

    def end(self) -> None:
        """Nothing may be left: a misspelt field would be a lost one."""
        if self._left:
            raise SpecError(f"unit file: {self.name(sorted(map(str, self._left))[0])} is no field of it")


def _storable(text: str) -> bool:
    try:
        return bool(text.encode()) or not text
    except UnicodeEncodeError:
        return False


def load(document: Mapping[str, Any]) -> Unit:
    """The unit of a document; a SpecError that names the field which is wrong."""
    told = _Fields(document)
    schema = told.take("schema", str, "text")
    if schema not in READ:
        raise SpecError(f"unit file: schema is {schema!r}; this geofetch reads {' and '.join(READ)}")
    what, stored = told.object("unit"), told.object("stored")
    digests = [_digest(one, f"digests[{at}]") for at, one in enumerate(told.list("digests"))]
    sources = [_loaded_source(one, f"sources[{at}]") for at, one in enumerate(told.list("sources"))]
    state = stored.choice("state", STATES)
    # Whatever else it is, it was stored once.
    wanted = None if state == "missing" else ...
    unit = _checked(
        told,
        type=what.text("type"),
        key=_plain(what, "key"),
        path=_path(stored),
        store=stored.text("store"),
        store_key=stored.text("key"),
        state=state,
        mtime_ns=stored.number("mtime_ns", None, least=-_MOST),
        inode=stored.number("inode", None, 2**64 - 1),
        size=told.number("size_bytes", wanted),
        verified=told.choice("verified", PROOFS),
        digests=tuple(digest for digest, _ in digests),
        trusted=frozenset(digest.algorithm for digest, trusted in digests if trusted),
        sources=tuple(source for source, _ in sources),
        health=tuple(health for _, health in sources),
        repositories=_names(told),
        metadata=_plain(told, "metadata", None),
        stored_at=told.time("stored_at", wanted),
        proven_at=told.time("proven_at"),
        scrubbed_at=told.time("scrubbed_at"),
        scrub_result=told.text("scrub_result", None, 0),
        policy=told.choice("policy", POLICIES, "immediate"),
        pending=told.choice("pending", WORKS, None),
        tries=told.number("tries", 0, 2**31 - 1),
        unlisted_at=told.time("unlisted_at"),
    )
    for part in (told, what, stored):
        part.end()
    return unit


def _checked(told: _Fields, **values: Any) -> Unit:
    try:
        return Unit(**values)
    except SpecError as exc:
        field = "digests" if "digest" in exc.message else "sources"
        raise SpecError(f"unit file: {told.name(field)}: {exc.message}") from exc


def _path(stored: _Fields) -> str:
    path: str = stored.text("path")
    try:
        return checked_path(path)
    except SpecError as exc:
        raise SpecError(f"unit file: {stored.name('path')}: {exc.message}") from exc


def _plain(told: _Fields, field: str, default: Any = ...) -> dict[str, Any] | None:
    value = told.take(field, Mapping, "an object", default)
    if value is None:
        return None
    try:
        text = canonical(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise told.bad(field, "plain JSON") from exc
    found: dict[str, Any] = json.loads(text)
    return found


def _names(told: _Fields) -> tuple[str, ...]:
    names = told.list("repositories")
    for at, name in enumerate(names):
        if not isinstance(name, str) or not name.strip() or not _storable(name):
            raise told.bad(f"repositories[{at}]", "a name")
    return tuple(names)


def _digest(document: Any, at: str) -> tuple[Digest, bool]:
    told = _Fields(document, at)
    algorithm, value = told.text("algorithm"), told.text("value")
    trusted = told.take("trusted", bool, "true or false")
    told.end()
    try:
        return Digest.of(algorithm, value), trusted
    except SpecError as exc:
        raise SpecError(f"unit file: {at}: {exc.message}") from exc


def _loaded_source(document: Any, at: str) -> tuple[Source, Health]:
    told = _Fields(document, at)
    url, secret = told.text("url"), told.take("secret_query", bool, "true or false", False)
    priority, weight = told.number("priority", 0), told.number("weight", 1)
    profile = told.text("profile", None)
    health = Health(
        told.time("last_ok_at"),
        told.time("last_failed_at"),
        told.number("failures", 0, 2**31 - 1),
        told.text("last_error", None),
        told.text("etag", None),
        told.text("last_modified", None),
        told.time("cooldown_until"),
    )
    expires_at = seconds(told.time("expires_at"))
    told.end()
    try:
        # The URL is checked as it came, and kept as a record keeps it: whoever wrote the file may have put a secret in.
        source = Source(checked_url(url), priority, weight, profile, secret)
        lost = loses_query(source)
        return Source(kept(url, secret), priority, weight, profile, lost, expires_at), health
    except SpecError as exc:
        raise SpecError(f"unit file: {at}.url: {exc.message}") from exc


def dumps(unit: Unit) -> str:
    """The document as JSON, indented, with a line break at its end."""
    return json.dumps(dump(unit), indent=2) + "\n"


def loads(text: str | bytes) -> Unit:
    """The unit of a JSON text."""
    try:
        document = json.loads(text, parse_constant=_refused, object_pairs_hook=_once)
    except SpecError:
        raise
    except RecursionError:
        raise SpecError("unit file: nested too deep") from None
    except ValueError as exc:
        # Python's own word of a number that is too long is advice to a programmer.
        why = "a number has too many digits" if "int_max_str_digits" in str(exc) else exc
        raise SpecError(f"unit file: not JSON: {why}") from exc
    return load(document)


def _refused(constant: str) -> Any:
    raise SpecError(f"unit file: {constant} is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise SpecError(f"unit file: {next(name for name in names if names.count(name) > 1)} stands there twice")
    return found


def file_name(unit: Unit) -> str:
    """A name for a unit's file: its path's last name as far as it is harmless, and its identity: none clash."""
    readable = re.sub(r"[^A-Za-z0-9._+-]+", "_", unit.path.rpartition("/")[2]).strip(".")[:80]
    return f"{readable or 'unit'}-{identity(unit.type, canonical(unit.key)).hex()}.json"


def write(units: Iterable[Unit], folder: str | os.PathLike[str]) -> int:
    """Write one file a unit into a folder, each whole or not at all; how many."""
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    count = 0
    for unit in units:
        _write_whole(root / file_name(unit), dumps(unit))
        count += 1
    return count


def _write_whole(path: Path, text: str) -> None:
    # Not tempfile: its 0600 is for secrets, and a unit file holds none.
    part = path.with_name(f".part-{os.urandom(8).hex()}")
    try:
        with open(part, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_lines(units: Iterable[Unit], stream: TextIO) -> int:
    """Write one line of JSON a unit; how many."""
    count = 0
    for unit in units:
        stream.write(json.dumps(dump(unit), separators=(",", ":")) + "\n")
        count += 1
    return count


def read_lines(lines: Iterable[str]) -> Iterator[Unit]:
    """The units of JSON lines; a SpecError names the line."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield loads(line)
            except SpecError as exc:
                raise SpecError(f"line {number}: {exc.message}") from exc


def read(path: str | os.PathLike[str]) -> Iterator[Unit]:
    """The units of a folder of unit files, of one such file, or of a file of JSON lines; a SpecError names the file."""
    root = Path(path)
    for file in _files(root) if root.is_dir() else [root]:
        try:
            yield from _documents(line.decode() for line in pipes.lines(file))
        except UnicodeDecodeError as exc:
            raise SpecError(f"{file}: not UTF-8") from exc
        except SpecError as exc:
            raise SpecError(f"{file}: {exc.message}") from exc


def _files(folder: Path) -> Iterator[Path]:
    for file in sorted(folder.glob("*.json")):
        if not pipes.is_file(file):
            raise SpecError(f"{file}: no file; unit files are")
        yield file


def _documents(lines: Iterator[str]) -> Iterator[Unit]:
    # One of many documents ends in the line where it begins; a single one that is written for people does not.
    first = next(lines, "").removeprefix("\ufeff")  # RFC 8259, 8.1: it may be ignored
    if first.rstrip().endswith("}"):
        yield from read_lines(chain([first], lines))
    else:
        yield loads(first + "".join(lines))
