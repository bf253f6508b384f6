"""Content sources: places besides a file's own that it may come from, each a base URL under which its path is tried.

As Pulp 2's alternate content sources, without their catalogue: a file's path, relative to its manifest, is looked for
below each URL.  A place that does not have it answers 404, and the next one is asked; a place that has another file of
that name is found out by the digest, so a file without one is fetched from its own sources alone.

``priority`` goes as everywhere here and in RFC 2782: the lower is tried first, 0 before 1.  The file's own sources come
after all of these, as Pulp's primary source did.

In: tables, Specs.  Out: ContentSources, Specs with further Sources.  Never: a file asked for there without its profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from ..errors import SpecError
from ..names import checked_url, joined
from ..spec import Source, Spec
from .fields import Where, checked

__all__ = ["ContentSource", "source_of", "with_alternates"]

KEYS = {
    "urls": "texts",
    "priority": "number",
    "weight": "number",
    "profile": "text",
    "enabled": "flag",
}


@dataclass(frozen=True, slots=True)
class ContentSource:
    """Base URLs under which files are looked for, with the priority, weight and profile that their Sources get.

    A source that is not ``enabled`` is kept, and not asked.
    """

    name: str
    urls: tuple[str, ...]
    priority: int = 0
    weight: int = 1
    profile: str | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        if not self.urls:
            raise SpecError(f"the content source {self.name!r} has no URL")
        for url in self.urls:
            checked_url(url)
            parts = urlsplit(url)
            if "@" in parts.netloc:
                raise SpecError("a URL of it holds a name or a password; a profile says who asks")
            if parts.query or parts.fragment:
                raise SpecError("a URL of it has a query or a fragment; a profile's query is added to each file's URL")
            Source(url, self.priority, self.weight)  # which says what is wrong with these

    def as_table(self) -> dict[str, Any]:
        """As the file has it: what goes without saying is left out."""
        found: dict[str, Any] = {"urls": list(self.urls), "priority": self.priority}
        if self.weight != 1:
            found["weight"] = self.weight
        if self.profile is not None:
            found["profile"] = self.profile
        if not self.enabled:
            found["enabled"] = False
        return found


def source_of(name: str, table: Any, where: Where) -> ContentSource:
    """The ContentSource of this name that a table makes."""
    told = checked(table, KEYS, where)
    if "urls" not in told:
        raise where.wrong("urls", "it is missing: the base URLs under which files are looked for")
    try:
        return ContentSource(name, **{**told, "urls": tuple(told["urls"])})
    except SpecError as exc:
        raise where.wrong("urls", str(exc)) from exc


def with_alternates(spec: Spec, alternates: Iterable[ContentSource], stranger: str | None = None) -> Spec:
    """The spec with a Source for each URL of these content sources, before its own; as it is without a digest.

    ``stranger`` is the profile of a content source that names none: who a spec is fetched as is not told to it.
    """
    if not spec.digests:
        return spec
    more = tuple(
        Source(joined(url, spec.path), one.priority, one.weight, one.profile or stranger)
        for one in alternates
        if one.enabled
        for url in one.urls
    )
    if not more:
        return spec
    after = max(source.priority for source in more) + 1
    own = tuple(replace(source, priority=source.priority + after) for source in spec.sources)
    return Spec(sources=(*more, *own), **_rest(spec))


def _rest(spec: Spec) -> Mapping[str, Any]:
    return {
        "path": spec.path,
        "size": spec.size,
        "digests": spec.digests,
        "profile": spec.profile,
        "unit": spec.unit,
        "repository": spec.repository,
        "meta": spec.meta,
    }
