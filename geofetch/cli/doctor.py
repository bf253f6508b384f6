"""``geofetch doctor``: what on this machine decides how downloads go.

In: the process, its environment, its limits.  Out: findings, as lines or JSON; exit code 13 if something stands in the
way, 0 otherwise (a warning is no obstacle).  Never: the network; a password of a proxy's.

``--json`` gives one object: ``ok``, ``problems`` and ``warnings`` (lists of text), and a field for each matter.
"""

from __future__ import annotations

import importlib
import os
import platform
import sysconfig
from collections.abc import Iterator, Mapping
from typing import Any

import click

from . import codes, options
from .words import counted
from .work import Work, perform

__all__ = ["doctor", "findings"]

PACKAGES = ("gevent", "greenlet", "requests", "urllib3", "httptools", "peewee", "certifi", "click", "rich")
#: What setup.py calls extras: the modules that each needs, and the packages that bring them.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "fsspec": {"fsspec": "fsspec"},
    "keyring": {"keyring": "keyring"},
    "metrics": {"prometheus_client": "prometheus-client"},
    "mysql": {"pymysql": "PyMySQL"},
    "postgres": {"psycopg": "psycopg"},
    "profiles": {"cryptography": "cryptography", "tomlkit": "tomlkit"},
    "s3": {"boto3": "boto3"},
    "socks": {"socks": "PySocks"},
}
#: What requests asks, in this order, for a CA bundle where neither a flag nor a Profile names one.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: What OpenSSL and other programs ask; requests does not.
UNASKED = ("SSL_CERT_FILE", "SSL_CERT_DIR")
ANEW = "sync adopts the files that are there, import takes what units export wrote"
#: Connections below which many downloads at once are none.
FEW = 32


@click.command(short_help="Tell what on this machine decides how downloads go.")
@options.places("Look at the records of this folder, too.")
@options.asking("As one JSON object.")
def doctor(**given: Any) -> int:
    """Tell what on this machine decides how downloads go: patches, certificates, proxies, limits, versions.

    With --into or --db the records themselves are read from their first page to their last: whether the database is
    whole, and no row of it contradicts itself.  (Whether stored files are what the records say, verify tells.)

    Exits with 13 if something stands in the way; a warning is no obstacle.
    """
    soft = _soft_limit()
    return perform("doctor", given, lambda work: _tell(work, soft))


def _soft_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _tell(work: Work, soft: int) -> int:
    from .output import put, put_line

    found = findings(soft)
    if work.told["into"] or work.told["db"]:
        found["records"] = _records(work.told, found["problems"])
        found["ok"] = not found["problems"]
    if work.as_json:
        put(found)
    else:
        for line in _lines(found):
            put_line(work.console.clean(line))
    return codes.OK if found["ok"] else codes.LOCKED


def findings(soft: int) -> dict[str, Any]:
    """All that is to be said; ``soft`` is the limit of open files that this process was given."""
    problems: list[str] = []
    warnings: list[str] = []
    told = {
        "versions": _versions(),
        "patched": _patched(problems, warnings),
        "ca": _ca(problems, warnings),
        "proxies": _proxies(warnings),
        "files": _files(soft, warnings),
        "resolver": _resolver(),
        "extras": {extra: dict(_importable(modules)) for extra, modules in EXTRAS.items()},
    }
    return {"ok": not problems, "problems": problems, "warnings": warnings, **told}


def _records(told: Mapping[str, Any], problems: list[str]) -> dict[str, Any]:
    """How many units there are (None: there is no telling), and what is wrong with the database."""
    from ..errors import RecordError
    from .places import asked

    faults: list[str] = []
    try:
        with asked(told) as recorder:
            faults = recorder.faults()
            if not faults:
                return {"units": recorder.count(), "faults": []}
            problems.append(
                f"the records are damaged: {faults[0]}; put a backup in their place, or begin new ones: {ANEW}"
            )
    except RecordError as exc:
        problems.append(f"the records cannot be read: {exc.message}")
    return {"units": None, "faults": faults}


