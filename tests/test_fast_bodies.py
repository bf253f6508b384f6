"""Bodies: where they end, what may follow, and how they come in pieces of any size."""

from __future__ import annotations

import gzip
import io
from typing import Any

import gevent
import pytest
import requests
from urllib3.exceptions import ProtocolError

from geofetch.errors import BadResponse, FetchError, Truncated
from geofetch.session import Session
from geofetch.transport import pools
from geofetch.transport import raw as raws
from tests.origin.content import made
from tests.origin.faults import FAULTS
from tests.origin.scenes import GATE, Drip, Scene, chunks, raw
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded, refused

BODY = made(5000, "bodies")
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 5000\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def resting() -> int:
    return pools.shared().connections()


# -------------------------------------------------------------------------------------------------- a byte at a time

WIRES: dict[str, bytes] = {
    "length": OK + LENGTH + BODY[:5000],
    "chunks": OK + CHUNKED + chunks(BODY, 700),
    "tiny-chunks": OK + CHUNKED + chunks(BODY, 3),
    "trailers": OK + CHUNKED + chunks(BODY, 700)[:-2] + b"X-Sum: 1\r\nX-Other: 2\r\n\r\n",
    "extensions": OK + CHUNKED + b'1388;a=b;c="d"\r\n' + BODY + b"\r\n0;last\r\n\r\n",
    "zeros-in-front": OK + CHUNKED + b"0001388\r\n" + BODY + b"\r\n000\r\n\r\n",
    "capitals": OK + CHUNKED + b"FA0\r\n" + BODY[:4000] + b"\r\n3e8\r\n" + BODY[4000:] + b"\r\n0\r\n\r\n",
    "no-length": OK + b"Connection: close\r\n\r\n" + BODY,
    "interim-answers": b"HTTP/1.1 103 H\r\nA: b\r\n\r\nHTTP/1.1 100 C\r\n\r\n" * 8 + OK + LENGTH + BODY,
}


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("what", WIRES)
def test_in_pieces_of_any_size_it_is_the_same(mirror: Mirror, what: str, size: int) -> None:
    file = mirror.plays([raw(Drip(WIRES[what], size, 0.0), then="close")])
    assert Session().get(file.url, timeout=30).content == BODY
    assert downloaded(file.url)[1] == BODY


@pytest.mark.parametrize("what", WIRES)
@pytest.mark.parametrize("amount", [1, 64, 1000, 100_000, None])
def test_each_way_to_read_gives_all_of_it(mirror: Mirror, what: str, amount: int | None) -> None:
    url = mirror.plays([raw(WIRES[what], then="close")]).url
    session = Session()
    with session.get(url, stream=True) as response:
        assert b"".join(iter(lambda: response.raw.read(amount), b"")) == BODY
    with session.get(url, stream=True) as response:
        assert b"".join(iter(lambda: response.raw.read1(amount), b"")) == BODY
    with session.get(url, stream=True) as response:
        assert b"".join(response.raw.stream(amount)) == BODY
    with session.get(url, stream=True) as response:
        assert b"".join(response.iter_content(amount)) == BODY
    with session.get(url, stream=True) as response:
        assert io.BufferedReader(response.raw).read() == BODY
    with session.get(url, stream=True) as response:
        into = bytearray(amount or 3000)
        assert b"".join(bytes(into[:count]) for count in iter(lambda: response.raw.readinto1(into), 0)) == BODY
        assert response.raw.tell() == len(BODY)


@pytest.mark.parametrize("method", ["read", "read1"])
@pytest.mark.parametrize("how", [{}, {"chunked": 100}])
def test_what_is_encoded_is_decoded_when_it_is_asked_for(mirror: Mirror, method: str, how: Any) -> None:
    file = mirror.serves(BODY, gzip=True, **how)
    with Session().get(file.url, stream=True) as response:
        read = getattr(response.raw, method)
        assert b"".join(iter(lambda: read(999, decode_content=True), b"")) == BODY
    with Session().get(file.url, stream=True) as response:
        read = getattr(response.raw, method)
        assert gzip.decompress(b"".join(iter(lambda: read(999), b""))) == BODY


