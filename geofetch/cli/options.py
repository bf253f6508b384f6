"""The flags that several commands share, each told once.

In: what a user wrote.  Out: values of the right kind, or a usage error in one line.  Never: an import beyond click and
the standard library; a secret repeated in an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import click

__all__ = [
    "Duration",
    "Rate",
    "Share",
    "asking",
    "download",
    "identity",
    "json_flag",
    "places",
    "profiles_file",
    "progress",
    "scope",
    "storing",
    "told",
    "verbosity",
]

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

# Generic since click 8.2, and not subscriptable before.
if TYPE_CHECKING:
    _Type: TypeAlias = click.ParamType[Any]
else:
    _Type = click.ParamType

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


class Duration(_Type):
    """Seconds, from ``90``, ``1.5m``, ``2h``, ``30d``; ``zero``: none at all is a time, too.

    ``bare``: whether a number without a unit means seconds.  Where days are as likely meant it is refused.
    """

    name = "time"

    def __init__(self, zero: bool = False, bare: bool = True) -> None:
        self._zero = zero
        self._bare = bare

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d|w)?", str(value).strip(), re.ASCII)
        if found is None or (float(found[1]) == 0 and not self._zero):
            from_0 = "from" if self._zero else "above"
            plain = "seconds, or with a unit" if self._bare else "with a unit,"
            self.fail(f"a time {from_0} 0 is wanted: {plain} as in 90s, 5m, 2h, 30d", param, ctx)
        if not self._bare and found[2] is None and float(found[1]) != 0:
            self.fail(f"{value} of what? say {found[1]}d, {found[1]}h or {found[1]}s (s, m, h, d, w)", param, ctx)
        return float(found[1]) * _UNITS[found[2] or ""]


_POWERS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class Rate(_Type):
    """Bytes a second, from ``200M``, ``1.5G``, ``800Ki``: powers of ten, unless an i says of two."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip().removesuffix("/s")
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", text, re.ASCII | re.IGNORECASE)
        if found is None or float(found[1]) == 0:
            self.fail("bytes a second above 0 are wanted, as in 200M, 1.5G, 800K", param, ctx)
        return float(found[1]) * _POWERS[(found[2] or "").lower()]


