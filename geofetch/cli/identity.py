"""Who the command is to the hosts it was told of, and whom it trusts: a Profile.

In: --header, --user, --cacert, --cert, --key, --insecure, --proxy, and their secrets from files and the environment;
the profile that --profile names, which they are put on.
Out: a Profile, and the secrets in it, so that nobody shows them.  Never: a secret that must stand on a command line;
one that is repeated in an error.

What the user did not name gets none of it: a manifest from the network that lists files on other hosts is read, and
those files are asked for by :data:`STRANGER`, the same trust and the same proxies with no word of who we are.  Such a
manifest may name a kept profile only for an origin that the profile is bound to: else whoever writes it would choose
who is told our passwords.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import click

from ..errors import SpecError
from ..names import origin
from ..spec import Profile, Source, Spec

__all__ = ["STRANGER", "among_strangers", "profile_of", "secrets_of", "stranger"]

#: What records call the profile of hosts that the user did not name; ``verify --repair`` knows it again.
STRANGER = "stranger"


def profile_of(told: Mapping[str, Any], kept: Profile | None = None) -> Profile:
    """The Profile that the flags and the environment make; a usage error where they make none.

    ``kept`` is the one that --profile names: each flag goes before what it says, and the other headers stay.
    """
    said = _said(told)
    if kept is None:
        return said
    given: dict[str, Any] = {name: getattr(said, name) for name in said.__slots__ if getattr(said, name) is not None}
    if said.headers is not None:
        names = {name.lower() for name in said.header_map}
        others = {name: value for name, value in kept.header_map.items() if name.lower() not in names}
        given["headers"] = {**others, **said.header_map}
        if "authorization" in names:
            given["token"] = None
            given.setdefault("auth", None)  # else requests would put it in the header's place
    if said.auth is not None:
        given["token"] = None
    if said.proxies is not None:
        given["proxy_auth"] = None
    if said.cert is not None:
        given.setdefault("key_password", None)
    if said.verify is False:
        given["ca"] = None
    elif said.ca is not None:
        given["verify"] = None
    return replace(kept, **given)


def _said(told: Mapping[str, Any]) -> Profile:
    headers = tuple(_headers(told.get("headers") or ()))
    cert: Any = told.get("cert")
    key = told.get("key")
    return Profile(
        headers=headers or None,
        auth=_auth(told.get("user")),
        proxies=told.get("proxy"),
        cert=(cert, key) if key else cert,
        key_password=os.environ.get("GEOFETCH_KEY_PASSWORD"),
        ca=told.get("cacert"),
        verify=False if told.get("insecure") else None,
    )


def _headers(given: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in os.environ.get("GEOFETCH_HEADERS", "").splitlines():
        if line.strip():
            yield _header(line, "$GEOFETCH_HEADERS")
    for one in given:
        if one.startswith("@"):
            for line in _read(one[1:], "--header").splitlines():
                if line.strip():
                    yield _header(line, f"--header {one}")
        else:
            yield _header(one, "--header")


def _header(line: str, where: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    # What was given is not repeated: it may be a token with its name forgotten.
    if not colon or not name.strip() or not name.strip().isascii() or any(letter.isspace() for letter in name.strip()):
        raise click.UsageError(f"{where}: 'Name: value' is wanted, as in 'X-Team: mirrors'")
    return name.strip(), value.strip()


def _auth(user: str | None) -> tuple[str, str] | None:
    if user is None:
        return None
    if user.startswith("@"):
        user = _read(user[1:], "--user").strip("\r\n")
    name, colon, password = user.partition(":")
    if not colon:
        if "GEOFETCH_PASSWORD" not in os.environ:
            raise click.UsageError(
                "--user without a password: give it as NAME:PASSWORD, @FILE or in $GEOFETCH_PASSWORD"
            )
        password = os.environ["GEOFETCH_PASSWORD"]
    return name, password


def _read(path: str, flag: str) -> str:
    from ..pipes import read

    try:
        return read(path).decode()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not UTF-8"
        raise click.UsageError(f"{flag}: {path!r} cannot be read: {reason}") from exc


def secrets_of(profile: Profile, urls: Iterable[str] = ()) -> Iterator[str]:
    """Everything in the profile and these URLs that must not be shown."""
    for value in (*profile.header_map.values(), *profile.query_map.values()):
        if isinstance(value, str):
            yield value
            yield from value.split()[1:]  # "Bearer …": the token by itself
    password = profile.auth[1] if isinstance(profile.auth, tuple) else getattr(profile.auth, "password", None)
    proxy_password = profile.proxy_auth[1] if profile.proxy_auth is not None else None
    # What is a reference is hidden when it is resolved (kept.py).
    for one in (password, profile.key_password, profile.token, proxy_password):
        if isinstance(one, str):
            yield one
    for url in (*urls, *(profile.proxy_map or {}).values()):
        yield from _userinfo(url)


def _userinfo(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        if parts.password is not None:
            yield parts.password
        if "@" in parts.netloc:
            yield parts.netloc.rpartition("@")[0]
    except ValueError:
        return


def stranger(profile: Profile) -> Profile:
    """The same trust and the same way through proxies; nothing of who we are."""
    nobody: dict[str, Any] = dict.fromkeys(("headers", "auth", "token", "query", "cert", "key_password", "origins"))
    return replace(profile, name=STRANGER, **nobody)


def among_strangers(specs: Iterable[Spec], named: Iterable[str], kept: Mapping[str, Profile]) -> Iterator[Spec]:
    """The specs, their sources on other origins than these URLs' asked for by :data:`STRANGER`; a SpecError where one
    names a profile of ``kept`` for an origin that it is not bound to."""
    known = {origin(url) for url in named}
    for spec in specs:
        for source in spec.sources:
            _check_bound(source, spec.profile_of(source) if source.origin in known else source.profile, kept)
        if all(source.origin in known for source in spec.sources):
            yield spec
        else:
            sources = tuple(source if source.origin in known else _strange(source) for source in spec.sources)
            yield Spec(
                sources=sources,
                path=spec.path,
                size=spec.size,
                digests=spec.digests or None,
                profile=spec.profile,
                unit=spec.unit,
                repository=spec.repository,
                meta=spec.meta,
            )


def _check_bound(source: Source, name: Profile | str | None, kept: Mapping[str, Profile]) -> None:
    profile = kept.get(name) if isinstance(name, str) else None
    if profile is None or (profile.origins is not None and profile.allows(source.origin)):
        return
    scheme, host, port = source.origin
    raise SpecError(
        f"the manifest came over the network and names the profile {name!r} for {scheme}://{host}:{port}, which it is"
        " not bound to; bind it by origins = [...], or save the manifest and name the file",
        source=source,
    )


def _strange(source: Source) -> Source:
    return source if source.profile is not None else replace(source, profile=STRANGER)
