"""``geofetch profiles test``: whether a profile is let in, found out by asking.

In: a profile's name, a URL.  Out: what was resolved, who answered and by which certificate, what the status says; an
exit code as of a download that ends so.  Never: a secret shown; a word of who we are to somebody who is not trusted.

``--json`` gives one object

    event           "test"
    profile, url
    ok, exit_code   0 if it is let in and something is there
    secrets         where each was found, by what it stands for
    proxy           null: none of the profile's
    tls             a list, an object a handshake: host, version, trusted, names, issuer, not_after, sha256
    status          null: there was no answer
    answered_by     the URL that answered in the end, after redirects
    error           null, or as get's (output.py)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from . import codes, options
from .words import counted
from .work import Work, perform

if TYPE_CHECKING:
    from ..errors import FetchError
    from ..profile import Profile
    from ..session import Session
    from ..transport.tls import Peer

__all__ = ["test"]


@click.command("test", short_help="Connect, and tell what came of it.")
@click.argument("name", metavar="NAME")
@click.argument("url", metavar="URL")
@click.option("--timeout", type=options.Duration(), default=10.0, help="Longest wait for each step.  [default: 10s]")
@options.profiles_file()
@options.asking("One JSON object.")
def test(**given: Any) -> int:
    """Connect to URL by the profile NAME: look for its secrets, go through its proxy, shake hands, sign in, ask.

    The file itself is not read beyond its head.  Exits as a download that ends so: 0 let in, 2 a secret that is not
    there or an origin that the profile is not for, 4 no connection, 7 not found, 8 not let in, 10 not to be trusted.
    """
    return perform("profiles test", given, _test)


@dataclass
class _Found:
    profile: Profile
    url: str
    proxy: str | None = None
    #: Whoever shook hands, and whether the profile trusts them.
    peers: tuple[tuple[Peer, bool], ...] = ()
    status: int | None = None
    answered_by: str | None = None
    error: FetchError | None = None


def _test(work: Work) -> int:
    from ..session import Session
    from ..spec import Source
    from .identity import secrets_of
    from .kept import open_file

    profile = open_file(work).named(work.told["name"])
    source = Source(work.told["url"])
    work.opened_by(secrets_of(profile, [source.url]))
    session = Session(profile)
    session.check_allowed(source.url)
    _mute(profile)
    found = _asked(session, source, work.told["timeout"])
    found.profile, found.proxy = profile, _proxy(profile, source.url)
    code = codes.OK if found.error is None else codes.code_of(found.error)
    if work.as_json:
        from .output import put

        put(_fields(work, found, code))
    else:
        from .profiles import put_table

        put_table(("", ""), [(what, work.console.clean(words)) for what, words in _lines(found)])
    if found.error is not None:
        work.console.fail(str(found.error))
    return code


def _mute(profile: Profile) -> None:
    import warnings

    from urllib3.exceptions import InsecureRequestWarning

    # It is told below, in the line of the certificate.
    warnings.simplefilter("ignore", InsecureRequestWarning)


def _asked(session: Session, source: Any, timeout: float) -> _Found:
    from ..errors import FetchError, UntrustedTLS
    from ..stream import Patience, opened
    from ..transport.tls import noting_peers

    assert session.profile is not None
    found = _Found(session.profile, source.shown)
    patience = Patience(connect_s=timeout, read_s=timeout)
    with noting_peers() as peers:
        try:
            with opened(session, source, patience) as body:
                found.status, found.answered_by = body.head.status, body.head.url
        except FetchError as exc:
            found.error = exc
            found.status = getattr(getattr(exc, "response", None), "status_code", None)
            found.answered_by = getattr(getattr(exc, "response", None), "url", None)
    trusting = session.profile.verify is not False
    found.peers = tuple((peer, trusting) for peer in peers)
    if isinstance(found.error, UntrustedTLS):
        found.peers = (*found.peers, *((peer, False) for peer in _presented(session, source, patience)))
    return found


def _presented(session: Session, source: Any, patience: Any) -> list[Peer]:
    """Who answers, where nobody is trusted: asked by a session that trusts anyone and says nothing of who we are."""
    from contextlib import suppress
    from dataclasses import replace

    from ..errors import FetchError
    from ..session import Session
    from ..stream import opened
    from ..transport.tls import noting_peers

    trust = replace(session.bare().profile or session.profile, ca=None, verify=False, fingerprint=None)  # type: ignore[type-var]
    blind = Session(trust)
    blind.auth, blind.trust_env = session.bare().auth, session.trust_env
    with noting_peers() as peers, suppress(FetchError), opened(blind, source, patience):
        pass
    return peers


def _proxy(profile: Profile, url: str) -> str | None:
    from requests.utils import select_proxy

    from .profiles import _bare

    found = select_proxy(url, profile.proxy_map)
    return None if not found else _bare(found)


# ---------------------------------------------------------------------------------------------------------------- told


def _fields(work: Work, found: _Found, code: int) -> dict[str, Any]:
    from .output import error_fields

    return {
        "event": "test",
        "profile": found.profile.name,
        "url": found.url,
        "ok": found.error is None,
        "exit_code": code,
        "secrets": {what: secret.shown for what, secret in found.profile.secrets.items()},
        "proxy": found.proxy,
        "tls": [_certificate(peer, trusted) for peer, trusted in found.peers],
        "status": found.status,
        "answered_by": found.answered_by,
        "error": error_fields(found.error, work.console.clean),
    }


def _certificate(peer: Peer, trusted: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"names": None, "issuer": None, "not_after": None}
    try:
        told = _read(peer.certificate)
    except ImportError:
        pass  # without the extra "profiles" there is nobody who reads it; its digest says which it is
    except ValueError:
        told["names"] = []
    digest = hashlib.sha256(peer.certificate).hexdigest()
    return {"host": peer.host, "version": peer.version, "trusted": trusted, **told, "sha256": digest}


def _read(certificate: bytes) -> dict[str, Any]:
    from cryptography import x509

    found = x509.load_der_x509_certificate(certificate)
    try:
        names: Any = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        told = [str(name.value) for name in names]
    except x509.ExtensionNotFound:
        told = []
    return {
        "names": told,
        "issuer": found.issuer.rfc4514_string(),
        "not_after": found.not_valid_after_utc.isoformat(),
    }


def _lines(found: _Found) -> Iterator[tuple[str, str]]:
    yield "profile", str(found.profile.name)
    yield "url", found.url
    for what, secret in found.profile.secrets.items():
        yield "found", f"{what}, by {secret.shown}"
    if found.proxy is not None:
        yield "proxy", found.proxy
    for peer, trusted in found.peers:
        yield from _handshake(_certificate(peer, trusted))
    if found.answered_by is not None and urlsplit(found.answered_by).netloc != urlsplit(found.url).netloc:
        yield "answered by", f"{found.answered_by}, which was told nothing of the profile"
    yield "answer", _says(found)


def _handshake(told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "TLS", f"{told['version']} with {told['host']}, {'trusted' if told['trusted'] else 'NOT shown to be trusted'}"
    if told["names"] is not None:
        yield "certificate", f"for {', '.join(told['names']) or 'no name'}, by {told['issuer']}"
    if told["not_after"] is not None:
        end = datetime.fromisoformat(told["not_after"])
        days = (end - datetime.now(UTC)).days
        when = f"in {counted(days, 'day')}" if days >= 0 else f"{counted(-days, 'day')} ago"
        yield "expires", f"{end:%Y-%m-%d}, {when}"
    yield "sha256", told["sha256"]


def _says(found: _Found) -> str:
    words = {401: "not let in: other credentials are wanted", 403: "not let in: it may not have this", 404: "not there"}
    if found.status is None:
        return "none"
    if found.error is None:
        return f"{found.status}: let in, the file is there"
    return f"{found.status}: {words.get(found.status, type(found.error).__name__)}"
