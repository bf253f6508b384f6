"""Whom a TLS connection trusts, and who we are to it: one SSLContext for what is the same in content.

In: a Profile, and what requests says (verify, cert).  Out: a Trust, which is the TLS part of a connection's identity,
and its SSLContext.  Never: a connection; a bundle read twice.
"""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import stat
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from gevent.ssl import SSLContext, SSLSocket
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from ..errors import SpecError
from ..spec import Profile

__all__ = ["Peer", "Trust", "context_of", "noting_peers", "trust_of"]

Cert: TypeAlias = "str | bytes | tuple[str | bytes, str | bytes] | None"

#: Where requests reads a CA from, without being asked.
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: Contexts kept at most; beyond it the one that was not asked for longest goes (its connections live on, unshared).
CONTEXTS = 256


@dataclass(frozen=True, slots=True)
class Trust:
    """What makes two TLS connections interchangeable, by content: digests of CA, certificate and key, never paths."""

    verify: bool
    ca: str
    cert: str
    min_tls: str | None
    ciphers: str | None
    fingerprint: str | None


def trust_of(
    profile: Profile | None, verify: Any = True, cert: Any = None, foreign: bool = False
) -> tuple[Trust, Cert, Any]:
    """The Trust of a request, and the certificate and CA to load for it.

    ``verify`` and ``cert`` are requests': a path or False is what a call or a session said, True leaves it to the
    profile. ``foreign`` is an origin that the profile was not made for: it is not shown the client certificate.
    """
    ca: str | bytes | None = None
    if verify is True and profile is not None:
        verify = profile.verify is not False
        ca = profile.ca
    if verify is not False and ca is None:
        ca = verify if isinstance(verify, str | bytes) else DEFAULT_CA_BUNDLE_PATH
    told: Any = profile.cert if profile is not None else None
    own: Cert = cert or told
    if foreign:
        own = None
    trust = Trust(
        verify=verify is not False,
        ca="" if ca is None else _identity(ca, "CA"),
        cert="" if own is None else "|".join(_identity(part, "client certificate") for part in _parts(own)),
        min_tls=profile.min_tls if profile is not None else None,
        ciphers=profile.ciphers if profile is not None else None,
        fingerprint=profile.fingerprint if profile is not None else None,
    )
    return trust, own, ca


def _parts(cert: Cert) -> tuple[str | bytes, ...]:
    return cert if isinstance(cert, tuple) else (cert,) if cert is not None else ()


def _identity(given: str | bytes, what: str) -> str:
    if isinstance(given, bytes):
        return hashlib.sha256(given).hexdigest()
    try:
        found = os.stat(given)
        if os.path.isdir(given):
            return f"folder {os.path.realpath(given)} {found.st_mtime_ns}"
        if stat.S_ISREG(found.st_mode):
            return _digest_of(given, found.st_mtime_ns, found.st_size, found.st_ino)
    except OSError as exc:
        whose = next((f" (from ${name})" for name in BUNDLES if os.environ.get(name) == given), "")
        raise SpecError(f"{what} {given!r}{whose} cannot be read: {exc.strerror}", errno=exc.errno) from exc
    # A pipe that was read is waited for, without end, where it is read again.
    raise SpecError(f"{what} {given!r} is no file; it is read more than once, so copy what it holds into one")


@lru_cache(maxsize=CONTEXTS)
def _digest_of(path: str, mtime_ns: int, size: int, inode: int) -> str:
    # A certificate renewed in place has another mtime or inode: it is read again, and is another identity.
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


_contexts: OrderedDict[Trust, SSLContext] = OrderedDict()


def context_of(trust: Trust, cert: Cert, ca: str | bytes | None, key_password: str | None = None) -> SSLContext:
    """The one SSLContext of a Trust.  It is gevent's own, whatever is patched: its handshakes yield."""
    found = _contexts.get(trust)
    if found is None:
        found = _contexts[trust] = _new_context(trust, cert, ca, key_password)
        while len(_contexts) > CONTEXTS:
            _contexts.popitem(last=False)
    else:
        _contexts.move_to_end(trust)
    return found


@dataclass(frozen=True, slots=True)
class Peer:
    """Who answered a handshake: the name that was asked for, the version of TLS, the certificate in DER."""

    host: str
    version: str
    certificate: bytes


