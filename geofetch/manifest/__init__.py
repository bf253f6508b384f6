"""What to fetch: manifests in the formats that people have, read into Specs.

In: an open file, bytes or lines, and the folder that the names in it are relative to.  Out: Specs, one at a time;
nothing is read before it is asked for, and a million lines need little more memory than one.  Never: the network, or a
file that was not handed in.

    for spec in manifest.read(open("SHA256SUMS", "rb"), base="https://mirror.example/iso/"): ...

The format is told by the content (its first line that is neither blank nor a comment), or by ``format``:

    urls        a list of URLs                                       geofetch.manifest.urls
    checksums   SHA256SUMS and the like, GNU or BSD form             geofetch.manifest.checksums
    jsonl       JSON lines of specs, or one JSON array               geofetch.manifest.jsonl
    pulp        PULP_MANIFEST                                        geofetch.manifest.pulp

A package adds its own by an entry point in the group ``geofetch.manifests``: a :class:`Reader`, or a class of one.
All formats may come compressed by gzip, with a BOM, with CR LF, and inside a PGP clear-signed text (of which the
signature is **not** checked).

What is wrong is a SpecError with the manifest's name, the line's number, and what to do; nothing is skipped quietly.  A
path that comes twice and says the same is given once; one that says something else the second time is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from ..errors import SpecError
from ..spec import Profile, Spec
from .checksums import Checksums
from .jsonl import JsonLines
from .lines import Lines, Readable, split
from .place import Place, Seen
from .pulp import PulpManifest
from .urls import Urls

__all__ = ["Lines", "Place", "Reader", "formats", "read", "read_manifest", "split"]

GROUP = "geofetch.manifests"
HEAD_LINES = 20

log = logging.getLogger("geofetch.manifest")


@runtime_checkable
class Reader(Protocol):
    """A format.  ``name`` is what ``format`` calls it, ``about`` says in a line what it is."""

    name: str
    about: str

    def sniff(self, head: Sequence[str], name: str) -> bool:
        """Whether these first lines (no blank ones, no comments, long ones cut) are of this format.

        All formats are asked about the first line; where not exactly one knows it, about the first twenty; where none
        knows those, about no line at all: whether the manifest's ``name`` tells.
        """

    def read(self, lines: Lines, place: Place) -> Iterator[Spec]:
        """The Specs, each made by ``place``, as they are asked for.  A ValueError is raised with the line's number."""


OURS: tuple[Reader, ...] = (Urls(), Checksums(), JsonLines(), PulpManifest())


def read(
    source: Readable,
    *,
    base: str | None = None,
    name: str | None = None,
    format: str | None = None,  # the word that users and the command have for it
    algorithm: str | None = None,
    repository: str | None = None,
    profile: Profile | str | None = None,
) -> Iterator[Spec]:
    """The Specs of a manifest, lazily; none for an empty one.

    ``source``: an open file, bytes, or lines (:func:`split` makes a file of blocks).  It is not closed.  ``base``: the
    URL of the folder that names are relative to (http, https, file); the folder of ``name`` where that is a URL.
    ``name``: the manifest's own path or URL, for messages and for what it tells.  ``format``: one of :func:`formats`.
    ``algorithm``: that of checksums whose lines do not tell.  ``repository``, ``profile``: those of every Spec that
    does not say otherwise.

    Raises SpecError; what is wrong with the arguments at once, what is wrong with a line when the reading gets there.
    """
    chosen = None if format is None else _named(format)
    given = getattr(source, "name", None)
    place = Place(name or (given if isinstance(given, str) else None), base, algorithm, repository, profile)
    return _specs(Lines(source), place, chosen)


def formats() -> dict[str, str]:
    """Every format that can be read here, those of plugins too: name, and what it is."""
    return {reader.name: reader.about for reader in _readers()}


