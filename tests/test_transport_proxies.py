"""Through proxies: plain, by CONNECT, over TLS, TLS in TLS; who is told which credentials, and what a refusal is."""

from __future__ import annotations

import base64

import pytest
import requests

from geofetch.errors import BadStatus, ProxyFailure, SpecError, Stalled, Truncated
from geofetch.session import Session
from geofetch.spec import Source
from geofetch.stream import Patience, opened
from tests.origin.content import made
from tests.support.certs import Authority
from tests.support.mirrors import Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import PATIENT, by_connection, downloaded, refused, session_of, side_by_side

FILE = made(100_000, "through a proxy")
#: What a userinfo must not be read literally in.
AUTH = ("us er@here", "p@ss:w/rd%41?#")


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, origins: Origins) -> Mirror:
    """The origin behind the proxy."""
    return origins.http() if request.param == "http" else origins.https()


@pytest.mark.parametrize("tls", [False, True], ids=["http-proxy", "https-proxy"])
def test_all_four_ways_through_a_proxy(origins: Origins, ca: Authority, server: Mirror, tls: bool) -> None:
    """HTTP and HTTPS, through a proxy over TCP and over TLS; the last of the four is TLS in TLS."""
    way, file = origins.proxy(tls=tls, auth=AUTH), server.serves(FILE)
    session = session_of(ca=ca.pem, proxies=way.url, headers={"X-A": "1"})
    for _ in range(3):
        assert session.get(file.url, timeout=10).content == FILE
        assert downloaded(file.url, session)[1] == FILE
    basic = "Basic " + base64.b64encode(":".join(AUTH).encode()).decode()
    assert {request.header("Proxy-Authorization") for request in way.requests} == {basic}
    # A tunnel knows of the server no more than its name; the server nothing of the proxy's credentials.
    assert [request.header("Proxy-Authorization") for request in file.requests] == [None] * 6
    assert {request.header("X-A") for request in file.requests} == {"1"}
    if server.scheme == "https":
        assert way.tunnels == [f"{server.host}:{server.port}"]
        assert way.requests[0].header("X-A") is None
        assert server.accepted == 1
    else:
        assert {request.target for request in way.requests} == {file.url}


@pytest.mark.parametrize("tls", [False, True], ids=["http-proxy", "https-proxy"])
def test_many_at_once_through_a_proxy(origins: Origins, ca: Authority, server: Mirror, tls: bool) -> None:
    way, file = origins.proxy(tls=tls), server.serves(FILE)
    session = session_of(ca=ca.pem, proxies=way.url)
    answers = side_by_side([lambda: session.get(file.url, timeout=10).content] * 8)
    assert answers == [FILE] * 8
    assert way.accepted <= 8


def test_two_proxies_never_share(origins: Origins, ca: Authority, server: Mirror) -> None:
    ways, file = [origins.proxy(), origins.proxy()], server.serves(b"x")
    for _ in range(2):
        for number, way in enumerate(ways):
            session_of(ca=ca.pem, proxies=way.url).get(file.url, headers={"X-Who": str(number)})
        session_of(ca=ca.pem, proxies="").get(file.url, headers={"X-Who": "none"})
    assert {frozenset(who) for who in by_connection(server)} == {frozenset({one}) for one in ("0", "1", "none")}
    assert [way.accepted for way in ways] == [1, 1]


def test_which_proxy_is_told_by_scheme_and_host(origins: Origins, ca: Authority) -> None:
    plain, secure, one_host = origins.proxy(), origins.proxy(), origins.proxy()
    session = session_of(ca=ca.pem, proxies={"http": plain.url, "https": secure.url, "http://localhost": one_host.url})
    file = origins.http().serves(b"x")
    session.get(file.url)
    session.get(file.via("localhost"))
    session.get(origins.https().serves(b"x").url)
    assert [way.hits for way in (plain, secure, one_host)] == [1, 1, 1]


