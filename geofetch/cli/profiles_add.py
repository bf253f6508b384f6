"""``geofetch profiles add`` and ``import``: a profile kept by what flags say, or by what Pulp 2's files said.

In: flags, references to secrets, INI files.  Out: the profiles file, changed.  Never: a password that stands on the
command line.  Who gives a header's value there has it in clear, and is told so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .words import counted
from .work import Work, perform

if TYPE_CHECKING:
    from ..profile import Profile
    from ..profile_files import Profiles

__all__ = ["add", "imported"]

ASK = "ask"

_REF = "REFERENCE"
_file = click.Path(exists=True, readable=True, dir_okay=False)


@click.command("add", short_help="Keep a profile.")
@click.argument("name", metavar="NAME")
@click.option("--origin", "origins", multiple=True, metavar="URL", help="It is for this origin alone; may be repeated.")
@click.option("--user", metavar="NAME", help="Sign in by this name.")
@click.option("--password-from", metavar=_REF, help="Where the password is.")
@click.option("--digest-auth", is_flag=True, help="Sign in by HTTP's digest, not by its basic scheme.")
@click.option("--token-from", metavar=_REF, help="Where a token is that is sent as Authorization: Bearer.")
@click.option(
    "-H",
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help="Send this header; the value may be a reference.",
)
@click.option(
    "--query-from", "query", multiple=True, metavar=f"NAME={_REF}", help="Add this value to each URL's query."
)
@click.option("--ca", "--cacert", "ca", type=click.Path(exists=True, readable=True), help="Trust these CAs alone.")
@click.option("--cert", type=_file, help="Client certificate, PEM.")
@click.option("--key", type=_file, help="Its key, where that is a file of its own.")
@click.option("--key-password-from", metavar=_REF, help="Where the key's password is.")
@click.option("--insecure", is_flag=True, help="Trust whoever answers.")
@click.option("--min-tls", type=click.Choice(["1.2", "1.3"]), help="No older TLS.")
@click.option("--fingerprint", metavar="SHA256", help="Trust this certificate alone.")
@click.option("--proxy", metavar="URL", help='Go through this proxy; "" for none.')
@click.option("--proxy-user", metavar="NAME", help="Who you are to the proxy.")
@click.option("--proxy-password-from", metavar=_REF, help="Where the proxy's password is.")
@click.option("--replace", "replacing", is_flag=True, help="Put it in the place of one that is there.")
@options.profiles_file()
@options.verbosity()
def add(**given: Any) -> int:
    """Keep a profile by name.

    A REFERENCE says where a secret is: env:NAME, file:PATH, keyring:SERVICE/USER.  It is looked for when the profile is
    used.  Or ask: you are asked for the secret now, and it is kept encrypted, by the file's key.
    """
    told = options.told(**given, cacert=given["ca"])
    for one, other in (("user", "password_from"), ("proxy_user", "proxy_password_from")):
        if bool(told[one]) != bool(told[other]):
            raise click.UsageError(f"--{one.replace('_', '-')} and --{other.replace('_', '-')} belong together")
    if told["proxy_user"] and not told["proxy"]:
        raise click.UsageError("--proxy-user belongs to a proxy: give --proxy as well")
    if told["digest_auth"] and not told["user"]:
        raise click.UsageError("--digest-auth is for a name and a password: give --user as well")
    return perform("profiles add", told, _add)


def _add(work: Work) -> int:
    from .kept import open_file

    told, kept = work.told, open_file(work, new=True)
    if told["name"] in kept and not told["replacing"]:
        raise click.UsageError(f"a profile is called {told['name']!r} already; --replace puts this one in its place")
    profile = _profile(work, kept)
    kept.add(profile, replacing=told["replacing"])
    _save(work, kept, f"the profile {told['name']} is in")
    return codes.OK


def _save(work: Work, kept: Profiles, words: str) -> None:
    path = kept.save()
    work.console.say(f"{words} {path}")
    clear = [place for place, _ in kept.secrets_in_clear()]
    if clear:
        work.console.fail(
            f"{path} holds {counted(len(clear), 'secret')} in clear, as {clear[0]}: its mode is 0600; geofetch profiles"
            f" rotate --key REFERENCE encrypts {'it' if len(clear) == 1 else 'them'}"
        )


def _profile(work: Work, kept: Profiles) -> Profile:
    from requests.auth import HTTPDigestAuth

    from ..profile import Profile

    told = work.told

    def secret(flag: str) -> Any:
        return _secret(work, kept, told[flag], flag) if told[flag] else None

    auth: Any = (told["user"], secret("password_from")) if told["user"] else None
    return Profile(
        name=told["name"],
        origins=told["origins"] or None,
        auth=HTTPDigestAuth(*auth) if auth and told["digest_auth"] else auth,
        token=secret("token_from"),
        headers=dict(_headers(work, kept)) or None,
        query=dict(_query(work, kept)) or None,
        ca=_absolute(told["ca"]),
        cert=(_absolute(told["cert"]), _absolute(told["key"])) if told["key"] else _absolute(told["cert"]),
        key_password=secret("key_password_from"),
        verify=False if told["insecure"] else None,
        min_tls=told["min_tls"],
        fingerprint=told["fingerprint"],
        proxies=told["proxy"],
        proxy_auth=(told["proxy_user"], secret("proxy_password_from")) if told["proxy_user"] else None,
    )


def _absolute(path: str | None) -> Any:
    return None if path is None else os.path.abspath(path)


def _secret(work: Work, kept: Profiles, reference: str, flag: str) -> Any:
    """The Secret that a flag names; ``ask`` asks for it, and has it encrypted."""
    from ..errors import SpecError
    from ..secret import Secret

    named = f"--{flag.replace('_', '-')}"
    if reference == ASK:
        sealer = kept.sealer()
        return Secret(sealer.seal(_asked(work, named)), sealer.keys)
    try:
        return Secret(_placed(reference))
    except SpecError as exc:
        raise click.UsageError(f"{named}: {exc}; or ask") from exc


def _placed(reference: str) -> str:
    """The reference, a path in it as it is from here: the file may be read from elsewhere."""
    if not reference.startswith("file:"):
        return reference
    return f"file:{os.path.abspath(os.path.expanduser(reference.removeprefix('file:')))}"


def _asked(work: Work, named: str) -> str:
    if sys.stdin.isatty():
        found = str(click.prompt(f"{named}: the secret", hide_input=True, err=True))
    else:
        found = sys.stdin.readline().rstrip("\r\n")
    if not found:
        raise click.UsageError(f"{named} {ASK}: nothing was given on stdin")
    work.opened_by([found])
    return found


def _headers(work: Work, kept: Profiles) -> Iterator[tuple[str, Any]]:
    from ..names import is_secret_name
    from ..secret import Secret, is_reference
    from .identity import _header

    for one in work.told["headers"]:
        name, value = _header(one, "--header")
        if is_reference(value):
            yield name, _secret(work, kept, value, "header")
        elif is_secret_name(name) and kept.keys_of_secrets:
            sealer = kept.sealer()
            yield name, Secret(sealer.seal(value), sealer.keys)
        else:
            yield name, value


def _query(work: Work, kept: Profiles) -> Iterator[tuple[str, Any]]:
    for one in work.told["query"]:
        name, equals, reference = one.partition("=")
        if not equals or not name:
            # What was given is not repeated: it may be a token.
            raise click.UsageError("--query-from: NAME=REFERENCE is wanted, as in token=env:TOKEN")
        yield name, _secret(work, kept, reference, "query_from")


# ------------------------------------------------------------------------------------------------------------- import


@click.command("import", short_help="Keep what Pulp 2's content source files say.")
@click.argument("path", metavar="FILE|FOLDER", type=click.Path(exists=True))
@click.option("--replace", "replacing", is_flag=True, help="Put them in the place of those of the same names.")
@options.profiles_file()
@options.verbosity()
def imported(**given: Any) -> int:
    """Keep what Pulp 2's content source files (/etc/pulp/content/sources/conf.d/*.conf) say, each section by its name.

    Its TLS, proxy, headers and sign-in become a profile for the origin of its base URL alone; its base URL with its
    paths and its priority (0 is tried first) a content source, which geofetch sync --alternate NAME asks.
    """
    return perform("profiles import", given, _import)


def _import(work: Work) -> int:
    from ..profile_files import read_conf
    from .kept import open_file

    kept, replacing = open_file(work, new=True), work.told["replacing"]
    sections = list(read_conf(work.told["path"]))
    seen: set[str] = set()
    for one in sections:
        name = one.source.name
        if name in seen:
            raise click.UsageError(f"two sections are called {name!r}; rename one")
        if not replacing and (name in kept or name in kept.sources):
            raise click.UsageError(f"{name!r} is kept already; --replace puts what is imported in its place")
        seen.add(name)
        if one.profile is not None:
            work.opened_by(_secrets(one.profile))
            kept.add(one.profile, replacing=replacing)
        kept.add_source(one.source, replacing=replacing)
    if kept.keys_of_secrets:
        kept.rotate()
    some = f"{counted(len(sections), 'content source')} and {counted(_count(sections), 'profile')}"
    _save(work, kept, f"{some} are in")
    for one in sections:
        for words in one.left_out:
            work.console.say(f"[{one.source.name}] {words}")
    return codes.OK


def _secrets(profile: Profile) -> Iterator[str]:
    from .identity import secrets_of

    yield from secrets_of(profile)


def _count(sections: Any) -> int:
    return sum(one.profile is not None for one in sections)
