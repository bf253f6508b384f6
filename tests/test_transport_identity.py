"""Who shares a connection: all with the same identity, by content, and nobody else.  Counted at the server."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

import geofetch
from geofetch.errors import SpecError, UntrustedTLS
from geofetch.session import Session
from geofetch.spec import Profile
from tests.support.certs import Authority, Certificate
from tests.support.mirrors import Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import by_connection, refused, session_of, side_by_side, trusting
from tests.support.walking import in_subprocess

PASSWORD = "open sesame"


def certificate_of(ca: Authority) -> Certificate:
    """The one that ``secure`` shows."""
    return ca.server("localhost", "127.0.0.1", expired=False)


def locked(certificate: Certificate) -> bytes:
    """The certificate with its key under PASSWORD, in PEM bytes."""
    key = load_pem_private_key(certificate.key.read_bytes(), None)
    words = BestAvailableEncryption(PASSWORD.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, words) + certificate.cert.read_bytes()


# ------------------------------------------------------------------------------------------------ apart, and together


def test_two_profiles_share_no_socket(origins: Origins, ca: Authority, other_ca: Authority) -> None:
    """Other client certificates, other CAs, other proxies: nothing of one serves the other."""
    server, ways = origins.https(wants=ca), [origins.proxy(), origins.proxy()]
    file = server.serves(b"x")
    profiles = {
        "alice": Profile(ca=ca.pem, cert=ca.client("alice").pem, proxies=ways[0].url),
        "bob": Profile(ca=ca.pem + other_ca.pem, cert=ca.client("bob").pem, proxies=ways[1].url),
    }
    for _ in range(3):
        for who, profile in profiles.items():
            assert Session(profile).get(file.url, headers={"X-Who": who}).content == b"x"
    assert by_connection(server) == [{"alice"}, {"bob"}]
    assert [connection.client for connection in server.connections] == ["alice", "bob"]
    assert [way.accepted for way in ways] == [1, 1]


def _apart(ca: Authority, other_ca: Authority) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    trust = {"ca": ca.pem}
    alice, bob = ca.client("alice"), ca.client("bob")
    return {
        "client certificate": ({**trust, "cert": alice.pem}, {**trust, "cert": bob.pem}),
        "a client certificate and none": ({**trust, "cert": alice.pem}, trust),
        "CA": (trust, {"ca": ca.pem + other_ca.pem}),
        "least TLS version": (trust, {**trust, "min_tls": "1.3"}),
        "ciphers": (trust, {**trust, "ciphers": "ECDHE+AESGCM"}),
        "pin": (trust, {**trust, "fingerprint": certificate_of(ca).digest}),
        "no trust at all": ({"verify": False}, trust),
    }


@pytest.mark.parametrize(
    "what",
    [
        "client certificate",
        "a client certificate and none",
        "CA",
        "least TLS version",
        "ciphers",
        "pin",
        "no trust at all",
    ],
)
def test_each_part_of_an_identity_keeps_connections_apart(
    secure: Mirror, ca: Authority, other_ca: Authority, what: str
) -> None:
    file = secure.serves(b"x")
    for _ in range(2):
        for who, profile in zip("ab", _apart(ca, other_ca)[what], strict=True):
            trusting(file.url, session_of(**profile), headers={"X-Who": who})
    assert by_connection(secure) == [{"a"}, {"b"}]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("http://user:one@", "http://user:two@", id="password"),
        pytest.param("http://one:password@", "http://two:password@", id="user"),
        pytest.param("http://user:one@", "http://", id="none"),
    ],
)
def test_other_credentials_for_a_proxy_are_another_connection(
    origins: Origins, ca: Authority, scheme: str, one: str, other: str
) -> None:
    server = origins.https() if scheme == "https" else origins.http()
    file, way = server.serves(b"x"), origins.proxy()
    for _ in range(2):
        for userinfo in (one, other):
            session = session_of(ca=ca.pem, proxies=f"{userinfo}127.0.0.1:{way.port}")
            assert session.get(file.url).content == b"x"
    # Through a tunnel it is kept alive; a proxy that forwards closes when the server did.
    told = [request.header("Proxy-Authorization") for request in way.requests]
    assert len(set(told)) == 2
    assert by_connection(way, "Proxy-Authorization") == [{told[0]}, {told[1]}]


def _alike(ca: Authority, folder: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    alice = ca.client("alice")
    copies = {name: folder / name for name in ("ca.pem", "alice.pem", "alice.crt", "alice.key")}
    copies["ca.pem"].write_bytes(ca.pem)
    copies["alice.pem"].write_bytes(alice.pem)
    copies["alice.crt"].write_bytes(alice.cert.read_bytes())
    copies["alice.key"].write_bytes(alice.key.read_bytes())
    pair = (str(alice.cert), str(alice.key))
    return {
        "the same": ({"ca": ca.pem}, {"ca": ca.pem}),
        "CA by path and by bytes": ({"ca": str(ca.path)}, {"ca": ca.pem}),
        "CA by two paths": ({"ca": str(ca.path)}, {"ca": str(copies["ca.pem"])}),
        "certificate by path and by bytes": (
            {"ca": ca.pem, "cert": str(alice.both)},
            {"ca": ca.pem, "cert": alice.pem},
        ),
        "certificate and key by path and by bytes": (
            {"ca": ca.pem, "cert": (str(copies["alice.crt"]), str(copies["alice.key"]))},
            {"ca": ca.pem, "cert": (alice.cert.read_bytes(), alice.key.read_bytes())},
        ),
        "certificate and key by two paths": (
            {"ca": ca.pem, "cert": pair},
            {"ca": ca.pem, "cert": (str(copies["alice.crt"]), str(copies["alice.key"]))},
        ),
        "headers and auth are not the connection's": (
            {"ca": ca.pem, "headers": {"X-Key": "1"}},
            {"ca": ca.pem, "auth": ("u", "p"), "name": "another"},
        ),
    }


@pytest.mark.parametrize(
    "what",
    [
        "the same",
        "CA by path and by bytes",
        "CA by two paths",
        "certificate by path and by bytes",
        "certificate and key by path and by bytes",
        "certificate and key by two paths",
        "headers and auth are not the connection's",
    ],
)
def test_two_sessions_of_one_identity_share_a_socket(secure: Mirror, ca: Authority, tmp_path: Path, what: str) -> None:
    file = secure.serves(b"x")
    for _ in range(2):
        for profile in _alike(ca, tmp_path)[what]:
            with session_of(**profile) as session:
                assert session.get(file.url).content == b"x"
    assert secure.accepted == 1


def test_what_a_session_says_and_what_a_profile_says_is_one_identity(secure: Mirror, ca: Authority) -> None:
    file = secure.serves(b"x")
    session = Session()
    session.verify = str(ca.path)
    session.get(file.url)
    Session().get(file.url, verify=str(ca.path))
    geofetch.get(file.url, verify=str(ca.path))
    session_of(ca=ca.pem).get(file.url)
    assert secure.accepted == 1


def test_sessions_without_a_profile_share_too_and_keep_their_cookies_apart(mirror: Mirror) -> None:
    file = mirror.serves(b"x", headers={"Set-Cookie": "a=1"})
    with Session() as one, Session() as other:
        one.get(file.url)
        one.get(file.url)
        other.get(file.url)
    geofetch.get(file.url)
    assert mirror.accepted == 1
    assert [request.header("Cookie") for request in file.requests] == [None, "a=1", None, None]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_1000_requests_of_20_greenlets_open_at_most_20_connections(
    origins: Origins, ca: Authority, scheme: str
) -> None:
    server = origins.https() if scheme == "https" else origins.http()
    file = server.serves(b"x" * 100)

    def fifty() -> int:
        session = session_of(ca=ca.pem)
        return sum(len(session.get(file.url, timeout=30).content) for _ in range(50))

    assert side_by_side([fifty] * 20, 60) == [5000] * 20
    assert file.hits == 1000
    assert server.accepted <= 20


def test_a_ca_bundle_is_read_once_a_profile(secure: Mirror, ca: Authority) -> None:
    """20 connections at once, by three Sessions: one look into the file, one bundle loaded."""
    file = secure.serves(b"x", latency_s=0.05)
    code = """
        import sys
        from geofetch.transport import tls
        opened, loaded = [], []
        sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" and args[0] == ca else None)
        class Counting(tls.Context):
            def load_verify_locations(self, *args, **kwargs):
                loaded.append((args, kwargs))
                return super().load_verify_locations(*args, **kwargs)
        tls.Context = Counting
        sessions = [geofetch.Session(geofetch.Profile(ca=ca)) for _ in range(3)]
        jobs = [gevent.spawn(sessions[number % 3].get, url) for number in range(20)]
        gevent.joinall(jobs, raise_error=True)
        print(len(opened), len(loaded))
    """
    assert in_subprocess(code, url=file.url, ca=str(ca.path)).split() == ["1", "1"]
    assert secure.accepted > 1


@pytest.mark.parametrize("how", ["replaced", "written over"])
def test_a_certificate_renewed_in_place_is_another_identity(
    mutual: Mirror, ca: Authority, tmp_path: Path, how: str
) -> None:
    file, path = mutual.serves(b"x"), tmp_path / "me.pem"
    path.write_bytes(ca.client("alice").pem)
    session = session_of(ca=ca.pem, cert=str(path))
    session.get(file.url)
    session.get(file.url)
    before = path.stat()
    if how == "replaced":
        (tmp_path / "new.pem").write_bytes(ca.client("bob").pem)
        os.replace(tmp_path / "new.pem", path)
    else:
        path.write_bytes(ca.client("bob").pem)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    session.get(file.url)
    assert [(one.client, one.requests) for one in mutual.connections] == [("alice", 2), ("bob", 1)]


# ------------------------------------------------------------------------------------------------------- who is trusted


def test_trusting_anyone_never_leaks_to_who_verifies(origins: Origins, other_ca: Authority) -> None:
    server = origins.https(other_ca)
    file = server.serves(b"x")
    session, careless = Session(), session_of(verify=False)
    assert trusting(file.url, careless).content == b"x"
    assert trusting(file.url, session, verify=False).content == b"x"
    for verifying in (session, Session(), session_of(verify=True), session_of(headers={"X-A": "1"})):
        with pytest.raises(requests.exceptions.SSLError):
            verifying.get(file.url)
    assert file.hits == 2
    assert trusting(file.url, careless).content == b"x"


def test_a_call_that_verifies_is_stronger_than_a_profile_that_does_not(origins: Origins, other_ca: Authority) -> None:
    file = origins.https(other_ca).serves(b"x")
    with pytest.raises(requests.exceptions.SSLError):
        session_of(verify=False).get(file.url, verify=True)
    assert file.hits == 0


@pytest.mark.parametrize("verify", [True, False])
def test_the_pinned_certificate_is_let_in_and_no_other(secure: Mirror, ca: Authority, verify: bool) -> None:
    file = secure.serves(b"x")
    trust: dict[str, Any] = {"ca": ca.pem} if verify else {"verify": False}
    right = certificate_of(ca).digest
    assert trusting(file.url, session_of(**trust, fingerprint=right)).content == b"x"
    wrong = session_of(**trust, fingerprint=right[:-1] + ("0" if right[-1] != "0" else "1"))
    with pytest.raises(requests.exceptions.SSLError):
        wrong.get(file.url)
    refused(UntrustedTLS, file.url, wrong)
    # The handshake ends, and then nothing is said: not one byte of a request.
    assert [connection.requests for connection in secure.connections] == [1, 0, 0]
    assert file.hits == 1


@pytest.mark.parametrize(("least", "spoken"), [(None, "TLSv1.2"), ("1.2", "TLSv1.2"), ("1.3", None)])
def test_the_least_tls_version(origins: Origins, ca: Authority, least: str | None, spoken: str | None) -> None:
    old = origins.https(versions=(None, "TLSv1_2"))
    file = old.serves(b"x")
    session = session_of(ca=ca.pem, min_tls=least)
    if spoken is None:
        with pytest.raises(requests.exceptions.SSLError):
            session.get(file.url)
        refused(UntrustedTLS, file.url, session)
    else:
        assert session.get(file.url).content == b"x"
        assert old.connections[0].tls == spoken


def test_ciphers(origins: Origins, ca: Authority) -> None:
    # trustme's keys are elliptic: with RSA alone there is nothing in common.
    file = origins.https(versions=(None, "TLSv1_2")).serves(b"x")
    assert session_of(ca=ca.pem, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256").get(file.url).content == b"x"
    with pytest.raises(requests.exceptions.SSLError):
        session_of(ca=ca.pem, ciphers="ECDHE-RSA-AES128-GCM-SHA256").get(file.url)


def test_a_session_asks_who_the_server_is(origins: Origins, ca: Authority, other_ca: Authority) -> None:
    bad = {
        "of another CA": origins.https(other_ca),
        "for another name": origins.https(names=("elsewhere.test",)),
        "expired": origins.https(expired=True),
    }
    for server in bad.values():
        file = server.serves(b"x")
        with pytest.raises(requests.exceptions.SSLError):
            session_of(ca=ca.pem).get(file.url)
        refused(UntrustedTLS, file.url, session_of(ca=ca.pem))
        assert server.hits == 0


# ------------------------------------------------------------------------------------------------- client certificates


CERTIFICATES: dict[str, Callable[[Certificate, Path], dict[str, Any]]] = {
    "path": lambda alice, _: {"cert": str(alice.both)},
    "os.PathLike in a pair": lambda alice, _: {"cert": (os.fspath(alice.cert), os.fspath(alice.key))},
    "list of two": lambda alice, _: {"cert": [str(alice.cert), str(alice.key)]},
    "bytes": lambda alice, _: {"cert": alice.pem},
    "two bytes": lambda alice, _: {"cert": (alice.cert.read_bytes(), alice.key.read_bytes())},
    "bytes and path": lambda alice, _: {"cert": (alice.cert.read_bytes(), str(alice.key))},
    "locked bytes": lambda alice, _: {"cert": locked(alice), "key_password": PASSWORD},
    "locked path": lambda alice, folder: {"cert": written(folder, locked(alice)), "key_password": PASSWORD},
}


def written(folder: Path, content: bytes) -> str:
    path = folder / "locked.pem"
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("how", CERTIFICATES)
def test_a_client_certificate_in_any_usual_form(mutual: Mirror, ca: Authority, tmp_path: Path, how: str) -> None:
    file = mutual.serves(b"x")
    session = session_of(ca=ca.pem, **CERTIFICATES[how](ca.client("alice"), tmp_path))
    assert session.get(file.url).content == b"x"
    assert [one.client for one in mutual.connections] == ["alice"]


def test_a_certificate_of_a_call_is_another_identity(mutual: Mirror, ca: Authority) -> None:
    file = mutual.serves(b"x")
    session = session_of(ca=ca.pem, cert=ca.client("alice").pem)
    session.get(file.url)
    session.get(file.url, cert=str(ca.client("bob").both))
    session.get(file.url)
    assert [(one.client, one.requests) for one in mutual.connections] == [("alice", 2), ("bob", 1)]


UNUSABLE: dict[str, tuple[Callable[[Certificate, Path], dict[str, Any]], str]] = {
    "missing certificate": (lambda _, folder: {"cert": str(folder / "gone.pem")}, r"gone\.pem.*No such file"),
    "missing key": (lambda one, folder: {"cert": (str(one.cert), str(folder / "gone.key"))}, r"gone\.key"),
    "no key": (lambda one, _: {"cert": str(one.cert)}, r"\.crt' cannot be used"),
    "no PEM": (lambda one, folder: {"cert": written(folder, b"not a certificate")}, r"locked\.pem' cannot be used"),
    "no PEM in bytes": (lambda one, _: {"cert": b"not a certificate"}, "given as bytes cannot be used"),
    "key of another": (lambda one, folder: {"cert": (str(one.cert), other_key(folder))}, r"\.crt' cannot be used"),
    "locked": (lambda one, _: {"cert": locked(one)}, "given as bytes cannot be used"),
    "wrong password": (lambda one, _: {"cert": locked(one), "key_password": "else"}, "cannot be used"),
    "missing CA": (lambda _, folder: {"ca": str(folder / "gone.pem")}, r"CA .*gone\.pem.*No such file"),
    "CA that is none": (lambda _, folder: {"ca": written(folder, b"nothing")}, r"CA .*locked\.pem"),
    "CA that is none in bytes": (lambda _, __: {"ca": b"nothing"}, "CA given as bytes"),
    "CA that is cut": (
        lambda one, _: {"ca": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        "CA given as bytes",
    ),
    "unknown ciphers": (lambda _, __: {"ciphers": "ROT13"}, "ciphers 'ROT13'"),
}


def other_key(folder: Path) -> str:
    return str(Authority(folder).client("mallory").key)


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_cannot_be_loaded_is_said_by_name_before_any_connection(
    mutual: Mirror, ca: Authority, tmp_path: Path, what: str
) -> None:
    file = mutual.serves(b"x")
    made, words = UNUSABLE[what]
    session = session_of(**{"ca": ca.pem, **made(ca.client("carol"), tmp_path)})
    with pytest.raises(SpecError, match=words):
        session.get(file.url)
    assert PASSWORD not in str(refused(SpecError, file.url, session))
    assert mutual.accepted == 0


# ---------------------------------------------------------------------------------------------------- the environment


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
@pytest.mark.parametrize("said", [{}, {"verify": True}], ids=["nothing-said", "verify-said"])
def test_the_environment_never_weakens_a_profile(
    origins: Origins,
    ca: Authority,
    other_ca: Authority,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: dict[str, bool],
) -> None:
    ours, theirs = origins.https(ca).serves(b"ours"), origins.https(other_ca).serves(b"theirs")
    monkeypatch.setenv(name, str(other_ca.path))
    session = session_of(ca=ca.pem)
    assert session.get(ours.url, **said).content == b"ours"
    with pytest.raises(requests.exceptions.SSLError):
        session.get(theirs.url, **said)
    pinned = Session()
    pinned.verify = str(ca.path)
    assert pinned.get(ours.url).content == b"ours"
    with pytest.raises(requests.exceptions.SSLError):
        pinned.get(theirs.url)
    refused(UntrustedTLS, theirs.url, session)
    refused(UntrustedTLS, theirs.url, pinned)
    assert theirs.hits == 0


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_environment_counts_where_the_profile_leaves_it_open(
    secure: Mirror, ca: Authority, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = secure.serves(b"x")
    monkeypatch.setenv(name, str(ca.path))
    for session in (Session(), session_of(headers={"X-A": "1"})):
        assert session.get(file.url).content == b"x"
        session.trust_env = False
        with pytest.raises(requests.exceptions.SSLError):
            session.get(file.url)
    assert geofetch.get(file.url).content == b"x"


def test_a_bundle_of_the_environment_that_is_not_there_is_told_with_its_variable(
    secure: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with pytest.raises(SpecError, match=r"'/nowhere/ca.pem' \(from \$REQUESTS_CA_BUNDLE\) cannot be read"):
        Session().get(secure.serves(b"x").url)


def test_the_environment_does_not_make_a_careless_profile_careful(
    origins: Origins, ca: Authority, other_ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = origins.https(other_ca).serves(b"x")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca.path))
    assert trusting(file.url, session_of(verify=False)).content == b"x"
    session = Session()
    session.verify = False
    assert trusting(file.url, session).content == b"x"


def test_what_a_context_asks_of_tls(secure: Mirror, ca: Authority) -> None:
    from geofetch.transport import tls

    trust, cert, given = tls.trust_of(Profile(ca=ca.pem))
    context = tls.context_of(trust, cert, given)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
