"""Where the files of a manifest are, and Specs made of what it says of them.

In: names, sizes, digests, or a whole spec as a mapping.  Out: a Spec, or a SpecError that says what is wrong.  Never:
how a format is written; the disk, the network.

A name in a manifest is a **file name**: it is checked as a path, and percent-encoded once when it is joined to the
base.  ``libfoo_1%3a2.deb`` lies in the store under that very name, and is asked for as ``libfoo_1%253a2.deb``.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..errors import SpecError
from ..names import checked_path, checked_url, folder_of, joined, name_of, shown
from ..spec import DigestLike, Profile, Spec

__all__ = ["Place", "Seen", "is_url"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|file:/")


def is_url(text: str) -> bool:
    """Whether this is meant as a URL; a file name may hold a colon, too."""
    return _URL.match(text) is not None


class Place:
    """What is the same for every line: the folder that names are in, the repository, the profile.

    ``base`` is that folder as a URL (http, https or file); without it, the folder of the manifest's own URL.  ``name``
    is the manifest's path or URL.  ``algorithm`` is the digests', where the caller tells.
    """

    def __init__(
        self,
        name: str | None = None,
        base: str | None = None,
        algorithm: str | None = None,
        repository: str | None = None,
        profile: Profile | str | None = None,
    ) -> None:
        self.algorithm = algorithm
        self.repository = repository
        self.profile = profile
        self._name = name
        self._named_by_url = name is not None and is_url(name)
        if base is None and self._named_by_url:
            base = folder_of(checked_url(str(name)))
        self._base = None if base is None else checked_url(base)

    @property
    def title(self) -> str:
        """The manifest's name, fit to be shown."""
        if self._name is None:
            return "manifest"
        return shown(self._name) if self._named_by_url else "".join(c if c.isprintable() else "?" for c in self._name)

    @property
    def file_name(self) -> str:
        """The last part of the manifest's name, percent-decoded where it came from a URL; "" if it has none."""
        if self._name is None:
            return ""
        if self._named_by_url:
            return name_of(self._name) if urlsplit(self._name).path.rpartition("/")[2] else ""
        return self._name.rpartition("/")[2]

    def file(self, name: str, *, size: int | None = None, digests: DigestLike | None = None) -> Spec:
        """The Spec of a file name in the base folder."""
        path = _stripped(name)  # Spec checks it
        return Spec(
            self._joined(path),
            path=path,
            size=size,
            digests=digests,
            repository=self.repository,
            profile=self.profile,
        )

    def spec(self, given: str | Mapping[str, Any]) -> Spec:
        """The Spec of its arguments, or of one source; a source that is no URL is a file name in the base folder."""
        fields: dict[str, Any] = (
            {"source": given} if isinstance(given, str) else {k: v for k, v in given.items() if v is not None}
        )
        several = fields.get("sources")
        listed = list(several) if isinstance(several, list | tuple) else []
        first = next(
            (one.get("url") if isinstance(one, Mapping) else one for one in (fields.get("source"), *listed) if one),
            None,
        )
        if "path" in fields:
            fields["path"] = _relative(fields["path"])
        elif isinstance(first, str) and not is_url(first):
            fields["path"] = _relative(first)
        if "source" in fields:
            fields["source"] = self._placed(fields["source"])
        if listed:
            fields["sources"] = list(map(self._placed, listed))
        return Spec.of({"repository": self.repository, "profile": self.profile, **fields})

    def _placed(self, source: Any) -> Any:
        if isinstance(source, Mapping):
            return {**source, "url": self._placed(source["url"])} if "url" in source else source
        if not isinstance(source, str):
            return source
        if not is_url(source):
            return self._joined(_relative(source))
        try:
            source.encode()
        except UnicodeEncodeError:
            raise SpecError(f"bad URL {shown(source)!r}: it is not valid UTF-8; percent-encode it") from None
        # As with redirects: what came over the network does not reach into this machine's files.
        if _is_file(source) and self._named_by_url and not _is_file(str(self._name)):
            raise SpecError(
                f"{shown(source)!r} is a file of this machine, which a manifest from the network may not name"
            )
        return source

    def _joined(self, path: str) -> str:
        if self._base is None:
            raise SpecError(f"the name {path!r} is relative to nothing; tell the folder's URL: base=, or --base URL")
        return joined(self._base, path)


def _is_file(url: str) -> bool:
    return url[:5].lower() == "file:"


def _relative(name: str) -> str:
    return checked_path(_stripped(name))


def _stripped(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


_SHARDS = 1 << 14
_64 = (1 << 64) - 1
_32 = (1 << 32) - 1


class Seen:
    """The paths that came already, in 16 bytes each: the line, and a hash of what it said.

    Many small arrays and not one table: a table of a million entries stops everything while it grows.
    """

    def __init__(self) -> None:
        self._shards: dict[int, tuple[array[int], array[int]]] = {}

    def before(self, spec: Spec, line: int) -> tuple[int, bool] | None:
        """The line that named this path first and whether it said the same; None for a new path."""
        path = hash(spec.path) & _64
        proof: tuple[object, ...] = spec.digests or tuple(source.url for source in spec.sources)
        said = hash((proof, spec.size)) & _32
        shard = self._shards.get(path % _SHARDS)
        if shard is None:
            shard = self._shards[path % _SHARDS] = (array("Q"), array("Q"))
        paths, lines = shard
        if path in paths:
            known = lines[paths.index(path)]
            return known >> 32, known & _32 == said
        paths.append(path)
        lines.append((line & _32) << 32 | said)
        return None
