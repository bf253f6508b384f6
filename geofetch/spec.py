"""What is wanted: a Spec, the Sources it can come from, the Digests that prove it.

In: what a caller wrote, in any usual writing.  Out: frozen values, checked.  Never: I/O of any kind.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from .digest import Digest, DigestLike, algorithm, digests, hasher
from .errors import SpecError
from .frozen import unfrozen
from .names import checked_origin, checked_path, kept, name_of, shown
from .profile import Profile

__all__ = [
    "Digest",
    "DigestLike",
    "Gate",
    "Profile",
    "Source",
    "SourceLike",
    "Spec",
    "SpecLike",
    "Ticket",
    "algorithm",
    "digests",
    "hasher",
]

SourceLike: TypeAlias = "str | Source | Mapping[str, Any]"
SpecLike: TypeAlias = "str | Spec | Mapping[str, Any]"

#: The end of the year 9999, where a datetime's time ends.
LATEST_S = 253_402_300_799


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """One place a file can come from.

    ``priority``: lower is tried first; ``weight``: the share within one priority (both as in RFC 2782).  ``profile`` is
    this source's own Profile, or the name of one that is given later.  ``secret_query``: no record keeps the query.
    ``expires_at``: from then on it is asked only where all others have expired, too; seconds since 1970, or a datetime
    with a zone, kept as seconds to the microsecond.
    """

    url: str
    priority: int = 0
    weight: int = 1
    profile: Profile | str | None = None
    secret_query: bool = False
    expires_at: float | None = None
    _origin: tuple[str, str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_origin", checked_origin(self.url))
        for name, value in (("priority", self.priority), ("weight", self.weight)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise SpecError(f"{name} of {self.shown} is a whole number from 0, not {value!r}")
        if self.profile is not None and not isinstance(self.profile, Profile | str):
            raise SpecError(
                f"profile of {self.shown} is a Profile or the name of one, not {type(self.profile).__name__}"
            )

        if self.expires_at is not None:
            object.__setattr__(self, "expires_at", self._expiry(self.expires_at))

    def _expiry(self, told: Any) -> float:
        if isinstance(told, datetime) and told.tzinfo is not None:
            told = told.timestamp()
        if isinstance(told, bool) or not isinstance(told, int | float) or not 0 <= told <= LATEST_S:
            raise SpecError(
                f"expires_at of {self.shown} is a number of seconds since 1970, or a datetime with a zone, not {told!r}"
            )
        return round(told * 1_000_000) / 1_000_000

    @classmethod
    def of(cls, given: SourceLike) -> Source:
        """From a URL, a mapping of this class's fields, or a Source itself."""
        if isinstance(given, Source):
            return given
        if isinstance(given, str):
            return cls(given)
        if isinstance(given, Mapping):
            return cls(**_fields(given, cls, "source"))
        raise SpecError(f"a source is a URL, a mapping or a Source, not {type(given).__name__}")

    @property
    def shown(self) -> str:
        """The URL as it may be shown: without userinfo, its query values masked."""
        return shown(self.url)

    @property
    def kept(self) -> str:
        """The URL as a record keeps it: without userinfo, and without a query that holds a signature or token."""
        return kept(self.url, self.secret_query)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host, port."""
        return self._origin

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        own = f", profile={self.profile!r}" if self.profile is not None else ""
        return f"Source({self.shown!r}, priority={self.priority}, weight={self.weight}{own})"


_Unfrozen = unfrozen(Source)


def _at(url: str) -> Source:
    """The source that is a URL and nothing more, as nearly all are: in half the time that its own __init__ takes, which
    has to set the fields of a frozen object."""
    source: Any = _Unfrozen()
    source.url = url
    source.priority = 0
    source.weight = 1
    source.profile = None
    source.secret_query = False
    source.expires_at = None
    source._origin = checked_origin(url)
    source.__class__ = Source
    return source  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Spec:
    """One file that a caller wants.

    ``source`` (one) or ``sources`` (any number): URLs, mappings or :class:`Source`.  ``path``: where it goes in the
    store, relative, POSIX; the URL's last name if it is not told.  ``size`` in bytes.  ``digests``: ``"sha256:…"``, a
    mapping, SRI, or several; all must hold.  ``profile``: the Profile of every source that has none of its own.
    ``unit``: what the file is, as ``{"type": "rpm", "name": …}``; with it the record is found again whatever its path.
    ``repository``: the name of a repository that the unit belongs to.  ``meta`` is the caller's own, never looked at.

    Raises SpecError before any I/O for whatever cannot be fetched, proven or stored.
    """

    sources: tuple[Source, ...]
    path: str
    size: int | None
    digests: tuple[Digest, ...]
    profile: Profile | str | None
    unit: Mapping[str, Any] | None = field(hash=False)
    repository: str | None
    meta: Any = field(hash=False, compare=False)

    def __init__(
        self,
        source: SourceLike | None = None,
        *,
        sources: Iterable[SourceLike] = (),
        path: str | os.PathLike[str] | None = None,
        size: int | None = None,
        digests: DigestLike | None = None,
        profile: Profile | str | None = None,
        unit: Mapping[str, Any] | None = None,
        repository: str | None = None,
        meta: Any = None,
    ) -> None:
        found = _sources(source, sources)
        _put_sources(self, found)
        _put_path(self, name_of(found[0].url) if path is None else checked_path(_text(path)))
        _put_size(self, _size(size))
        _put_digests(self, _digests(digests) if digests else ())
        if profile is not None and not isinstance(profile, Profile | str):
            raise SpecError(f"profile is a Profile or the name of one, not {type(profile).__name__}")
        _put_profile(self, profile)
        _put_unit(self, None if unit is None else _unit(unit))
        if repository is not None and (not isinstance(repository, str) or not repository.strip()):
            raise SpecError("repository is a name, not empty")
        _put_repository(self, repository)
        _put_meta(self, meta)

    @classmethod
    def of(cls, given: SpecLike) -> Spec:
        """From a URL, a mapping of this class's arguments, or a Spec itself."""
        if isinstance(given, Spec):
            return given
        if isinstance(given, str):
            return cls(given)
        if isinstance(given, Mapping):
            return cls(**_fields(given, cls, "spec", extra={"source"}))
        raise SpecError(f"a spec is a URL, a mapping or a Spec, not {type(given).__name__}")

    @property
    def source(self) -> Source:
        """The first source as it was given."""
        return self.sources[0]

    def profile_of(self, source: Source) -> Profile | str | None:
        """The profile that a source is asked with: its own, else the spec's."""
        return source.profile if source.profile is not None else self.profile

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, ({name: getattr(self, name) for name in self.__slots__},)

    def __repr__(self) -> str:
        more = f" and {len(self.sources) - 1} more" if len(self.sources) > 1 else ""
        return f"Spec({self.source.shown!r}{more}, path={self.path!r})"