_peers: ContextVar[list[Peer] | None] = ContextVar("geofetch_peers", default=None)


@contextmanager
def noting_peers() -> Iterator[list[Peer]]:
    """Everybody with whom a handshake succeeds meanwhile, in this greenlet; a connection that rested makes none."""
    peers: list[Peer] = []
    token = _peers.set(peers)
    try:
        yield peers
    finally:
        _peers.reset(token)


class _Wrapped(SSLSocket):  # type: ignore[misc]
    """gevent's own, closed where it cannot be made.

    gevent leaves that to the garbage collector where the peer has reset the connection before TLS began.
    """

    def __init__(self, sock: Any, **told: Any) -> None:
        try:
            super().__init__(sock=sock, **told)
        except BaseException:
            if sock.fileno() < 0:  # the descriptor is this one's by now
                self.close()
            raise


class Context(SSLContext):  # type: ignore[misc]
    """gevent's own, whose sockets close when their handshake is given up: a kill, a timeout."""

    sslsocket_class = _Wrapped

    def wrap_socket(self, sock: Any, *args: Any, **kwargs: Any) -> Any:
        # gevent closes on OSErrors alone; anything else leaves the descriptor to the garbage collector.
        wrapped = super().wrap_socket(sock, *args, **{**kwargs, "do_handshake_on_connect": False})
        try:
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        peers = _peers.get()
        if peers is not None:
            told = kwargs.get("server_hostname") or ""
            peers.append(Peer(told, wrapped.version() or "", wrapped.getpeercert(binary_form=True) or b""))
        return wrapped


def _new_context(trust: Trust, cert: Cert, ca: str | bytes | None, key_password: str | None) -> SSLContext:
    context = Context(ssl.PROTOCOL_TLS_CLIENT)
    # What urllib3 sets for its own contexts: no compression (CRIME), no session tickets, names from the SAN alone.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if trust.min_tls == "1.3" else ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.post_handshake_auth = True
    if trust.ciphers is not None:
        try:
            context.set_ciphers(trust.ciphers)
        except ssl.SSLError as exc:
            raise SpecError(f"ciphers {trust.ciphers!r}: none of them is known here") from exc
    if trust.verify:
        _load_ca(context, ca)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if cert is not None:
        _load_cert(context, cert, key_password)
    return context


def _load_ca(context: SSLContext, ca: str | bytes | None) -> None:
    try:
        if isinstance(ca, bytes):
            context.load_verify_locations(cadata=_pem(ca))
        elif ca is not None and os.path.isdir(ca):
            context.load_verify_locations(capath=ca)
        else:
            context.load_verify_locations(cafile=ca)
    except (OSError, ValueError) as exc:
        named = "given as bytes" if isinstance(ca, bytes) else repr(ca)
        raise SpecError(f"CA {named} holds no usable certificate in PEM form: {exc}") from exc


def _pem(ca: bytes) -> str:
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", ca, re.DOTALL)
    if not blocks:
        raise ValueError("no -----BEGIN CERTIFICATE-----")
    return b"\n".join(blocks).decode("ascii")


def _load_cert(context: SSLContext, cert: Cert, key_password: str | None) -> None:
    parts = _parts(cert)
    try:
        with _as_path(parts[0]) as certfile, _as_path(parts[1] if len(parts) > 1 else None) as keyfile:
            context.load_cert_chain(certfile, keyfile, lambda: key_password or "")
    except (OSError, ValueError) as exc:
        named = "given as bytes" if isinstance(parts[0], bytes) else repr(parts[0])
        raise SpecError(f"client certificate {named} cannot be used: {exc}; its key may be missing, or locked") from exc


@contextmanager
def _as_path(part: str | bytes | None) -> Iterator[Any]:
    """A path that OpenSSL can read a certificate from; bytes never touch a disk where the system has memfd."""
    if not isinstance(part, bytes):
        yield part
    elif hasattr(os, "memfd_create"):
        fd = os.memfd_create("geofetch", os.MFD_CLOEXEC)
        try:
            with os.fdopen(fd, "wb", closefd=False) as file:
                file.write(part)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    else:
        with tempfile.NamedTemporaryFile() as file:  # made with mode 0600
            file.write(part)
            file.flush()
            yield file.name