def test_the_environments_proxies_and_exceptions(
    origins: Origins, server: Mirror, ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    way, file = origins.proxy(), server.serves(b"x")
    session = session_of(ca=ca.pem)
    monkeypatch.setenv(f"{server.scheme}_proxy", way.url)
    session.get(file.url)
    downloaded(file.url, session)
    reached = way.hits
    assert reached > 0
    monkeypatch.setenv("no_proxy", "elsewhere.test,127.0.0.1")
    session.get(file.url)
    downloaded(file.url, session)
    session_of(ca=ca.pem, proxies="").get(file.url)
    monkeypatch.delenv("no_proxy")
    session_of(ca=ca.pem, proxies="").get(file.url)
    session.trust_env = False
    session.get(file.url)
    assert way.hits == reached


# ------------------------------------------------------------------------------------------------------ when it says no


@pytest.mark.parametrize("tls", [False, True], ids=["http-proxy", "https-proxy"])
@pytest.mark.parametrize("status", [407, 403, 502, 503])
def test_a_tunnel_refused_is_the_proxys_failure(origins: Origins, ca: Authority, tls: bool, status: int) -> None:
    server, way = origins.https(), origins.proxy(tls=tls, connect=status)
    session = session_of(ca=ca.pem, proxies=way.url)
    error = refused(ProxyFailure, server.serves(b"x").url, session)
    assert error.response is not None
    assert error.response.status_code == status
    assert str(status) in str(error)
    with pytest.raises(requests.exceptions.ProxyError):
        session.get(server.url)
    assert server.accepted == 0


def test_credentials_that_a_proxy_does_not_take(origins: Origins, ca: Authority, server: Mirror) -> None:
    way, file = origins.proxy(auth=AUTH), server.serves(b"x")
    for wrong in ("", "user:secret@"):
        session = session_of(ca=ca.pem, proxies=f"http://{wrong}{way.host}:{way.port}")
        error = refused(ProxyFailure, file.url, session)
        assert error.response is not None
        assert error.response.status_code == 407
        assert "secret" not in str(error)
    assert file.hits == 0


@pytest.mark.parametrize("status", [403, 404, 502])
def test_what_a_forwarding_proxy_says_counts_as_the_servers_word(origins: Origins, mirror: Mirror, status: int) -> None:
    """HTTP has no mark that tells them apart; 407 alone can be nobody else's."""
    session = session_of(proxies=origins.proxy(plain=status).url)
    with pytest.raises(BadStatus) as caught:
        downloaded(mirror.serves(b"x").url, session)
    assert caught.value.status == status
    assert session.get(mirror.url).status_code == status


def test_a_server_that_the_proxy_does_not_reach(origins: Origins) -> None:
    session = session_of(proxies=origins.proxy().url)
    with pytest.raises(BadStatus) as caught:
        downloaded(origins.refusing().source.url, session)
    assert caught.value.status == 502
    nobody = origins.refusing()
    error = refused(ProxyFailure, f"https://127.0.0.1:{nobody.port}/file", session)
    assert error.response is not None
    assert error.response.status_code == 502


@pytest.mark.parametrize("tls", [False, True], ids=["http-proxy", "https-proxy"])
@pytest.mark.parametrize("end", ["close", "garbage"])
def test_a_proxy_that_ends_the_talk(origins: Origins, ca: Authority, end: str, tls: bool) -> None:
    session = session_of(ca=ca.pem, proxies=origins.proxy(tls=tls, connect=end).url)
    refused(ProxyFailure, origins.https().serves(b"x").url, session)


@pytest.mark.parametrize("tls", [False, True], ids=["http-proxy", "https-proxy"])
def test_a_proxy_that_says_nothing_is_not_waited_for(origins: Origins, ca: Authority, tls: bool) -> None:
    session = session_of(ca=ca.pem, proxies=origins.proxy(tls=tls, connect="hang").url)
    url = origins.https().serves(b"x").url
    refused(Stalled, url, session, Patience(connect_s=0.3, read_s=0.3))
    with pytest.raises(requests.Timeout):
        session.get(url, timeout=0.3)


def test_a_proxy_that_nobody_is_at(origins: Origins, ca: Authority, server: Mirror) -> None:
    file = server.serves(b"x")
    for proxy in (origins.refusing().url, "http://nowhere.invalid:3128", origins.hanging_up().url):
        session = session_of(ca=ca.pem, proxies=proxy)
        with pytest.raises(requests.ConnectionError):
            session.get(file.url)
        with pytest.raises((ProxyFailure, requests.ConnectionError)):
            downloaded(file.url, session)
    refused(ProxyFailure, file.url, session_of(ca=ca.pem, proxies=origins.refusing().url))
    refused(ProxyFailure, file.url, session_of(ca=ca.pem, proxies="http://nowhere.invalid:3128"))
    assert file.hits == 0


def test_a_tls_proxy_that_nobody_vouches_for(origins: Origins, ca: Authority, other_ca: Authority) -> None:
    way, file = origins.proxy(tls=True), origins.http().serves(b"x")
    refused(ProxyFailure, file.url, session_of(ca=other_ca.pem, proxies=way.url))
    assert way.hits == 0
    assert downloaded(file.url, session_of(ca=ca.pem, proxies=way.url))[1] == b"x"


def test_a_proxy_that_dies_in_the_body(origins: Origins, ca: Authority, server: Mirror) -> None:
    way, file = origins.proxy(), server.serves(FILE, stall=50_000)
    session = session_of(ca=ca.pem, proxies=way.url)
    with opened(session, Source(file.url), PATIENT) as body, pytest.raises(Truncated, match="of 100000 bytes"):
        for chunk in body:
            assert chunk in FILE
            way.drops()


@pytest.mark.parametrize("proxy", ["http://", "http://:3128", "ftp://127.0.0.1:3128", "http://[::1", "http://h:99999"])
def test_a_proxy_that_is_no_url(server: Mirror, proxy: str) -> None:
    file = server.serves(b"x")
    with pytest.raises(SpecError, match="a proxy is a URL"):
        session_of(proxies=proxy)
    session = Session()
    session.proxies = {"all": proxy}
    refused(SpecError, file.url, session)
    with pytest.raises((requests.RequestException, ValueError)):
        session.get(file.url)
    assert server.accepted == 0


@pytest.mark.parametrize("host", ["a..b", ".a", "a" * 64 + ".b"])
def test_a_host_that_cannot_be_one_is_no_tunnels(origins: Origins, mirror: Mirror, host: str) -> None:
    way = origins.proxy()
    session = session_of(proxies={"https": way.url})
    for url in (mirror.redirects(f"https://{host}/").url, f"https://{host}/"):
        with pytest.raises(requests.exceptions.InvalidURL):
            session.get(url, timeout=10)
    assert way.hits == 0


def test_a_kept_tunnel_that_died_is_dug_again(origins: Origins, ca: Authority) -> None:
    server, way = origins.https(), origins.proxy()
    file = server.serves(b"x")
    session = session_of(ca=ca.pem, proxies=way.url)
    session.get(file.url)
    way.drops()
    way.left()
    session.get(file.url)
    assert way.tunnels == [f"127.0.0.1:{server.port}"] * 2


def test_a_tunnel_closed_as_the_next_request_arrives_is_dug_again(origins: Origins, ca: Authority) -> None:
    """The request never goes to the proxy itself, in the open."""
    server, way = origins.https(), origins.proxy()
    file = server.serves(b"x", reused="close")
    session = session_of(ca=ca.pem, proxies=way.url, headers={"X-A": "secret"})
    session.get(file.url)
    assert session.get(file.url).content == b"x"
    assert {request.method for request in way.requests} == {"CONNECT"}
    assert [request.header("X-A") for request in way.requests] == [None, None]
    assert [request.connection for request in file.requests] == [1, 1, 2]


def test_a_call_may_name_its_own_proxy(origins: Origins, mirror: Mirror) -> None:
    default, own = origins.proxy(), origins.proxy()
    file = mirror.serves(b"x")
    Session().get(file.url, proxies={"http": own.url})
    session_of(proxies={"http": default.url}).get(file.url, proxies={"http": own.url})
    assert (default.hits, own.hits) == (0, 2)
