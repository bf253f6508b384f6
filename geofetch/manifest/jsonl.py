"""JSON lines of specs, or one JSON array of them.

    {"source": "https://mirror.example/a.rpm", "digests": "sha256:9f86d0…", "size": 4}
    {"sources": ["b.rpm", {"url": "https://other.example/b.rpm", "priority": 1}], "path": "Packages/b.rpm"}
    "https://mirror.example/c.rpm"

Each line is an object of Spec's arguments (``source``, ``sources``, ``path``, ``size``, ``digests``, ``profile`` by
name, ``unit``, ``repository``, ``meta``), or a source alone in quotes.  A source that is no URL is a file name, joined
to the base as any name in a manifest; it is the path, too, where none is told.  ``null`` is the same as leaving it
out.  What an object says goes before the profile and the repository that the whole manifest was given.

Sources: RFC 8259, and https://jsonlines.org.  An array may be written over as many lines as it likes, or on one of any
length: it is read element by element.  A key that stands twice in an object, NaN and Infinity are errors (RFC 8259
leaves the first to us, and has no place for the others).

In: lines or pieces of them.  Out: Specs.  Never: a whole array in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import SpecError
from ..spec import Spec
from .lines import LINE_BYTES, Lines
from .place import Place

__all__ = ["JsonLines"]


class JsonLines:
    """The reader of JSON lines and JSON arrays."""

    name = "jsonl"
    about = "JSON lines, each an object of a Spec's arguments; or one JSON array of them"

    def sniff(self, head: Sequence[str], name: str) -> bool:
        if not head:
            return name.lower().endswith((".jsonl", ".ndjson", ".jsonlines", ".json"))
        first = head[0].lstrip()
        return first.startswith(("{", "[")) or _is_text(first)

    def read(self, lines: Lines, place: Place) -> Iterator[Spec]:
        is_array = any(line.lstrip().startswith("[") for line in lines.head(1))
        for one in _array(lines) if is_array else _by_line(lines):
            yield place.spec(_checked(one))


def _is_text(line: str) -> bool:
    # A quoted name opens a line of a PULP_MANIFEST as well; there more follows it.
    try:
        return isinstance(json.loads(line), str)
    except ValueError:
        return False


def _by_line(lines: Lines) -> Iterator[Any]:
    for line in lines:
        if not line.strip():
            continue
        try:
            yield _DECODER.decode(line)
        except json.JSONDecodeError as exc:
            raise SpecError(f"bad JSON at column {exc.colno}: {exc.msg}; each line holds one whole object") from exc
        except RecursionError:
            raise SpecError("bad JSON: nested too deep") from None


def _array(lines: Lines) -> Iterator[Any]:
    window = _Window(lines)
    window.expect("[")
    closed = window.take("]")
    while not closed:
        yield window.element()
        closed = window.take("]")
        if not closed:
            window.expect(",")
    if window.more():
        raise SpecError("something follows the array's end")


class _Window:
    """The part of an array that is being read; ``lines.at`` is kept at the line where the current element begins."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._pieces = lines.pieces()
        self._text = ""
        self._at = 0
        self._line = lines.at = lines.number + 1

    def more(self) -> bool:
        """Move past white space; whether anything is left."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._move(found.end() if found else self._at)
            if self._at < len(self._text):
                return True
            if not self._grow(1):
                return False

    def take(self, mark: str) -> bool:
        """Whether this mark comes next; then it is behind us."""
        if not self.more():
            raise SpecError("the array has no end: the manifest is cut; fetch it again")
        if self._text[self._at] != mark:
            return False
        self._move(self._at + 1)
        return True

    def expect(self, mark: str) -> None:
        if not self.take(mark):
            raise SpecError(f"bad JSON: {mark!r} was expected")

    def element(self) -> Any:
        """The next value, whole; no longer than a line may be."""
        if not self.more():
            raise SpecError("the array has no end: the manifest is cut; fetch it again")
        if self._text[self._at] not in '{"':
            raise SpecError("bad JSON: an object is wanted, or a source in quotes")
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as exc:
                # Cut or wrong, nobody can tell before there is more; a quarter more each time keeps the reading linear.
                held = len(self._text) - self._at
                if held > LINE_BYTES or not self._grow(max(1, held // 4)):
                    raise SpecError(f"bad JSON in the object that begins here: {exc.msg}") from exc
                continue
            except RecursionError:
                raise SpecError("bad JSON: nested too deep") from None
            began = self._line
            self._move(end)
            self._lines.at = began
            return value

    def _move(self, to: int) -> None:
        self._line += self._text.count("\n", self._at, to)
        self._lines.at = self._line
        self._at = to

    def _grow(self, least: int) -> bool:
        parts = [self._text[self._at :]]
        grown = 0
        for piece in self._pieces:
            parts.append(piece)
            grown += len(piece)
            if grown >= least:
                break
        self._text, self._at = "".join(parts), 0
        return grown > 0


_SPACE = re.compile(r"[ \t\r\n]*")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise SpecError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice in one object")
    return found


def _constant(text: str) -> Any:
    raise SpecError(f"bad JSON: {text} is no JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _checked(given: Any) -> str | Mapping[str, Any]:
    # What Spec takes for granted of a caller's code, no line of a file has promised.
    if isinstance(given, str):
        return given
    if not isinstance(given, dict):
        raise SpecError(f"an object is wanted, or a source in quotes, not {json.dumps(given)[:40]}")
    if not isinstance(given.get("path"), str | None):
        raise SpecError("path is text")
    digests = given.get("digests")
    if isinstance(digests, dict) and not all(isinstance(value, str) for value in digests.values()):
        raise SpecError('digests are text, as in {"sha256": "9f86d0…"}')
    for source in (given.get("source"), *_listed(given.get("sources"))):
        if isinstance(source, dict) and not isinstance(source.get("url"), str):
            raise SpecError('a source is a URL, or an object with a "url"')
    return given


def _listed(given: Any) -> list[Any]:
    if given is None or isinstance(given, list):
        return given or []
    raise SpecError("sources is a list; give a single one as source")