def _specs(lines: Lines, place: Place, reader: Reader | None) -> Iterator[Spec]:
    seen = Seen()
    try:
        if not lines.head(1):
            reader = _Nothing()
        reader = reader or _told(lines, place)
        for spec in reader.read(lines, place):
            if _is_new(spec, seen, lines.at, place):
                yield spec
    except ValueError as exc:
        said = exc.message if isinstance(exc, SpecError) else str(exc)
        where = f", line {lines.at}" if lines.at else ""
        raise SpecError(f"{place.title}{where}: {said}") from exc


def _is_new(spec: Spec, seen: Seen, line: int, place: Place) -> bool:
    before = seen.before(spec, line)
    if before is None:
        return True
    first, same = before
    if not same:
        raise SpecError(
            f"{spec.path!r} stands in line {first} already, with another digest, size or source; a path holds one file"
        )
    # The same file as another unit, or in another repository, is no repetition.
    return spec.unit is not None or spec.repository != place.repository


class _Nothing:
    """The reader of a manifest with nothing in it; a signed one may still turn out to be cut."""

    name = about = "nothing"

    def sniff(self, head: Sequence[str], name: str) -> bool:
        return not head

    def read(self, lines: Lines, place: Place) -> Iterator[Spec]:
        for _ in lines:
            pass
        return iter(())


def _told(lines: Lines, place: Place) -> Reader:
    readers = _readers()
    # One line tells nearly always, and a pipe may be slow to give another.
    for most in (1, HEAD_LINES, 0):
        found = [reader for reader in readers if _sniffs(reader, lines.head(most), place.file_name)]
        if len(found) == 1:
            return found[0]
        if found and most != 1:
            names = " and ".join(reader.name for reader in found)
            raise SpecError(f"the manifest could be of several formats ({names}); choose one by format=, or --format")
    known = "; ".join(f"{reader.name}: {reader.about}" for reader in readers)
    raise SpecError(
        f"the format of the manifest is unknown; name it by format=, or --format, if it is one of these: {known}"
    )


def _sniffs(reader: Reader, head: Sequence[str], name: str) -> bool:
    try:
        return bool(reader.sniff(head, name))
    except Exception:
        log.warning("format %s could not look at the manifest, and is left out", reader.name, exc_info=True)
        return False


def _named(wanted: str) -> Reader:
    for reader in OURS:
        if reader.name == wanted:
            return reader
    plugins, broken = _plugins()
    for reader in plugins:
        if reader.name == wanted:
            return reader
    if wanted in broken:
        raise SpecError(f"the format {wanted!r} could not be loaded: {broken[wanted]!r}") from broken[wanted]
    known = ", ".join(reader.name for reader in (*OURS, *plugins))
    raise SpecError(f"no format is called {wanted!r}; there are {known}")


def _readers() -> tuple[Reader, ...]:
    return (*OURS, *_plugins()[0])


def _plugins() -> tuple[list[Reader], dict[str, Exception]]:
    """Readers of other packages, and by name those that fail to load: they take nothing from ours with them."""
    from importlib.metadata import entry_points

    found: dict[str, Reader] = {}
    broken: dict[str, Exception] = {}
    for point in entry_points(group=GROUP):
        if point.module.startswith(f"{__name__}."):
            continue  # one of ours, which must be there without the package's metadata as well
        try:
            reader = _reader(point.load())
        except Exception as exc:
            log.warning("the manifest format %r could not be loaded", point.name, exc_info=True)
            broken[point.name] = exc
            continue
        if any(reader.name == other.name for other in (*OURS, *found.values())):
            log.warning("a second manifest format is called %r (%s); it is left out", reader.name, point.value)
            continue
        found[reader.name] = reader
    return list(found.values()), broken


def _reader(given: Any) -> Reader:
    reader = given() if isinstance(given, type) else given
    if not isinstance(reader, Reader):
        raise SpecError(f"{given!r} is no reader: it needs name, about, sniff(head, name) and read(lines, place)")
    return reader


#: The same, as the package's door calls it.
read_manifest = read