def _versions() -> dict[str, Any]:
    import sqlite3
    import ssl

    from .. import __version__

    return {
        "geofetch": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "openssl": ssl.OPENSSL_VERSION,
        "sqlite": sqlite3.sqlite_version,
        **{name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _importable(modules: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    """Packages and their versions; None: there is none, or it cannot be imported (psycopg without its libpq, say)."""
    for module, package in modules.items():
        try:
            importlib.import_module(module)
        except Exception:
            yield package, None
        else:
            yield package, _version(package) or "of unknown version"


def _extras(found: Mapping[str, Mapping[str, str | None]]) -> Iterator[str]:
    for extra, packages in found.items():
        if all(packages.values()):
            yield f"{extra:<9} {', '.join(f'{name} {version}' for name, version in packages.items())}"
        else:
            missing = ", ".join(name for name, version in packages.items() if not version)
            yield f"{extra:<9} no {missing}: pip install 'geofetch[{extra}]'"


def _patched(problems: list[str], warnings: list[str]) -> dict[str, Any]:
    from .. import monkey

    state = monkey.state()
    if state.world is monkey.World.UNHEALED:
        problems += state.warnings
    else:
        warnings += state.warnings
    replaced = _version("urllib3-future")
    if replaced is not None and not any("urllib3-future" in one for one in state.warnings):
        warnings.append(f"urllib3-future {replaced} is installed beside urllib3, and may replace it at its next update")
    if any("urllib3-future" in one for one in state.warnings):
        problems.append("urllib3 is not urllib3: uninstall niquests and urllib3-future, then reinstall urllib3")
    free = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    if free and not any("GIL" in one for one in state.warnings):
        warnings.append("this is a free-threaded build of Python, which gevent does not support")
    return {"world": str(state.world), "free_threaded": free}


def _ca(problems: list[str], warnings: list[str]) -> dict[str, Any]:
    from certifi import where

    asked = next((name for name in BUNDLES if os.environ.get(name)), None)
    bundle = os.environ[asked] if asked is not None else where()
    certificates = _certificates(bundle)
    if certificates is None:
        cure = f"unset {asked}, or let it name a PEM file or folder" if asked is not None else "reinstall certifi"
        problems.append(f"no HTTPS: the CA bundle {bundle} cannot be used; {cure}")
    unasked = [name for name in UNASKED if os.environ.get(name)]
    if unasked and asked is None:
        warnings.append(f"{' and '.join(unasked)}: set, and not asked for; REQUESTS_CA_BUNDLE or --cacert is")
    return {"bundle": bundle, "from": asked or "certifi", "certificates": certificates}


def _certificates(bundle: str) -> int | None:
    """How many CAs are in a bundle; None: it cannot be used.  A folder is read as it is needed, and counts as 0."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if os.path.isdir(bundle):
            context.load_verify_locations(capath=bundle)
        else:
            context.load_verify_locations(cafile=bundle)
    except (OSError, ValueError):
        return None
    return len(context.get_ca_certs(binary_form=True))


def _proxies(warnings: list[str]) -> dict[str, Any]:
    from urllib.request import getproxies_environment

    from ..names import shown

    found = dict(getproxies_environment())
    exceptions = found.pop("no", "")
    for scheme, url in found.items():
        if url.startswith("socks") and _version("PySocks") is None:
            warnings.append(
                f"the proxy for {scheme} is a SOCKS proxy, which wants PySocks: pip install geofetch[socks]"
            )
    return {"by_scheme": {scheme: shown(url) for scheme, url in sorted(found.items())}, "not_for": exceptions}


def _files(soft: int, warnings: list[str]) -> dict[str, Any]:
    from ..limits import descriptors_for_connections

    connections = descriptors_for_connections()
    if connections < FEW:
        warnings.append(f"few open files are allowed: {counted(connections, 'connection')} at once; see ulimit -Hn")
    return {"soft": soft, "raised_to": _soft_limit(), "connections": connections}


def _resolver() -> dict[str, Any]:
    import gevent

    kind = type(gevent.get_hub().resolver)
    return {"kind": f"{kind.__module__}.{kind.__qualname__}", "from": os.environ.get("GEVENT_RESOLVER") or "default"}


def _lines(found: Mapping[str, Any]) -> list[str]:
    versions = found["versions"]
    ca, files, proxies = found["ca"], found["files"], found["proxies"]
    through = ", ".join(f"{scheme} {url}" for scheme, url in proxies["by_scheme"].items()) or "none"
    certificates = "unusable" if ca["certificates"] is None else counted(ca["certificates"], "certificate")
    rows = [
        ("geofetch", f"{versions['geofetch']} on {versions['python']}, {versions['system']}"),
        ("stack", ", ".join(f"{name} {versions[name] or '(missing)'}" for name in PACKAGES)),
        ("libraries", f"{versions['openssl']}, SQLite {versions['sqlite']}"),
        *(("extras" if not number else "", line) for number, line in enumerate(_extras(found["extras"]))),
        ("patched", f"{found['patched']['world']}; the command needs no patch"),
        (
            "threads",
            "free: gevent does not support it" if found["patched"]["free_threaded"] else "one at a time",
        ),
        ("CA bundle", f"{ca['bundle']} ({certificates}), from {ca['from']}"),
        ("proxies", through + (f"; not for {proxies['not_for']}" if proxies["not_for"] else "")),
        (
            "open files",
            f"{files['soft']}, raised to {files['raised_to']}: {counted(files['connections'], 'connection')} at once",
        ),
        ("resolver", f"{found['resolver']['kind']} ({found['resolver']['from']})"),
    ]
    if "records" in found:
        records = found["records"]
        sound = f"{counted(records['units'], 'unit')}, sound" if records["units"] is not None else "not to be trusted"
        rows.append(("records", sound))
        rows += [("", fault) for fault in records["faults"]]
    lines = [f"{name:<11} {text}" for name, text in rows]
    lines += [f"{'warning':<11} {text}" for text in found["warnings"]]
    lines += [f"{'problem':<11} {text}" for text in found["problems"]]
    return [*lines, "all is well" if found["ok"] else "something stands in the way"]
