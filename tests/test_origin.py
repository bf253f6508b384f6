"""The origin keeps its word: every scene is what it says, seen through plain sockets and the standard library."""

from __future__ import annotations

import base64
import gzip
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gevent
import pytest

from geofetch.spec import Source
from tests.origin.content import made
from tests.origin.faults import BODY, FAULTS
from tests.origin.scenes import GATE, Drip, Endless, Scene, chunks, raw
from tests.support.mirrors import Mirror, Origins
from tests.support.plain import PATIENCE_S, ask, body_of, connected, exactly, head, heard, rest

# -- what a scene sends


@pytest.mark.parametrize(
    ("ways", "answer"),
    [
        pytest.param({}, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + BODY, id="plain"),
        pytest.param(
            {"status": 404, "reason": "Gone Fishing", "headers": {"X-A": "1"}},
            b"HTTP/1.1 404 Gone Fishing\r\nX-A: 1\r\nContent-Length: 100\r\n\r\n" + BODY,
            id="status-reason-headers",
        ),
        pytest.param(
            {"status": 503, "retry_after": 2},
            b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 100\r\n\r\n" + BODY,
            id="retry-after",
        ),
        pytest.param(
            {"announce": (100, "42s")},
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nContent-Length: 42s\r\n\r\n" + BODY,
            id="lengths-that-lie",
        ),
        pytest.param({"announce": None}, b"HTTP/1.1 200 OK\r\n\r\n" + BODY, id="no-length"),
        pytest.param(
            {"chunked": 40}, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(BODY, 40), id="chunked"
        ),
        pytest.param(
            {"cut": 7, "headers": [("A", "1"), ("A", "2")]},
            b"HTTP/1.1 200 OK\r\nA: 1\r\nA: 2\r\nContent-Length: 100\r\n\r\n" + BODY[:7],
            id="cut",
        ),
        pytest.param({"cut": "head"}, b"", id="cut-before-the-head"),
        pytest.param(
            {"interim": (100, 103), "status": 204, "body": b""},
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
            b"HTTP/1.1 204 No Content\r\n\r\n",
            id="interim-answers",
        ),
        pytest.param(
            {"extra": b"more", "version": "HTTP/1.0"},
            b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n" + BODY + b"more",
            id="bytes-after-the-end",
        ),
        pytest.param(
            {"times": 3}, b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + BODY * 3, id="a-body-several-times"
        ),
        pytest.param({"drip": (30, 0.001)}, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + BODY, id="drip"),
    ],
)
def test_a_scene_is_sent_byte_for_byte(mirror: Mirror, ways: dict[str, Any], answer: bytes) -> None:
    assert heard(mirror.serves(**{"body": BODY, **ways})) == answer


def test_gzip_is_said_and_done(mirror: Mirror) -> None:
    answer = heard(mirror.serves(BODY, gzip=True))
    assert b"\r\nContent-Encoding: gzip\r\n" in answer
    assert gzip.decompress(body_of(answer)) == BODY


def test_head_gets_the_head_alone(mirror: Mirror) -> None:
    handle = mirror.serves(BODY)
    assert heard(handle, "HEAD") == b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    assert handle.request.method == "HEAD"


def test_raw_bytes_are_sent_as_they_are(mirror: Mirror) -> None:
    assert heard(mirror.raw(b"SSH-2.0-", Drip(b"OpenSSH\0\xff", 3, 0.001))) == b"SSH-2.0-OpenSSH\0\xff"


def test_a_sequence_plays_once_and_its_last_scene_for_ever(mirror: Mirror) -> None:
    handle = mirror.plays([Scene(status=503), raw(b"what?"), Scene(body=b"at last")])
    answers = [heard(handle) for _ in range(4)]
    assert [answer.split(b"\r\n")[0] for answer in answers] == [
        b"HTTP/1.1 503 Service Unavailable",
        b"what?",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK",
    ]
    assert handle.hits == 4


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_begins_as_it_should(mirror: Mirror, name: str) -> None:
    scene = FAULTS[name]
    steps = [*scene.script()["head"], *scene.script()["body"]]
    with connected(mirror) as sock:
        ask(sock, mirror.plays([scene]))
        if steps[0][0] == "reset":
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            assert sock.recv(1) == (b"" if steps[0][0] == "chop" else base64.b64decode(steps[0][1])[:1])


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(Scene(body=b"ab", endless=True), id="body"),
        pytest.param(Scene(storm=103), id="interim-answers"),
        pytest.param(raw(b"HTTP/1.1 200 OK\r\n", Endless(b"X-More: of it\r\n")), id="head"),
        pytest.param(Scene(status=302, headers={"Location": "/"}, body=b"x", endless=True), id="redirect"),
    ],
)
def test_what_is_endless_ends_when_the_client_leaves(mirror: Mirror, scene: Scene) -> None:
    with connected(mirror) as sock:
        ask(sock, mirror.plays([scene]))
        exactly(sock, 300)
        assert mirror.open == 1
    mirror.left()