#: What sets a field of a Spec, frozen as it is, in half the time that object.__setattr__ takes.
_put_sources, _put_path, _put_size, _put_digests, _put_profile, _put_unit, _put_repository, _put_meta = (
    vars(Spec)[name].__set__ for name in Spec.__slots__
)


def _rebuilt(fields: dict[str, Any]) -> Spec:
    return Spec(**fields)


def _fields(given: Mapping[str, Any], kind: type, what: str, extra: Iterable[str] = ()) -> dict[str, Any]:
    known = {*(name for name in kind.__slots__ if name[0] != "_"), *extra}  # type: ignore[attr-defined]
    odd = [str(name) for name in given if name not in known]
    if odd:
        raise SpecError(f"a {what} has no {', '.join(odd)}; it has {', '.join(sorted(known))}")
    return dict(given)


#: The same function where an argument takes its name.
_digests = digests


def _sources(source: SourceLike | None, sources: Iterable[SourceLike]) -> tuple[Source, ...]:
    # Asking an abstract class costs more than all else in here, and mostly these are ().
    if type(sources) is not tuple and isinstance(sources, str | Mapping | Source):
        raise SpecError("sources is a list; give a single one as source")
    found = tuple(map(Source.of, sources)) if sources else ()
    if source is not None:
        found = (_at(source) if type(source) is str else Source.of(source), *found)
    if not found:
        raise SpecError("a spec needs a source: the URL that the file comes from")
    return found


def _text(path: Any) -> Any:
    return path if type(path) is str or not isinstance(path, os.PathLike) else os.fspath(path)


def _size(size: int | None) -> int | None:
    if size is None:
        return None
    if not isinstance(size, int) or isinstance(size, bool):
        raise SpecError(f"size is a whole number of bytes, not {size!r}")
    if size < 0:
        raise SpecError(f"size is a number of bytes from 0, not {size}")
    return size


def _unit(unit: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(unit, Mapping) or not isinstance(unit.get("type"), str) or not unit["type"]:
        raise SpecError("unit is a mapping with a 'type' in text, as in {'type': 'rpm', 'name': 'bash'}")
    try:
        json.dumps(dict(unit), allow_nan=False, sort_keys=True)  # as records write it
    except (TypeError, ValueError) as exc:
        raise SpecError(f"unit must be plain JSON: {exc}") from exc
    return dict(unit)


class Ticket(Protocol):
    """The right to hold one connection, until it is left."""

    def leave(self) -> None:
        """Give it back; a second time does nothing."""


class Gate(Protocol):
    """Who may hold a connection now.  The transport asks; limits.py answers; the top wires them."""

    def enter(self, host: str, timeout_s: float | None = None) -> Ticket:
        """Wait for a place at this host and take it; TimeoutError after ``timeout_s``."""

    def narrowed(self, total: int | None = None, per_host: int | None = None) -> Gate:
        """A gate inside this one that lets fewer through, never more."""
