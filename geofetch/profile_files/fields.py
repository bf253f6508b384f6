"""What a table of the file may say, and what it makes: a Profile; and back.

In: a table as TOML gives it, a Profile.  Out: a Profile, a table; a SpecError that names the table and the key.  Never:
a value repeated in an error, it may be a secret; a disk.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from requests.auth import HTTPDigestAuth

from ..errors import SpecError
from ..names import is_secret_name
from ..profile import Profile
from ..secret import Secret, is_reference

__all__ = ["Where", "checked", "in_clear", "literal", "profile_of", "secret_of", "table_of"]

#: What a value that looks like a reference is written behind, where it is meant as it stands.
PLAIN = "plain:"

#: The keys of a profile's table, and of what kind each is.
KEYS: dict[str, str] = {
    "origins": "texts",
    "headers": "pairs",
    "user": "text",
    "password": "secret",
    "auth": "text",
    "token": "secret",
    "query": "pairs",
    "proxy": "proxy",
    "proxy_user": "text",
    "proxy_password": "secret",
    "ca": "path",
    "cert": "part",
    "key": "part",
    "key_password": "secret",
    "verify": "flag",
    "min_tls": "text",
    "ciphers": "text",
    "fingerprint": "text",
}

_WORDS = {
    "text": "text in quotes",
    "texts": "a list of texts",
    "pairs": 'a table of texts, as {"X-Team" = "mirrors"}',
    "secret": "text in quotes: a reference as env:NAME, or the secret itself",
    "proxy": "a URL in quotes, or a table of them by scheme",
    "path": "a path in quotes, or PEM",
    "part": "a path in quotes, PEM, or a reference to PEM",
    "flag": "true or false",
    "number": "a whole number from 0",
}


class Where:
    """A table of a file, to be named in errors; the folder that its paths are relative to."""

    def __init__(self, file: str | None, table: str, folder: str | None = None) -> None:
        self.file, self.table, self.folder = file, table, folder

    def wrong(self, key: str | None, words: str) -> SpecError:
        place = f"{self.file}: " if self.file is not None else ""
        return SpecError(f"{place}[{self.table}]{f' {key}' if key else ''}: {words}")

    def path(self, text: str) -> str:
        """The path as this process finds it: ``~`` is the home, and others are relative to the file."""
        return os.path.join(self.folder or "", os.path.expanduser(text))


def checked(table: Any, keys: Mapping[str, str], where: Where) -> Mapping[str, Any]:
    """The table itself, if it has these keys alone, each of its kind."""
    if not isinstance(table, Mapping):
        raise where.wrong(None, f"a table is wanted, not {_kind(table)}")
    for key, value in table.items():
        if key not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            cure = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
            raise where.wrong(key, f"no such key; {cure}")
        if not _fits(value, keys[key]):
            raise where.wrong(key, f"{_WORDS[keys[key]]} is wanted, not {_kind(value)}")
    return table


def _fits(value: Any, kind: str) -> bool:
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if kind == "texts":
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    if kind in ("pairs", "proxy") and isinstance(value, Mapping):
        return all(isinstance(one, str) for one in value.values())
    return isinstance(value, str) and kind != "pairs"


def _kind(value: Any) -> str:
    names = {bool: "a flag", int: "a number", float: "a number", str: "text", list: "a list", dict: "a table"}
    return next((words for kind, words in names.items() if isinstance(value, kind)), type(value).__name__)


# ---------------------------------------------------------------------------------------------- table to Profile


def profile_of(name: str, table: Any, where: Where, keys: tuple[Secret, ...] = ()) -> Profile:
    """The Profile of this name that a table makes."""
    told = checked(table, KEYS, where)

    def secret(key: str, text: str | None) -> Any:
        return None if text is None else secret_of(text, where, key, keys)

    def pairs(key: str) -> Any:
        return {one: secret(f"{key}.{one}", text) for one, text in told[key].items()} if key in told else None

    _check_pairs(told, where)
    cert, own_key = (_part(told.get(part), part, where, keys) for part in ("cert", "key"))
    try:
        return Profile(
            name=name,
            headers=pairs("headers"),
            auth=_auth(told, secret, where),
            proxies=told.get("proxy"),
            cert=(cert, own_key) if own_key is not None else cert,
            key_password=secret("key_password", told.get("key_password")),
            ca=_part(told.get("ca"), "ca", where, None),
            verify=told.get("verify"),
            min_tls=told.get("min_tls"),
            ciphers=told.get("ciphers"),
            fingerprint=told.get("fingerprint"),
            token=secret("token", told.get("token")),
            query=pairs("query"),
            proxy_auth=_pair("proxy_user", "proxy_password", told, secret),
            origins=tuple(told["origins"]) if "origins" in told else None,
        )
    except SpecError as exc:
        raise exc if str(exc).startswith(str(where.wrong(None, ""))[:-2]) else where.wrong(None, str(exc)) from exc


def _check_pairs(told: Mapping[str, Any], where: Where) -> None:
    for one, other in (("user", "password"), ("proxy_user", "proxy_password")):
        for key, missing in ((one, other), (other, one)):
            if key in told and missing not in told:
                raise where.wrong(key, f"{missing} is missing")
    for key, missing in (("key", "cert"), ("proxy_user", "proxy"), ("auth", "user")):
        if key in told and missing not in told:
            raise where.wrong(key, f"{missing} is missing")
    if told.get("auth", "basic") not in ("basic", "digest"):
        raise where.wrong("auth", "basic or digest is wanted")


def _auth(told: Mapping[str, Any], secret: Callable[[str, str | None], Any], where: Where) -> Any:
    pair = _pair("user", "password", told, secret)
    return HTTPDigestAuth(*pair) if pair is not None and told.get("auth") == "digest" else pair


def _pair(user: str, password: str, told: Mapping[str, Any], secret: Callable[[str, str | None], Any]) -> Any:
    return (told[user], secret(password, told[password])) if user in told else None


def secret_of(text: str, where: Where, key: str, keys: tuple[Secret, ...] = ()) -> str | Secret:
    """What a text stands for: a reference, or itself."""
    if text.startswith(PLAIN):
        return text.removeprefix(PLAIN)
    if not is_reference(text):
        return text
    try:
        if text.startswith("file:"):
            text = f"file:{where.path(text.removeprefix('file:'))}"
        return Secret(text, keys if text.startswith("fernet:") else ())
    except SpecError as exc:
        raise where.wrong(key, str(exc)) from exc


def _part(text: str | None, key: str, where: Where, keys: tuple[Secret, ...] | None) -> Any:
    """A certificate or key: PEM as bytes, a reference (but for a CA), a path."""
    if text is None:
        return None
    if "-----BEGIN" in text:
        return text.encode()
    if keys is not None and is_reference(text) and not text.startswith("file:"):
        return secret_of(text, where, key, keys)
    return where.path(text.removeprefix("file:"))


# ---------------------------------------------------------------------------------------------- Profile to table


def table_of(profile: Profile) -> dict[str, Any]:
    """The table that makes such a profile; a SpecError where no text can."""
    auth, digest = profile.auth, isinstance(profile.auth, HTTPDigestAuth)
    if digest:
        auth = auth.username, auth.password
    if auth is not None and not (isinstance(auth, tuple) and len(auth) == 2 and isinstance(auth[0], str)):
        raise SpecError(f"the profile {profile.name!r} cannot be written down: its auth is code; keep it in Python")
    cert = profile.cert if isinstance(profile.cert, tuple) else (profile.cert, None)
    proxy_user, proxy_password = profile.proxy_auth or (None, None)
    found: dict[str, Any] = {
        "origins": list(profile.origins) if profile.origins is not None else None,
        "headers": _written_pairs(profile, profile.headers),
        "user": auth[0] if auth is not None else None,
        "password": _written(profile, auth[1] if auth is not None else None),
        "auth": "digest" if digest else None,
        "token": _written(profile, profile.token),
        "query": _written_pairs(profile, profile.query),
        "proxy": dict(profile.proxies) if isinstance(profile.proxies, tuple) else profile.proxies,
        "proxy_user": proxy_user,
        "proxy_password": _written(profile, proxy_password),
        "ca": _written_part(profile, profile.ca),
        "cert": _written_part(profile, cert[0]),
        "key": _written_part(profile, cert[1]),
        "key_password": _written(profile, profile.key_password),
        "verify": profile.verify,
        "min_tls": profile.min_tls,
        "ciphers": profile.ciphers,
        "fingerprint": profile.fingerprint,
    }
    return {key: value for key, value in found.items() if value is not None}


def literal(text: str) -> str:
    """A secret itself, as it is written: one that looks like a reference is marked as none."""
    return f"{PLAIN}{text}" if is_reference(text) or text.startswith(PLAIN) else text


def _written(profile: Profile, value: Any) -> str | None:
    if isinstance(value, Secret):
        if not isinstance(value.reference, str):
            raise SpecError(f"the profile {profile.name!r} cannot be written down: {value.shown} is code")
        return value.reference
    if value is not None and not isinstance(value, str):
        raise SpecError(f"the profile {profile.name!r} cannot be written down: a secret in it is no text")
    return None if value is None else literal(value)


def _written_pairs(profile: Profile, pairs: Any) -> dict[str, Any] | None:
    return {name: _written(profile, value) for name, value in pairs} if pairs else None


def _written_part(profile: Profile, part: Any) -> str | None:
    if isinstance(part, Secret):
        return _written(profile, part)
    if isinstance(part, bytes):
        return part.decode("ascii", "replace")
    return None if part is None else os.path.abspath(part)


# -------------------------------------------------------------------------------------------- secrets in clear


def in_clear(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """The secrets that stand in a table themselves, each with the keys that lead to it."""
    for key, kind in KEYS.items():
        value = table.get(key)
        if kind == "secret" and isinstance(value, str) and not is_reference(value):
            yield (key,), value.removeprefix(PLAIN)
        elif kind == "pairs" and isinstance(value, Mapping):
            for name, text in value.items():
                secret = key == "query" or is_secret_name(name)
                if isinstance(text, str) and secret and not is_reference(text):
                    yield (key, name), text.removeprefix(PLAIN)
        elif kind == "part" and isinstance(value, str) and re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", value):
            yield (key,), value
        elif kind == "proxy" and value is not None:
            for url in value.values() if isinstance(value, Mapping) else (value,):
                yield from (((key,), password) for password in _passwords(url))


def _passwords(url: Any) -> Iterator[str]:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.password:
            yield parts.password
    except (ValueError, TypeError):
        return