def test_chunks_stay_apart_for_those_who_frame_messages_by_them(mirror: Mirror) -> None:
    """A stream of events: each chunk comes as it is sent, although the next one never does."""
    events = [b'{"a": 1}', b"x" * 3000, b"\n"]
    wire = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    file = mirror.raw(OK + CHUNKED + wire, GATE, then="hang")
    with gevent.Timeout(10), Session().get(file.url, stream=True) as response:
        came = response.iter_content(None)
        assert [next(came) for _ in events] == events
    with gevent.Timeout(10), Session().get(file.url, stream=True) as response:
        came = response.iter_content(1000)
        assert [next(came) for _ in range(5)] == [events[0], *[b"x" * 1000] * 3, events[2]]


def test_a_preloaded_response_has_its_data(mirror: Mirror) -> None:
    pool = pools.shared().straight().connection_from_url(mirror.base)
    for how in ({"announce": None}, {}, {"chunked": 100}, {"gzip": True}):
        response = pool.urlopen("GET", mirror.serves(BODY, **how).path)  # type: ignore[arg-type]
        assert (response.data, response.status, response.closed) == (BODY, 200, True)
    assert resting() == 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_response_that_is_made_the_short_way_is_what_urllib3_makes(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    file, made = mirror.serves(BODY, headers={"Set-Cookie": "a=b"}), []
    for template in (raws._COPIED, {}):
        monkeypatch.setattr(raws, "_COPIED", template)
        with Session().request(method, file.url, stream=True) as response:
            made.append({name: value for name, value in vars(response.raw).items() if name[:5] not in ("_fp", "_orig")})
    for told in made:
        del told["_connection"], told["_sock_shutdown"], told["_retries"]  # each its own
        assert len(told.pop("_decoded_buffer")) == 0
    assert made[0] == made[1]
    assert made[0]["length_remaining"] == (5000 if method == "GET" else 0)


def test_a_drained_response_gives_its_connection_back(mirror: Mirror) -> None:
    with Session().get(mirror.serves(BODY, chunked=100).url, stream=True) as response:
        assert response.raw.connection is not None
        response.raw.drain_conn()
        assert response.raw.connection is None
    assert resting() == 1


# ------------------------------------------------------------------------------------------------- no body, and its end


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(raw(b"HTTP/1.1 204 No Content\r\n\r\n", then="keep"), id="204"),
        pytest.param(raw(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", then="keep"), id="204-length"),
        pytest.param(raw(b"HTTP/1.1 204 No Content\r\n" + CHUNKED, then="keep"), id="204-chunks"),
        pytest.param(raw(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", then="keep"), id="304-length"),
        pytest.param(raw(b"HTTP/1.1 304 Not Modified\r\n" + CHUNKED, then="keep"), id="304-chunks"),
    ],
)
def test_some_answers_have_no_body_whatever_their_head_says(mirror: Mirror, scene: Scene) -> None:
    file, session = mirror.plays([scene]), Session()
    for _ in range(3):
        assert session.get(file.url, timeout=5).content == b""
    assert mirror.accepted == 1


@pytest.mark.parametrize("how", [{}, {"chunked": 100}, {"announce": None}, {"gzip": True}])
def test_the_answer_to_head_has_no_body(mirror: Mirror, how: Any) -> None:
    file, session = mirror.serves(BODY, **how), Session()
    for stream in (False, True):
        response = session.head(file.url, timeout=5, stream=stream)
        assert (response.content, response.raw.read(), response.raw.closed) == (b"", b"", True)
    assert mirror.accepted == 1


def test_another_protocol_gets_a_connection_of_its_own(mirror: Mirror) -> None:
    file = mirror.plays([raw(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", then="keep")])
    for _ in range(2):
        assert Session().get(file.url, timeout=5).status_code == 101
    assert mirror.accepted == 2
    mirror.left()


BEHIND = [b"x", b"\r\n", b"\r\n\r\n", SMUGGLED, b"0\r\n\r\n", SMUGGLED * 1000]


@pytest.mark.parametrize("behind", BEHIND, ids=["byte", "line", "lines", "answer", "last-chunk", "40-kb"])
@pytest.mark.parametrize("what", ["length", "chunks", "trailers", "204", "304"])
def test_what_stands_behind_the_end_is_no_answer(mirror: Mirror, what: str, behind: bytes) -> None:
    whole = {
        "204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
        **WIRES,
    }[what]
    content = BODY if what in WIRES else b""
    file, session = mirror.plays([raw(whole + behind, then="keep")]), Session()
    for _ in range(3):
        assert session.get(file.url, timeout=5).content == content
    assert mirror.accepted == 3
    mirror.left()


# ------------------------------------------------------------------------------------------------ chunks that are none

NO_CHUNKS: dict[str, tuple[bytes, type[FetchError]]] = {
    "garbage": (b"zz\r\n" + BODY, BadResponse),
    "empty": (b"\r\n" + BODY, BadResponse),
    "negative": (b"-5\r\nabcde\r\n0\r\n\r\n", BadResponse),
    "huge": (b"f" * 30 + b"\r\n" + BODY, BadResponse),
    "no-end-of-line": (b"5", Truncated),
    "line-of-80-kb": (b"5;" + b"a" * 80_000 + b"\r\n", BadResponse),
    "trailer-of-80-kb": (b"0\r\nX: " + b"a" * 80_000 + b"\r\n\r\n", BadResponse),
    "too-many-trailers": (b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n", Truncated),
}


@pytest.mark.parametrize("what", NO_CHUNKS)
@pytest.mark.parametrize("before", [b"", b"5\r\nabcde\r\n"], ids=["first", "second"])
def test_a_chunk_that_is_none_is_an_error_for_everybody(mirror: Mirror, what: str, before: bytes) -> None:
    wire, kind = NO_CHUNKS[what]
    file = mirror.raw(OK + CHUNKED + before + wire)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        Session().get(file.url)
    got = b""
    with Session().get(file.url, stream=True) as response, pytest.raises(ProtocolError):
        while piece := response.raw.read1(1000):
            got += piece
    assert got == before[3:8]
    refused(kind, file.url)
    mirror.left()


CARELESS: dict[str, bytes] = {
    "lf-behind-a-size": b"1388\n" + BODY + b"\r\n0\n\n",
    "0x": b"0x1388\r\n" + BODY + b"\r\n0\r\n\r\n",
    "white-space": b" 1388 \r\n" + BODY + b"\r\n0\r\n\r\n",
    "other-bytes-behind-a-chunk": b"1388\r\n" + BODY + b"!!0\r\n\r\n",
    "other-bytes-behind-another-chunk": b"1\r\n" + BODY[:1] + b"\r\n1387\r\n" + BODY[1:] + b"!!0\r\n\r\n",
    "no-empty-line": b"1388\r\n" + BODY + b"\r\n0\r\n",
    "no-end-of-the-last-line": b"1388\r\n" + BODY + b"\r\n0",
}
#: What of it a download takes: lines may end in LF alone (RFC 9112, 2.2).
ALLOWED = {"lf-behind-a-size"}


@pytest.mark.parametrize("what", CARELESS)
def test_careless_chunks_are_taken_as_requests_takes_them_and_refused_in_a_download(mirror: Mirror, what: str) -> None:
    file = mirror.raw(OK + CHUNKED + CARELESS[what])
    assert Session().get(file.url).content == BODY == requests.get(file.url).content
    if what in ALLOWED:
        assert downloaded(file.url)[1] == BODY
    else:
        with pytest.raises((BadResponse, Truncated)):
            downloaded(file.url)
    mirror.left()


#: What never ends, what a Session reads past where requests does not, and where requests raises a bare ValueError.
APART = {name for name in FAULTS if name.endswith(("-storm", "-without-end"))}
APART |= {"endless-body", "102-first", "103-first", "chunk-size-negative"}


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - APART))
def test_a_session_takes_what_requests_takes_and_refuses_what_it_refuses(mirror: Mirror, fault: str) -> None:
    file = mirror.plays([FAULTS[fault].but(then="close") if fault != "101" else FAULTS[fault]])

    def told(session: requests.Session) -> Any:
        try:
            response = session.get(file.url, timeout=5)
        except requests.RequestException as exc:
            return type(exc)
        return response.status_code, response.reason, dict(response.headers), response.content

    assert told(Session()) == told(requests.Session())


def test_an_answer_of_two_codings_is_read_and_its_connection_is_closed(mirror: Mirror) -> None:
    file = mirror.raw(OK + b"Content-Length: 7\r\n" + CHUNKED + chunks(BODY), then="keep")
    for _ in range(2):
        assert Session().get(file.url, timeout=5).content == BODY
    assert mirror.accepted == 2


def test_two_lengths_are_no_header_for_requests(mirror: Mirror) -> None:
    with pytest.raises(requests.exceptions.InvalidHeader):
        Session().get(mirror.serves(BODY, announce=(5000, 50)).url)
    mirror.left()