# -- how a connection ends


def test_a_reset_comes_after_the_bytes_before_it(mirror: Mirror) -> None:
    with connected(mirror) as sock:
        # More than a receive buffer takes: what is still with the origin when it resets would be lost.
        ask(sock, mirror.serves(made(8_000_000), reset=7_500_000))
        head(sock)
        assert exactly(sock, 7_500_000) == made(7_500_000)
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_one_connection_serves_request_after_request(mirror: Mirror) -> None:
    one, two = mirror.serves(b"one"), mirror.serves(b"two", chunked=True)
    with connected(mirror) as sock:
        for handle, wire in ((one, b"one"), (two, chunks(b"two")), (one, b"one")):
            ask(sock, handle)
            head(sock)
            assert exactly(sock, len(wire)) == wire
    assert mirror.accepted == 1
    assert [connection.requests for connection in mirror.connections] == [3]
    assert [request.connection for request in one.requests] == [1, 1]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_kept_connection_can_end_as_its_second_request_arrives(mirror: Mirror, how: Any) -> None:
    handle = mirror.serves(b"x", reused=how)
    with connected(mirror) as sock:
        ask(sock, handle)
        assert head(sock) + exactly(sock, 1) == b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"
        ask(sock, handle)
        if how == "reset":
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""
    assert handle.hits == 2
    assert body_of(heard(handle)) == b"x"


def test_a_kept_connection_can_end_right_after_its_answer(mirror: Mirror) -> None:
    with connected(mirror) as sock:
        ask(sock, mirror.serves(b"x", then="close"))
        assert rest(sock) == b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"


@pytest.mark.parametrize("reset", [False, True])
def test_idle_connections_end_when_the_test_says_so(mirror: Mirror, reset: bool) -> None:
    with connected(mirror) as sock:
        ask(sock, mirror.serves(b"x"))
        head(sock)
        exactly(sock, 1)
        mirror.drops(reset=reset)
        if reset:
            with pytest.raises(ConnectionResetError):
                sock.recv(1)
        else:
            assert sock.recv(1) == b""
    mirror.left()


def test_a_body_without_length_ends_where_its_connection_does(mirror: Mirror) -> None:
    with connected(mirror) as sock:
        ask(sock, mirror.serves(BODY, announce=None))
        assert rest(sock) == b"HTTP/1.1 200 OK\r\n\r\n" + BODY


# -- gates


