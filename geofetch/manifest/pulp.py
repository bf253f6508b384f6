"""PULP_MANIFEST: a file's name, SHA-256 and size on each line, as Pulp's file repositories are published and read.

    iso/disc-1.iso,9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08,4
    "a, with a comma.txt",e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855,0

Three fields, quoted as in CSV (RFC 4180) where a name holds a comma or a quote; size in bytes, 0 for an empty file.
Names are relative to the manifest's folder.  Source: the documentation of pulp_file, "About File Repositories".  There
are no comments in it; a line that begins with ``#`` and is no entry is skipped as one all the same.

In: lines.  Out: Specs.  Never: a name with a line break in it; no path has one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from ..errors import SpecError
from ..spec import Digest, Spec
from .lines import Lines, excerpt
from .place import Place

__all__ = ["PulpManifest"]

_ENTRY = re.compile(r".+,\s*[0-9A-Fa-f]{64}\s*,\s*[0-9]+\s*")


class PulpManifest:
    """The reader of PULP_MANIFEST."""

    name = "pulp"
    about = "PULP_MANIFEST: name,sha256,size"

    def sniff(self, head: Sequence[str], name: str) -> bool:
        if not head:
            return name.upper().startswith("PULP_MANIFEST")
        return _ENTRY.fullmatch(head[0]) is not None

    def read(self, lines: Lines, place: Place) -> Iterator[Spec]:
        for line in lines:
            if line.strip() and (not line.startswith("#") or _ENTRY.fullmatch(line)):
                name, sha256, size = _fields(line)
                yield place.file(name, size=size, digests=sha256)


def _fields(line: str) -> tuple[str, Digest, int]:
    try:
        # A line at a time: a quote that is never closed would otherwise take the rest of the file for one name.
        (fields,) = csv.reader([line], strict=True)
    except csv.Error as exc:
        raise SpecError(f"bad quoting in {excerpt(line)}: {exc}; double every quote inside a quoted name") from exc
    if len(fields) != 3:
        raise SpecError(f"{len(fields)} fields in {excerpt(line)}; it is name,sha256,size (quote a name with a comma)")
    name, sha256, size = fields[0], fields[1].strip(), fields[2].strip()
    if not re.fullmatch(r"[0-9]{1,19}", size):
        raise SpecError(f"bad size {excerpt(size)} of {excerpt(name)}: a whole number of bytes is wanted")
    return name, Digest.of("sha256", sha256), int(size)
