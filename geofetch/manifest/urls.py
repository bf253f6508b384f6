"""A list of URLs: one file a line.

    # what the night needs
    https://mirror.example/pool/a_1.0.deb
    https://mirror.example/pool/b_2.0.deb<TAB>https://other.example/debian/pool/b_2.0.deb

Blank lines and lines that begin with ``#`` are skipped.  URLs that a TAB parts are mirrors of one file, none before the
other; this is how aria2's input files have it (aria2c(1), "Input File").  Their option lines, which begin with white
space, are not read: a spec with more than URLs is written as JSON lines.  A URL is taken as it is, percent-encoding and
all; the file's path is its last name, decoded once.

In: lines.  Out: Specs.  Never: names without a URL; a list of those says nothing that a checksum file would not say
better.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..errors import SpecError
from ..spec import Spec
from .lines import Lines, excerpt
from .place import Place, is_url

__all__ = ["Urls"]


class Urls:
    """The reader of URL lists."""

    name = "urls"
    about = "one URL a line; mirrors of one file on one line, parted by TABs"

    def sniff(self, head: Sequence[str], name: str) -> bool:
        if not head:
            return re.search(r"(^|[._-])(urls?|links?)(\.(txt|list|lst))?$", name, re.IGNORECASE) is not None
        return is_url(head[0].lstrip())

    def read(self, lines: Lines, place: Place) -> Iterator[Spec]:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                yield place.spec({"sources": _mirrors(line)})


def _mirrors(line: str) -> list[str]:
    if line[0] in " \t":
        raise SpecError("the line begins with white space: options of aria2 are not read; write JSON lines instead")
    found = [part.strip(" ") for part in line.split("\t") if part.strip(" ")]
    for url in found:
        if not is_url(url):
            raise SpecError(f"{excerpt(url)} is no URL (https://…); names alone need a checksum file or JSON lines")
        if " " in url:
            raise SpecError(f"a space in {excerpt(url)}: write %20 for one in a URL, a TAB between mirrors")
    return found
