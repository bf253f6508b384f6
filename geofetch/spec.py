"""What is wanted: a Spec, the Sources it can come from, the Digests that prove it, the Profile that opens doors.

In: what a caller wrote, in any usual writing.  Out: frozen values, checked.  Never: I/O of any kind.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from .digest import Digest, DigestLike, algorithm, digests, hasher
from .errors import SpecError
from .frozen import unfrozen
from .names import checked_origin, checked_path, kept, name_of, shown

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

#: How a proxy may be spoken to; those of SOCKS need the extra "socks".
PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """How to be let in, and whom to trust.  None leaves a matter to the environment; anything else is final.

    ``headers`` go to the source's origin alone, never to where it redirects.  ``auth`` is requests' own: a pair or a
    callable.  ``proxies`` is one URL for all, or requests' mapping; "" means none.  ``cert`` is a client certificate: a
    path or PEM bytes, or a pair of certificate and key.  ``ca`` is a path (file or folder) or PEM bytes.
    ``verify=False`` trusts anyone.  ``min_tls`` is ``"1.2"`` or ``"1.3"``.  ``fingerprint`` is the SHA-256 of the
    server's certificate in hex.  ``name`` is what records know the profile by: they hold no secret.
    """

    name: str | None = None
    headers: Mapping[str, str] | tuple[tuple[str, str], ...] | None = None
    auth: Any = None
    proxies: str | Mapping[str, str] | tuple[tuple[str, str], ...] | None = None
    cert: str | bytes | tuple[str | bytes, str | bytes] | None = None
    key_password: str | None = None
    ca: str | bytes | None = None
    verify: bool | None = None
    min_tls: str | None = None
    ciphers: str | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("headers", _pairs(self.headers, "headers"))
        if self.proxies is not None and not isinstance(self.proxies, str):
            put("proxies", _pairs(self.proxies, "proxies"))
        for key, proxy in (self.proxy_map or {}).items():
            if proxy and key != "no_proxy":
                _check_proxy(proxy)
        if isinstance(self.auth, list):
            put("auth", tuple(self.auth))
        if isinstance(self.cert, list):
            put("cert", tuple(self.cert))
        for one in (*(self.cert if isinstance(self.cert, tuple) else (self.cert,)), self.ca):
            if not isinstance(one, str | bytes | os.PathLike | None):
                raise SpecError(f"a certificate is a path or PEM bytes, not {type(one).__name__}")
        if isinstance(self.ca, os.PathLike):
            put("ca", os.fspath(self.ca))
        if self.verify is not None and not isinstance(self.verify, bool):
            raise SpecError("verify is True or False; give a CA as ca=")
        if self.verify is False and self.ca is not None:
            raise SpecError("verify=False and a CA contradict each other; leave one out")
        if self.min_tls is not None:
            put("min_tls", _tls_version(self.min_tls))
        if self.fingerprint is not None:
            put("fingerprint", _fingerprint(self.fingerprint))

    @property
    def header_map(self) -> dict[str, str]:
        return dict(self.headers or ())

    @property
    def proxy_map(self) -> dict[str, str] | None:
        """requests' mapping of proxies; None leaves it to the environment, {} means none."""
        if self.proxies is None:
            return None
        if isinstance(self.proxies, str):
            return {"all": self.proxies} if self.proxies else {}
        return dict(self.proxies)

    def __repr__(self) -> str:
        told = [name for name in self.__slots__ if name != "name" and getattr(self, name) not in (None, ())]
        return f"Profile({self.name!r}, with {', '.join(told) or 'nothing'})"


def _check_proxy(url: str) -> None:
    """As requests takes it, which reads ``proxy.example:3128`` as http.  What is wrong is not repeated: it may hold a
    password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        sound = parts.scheme.lower() in PROXY_SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or re.search(r"[\s\0]", url):
        raise SpecError(f"a proxy is a URL as http://proxy.example:3128; its scheme one of {', '.join(PROXY_SCHEMES)}")


def _pairs(given: Any, what: str) -> tuple[tuple[str, str], ...] | None:
    if given is None:
        return None
    items = tuple(given.items()) if isinstance(given, Mapping) else tuple(given)
    for item in items:
        if not (isinstance(item, tuple) and len(item) == 2 and all(isinstance(part, str) for part in item)):
            raise SpecError(f"{what} are a mapping from text to text")
        if what == "headers" and re.search(r"[\r\n\0]", item[0] + item[1]):
            raise SpecError(f"header {item[0]!r}: a line break or NUL in it")
    return items


def _tls_version(text: str) -> str:
    version = str(text).lower().removeprefix("tls").removeprefix("v")
    if version not in ("1.2", "1.3"):
        raise SpecError(f"min_tls is '1.2' or '1.3', not {text!r}")
    return version


def _fingerprint(text: str) -> str:
    plain = text.lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise SpecError("fingerprint is the SHA-256 of a certificate: 64 hex digits")
    return plain


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """One place a file can come from.

    ``priority``: lower is tried first; ``weight``: the share within one priority (both as in RFC 2782).  ``profile`` is
    this source's own Profile, or the name of one that is given later.  ``secret_query``: no record keeps the query.
    """

    url: str
    priority: int = 0
    weight: int = 1
    profile: Profile | str | None = None
    secret_query: bool = False
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
        json.dumps(dict(unit), allow_nan=False)
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
