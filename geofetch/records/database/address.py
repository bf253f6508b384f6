"""Which database a URL names.

In: ``sqlite:///units.db`` (relative), ``sqlite:////srv/units.db`` (absolute), ``sqlite:///:memory:``;
``postgresql://USER@HOST:PORT/NAME?sslmode=verify-full``; ``mysql://`` or ``mariadb://`` likewise.  Out: an Address; a
SpecError for a URL that names none, before anything is opened.
Never: a password that is shown; of a server there is its host and the database's name to see, nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ...errors import SpecError
from ...names import shown
from .kind import Kind
from .mysql import MYSQL
from .postgresql import POSTGRESQL
from .sqlite import MEMORY, SQLITE

__all__ = ["Address", "located"]

SUPPORTED = (
    "supported are SQLite: sqlite:///units.db, sqlite:////srv/units.db, sqlite:///:memory:; "
    "PostgreSQL: postgresql://HOST/NAME; MariaDB and MySQL: mysql://HOST/NAME"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is: a file's path, or how a server's is shown; ``told`` is what its driver wants to know."""

    path: str
    kind: Kind = SQLITE
    told: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    #: What of the URL must not be seen.
    secrets: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @property
    def is_file(self) -> bool:
        return self.kind is SQLITE and self.path != MEMORY

    @property
    def is_kept(self) -> bool:
        """Whether what was written is there when it is opened anew."""
        return self.path != MEMORY

    def masked(self, text: str) -> str:
        """What a server said, without what the URL tells nobody."""
        for secret in self.secrets:
            # Whole words: a user "a" is in many of them.
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)
        return text

    def __str__(self) -> str:
        return self.path if self.is_kept else "the database in memory"


def located(url: str) -> Address:
    """The database that a URL names."""
    if not isinstance(url, str):
        raise SpecError(f"a database is named by a URL in text, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise SpecError(f"bad database URL; {SUPPORTED}") from None
    if parts.scheme == "sqlite":
        return _file(url)
    for kind in (POSTGRESQL, MYSQL):
        if parts.scheme in kind.schemes:
            return _server(url, kind)
    # Of a URL for another database nothing but the scheme is shown: the rest may hold a password.
    known = f"databases of type {parts.scheme!r} are not supported" if parts.scheme else "that is no database URL"
    raise SpecError(f"{known}; {SUPPORTED}")


def _file(url: str) -> Address:
    path = url.partition("://")[2]
    if url in ("sqlite://", "sqlite:", f"sqlite:///{MEMORY}"):
        return Address(MEMORY)
    if not path.startswith("/") or path == "/" or path.endswith("/") or "\0" in path:
        raise SpecError(
            f"bad database URL {shown(url) if '@' in url else url!r}: write sqlite:///relative.db (three slashes) or sqlite:////absolute.db"
        )
    if "?" in path or "#" in path:
        raise SpecError(
            f"bad database URL {url.partition('?')[0]!r}: SQLite takes no options here, and no '?' or '#' in its name"
        )
    return Address(os.path.abspath(path[1:]))


def _server(url: str, kind: Kind) -> Address:
    scheme = url.partition(":")[0]
    try:
        given = _taken_apart(url)
        parameters = kind.told(given)
    except ValueError as exc:
        if isinstance(exc, SpecError):
            raise
        # What it dislikes may be a part of the password: nothing of it is shown.
        raise SpecError(
            f"bad database URL; write {scheme}://USER:PASSWORD@HOST:PORT/NAME, "
            "each reserved character of user and password percent-encoded"
        ) from None
    hidden = (value for name, value in given.items() if value and (name == "user" or "pass" in name))
    return Address(f"{scheme}://{_shown(given)}/{given['dbname']}", kind, parameters, tuple(hidden))


def _taken_apart(url: str) -> dict[str, str]:
    """What a URL tells, by libpq's names; of several hosts each of them, with commas between."""
    parts = urlsplit(url)
    if parts.fragment or "/" in parts.path[1:] or "\0" in unquote(url):
        raise ValueError("more than a name")
    found = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict"))
    userinfo, _, places = parts.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    hosts, ports = _hosts(places) if places else ([], [])
    for name, value in (("host", ",".join(hosts)), ("port", ",".join(ports)), ("user", user), ("password", password)):
        if value.strip(","):
            found[name] = unquote(value, errors="strict")
    if parts.path[1:]:
        found["dbname"] = unquote(parts.path[1:], errors="strict")
    if not found.get("dbname"):
        raise SpecError(f"bad database URL: it names no database; write {parts.scheme}://HOST/NAME")
    return found


def _hosts(places: str) -> tuple[list[str], list[str]]:
    hosts, ports = [], []
    for place in places.split(","):
        told = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]@]*)(?::([0-9]{1,5}))?", place)
        if told is None or not 0 < int(told[2] or 1) < 65536:
            raise ValueError("no host")
        hosts.append(told[1].strip("[]"))
        ports.append(told[2] or "")
    return hosts, ports


def _shown(given: Mapping[str, str]) -> str:
    """The hosts; nothing for a socket in a folder, or where the driver knows."""
    hosts = given.get("host", "").split(",")
    ports = given.get("port", "").split(",")
    if len(ports) < len(hosts):
        ports = ports[:1] * len(hosts)
    shown = [
        "" if host.startswith("/") else (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=False)
    ]
    return ",".join(filter(None, shown))
