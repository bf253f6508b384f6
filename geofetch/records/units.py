"""A unit: what is remembered of one wanted file, as a frozen value.

In: what the records hold, or what a unit file says.  Out: a Unit, its natural key, the Spec that fetches it again.
Never: a database, a file, a secret (no userinfo, no query that signs, of a profile nothing but its name).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any, Literal, TypeAlias, get_args

from ..errors import SpecError
from ..events import Kept, Proof
from ..names import has_secret_query
from ..spec import Digest, Profile, Source, Spec

__all__ = ["Health", "Policy", "Unit", "UnitState"]

UnitState: TypeAlias = Literal["present", "missing", "corrupt", "quarantined"]
STATES: tuple[str, ...] = get_args(UnitState)
#: When a file is fetched: as soon as it is wanted, when somebody asks for it, or at each asking anew and never kept.
Policy: TypeAlias = Literal["immediate", "on_demand", "streamed"]
POLICIES: tuple[str, ...] = get_args(Policy)
#: Work that is owed to a unit.
Work: TypeAlias = Literal["fetch"]
WORKS: tuple[str, ...] = get_args(Work)
PROOFS: tuple[str, ...] = get_args(Proof)

#: Headers of an answer that are remembered with the unit, by the order of their names there, and how much of each.
TOLD = tuple(
    (header, header.lower(), f'"{header.lower().replace("-", "_")}":')
    for header in ("Content-Type", "ETag", "Last-Modified")
)
TOLD_MOST = 1000
#: The type of a unit whose spec does not say what it is; its key is then where it lies.
FILE = "file"


@dataclass(frozen=True, slots=True)
class Health:
    """How a source has done; times are microseconds since 1970 UTC, None: never.

    ``failures``: how many in a row.  ``etag`` and ``last_modified``: what it said of the file when it last served it.
    ``cooldown_until``: until when it is better left alone.
    """

    last_ok_at: int | None = None
    last_failed_at: int | None = None
    failures: int = 0
    last_error: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    cooldown_until: int | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """The durable record of one wanted file.

    ``type`` and ``key`` say what it is and are its natural key.  ``store`` and ``store_key`` say where it is, ``path``
    under which name it was wanted; ``size``, ``mtime_ns`` and ``inode`` are the file system's word from when it was
    last proven, by ``verified``.  ``digests`` prove it again; those in ``trusted`` were told by a spec, the others only
    observed.  ``sources`` are all the places it can come from, ``health`` how each of them did, in the same order.

    ``policy`` says when it is fetched.  One that is wanted and was never stored is missing, has no ``stored_at``, and
    its ``size`` is None where nobody told it.  ``pending``: the work that is owed to it (None: none), tried in vain
    ``tries`` times.  ``unlisted_at``: since when it is in no repository, though it was in one.
    Times are microseconds since 1970 UTC.  ``id`` is the database's own and no part of the value.
    """

    type: str
    key: Mapping[str, Any] = field(hash=False)
    path: str
    store: str
    store_key: str
    size: int | None
    mtime_ns: int | None = None
    inode: int | None = None
    state: UnitState = "present"
    verified: Proof = "nothing"
    digests: tuple[Digest, ...] = ()
    trusted: frozenset[str] = frozenset()
    sources: tuple[Source, ...] = ()
    health: tuple[Health, ...] = ()
    repositories: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = field(default=None, hash=False)
    stored_at: int | None = 0
    proven_at: int | None = None
    scrubbed_at: int | None = None
    scrub_result: str | None = None
    policy: Policy = "immediate"
    pending: Work | None = None
    tries: int = 0
    unlisted_at: int | None = None
    id: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise SpecError(f"a unit is {', '.join(STATES)}, not {self.state!r}")
        if self.verified not in PROOFS:
            raise SpecError(f"a unit is verified by {', '.join(PROOFS)}, not {self.verified!r}")
        if self.policy not in POLICIES:
            raise SpecError(f"a unit's policy is {', '.join(POLICIES)}, not {self.policy!r}")
        if self.pending is not None and self.pending not in WORKS:
            raise SpecError(f"what is pending for a unit is None or {', '.join(WORKS)}, not {self.pending!r}")
        if self.state != "missing" and (self.size is None or self.stored_at is None):
            raise SpecError(f"a unit that is {self.state} has a size, and a time at which it was stored")
        known = [digest.algorithm for digest in self.digests]
        if len(set(known)) != len(known) or not self.trusted <= set(known):
            raise SpecError("a unit has one digest an algorithm, and trusts only those it has")
        if len(set(map(place_of, self.sources))) != len(self.sources):
            raise SpecError("a unit has each source once")
        if not self.health:
            object.__setattr__(self, "health", (Health(),) * len(self.sources))
        if len(self.health) != len(self.sources):
            raise SpecError("a unit's health tells of each source, or of none")
        if self.repositories:
            object.__setattr__(self, "unlisted_at", None)
        object.__setattr__(self, "digests", tuple(sorted(self.digests, key=lambda digest: digest.algorithm)))
        object.__setattr__(self, "repositories", tuple(sorted(set(self.repositories))))

    @property
    def kept(self) -> Kept | None:
        """Where the store keeps it, or kept it; None where it never was stored."""
        if self.stored_at is None or self.size is None:
            return None
        return Kept(self.store, self.store_key, self.size, self.mtime_ns, self.inode)

    @property
    def digest_map(self) -> dict[str, Digest]:
        """The digests by algorithm."""
        return {digest.algorithm: digest for digest in self.digests}

    def spec(self, profiles: Mapping[str, Profile] | None = None) -> Spec:
        """What fetches this very file again: every source, its profile by name or out of ``profiles``, every digest."""
        given = profiles or {}
        sources = [
            Source(one.url, one.priority, one.weight, _given(one.profile, given), one.secret_query, one.expires_at)
            for one in self.sources
        ]
        named = None if self.type == FILE and self.key == file_key(self.store, self.path) else {**self.key}
        return Spec(
            sources=sources,
            path=self.path,
            size=self.size,
            digests=self.digests or None,
            unit=None if named is None else {"type": self.type, **named},
            repository=self.repositories[0] if self.repositories else None,
        )


def _given(profile: Profile | str | None, given: Mapping[str, Profile]) -> Profile | str | None:
    return given.get(profile, profile) if isinstance(profile, str) else profile


def file_key(store: str, path: str) -> dict[str, str]:
    """The key of a unit whose spec does not say what it is."""
    return {"store": store, "path": path}


def file_text(store: str, path: str) -> str:
    """That key as ``canonical`` writes it, for a quarter of the time."""
    return f'{{"path":{_quoted(path)},"store":{_quoted(store)}}}'


def named(unit: Mapping[str, Any] | None, store: str, path: str) -> tuple[str, str]:
    """Type of what a spec wants, and its key as text."""
    if unit is None:
        return FILE, file_text(store, path)
    return unit["type"], canonical({name: value for name, value in unit.items() if name != "type"})


def canonical(key: Mapping[str, Any]) -> str:
    """A key as text: one for equal keys, in ASCII, whatever the order they were told in."""
    if isinstance(key, dict):
        try:
            # Text alone, as most keys: a fifth of what the encoder takes for it.
            return "{" + ",".join([f"{_quoted(name)}:{_quoted(key[name])}" for name in sorted(key)]) + "}"
        except TypeError:
            pass  # something else is in it
    return _encode(key)


def told_by(headers: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    """What an answer's head says of the file, for those who come later: metadata as ``canonical`` writes it; the ETag
    and the Last-Modified of whoever answered."""
    values: list[str | None] = []
    found = []
    for header, small, name in TOLD:
        value = headers.get(header) or headers.get(small)
        if value:
            value = str(value)[:TOLD_MOST]
            found.append(name + _quoted(value))
        # Within JSON any text is harmless; alone only one that every database holds is kept.
        values.append(value if value and value.isprintable() else None)
    return "{" + ",".join(found) + "}" if found else None, values[1], values[2]


# json.dumps makes an encoder a call where it is told anything: 5 µs of 8.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def identity(kind: str, key: str) -> bytes:
    """Sixteen bytes for a natural key: any database's index takes them, PostgreSQL's not a key of 4,095."""
    return hashlib.sha256(f"{kind}\0{key}".encode(errors="surrogatepass")).digest()[:16]


def micros(seconds: float) -> int:
    """Seconds since 1970 as the tables have them."""
    return round(seconds * 1_000_000)


def seconds(micros: int | None) -> float | None:
    """And back: a double tells apart any two microseconds until the year 2255."""
    return None if micros is None else micros / 1_000_000


def place_hash(store: str, key: str) -> bytes:
    """Sixteen bytes for a place in a store, as ``identity`` makes them of a key."""
    return identity(store, key)


def profile_name(profile: Profile | str | None) -> str:
    """What a record knows a profile by; "" for none, and for one without a name."""
    return (profile.name if isinstance(profile, Profile) else profile) or ""


def place_of(source: Source, profile: Profile | str | None = None) -> tuple[str, str]:
    """What makes two sources one in a record: the URL as it is kept, and the profile's name."""
    return kept_url(source), profile_name(source.profile if source.profile is not None else profile)


def kept_url(source: Source) -> str:
    """``source.kept``; most URLs hold nothing that could be left out, and need not be taken apart for each row."""
    url = source.url
    plain = "?" not in url and "@" not in url and "#" not in url and url.startswith(("http://", "https://"))
    return url if plain else source.kept


def loses_query(source: Source) -> bool:
    """Whether the record leaves out a query that carries a secret."""
    return source.secret_query or ("?" in source.url and has_secret_query(source.url))