class Share(_Type):
    """A share of the whole from ``5%`` (a float up to 1.0), or a number of things from ``100`` (an int)."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | int:
        if isinstance(value, int | float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)%", str(value).strip(), re.ASCII)
        if found is not None and 0 < float(found[1]) <= 100:
            return float(found[1]) / 100
        if re.fullmatch(r"\d+", str(value).strip(), re.ASCII) and int(value) > 0:
            return int(value)
        return self.fail("a share as in 5%, or a number as in 100, is wanted", param, ctx)


def _all(*options: Any) -> Decorator:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def download() -> Decorator:
    """How files are fetched."""
    positive = click.IntRange(min=1)
    return _all(
        click.option("-j", "--jobs", type=positive, default=32, show_default=True, help="Connections at once."),
        click.option("--per-host", type=positive, help="Of these, to one host.  [default: all]"),
        click.option(
            "--retries",
            type=click.IntRange(min=0),
            default=3,
            show_default=True,
            help="Tries after the first.",
        ),
        click.option("--timeout", type=Duration(), help="Longest wait for an answer, or more of it.  [default: 60s]"),
        click.option("--connect-timeout", type=Duration(), help="Longest wait for a connection.  [default: 10s]"),
        click.option("--deadline", type=Duration(), help="Time for one file in all.  [default: none]"),
        click.option(
            "--decode", is_flag=True, help="Undo a Content-Encoding.  [default: refuse it where a digest is expected]"
        ),
    )


def profiles_file() -> Decorator:
    """Where profiles are kept."""
    return click.option(
        "--profiles",
        "profiles_file",
        type=click.Path(dir_okay=False),
        metavar="FILE",
        help="The file that profiles are kept in.  [default: $GEOFETCH_PROFILES, else profiles.toml in your settings]",
    )


def identity() -> Decorator:
    """Who we are, and whom we trust."""
    readable = click.Path(exists=True, readable=True)
    file = click.Path(exists=True, readable=True, dir_okay=False)
    return _all(
        click.option(
            "--profile", metavar="NAME", help="Who you are to the hosts you name: a kept profile; flags go before it."
        ),
        profiles_file(),
        click.option(
            "-H",
            "--header",
            "headers",
            multiple=True,
            metavar="'NAME: VALUE'|@FILE",
            help="Send this header to the hosts you name; @FILE holds some, one a line, as does $GEOFETCH_HEADERS.",
        ),
        click.option(
            "-u",
            "--user",
            metavar="NAME[:PASSWORD]|@FILE",
            help="Sign in; $GEOFETCH_PASSWORD may hold the password.",
        ),
        click.option("--cacert", type=readable, help="Trust the CAs in this PEM file or folder, and no others."),
        click.option("--cert", type=file, help="Client certificate, PEM.  Its key's password: $GEOFETCH_KEY_PASSWORD."),
        click.option("--key", type=file, help="The client certificate's key, where it is a file of its own."),
        click.option("--insecure", is_flag=True, help="Trust whoever answers.  Digests then are the only proof."),
        click.option("--proxy", metavar="URL", help='Go through this proxy; "" for none.  [default: $HTTPS_PROXY …]'),
    )


def places(into_help: str) -> Decorator:
    """Where files and records are."""
    return _all(
        click.option("--into", type=click.Path(file_okay=False), metavar="DIR", help=into_help),
        click.option(
            "--db",
            metavar="URL",
            help="Records: sqlite:///units.db, postgresql://HOST/NAME, …  [default: DIR/.geofetch/units.db]",
        ),
    )


def scope() -> Decorator:
    """Which of the stored files."""
    return _all(
        click.option("--repository", metavar="NAME", help="Only files of this repository."),
        click.option("--type", "type_", metavar="TYPE", help="Only files of units of this type."),
        click.option("--path", "pattern", metavar="PATTERN", help="Only files of this path; * stands for anything."),
    )


def storing() -> Decorator:
    """How files are stored."""
    return _all(
        click.option("--repository", metavar="NAME", help="What the files belong to, for the records."),
        click.option(
            "--layout",
            type=click.Choice(["path", "digest"]),
            default="path",
            show_default=True,
            help="Files by path, or by their SHA-256 (the same bytes once) with a link at each path.",
        ),
        click.option("--check", is_flag=True, help="Read again what is there, whatever its record says."),
        click.option("--durable", is_flag=True, help="What is reported as done outlives a cut of power."),
    )


def progress() -> Decorator:
    """What is told while it lasts."""
    return _all(
        click.option(
            "--progress",
            type=click.Choice(["auto", "bar", "plain", "json", "none"]),
            default="auto",
            show_default=True,
            help="On stderr: bars on a terminal, else a line now and then.",
        ),
        click.option("--no-progress", is_flag=True, help="The same as --progress none."),
    )


def json_flag(help: str) -> Decorator:
    """JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help=help)


def verbosity() -> Decorator:
    """How much is told."""
    return _all(
        click.option("-q", "--quiet", is_flag=True, help="Tell errors alone."),
        click.option("-v", "--verbose", "loud", count=True, help="Tell more; -vv still more, -vvv what libraries say."),
    )


def asking(help: str) -> Decorator:
    """A question: JSON or not, loud or not."""
    return _all(json_flag(help), verbosity())


def told(**given: Any) -> dict[str, Any]:
    """What a command was told, checked where two flags contradict each other."""
    if given.get("no_progress"):
        given["progress"] = "none"
    if given.get("key") and not given.get("cert"):
        raise click.UsageError("--key belongs to a certificate: give --cert as well")
    if given.get("insecure") and given.get("cacert"):
        raise click.UsageError("--insecure trusts anyone, --cacert only some: leave one out")
    return given