@pytest.mark.parametrize(
    ("ways", "before"),
    [
        pytest.param({"stall": "head"}, b"", id="before-the-head"),
        pytest.param({"stall": 0}, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", id="after-the-head"),
        pytest.param({"stall": 30}, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + BODY[:30], id="in-the-body"),
    ],
)
def test_a_gate_holds_the_answer_until_it_is_released(mirror: Mirror, ways: dict[str, Any], before: bytes) -> None:
    handle = mirror.serves(BODY, **ways)
    with connected(mirror) as sock:
        ask(sock, handle, more="Connection: close\r\n")
        handle.arrived()
        assert exactly(sock, len(before)) == before
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        sock.settimeout(PATIENCE_S)
        handle.release()
        assert (before + rest(sock)).endswith(b"\r\n\r\n" + BODY)


def test_waiting_at_a_gate_lets_other_greenlets_run(mirror: Mirror) -> None:
    handle = mirror.raw(b"HTTP/1.1 ", GATE, b"200 OK\r\n\r\n")
    with connected(mirror) as sock:
        later = gevent.spawn(ask, sock, handle)  # nobody asks before the test itself waits
        handle.arrived()
        later.get()
        handle.release()
        assert rest(sock) == b"HTTP/1.1 200 OK\r\n\r\n"


def test_a_client_that_leaves_at_a_gate_is_noticed(mirror: Mirror) -> None:
    handle = mirror.serves(BODY, stall=10)
    with connected(mirror) as sock:
        ask(sock, handle)
        handle.arrived()
        assert mirror.open == 1
    mirror.left()
    assert mirror.connections[0].error == "Left: "


def test_a_gate_that_nobody_reaches_is_an_error(mirror: Mirror) -> None:
    with pytest.raises(AssertionError, match="at its gate"):
        mirror.serves(BODY, stall="head").arrived(timeout_s=0.02)


# -- what was seen


def test_requests_are_remembered_as_they_came(mirror: Mirror) -> None:
    handle = mirror.serves(b"", at="/a%2fb")
    with connected(mirror) as sock:
        sock.sendall(b"POST /a%2fb?q=1 HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 3\r\n\r\nabc")
        head(sock)
    request = handle.request
    assert (request.method, request.target, request.version) == ("POST", "/a%2fb?q=1", "HTTP/1.1")
    assert request.headers == [("Host", "h"), ("X-A", "1"), ("x-a", "2"), ("Content-Length", "3")]
    assert request.header("x-A") == "1"
    assert request.body == b"abc"
    assert abs(time.monotonic() - request.at) < PATIENCE_S


@pytest.mark.parametrize("proxied", [False, True])
def test_a_body_in_chunks_is_read_whole(mirror: Mirror, origins: Origins, proxied: bool) -> None:
    handle = mirror.serves(b"thanks")
    port, target = (origins.proxy(), handle.url) if proxied else (mirror, handle.path)
    with connected(port) as sock:
        for _ in range(2):
            sock.sendall(f"PUT {target} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunks(BODY, 7))
            head(sock)
            assert exactly(sock, 6) == b"thanks"
    assert [request.body for request in handle.requests] == [BODY, BODY]


def test_a_handle_equals_the_source_of_its_url(mirror: Mirror) -> None:
    one, two = mirror.serves(b"1", name="a b.rpm"), mirror.serves(b"2")
    assert one.source == one
    assert one == Source(one.url, priority=7)
    assert one.source != two
    assert one.url.endswith("/a%20b.rpm")
    assert one.via("localhost") == one.url.replace("127.0.0.1", "localhost")


def test_an_unknown_path_is_a_404_that_is_seen(mirror: Mirror) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(mirror.base + "/nowhere")
    assert [request.target for request in mirror.requests] == ["/nowhere"]


def test_redirects_chain_and_loop(mirror: Mirror, origins: Origins) -> None:
    end = origins.http().serves(b"here")
    with urllib.request.urlopen(mirror.chain(end, hops=3).url) as response:
        assert (response.url, response.read()) == (end.url, b"here")
    assert mirror.hits == 3
    with pytest.raises(urllib.error.HTTPError, match="infinite loop"):
        urllib.request.urlopen(mirror.loops().url)


# -- many


def test_a_tree_is_what_its_digests_say(mirror: Mirror) -> None:
    tree = mirror.tree(20, size=(0, 300), seed="s")
    assert len({len(body) for body in tree.contents.values()}) > 5
    for url, body in zip(tree.urls[:3], tree.contents.values(), strict=False):
        assert urllib.request.urlopen(url).read() == body
    assert urllib.request.urlopen(tree.sums_url).read().decode() == tree.sums
    assert tree.hits == {"f00000.bin": 1, "f00001.bin": 1, "f00002.bin": 1, "SHA256SUMS": 1}
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(tree.base + "f00020.bin")


def test_hundreds_of_connections_are_served_at_once(mirror: Mirror) -> None:
    handle = mirror.serves(b"x", stall="head")
    socks = [connected(mirror) for _ in range(300)]
    for sock in socks:
        ask(sock, handle, more="Connection: close\r\n")
    handle.arrived(times=300)
    assert (mirror.accepted, mirror.open) == (300, 300)
    handle.release()
    assert {rest(sock) for sock in socks} == {b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"}
    for sock in socks:
        sock.close()
    mirror.left()


def test_latency_is_each_answers_own(mirror: Mirror) -> None:
    mirror.latency(0.2)
    handle = mirror.serves(b"x")
    began = time.perf_counter()
    with ThreadPoolExecutor(10) as threads:
        assert [body_of(answer) for answer in threads.map(heard, [handle] * 10)] == [b"x"] * 10
    assert 0.2 <= time.perf_counter() - began < 2.0  # what they would take one after the other
