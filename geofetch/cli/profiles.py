"""``geofetch profiles``: who you are to each origin and whom you trust, kept by name in a file.

In: names, references to secrets.  Out: the file changed; a table on a terminal, fields parted by TABs elsewhere, JSON
with --json.  Never: a secret shown; one that must stand on a command line.

    profiles         list, show, remove, rotate, key
    profiles_add     add, import
    profiles_test    test: a real connection, told in words

``--json`` of list: an object a profile (``event`` "profile": ``name``, ``origins``, ``auth``, ``headers``, ``proxy``,
``tls``, ``secrets``), and one a content source (``event`` "source": ``name``, ``urls``, ``priority``, ``weight``,
``profile``, ``enabled``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .console import MASK
from .profiles_add import add, imported
from .profiles_test import test
from .words import counted
from .work import Work, perform

if TYPE_CHECKING:
    from ..profile import Profile
    from ..profile_files import ContentSource

__all__ = ["profiles"]

COLUMNS = ("name", "for", "signs in by", "TLS", "proxy", "secrets")
SOURCE_COLUMNS = ("content source", "priority", "asked by", "enabled", "URL")


@click.group(short_help="Keep who you are, and whom you trust, by name.")
def profiles() -> None:
    """Keep by name who you are to each origin, and whom you trust.

    They stand in a TOML file that you may as well write yourself: --profiles FILE, else $GEOFETCH_PROFILES, else
    profiles.toml where the system keeps your settings.
    """


for _command in (add, imported, test):
    profiles.add_command(_command)


@profiles.command("list", short_help="List profiles and content sources.")
@options.profiles_file()
@options.asking("One JSON object a profile, and one a content source.")
def listed(**given: Any) -> int:
    """List the profiles and content sources that are kept; no secret is looked for, and none is shown.

    Piped, a line is a profile or a content source, its fields parted by TABs: the word profile, then name, for, signs
    in by, TLS, proxy, secrets; or the word source, then name, priority, asked by, enabled, URL.  --json tells all of
    it.
    """
    return perform("profiles list", given, _list)


@profiles.command("show", short_help="Show all that a profile says, but for secrets.")
@click.argument("name", metavar="NAME")
@options.profiles_file()
@options.asking("In one line of JSON.")
def show(**given: Any) -> int:
    """Show all that a profile says; of a secret, where it is to be found."""
    return perform("profiles show", given, _show)


@profiles.command("remove", short_help="Keep a profile no longer.")
@click.argument("name", metavar="NAME")
@click.option("--source", "as_source", is_flag=True, help="The content source of this name, and not a profile.")
@options.profiles_file()
@options.verbosity()
def remove(**given: Any) -> int:
    """Keep a profile no longer; what is in the keyring or in other files stays there."""
    return perform("profiles remove", given, _remove)


@profiles.command("rotate", short_help="Encrypt all secrets of the file, by a new key if one is given.")
@click.option("--key", metavar="REFERENCE", help="A new key, as env:NAME or file:PATH; it becomes the first.")
@click.option("--drop-old", is_flag=True, help="Name the older keys in the file no more.")
@options.profiles_file()
@options.verbosity()
def rotate(**given: Any) -> int:
    """Encrypt every secret of the file by its first key: those in clear, and once more those that are encrypted.

    A secret that is a reference stays one.
    """
    return perform("profiles rotate", given, _rotate)


@profiles.command("key", short_help="Make a key to encrypt secrets by.")
@click.option("--to", "path", required=True, metavar="FILE", type=click.Path(), help="Write it here; - is stdout.")
@options.verbosity()
def key(**given: Any) -> int:
    """Make a key to encrypt secrets by, in a file for you alone (mode 0600)."""
    return perform("profiles key", given, _key)


def _list(work: Work) -> int:
    from .kept import open_file
    from .output import put

    kept = open_file(work)
    if work.as_json:
        for profile in kept.values():
            put({"event": "profile", **_fields(profile)})
        for one in kept.sources.values():
            put({"event": "source", "name": one.name, **_source_fields(one)})
        return codes.OK
    put_table(COLUMNS, map(_cells, kept.values()), mark="profile")
    if kept.sources:
        ordered = sorted(kept.sources.values(), key=lambda one: (one.priority, one.name))
        put_table(SOURCE_COLUMNS, map(_source_cells, ordered), mark="source")
    if not kept:
        work.console.say(f"no profiles in {kept.path}; geofetch profiles add NAME keeps one")
    return codes.OK


def _fields(profile: Profile) -> dict[str, Any]:
    proxies = profile.proxy_map
    return {
        "name": profile.name,
        "origins": None if profile.origins is None else list(profile.origins),
        "auth": _auth(profile),
        "headers": list(profile.header_map),
        "proxy": None if proxies is None else sorted({_bare(proxy) for proxy in proxies.values()}),
        "tls": _tls(profile),
        "secrets": {what: secret.shown for what, secret in profile.secrets.items()},
    }


def _bare(proxy: str) -> str:
    from ..names import shown

    return shown(proxy if "://" in proxy else f"http://{proxy}")


def _auth(profile: Profile) -> str | None:
    if profile.token is not None:
        return "token"
    if isinstance(profile.auth, tuple):
        return f"basic, {profile.auth[0]}"
    return f"digest, {profile.auth.username}" if profile.auth is not None else None


def _tls(profile: Profile) -> list[str]:
    told = {
        "anyone": profile.verify is False,
        "own CA": profile.ca is not None,
        "pinned": profile.fingerprint is not None,
        "client certificate": profile.cert is not None,
        f"TLS {profile.min_tls} or later": profile.min_tls is not None,
    }
    return [words for words, true in told.items() if true]


def _cells(profile: Profile) -> tuple[str, ...]:
    found = _fields(profile)
    ways = [*([found["auth"]] if found["auth"] else []), *found["headers"], *(f"?{one}=" for one in profile.query_map)]
    kinds = sorted({secret.kind for secret in profile.secrets.values()})
    origins = "any" if profile.origins is None else ", ".join(map(_short, profile.origins))
    proxy = "-" if found["proxy"] is None else ", ".join(found["proxy"]) or "none"
    rest = (", ".join(ways) or "-", ", ".join(found["tls"]) or "-", proxy, ", ".join(kinds) or "-")
    return (profile.name or "", origins, *rest)


def _short(origin: str) -> str:
    scheme, _, rest = origin.partition("://")
    return f"{scheme}://{rest.removesuffix({'https': ':443', 'http': ':80'}[scheme])}"


def _source_fields(one: ContentSource) -> dict[str, Any]:
    return {
        "urls": [_bare(url) for url in one.urls],
        "priority": one.priority,
        "weight": one.weight,
        "profile": one.profile,
        "enabled": one.enabled,
    }


def _source_cells(one: ContentSource) -> tuple[str, ...]:
    found = _source_fields(one)
    more = f" and {len(one.urls) - 1} more" if len(one.urls) > 1 else ""
    asked_by, enabled = found["profile"] or "-", "yes" if one.enabled else "no"
    return one.name, str(one.priority), asked_by, enabled, found["urls"][0] + more


def put_table(columns: Sequence[str], rows: Iterable[Sequence[str]], mark: str | None = None) -> None:
    """A table on a terminal; elsewhere a line a row, its fields parted by TABs, the first of them ``mark``."""
    from ..report.tally import printable
    from .output import put_line

    cleaned = [[printable(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cleaned:
            put_line("\t".join(row if mark is None else (mark, *row)))
        return
    if cleaned:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, pad_edge=False)
        for row in cleaned:
            table.add_row(*map(Text, row))
        Console(markup=False, highlight=False).print(table)


def _show(work: Work) -> int:
    from .kept import open_file
    from .output import put

    kept = open_file(work)
    kept.named(work.told["name"])
    told = masked(kept.table(work.told["name"]))
    if work.as_json:
        put({"name": work.told["name"], **told})
    else:
        put_table(("key", "value"), _lines(told))
    return codes.OK


def masked(table: Mapping[str, Any]) -> dict[str, Any]:
    """The table as it may be shown."""
    from ..profile_files.fields import in_clear

    found = {name: dict(value) if isinstance(value, Mapping) else value for name, value in table.items()}
    for keys, _ in in_clear(table):
        inner = found if len(keys) == 1 else found[keys[0]]
        inner[keys[-1]] = MASK
    for name, value in found.items():
        if isinstance(value, dict):
            found[name] = {key: _brief(text) for key, text in value.items()}
        elif isinstance(value, str):
            found[name] = _brief(value)
    return found


def _brief(text: str) -> str:
    if text.startswith("fernet:"):
        return "fernet:…"
    return "PEM" if "-----BEGIN" in text else text


def _lines(table: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{one}", str(text)) for one, text in value.items())
        else:
            yield name, ", ".join(value) if isinstance(value, list) else str(value)


def _remove(work: Work) -> int:
    from .kept import open_file

    kept, name = open_file(work), work.told["name"]
    if work.told["as_source"]:
        kept.remove_source(name)
    else:
        kept.remove(name)
    work.console.say(f"{name} is no longer in {kept.save()}")
    return codes.OK


def _rotate(work: Work) -> int:
    from ..secret import Secret
    from .kept import open_file

    kept, told = open_file(work), work.told["key"]
    if told is not None and told.startswith("file:"):
        told = f"file:{os.path.abspath(os.path.expanduser(told.removeprefix('file:')))}"
    clear, anew = kept.rotate(None if told is None else Secret(told), alone=work.told["drop_old"])
    work.console.say(f"{counted(clear, 'secret')} encrypted, {anew:,} encrypted anew, in {kept.save()}")
    return codes.OK


def _key(work: Work) -> int:
    try:
        from cryptography.fernet import Fernet
    except ImportError as exc:
        raise click.UsageError("keys want the package cryptography: pip install geofetch[profiles]") from exc
    from .output import put_line

    made, path = Fernet.generate_key().decode(), work.told["path"]
    if path == "-":
        put_line(made)
        return codes.OK
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as exc:
        raise click.UsageError(f"{path!r} cannot be made: {exc.strerror}") from exc
    with open(number, "w", encoding="ascii") as file:
        file.write(f"{made}\n")
    work.console.say(f"geofetch profiles rotate --key file:{path} puts it to use; whoever has it reads the secrets")
    return codes.OK
