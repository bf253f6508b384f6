"""The fault matrix, part D: connections that end, and TLS that is none to be trusted.  The ids are its rows.

Each row on both lanes: the class of the error, what the plan makes of it, that no byte reached a part, and what became
of the connection.  D10 to D13, the proxies, are in test_transport_proxies.py: no proxy is asked on the express lane.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest

from geofetch.errors import FetchError, SpecError, Stalled, Unreachable, UntrustedTLS
from geofetch.events import Outcome, Verdict
from geofetch.spec import Profile, Spec
from geofetch.transport import pools
from geofetch.transport.connection import PlainConnection, TLSConnection
from geofetch.transport.tls import Context
from tests.origin.scenes import GATE, Scene, chunks, raw
from tests.support.certs import Authority
from tests.support.diary import sha256
from tests.support.keeping import Keeping
from tests.support.lanes import *  # noqa: F403 - the fixtures of these tests
from tests.support.lanes import Lanes
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Handle, Mirror, Origins
from tests.support.rows import NEXT, STOP, Row, held, judged
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

BODY = b"0123456789" * 10
OK = Scene(body=BODY)
HEAD = b"HTTP/1.1 200 OK\r\n"
LENGTH = HEAD + b"Content-Length: 100\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


@pytest.fixture(params=["http", "https"])
def either(request: pytest.FixtureRequest, origins: Origins) -> Mirror:
    """An HTTP port, and an HTTPS port."""
    return origins.http() if request.param == "http" else origins.https()


def fetched(*urls: str, store: Keeping | None = None, ca: Authority | None = None, **how: Any) -> list[Outcome]:
    """One after the other, none of them twice, each proven by its digest."""
    profile = Profile() if ca is None else Profile(ca=ca.pem)
    told = {"retries": 0, "timeout": 10, "store": store or Keeping(), "profiles": {"p": profile}, **how}
    with pooled(1, **told) as pool:
        return pool.map([Spec(url, profile="p", digests=sha256(BODY)) for url in urls])


def brought(file: Handle) -> list[int]:
    """The connections that brought the requests for a file, one by one."""
    return [request.connection for request in file.requests]


@dataclass(frozen=True)
class Fate:
    """What an error is called, and what the plan makes of it."""

    error: type[FetchError]
    verdict: Verdict
    heals: bool


BROKEN = Fate(Unreachable, NEXT, True)

# ------------------------------------------------------------------------------------------------ D1 to D4: connections


@pytest.mark.parametrize("reset", [False, True], ids=["D1 closed", "D1 reset"])
def test_a_connection_that_ended_while_it_rested_is_replaced_in_silence(
    either: Mirror, ca: Authority, lanes: Lanes, lane: str, reset: bool
) -> None:
    file = either.plays([OK])
    for _ in range(3):
        (outcome,) = fetched(file.url, ca=ca)
        assert (outcome.location, len(outcome.attempts)) == (BODY, 1)
        either.drops(reset)
        either.left()
    assert brought(file) == [1, 2, 3]
    assert set(lanes.taken) == {lane}


@pytest.mark.parametrize("end", ["close", "reset"], ids=["D2 closed", "D2 reset"])
def test_a_connection_that_ends_as_a_request_arrives_is_replaced_once(
    either: Mirror, ca: Authority, lanes: Lanes, lane: str, end: Any
) -> None:
    file = either.plays([OK, OK.but(reused=end), OK])
    outcomes = fetched(file.url, file.url, ca=ca)
    assert [(one.location, len(one.attempts)) for one in outcomes] == [(BODY, 1)] * 2
    assert brought(file) == [1, 1, 2]
    assert lanes.taken == [lane] * 2


@pytest.mark.parametrize("reset", [False, True], ids=["D2 closed, unseen", "D2 reset, unseen"])
def test_an_end_that_came_between_a_look_and_the_request_is_the_same(
    either: Mirror, ca: Authority, lanes: Lanes, lane: str, monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    file = either.plays([OK])
    assert fetched(file.url, ca=ca)[0].location == BODY
    either.drops(reset)
    either.left()
    for kind in (PlainConnection, TLSConnection):
        monkeypatch.setattr(kind, "is_quiet", lambda conn: True)  # as the look found it a moment before
    (outcome,) = fetched(file.url, ca=ca)
    assert (outcome.location, len(outcome.attempts)) == (BODY, 1)
    assert brought(file) == [1, 2]
    assert lanes.taken == [lane] * 2


@pytest.mark.parametrize("end", ["cut", "reset"], ids=["D2 closed twice", "D2 reset twice"])
def test_once_and_no_more(mirror: Mirror, lanes: Lanes, lane: str, end: str) -> None:
    file, store = mirror.plays([OK, Scene(**{end: "head"})]), Keeping()
    _, outcome = fetched(file.url, file.url, store=store)
    assert outcome.error is not None
    judged(outcome.error, BROKEN)
    assert brought(file) == [1, 1, 2]
    assert len(store.parts) == 1
    mirror.left()
    assert set(lanes.taken) == {lane}


@pytest.mark.parametrize("end", ["cut", "reset"], ids=["D2 closed, a new one", "D2 reset, a new one"])
def test_a_new_connection_that_ends_is_not_replaced(mirror: Mirror, lanes: Lanes, lane: str, end: str) -> None:
    file = mirror.plays([Scene(**{end: "head"})])
    (outcome,) = fetched(file.url)
    assert outcome.error is not None
    judged(outcome.error, BROKEN)
    assert brought(file) == [1]
    assert lanes.taken == [lane]


@pytest.mark.parametrize(
    ("part", "error"),
    [
        pytest.param(b"H", Unreachable, id="D2 after a byte"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-", Unreachable, id="D2 in the head"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\n\r\n", Unreachable, id="D2 after an interim answer"),
    ],
)
def test_where_a_byte_of_an_answer_came_nothing_is_asked_twice(
    mirror: Mirror, lanes: Lanes, lane: str, part: bytes, error: type[FetchError]
) -> None:
    file = mirror.plays([OK, raw(part, then="chop"), OK])
    _, outcome = fetched(file.url, file.url)
    assert type(outcome.error) is error
    assert brought(file) == [1, 1]
    assert set(lanes.taken) == {lane}


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(OK.but(headers={"Connection": "close"}, then="close"), id="D3 as it says"),
        pytest.param(OK.but(headers={"Connection": "close"}), id="D3 as it says and does not"),
        pytest.param(OK.but(then="close"), id="D3 without a word"),
        pytest.param(OK.but(version="HTTP/1.0", then="close"), id="D3 http/1.0"),
        pytest.param(OK.but(chunked=40, then="close"), id="D3 in chunks"),
        pytest.param(OK.but(announce=None), id="D3 as the end of the body"),
    ],
)
def test_a_server_that_closes_behind_each_answer(
    either: Mirror, ca: Authority, lanes: Lanes, lane: str, scene: Scene
) -> None:
    file = either.plays([scene])
    outcomes = fetched(*[file.url] * 5, ca=ca)
    assert [(one.location, len(one.attempts)) for one in outcomes] == [(BODY, 1)] * 5
    # Closed without a word, it may be seen while it rests or when it is used: then it is asked once more.
    assert sorted(set(brought(file))) == [1, 2, 3, 4, 5]
    assert set(lanes.taken) == {lane}
    either.left()


def test_D3_a_server_that_closes_behind_every_third_answer(
    either: Mirror, ca: Authority, lanes: Lanes, lane: str
) -> None:
    file = either.plays([OK, OK, OK.but(headers={"Connection": "close"}, then="close")] * 3)
    assert {one.location for one in fetched(*[file.url] * 9, ca=ca)} == {BODY}
    assert brought(file) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert set(lanes.taken) == {lane}
    either.left()


SECOND = {
    "D4": Row(raw(LENGTH + BODY + SMUGGLED, then="keep"), None, None, False, BODY, "dropped"),
    "D4 chunks": Row(raw(CHUNKED + chunks(BODY, 40) + SMUGGLED, then="keep"), None, None, False, BODY, "dropped"),
    "D4 nothing": Row(
        raw(HEAD + b"Content-Length: 0\r\n\r\n" + SMUGGLED, then="keep"), None, None, False, b"", "dropped"
    ),
    "D4 tls": Row(raw(LENGTH + BODY + SMUGGLED, then="keep"), None, None, False, BODY, "dropped", tls=True),
}


@pytest.mark.parametrize("name", SECOND)
def test_a_second_answer_behind_the_first_is_nobodys(
    origins: Origins, ca: Authority, lanes: Lanes, lane: str, name: str
) -> None:
    secure = SECOND[name].tls
    held(SECOND[name], origins.https() if secure else origins.http(), Profile(ca=ca.pem) if secure else Profile())
    assert lanes.taken == [lane] * 2


def test_D4_what_came_while_a_connection_rested_is_nobodys_answer(mirror: Mirror, lanes: Lanes, lane: str) -> None:
    """A server that sends a second answer a moment after the first: it would pass for that of the next file."""
    first, file = mirror.raw(LENGTH + BODY, GATE, SMUGGLED, then="hang"), mirror.plays([OK])
    assert fetched(first.url)[0].location == BODY
    first.release()
    (resting,) = pools.shared().rest.taken()
    pools.shared().rest.enter(resting)
    gevent.get_hub().wait(gevent.get_hub().loop.io(resting.sock.fileno(), 1))  # until it is there
    assert fetched(file.url)[0].location == BODY
    assert brought(file) == [2]
    assert set(lanes.taken) == {lane}


# ------------------------------------------------------------------------------------------------------- D5 to D9: TLS


REFUSED = Fate(UntrustedTLS, NEXT, False)
LATE = Fate(Stalled, NEXT, True)
NOT_TO_BE = Fate(SpecError, STOP, False)


@dataclass(frozen=True)
class Ground:
    """What a row is made of."""

    origins: Origins
    ca: Authority
    other: Authority
    folder: Path

    def server(self, **how: Any) -> Mirror:
        """A TLS port by itself, which shows what it is told to."""
        return self.origins.https(**how)

    def mutual(self) -> Mirror:
        return self.origins.https(wants=self.ca)


#: TLS of old, which OpenSSL speaks when it is told that security does not matter.
OLD = "ALL:@SECLEVEL=0"
NULL = "NULL-SHA256:ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"

Meets = Callable[[Ground], tuple[Mirror, dict[str, Any]]]


def meets(**how: Any) -> Meets:
    return lambda ground: (ground.server(**how), {})


TLS: dict[str, tuple[Meets, Fate, str]] = {
    "D5 expired": (meets(expired=True), REFUSED, "expired"),
    "D5 not yet valid": (
        lambda on: (on.server(shows=on.ca.server("127.0.0.1", early=True)), {}),
        REFUSED,
        "not yet valid",
    ),
    "D5 another host": (meets(names=("elsewhere.test",)), REFUSED, "127.0.0.1"),
    "D5 name in the subject alone": (
        lambda on: (on.server(shows=on.ca.server(cn="localhost"), host="localhost"), {}),
        REFUSED,
        "localhost",
    ),
    "D5 unknown CA": (lambda on: (on.server(ca=on.other), {}), REFUSED, "unable to get local issuer"),
    "D5 self-signed": (lambda on: (on.server(shows=on.other.itself()), {}), REFUSED, "self-signed"),
    "D6 TLS 1.0": (meets(versions=("TLSv1", "TLSv1"), ciphers=OLD), REFUSED, ""),
    "D6 TLS 1.1": (meets(versions=("TLSv1_1", "TLSv1_1"), ciphers=OLD), REFUSED, ""),
    "D6 no encryption": (meets(versions=("TLSv1_2", "TLSv1_2"), ciphers=NULL), REFUSED, ""),
    "D6 no TLS": (meets(greets=["garbage"]), REFUSED, ""),
    "D7 silence": (meets(greets=["silent"]), LATE, ""),
    "D7 drop by drop": (meets(greets=["drip"]), LATE, ""),
    "D7 closed": (meets(greets=["close"]), BROKEN, ""),
    "D7 reset": (meets(greets=["reset"]), BROKEN, ""),
    "D8 no certificate of ours": (lambda on: (on.mutual(), {}), REFUSED, ""),
    "D8 ours has expired": (
        lambda on: (on.mutual(), {"cert": on.ca.client("late", expired=True).pem}),
        REFUSED,
        "expired",
    ),
    "D8 ours is of another CA": (lambda on: (on.mutual(), {"cert": on.other.client("mallory").pem}), REFUSED, ""),
    "D9 the CA is not there": (
        lambda on: (on.server(), {"ca": str(on.folder / "gone.pem")}),
        NOT_TO_BE,
        "gone.pem",
    ),
    "D9 the CA is none": (lambda on: (on.server(), {"ca": b"nothing"}), NOT_TO_BE, "CA given as bytes"),
    "D9 our certificate is not there": (
        lambda on: (on.server(), {"cert": str(on.folder / "gone.pem")}),
        NOT_TO_BE,
        "gone.pem",
    ),
}


def test_a_connection_that_was_reset_before_tls_began_is_closed(spotless: Leftovers) -> None:
    server = gevent.socket.create_server(("127.0.0.1", 0))
    client = gevent.socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()  # no end, but a reset
    server.close()
    until(lambda: _is_gone(client))
    with pytest.raises(ConnectionResetError) as caught:
        Context(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(client, server_hostname="localhost")
    assert client.fileno() == -1
    spotless.check()
    assert caught.value.errno == errno.ECONNRESET  # it holds the frames up to here, and they the socket


def _is_gone(client: gevent.socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("name", TLS)
def test_whoever_is_not_to_be_trusted_is_told_nothing(
    origins: Origins, ca: Authority, other_ca: Authority, tmp_path: Path, lanes: Lanes, lane: str, name: str
) -> None:
    meets, fate, words = TLS[name]
    mirror, how = meets(Ground(origins, ca, other_ca, tmp_path))
    file, store, profile = mirror.plays([OK]), Keeping(), Profile(**{"ca": ca.pem, **how})
    connect_s = 0.4 if fate is LATE else 10
    with pooled(1, retries=0, timeout=(connect_s, 10), store=store, profiles={"p": profile}) as pool:
        (outcome,) = pool.map([Spec(file.url, profile="p")])
    assert (outcome.state, outcome.fetched, store.parts) == ("failed", 0, [])
    assert outcome.error is not None
    judged(outcome.error, fate)
    assert words in str(outcome.error)
    # Never once more, least of all without proof; and not a word of the request came.
    assert mirror.accepted == (0 if fate is NOT_TO_BE else 1)
    assert mirror.hits == 0
    mirror.left()
    assert lanes.taken == [lane]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize(
    ("versions", "ciphers"),
    [
        pytest.param("TLSv1", OLD, id="TLS 1.0"),
        pytest.param("TLSv1_1", OLD, id="TLS 1.1"),
        pytest.param("TLSv1_2", NULL, id="no encryption"),
    ],
)
def test_the_servers_of_old_do_speak_with_those_who_want_it(origins: Origins, versions: str, ciphers: str) -> None:
    """Rows D6 would hold for anything, were those servers no servers."""
    mirror = origins.https(versions=(versions, versions), ciphers=ciphers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers(ciphers)
    context.minimum_version = context.maximum_version = ssl.TLSVersion[versions]
    with socket.create_connection((mirror.host, mirror.port), timeout=10) as plain, context.wrap_socket(plain) as sock:
        assert sock.version() == versions.replace("_", ".")


@pytest.mark.parametrize("who", ["nobody", "late"], ids=["D8 none, told early", "D8 expired, told early"])
def test_what_a_server_said_before_it_was_asked_is_heard(
    mutual: Mirror, ca: Authority, lanes: Lanes, lane: str, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """In TLS 1.3 a server judges our certificate when our handshake is over: it may have closed before we ask."""
    connect = TLSConnection.connect

    def connected(self: TLSConnection) -> None:
        connect(self)
        mutual.left()

    monkeypatch.setattr(TLSConnection, "connect", connected)
    file, store = mutual.plays([OK]), Keeping()
    profile = Profile(ca=ca.pem, cert=ca.client(who, expired=True).pem if who == "late" else None)
    with pooled(1, retries=0, store=store, profiles={"p": profile}) as pool:
        (outcome,) = pool.map([Spec(file.url, profile="p")])
    assert outcome.error is not None
    judged(outcome.error, REFUSED)
    assert (file.hits, mutual.accepted, store.parts) == (0, 1, [])
    assert lanes.taken == [lane]


def test_D8_a_certificate_that_is_renewed_meanwhile(
    secure: Mirror, ca: Authority, other_ca: Authority, lanes: Lanes, lane: str
) -> None:
    """A kept connection goes on; the next new one is held against what it shows."""
    file, names = secure.plays([OK]), ("localhost", "127.0.0.1")
    for certificate in (ca.server("127.0.0.1"), other_ca.server(*names), ca.server(*names)):
        assert fetched(file.url, ca=ca)[0].ok
        secure.renews(certificate)
        assert fetched(file.url, ca=ca)[0].ok
        secure.drops()
        secure.left()
        outcome = fetched(file.url, ca=ca)[0]
        if certificate is other_ca.server(*names):
            assert outcome.error is not None
            judged(outcome.error, REFUSED)
            secure.renews(ca.server(*names))
        else:
            assert outcome.ok
    # The fourth connection is the one that was refused.
    assert brought(file) == [1, 1, 2, 2, 2, 4, 4, 5]
    assert set(lanes.taken) == {lane}


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_D9_the_environment_has_no_say_where_a_profile_has(
    origins: Origins,
    ca: Authority,
    other_ca: Authority,
    lanes: Lanes,
    lane: str,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    ours, theirs = origins.https(ca).plays([OK]), origins.https(other_ca).plays([OK])
    monkeypatch.setenv(name, str(other_ca.path))
    good, bad = fetched(ours.url, theirs.url, ca=ca)
    assert good.location == BODY
    assert bad.error is not None
    judged(bad.error, REFUSED)
    assert theirs.hits == 0
    assert lanes.taken == [lane] * 2


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_D9_a_bundle_of_the_environment_that_is_not_there_is_our_callers_to_mend(
    secure: Mirror, lanes: Lanes, lane: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/nowhere/ca.pem")
    (outcome,) = fetched(secure.plays([OK]).url)
    assert outcome.error is not None
    judged(outcome.error, NOT_TO_BE)
    assert f"'/nowhere/ca.pem' (from ${name}) cannot be read" in str(outcome.error)
    assert secure.accepted == 0
    assert lanes.taken == [lane]
