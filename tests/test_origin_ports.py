"""The origin's ports keep their word: closed ones, TLS, proxies, seen through the standard library."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.origin.content import made
from tests.origin.faults import BODY
from tests.support.certs import Authority
from tests.support.mirrors import Mirror, Origins
from tests.support.plain import PATIENCE_S, ask, body_of, connected, exactly, head, heard, rest
from tests.support.process import ROOT
from tests.support.waiting import until

# -- ports


def test_a_refusing_port_refuses(origins: Origins) -> None:
    with pytest.raises(ConnectionRefusedError):
        connected(origins.refusing())


def test_a_full_port_never_connects(origins: Origins) -> None:
    port = origins.full()
    with pytest.raises(TimeoutError):
        socket.create_connection((port.host, port.port), timeout=0.3)


@pytest.mark.parametrize(
    ("opened", "ends"),
    [
        pytest.param(lambda origins: origins.resetting(), ConnectionResetError, id="resetting"),
        pytest.param(lambda origins: origins.hanging_up(), b"", id="hanging-up"),
        pytest.param(lambda origins: origins.silent(), TimeoutError, id="silent"),
    ],
)
def test_a_port_can_greet_with_nothing_good(origins: Origins, opened: Callable[[Origins], Mirror], ends: Any) -> None:
    port = opened(origins)

    def greeting() -> bytes:
        with connected(port) as sock:  # a reset may come before connect() has returned
            sock.settimeout(0.2 if ends is TimeoutError else PATIENCE_S)
            return sock.recv(1)

    if ends == b"":
        assert greeting() == b""
    else:
        with pytest.raises(ends):
            greeting()
    port.left()
    assert port.accepted == 1


def test_greetings_follow_one_another(origins: Origins) -> None:
    port = origins.http(greets=["close", "serve"])
    handle = port.serves(b"second time lucky")
    with connected(port) as sock:
        assert sock.recv(1) == b""
    assert body_of(heard(handle)) == b"second time lucky"


def test_ports_of_a_test_are_gone_after_it(origins: Origins) -> None:
    port = origins.http()
    with connected(port) as sock:
        until(lambda: port.open == 1)
        origins.__exit__()
        assert sock.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connected(port)


def test_the_origin_needs_the_standard_library_alone_and_ends_with_its_stdin() -> None:
    # -S: no site-packages, so an import of gevent would fail here.
    command = [sys.executable, "-S", "-m", "tests.origin"]
    ended = subprocess.run(command, cwd=ROOT, input=b'["listen", {}]\n', capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert list(json.loads(ended.stdout)["ok"]) == ["id", "port"]


# -- TLS


def trusting(ca: Authority, client: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.path))
    if client is not None:
        context.load_cert_chain(client)
    return context


def fetched(url: str, context: ssl.SSLContext) -> bytes:
    with urllib.request.urlopen(url, context=context, timeout=PATIENCE_S) as response:
        return bytes(response.read())


def test_https_is_trusted_by_its_ca_alone(secure: Mirror, ca: Authority, other_ca: Authority) -> None:
    handle = secure.serves(b"sealed")
    assert fetched(handle.url, trusting(ca)) == b"sealed"
    assert fetched(handle.via("localhost"), trusting(ca)) == b"sealed"
    assert [(one.tls, one.sni, one.client) for one in secure.connections] == [
        ("TLSv1.3", None, None),
        ("TLSv1.3", "localhost", None),
    ]
    with pytest.raises(urllib.error.URLError, match="unable to get local issuer certificate"):
        fetched(handle.url, trusting(other_ca))


@pytest.mark.parametrize(
    ("ways", "reason"),
    [
        pytest.param({"expired": True}, "certificate has expired", id="expired"),
        pytest.param({"names": ("elsewhere.test",)}, "IP address mismatch", id="wrong-name"),
        pytest.param({"greets": ["garbage"]}, "record layer failure|wrong version number", id="no-tls"),
        pytest.param({"greets": ["close"]}, "UNEXPECTED_EOF|reset|EOF occurred", id="closes"),
    ],
)
def test_https_can_be_wrong(origins: Origins, ca: Authority, ways: dict[str, Any], reason: str) -> None:
    with pytest.raises((urllib.error.URLError, ConnectionError), match=reason):
        fetched(origins.https(**ways).url, trusting(ca))


@pytest.mark.parametrize("greeting", ["silent", "drip"])
def test_a_handshake_can_go_on_for_ever(origins: Origins, ca: Authority, greeting: str) -> None:
    port = origins.https(greets=[greeting])
    with connected(port) as sock:
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            trusting(ca).wrap_socket(sock, server_hostname="localhost")
    port.left()


def test_a_client_certificate_is_wanted_and_seen(mutual: Mirror, ca: Authority, other_ca: Authority) -> None:
    handle = mutual.serves(b"for members")
    assert fetched(handle.url, trusting(ca, ca.client("ann").both)) == b"for members"
    assert fetched(handle.url, trusting(ca, ca.client("bob").both)) == b"for members"
    assert [one.client for one in mutual.connections] == ["ann", "bob"]
    assert mutual.connections[0].client_digest == ca.client("ann").digest
    for stranger in (None, other_ca.client("eve").both):
        with pytest.raises((OSError, http.client.HTTPException)):
            fetched(handle.url, trusting(ca, stranger))
    assert handle.hits == 2


@pytest.mark.parametrize(("then", "polite"), [("close", True), ("chop", False)])
def test_tls_ends_with_or_without_a_goodbye(secure: Mirror, ca: Authority, then: Any, polite: bool) -> None:
    context = trusting(ca)
    with (
        connected(secure) as plain,
        context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
    ):
        ask(sock, secure.serves(BODY, announce=None, then=then))
        head(sock)
        assert exactly(sock, len(BODY)) == BODY
        if polite:
            assert sock.recv(1) == b""
        else:
            with pytest.raises(ssl.SSLEOFError):
                sock.recv(1)


# -- proxies


def through(proxy: str, *handlers: Any) -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}), *handlers)


def test_a_proxy_forwards_and_tunnels(origins: Origins, mirror: Mirror, secure: Mirror, ca: Authority) -> None:
    proxy = origins.proxy()
    plain, sealed = mirror.serves(b"plain", chunked=True), secure.serves(b"sealed")
    opener = through(proxy.url, urllib.request.HTTPSHandler(context=trusting(ca)))
    assert opener.open(plain.url).read() == b"plain"
    assert opener.open(sealed.url).read() == b"sealed"
    assert [request.target for request in proxy.requests] == [plain.url, f"127.0.0.1:{secure.port}"]
    assert proxy.tunnels == [f"127.0.0.1:{secure.port}"]
    assert (plain.hits, sealed.hits, proxy.accepted) == (1, 1, 2)


def test_a_proxy_keeps_its_connection_where_it_can(origins: Origins, mirror: Mirror) -> None:
    proxy, handle = origins.proxy(), mirror.serves(b"x")
    with connected(proxy) as sock:
        for _ in range(2):
            sock.sendall(f"GET {handle.url} HTTP/1.1\r\nHost: h\r\nProxy-Connection: keep-alive\r\n\r\n".encode())
            head(sock)
            assert exactly(sock, 1) == b"x"
    assert (proxy.accepted, mirror.accepted) == (1, 2)
    assert handle.requests[0].headers == [("Host", "h"), ("Connection", "close")]


def test_a_proxy_wants_its_password(origins: Origins, mirror: Mirror) -> None:
    proxy, handle = origins.proxy(auth=("us er", "p@ss")), mirror.serves(b"x")
    assert through(proxy.url).open(handle.url).read() == b"x"
    with pytest.raises(urllib.error.HTTPError, match="407"):
        through(proxy.base).open(handle.url)
    assert handle.hits == 1


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_may_refuse(origins: Origins, mirror: Mirror, secure: Mirror, status: int) -> None:
    opener = through(origins.proxy(connect=status, plain=status).url)
    with pytest.raises(OSError, match=str(status)):
        opener.open(secure.serves(b"x").url)
    with pytest.raises(urllib.error.HTTPError, match=str(status)):
        opener.open(mirror.serves(b"x").url)
    assert (mirror.hits, secure.accepted) == (0, 0)


@pytest.mark.parametrize(
    ("how", "answer"), [("hang", None), ("close", b""), ("garbage", b"\x16\x03\x01 what?\r\n\r\n")]
)
def test_a_proxy_may_answer_connect_with_nothing_good(origins: Origins, how: str, answer: bytes | None) -> None:
    proxy = origins.proxy(connect=how)
    with connected(proxy) as sock:
        sock.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
        if answer is None:
            sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        else:
            assert rest(sock) == answer
    proxy.left()


def test_a_proxy_may_die_on_the_way(origins: Origins, mirror: Mirror) -> None:
    proxy, handle = origins.proxy(cut_after=40), mirror.serves(BODY)
    with pytest.raises(http.client.IncompleteRead) as caught:
        through(proxy.url).open(handle.url).read()
    assert caught.value.partial == BODY[:40]


def test_a_proxy_can_be_reached_over_tls(origins: Origins, secure: Mirror, ca: Authority) -> None:
    proxy, context = origins.proxy(tls=True), trusting(ca)
    handle = secure.serves(made(200_000))
    with connected(proxy) as plain, context.wrap_socket(plain, server_hostname="localhost") as outer:
        outer.sendall(f"CONNECT 127.0.0.1:{secure.port} HTTP/1.1\r\n\r\n".encode())
        assert head(outer) == b"HTTP/1.1 200 Connection established\r\n\r\n"
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        inner = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def turned(call: Callable[..., Any], *arguments: Any) -> Any:
            while True:
                try:
                    return call(*arguments)
                except ssl.SSLWantReadError:
                    outer.sendall(outgoing.read())
                    incoming.write(outer.recv(65536))
                finally:
                    outer.sendall(outgoing.read())

        turned(inner.do_handshake)
        turned(inner.write, f"GET {handle.path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while len(body_of(answer)) < 200_000:
            answer += turned(inner.read, 65536)
    assert body_of(answer) == made(200_000)
