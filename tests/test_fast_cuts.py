"""A response of 4 KiB, cut behind each of its bytes: never a success, and all that came of the body is handed over."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
import requests

from geofetch.errors import SourceError, Stalled, Truncated, Unreachable
from geofetch.session import Session
from geofetch.spec import Source
from geofetch.stream import opened
from tests.origin.content import made
from tests.origin.scenes import chunks
from tests.support.keeping import Keeping
from tests.support.lanes import *  # noqa: F403 - the fixtures of these tests
from tests.support.lanes import Lanes
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import PATIENT
from tests.support.walking import pooled

BODY = made(4096, "cuts")
COUNTED = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 4096\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked\r\n\r\n"

#: Sizes with zeros in front: cut behind the first digit, they read as the last chunk.
PADDED = b"".join(b"%04x\r\n%s\r\n" % (100, BODY[at : at + 100]) for at in range(0, 400, 100)) + b"0\r\n\r\n"


def of_chunks(data: bytes) -> bytes:
    """What of a body there is in the beginning of its chunks."""
    found = b""
    while b"\r\n" in data:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        found, data = found + data[:size], data[size + 2 :]
        if not size:
            break
    return found


def as_it_is(data: bytes) -> bytes:
    return data


def streamed(session: Session, url: str) -> bytes:
    """What requests' own way gives of a body before it raises."""
    got = b""
    with pytest.raises(requests.RequestException), session.get(url, stream=True, timeout=10) as response:
        if len(response.raw.headers) == 0 or response.raw._original_response.cut:
            raise requests.RequestException("a head that is cut between two lines passes, as it does with requests")
        for piece in response.iter_content(1000):
            got += piece
    return got


def walked(session: Session, url: str) -> tuple[bytes, SourceError]:
    """What a download gives of a body before it raises, and what it raises."""
    got = b""
    with pytest.raises(SourceError) as caught, opened(session, Source(url), PATIENT) as body:
        for piece in body:
            got += piece
    return got, caught.value


CASES = {
    "length": (COUNTED, BODY, as_it_is),
    "chunks": (CHUNKED, chunks(BODY, 100), of_chunks),
    "sizes-with-zeros": (CHUNKED, PADDED, of_chunks),
}


def error_of(cut: int, head: bytes) -> type[SourceError]:
    """What an answer is called that ended behind so many bytes."""
    return Unreachable if cut < len(head) else Truncated


@pytest.mark.parametrize("case", CASES)
def test_cut_behind_any_byte_nothing_is_stored_and_nothing_lost(
    mirror: Mirror, lanes: Lanes, lane: str, case: str
) -> None:
    """Each of the bytes, head included, in downloads as everybody has them; what came is in the part by ``failed``."""
    head, wire, meant = CASES[case]
    base, cuts, store = mirror.cuts(head + wire), range(len(head) + len(wire)), Keeping()
    with pooled(16, store=store, retries=0, timeout=10, low_speed=None) as pool:
        outcomes = {outcome.spec.source.url: outcome for outcome in pool.imap_unordered(f"{base}{cut}" for cut in cuts)}
    parts = {part.url: part for part in store.parts}
    assert len(parts) == len(store.parts)
    for cut in cuts:
        outcome, part = outcomes.pop(f"{base}{cut}"), parts.pop(f"{base}{cut}", None)
        assert (outcome.state, type(outcome.error)) == ("failed", error_of(cut, head)), cut
        if cut < len(head):
            assert part is None, cut
        else:
            assert part is not None, cut
            assert (part.ended, part.data) == ("discarded", meant(wire[: cut - len(head)])), cut
            assert outcome.fetched == len(part.data), cut
    assert (outcomes, parts) == ({}, {})
    assert mirror.hits == len(cuts)
    assert lanes.taken == [lane] * len(cuts)


def test_whole_it_is_stored(mirror: Mirror, lanes: Lanes, lane: str) -> None:
    """The cuts above would fail in any case, were the whole answer none."""
    store = Keeping()
    with pooled(2, store=store, retries=0) as pool:
        for head, wire, meant in CASES.values():
            (outcome,) = pool.map([f"{mirror.cuts(head + wire)}{len(head + wire)}"])
            assert outcome.location == meant(wire)
    assert set(lanes.taken) == {lane}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("end", ["chop", "reset"])
def test_cut_behind_some_bytes_all_that_came_is_handed_over(mirror: Mirror, case: str, end: str) -> None:
    """As the walk opens it, one connection at a time; and with resets."""
    head, wire, meant = CASES[case]
    session, base, size = Session(), mirror.cuts(head + wire, end), len(head) + len(wire)
    for cut in [*range(0, size, 64), *range(len(head) - 2, len(head) + 5), *range(size - 7, size)]:
        got, error = walked(session, f"{base}{cut}")
        assert got == meant(wire[: max(0, cut - len(head))]), cut
        if end == "chop":
            assert type(error) is error_of(cut, head), cut


@pytest.mark.parametrize("case", CASES)
def test_a_session_hands_over_what_came_before_it_raises(mirror: Mirror, case: str) -> None:
    head, wire, meant = CASES[case]
    session = Session()
    # The last two bytes are the empty line behind the last chunk: without it the body is whole (RFC 9112, 8).
    last = len(head) + len(wire) - (5 if head is CHUNKED else 0)
    for cut in [*range(1, len(head), 5), *range(len(head), last, 61), last - 1]:
        got = streamed(session, mirror.raw((head + wire)[:cut], then="chop").url)
        assert got == meant(wire[: max(0, cut - len(head))]), cut


WAYS: dict[str, Callable[[requests.Response], bytes]] = {
    "read": lambda response: response.raw.read(3000),
    "read1": lambda response: response.raw.read1(3000),
    "read1-of-anything": lambda response: response.raw.read1(),
    "decoded": lambda response: response.raw.read(3000, decode_content=True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["length", "chunks"])
def test_each_way_to_read_gives_what_came_and_raises_then(mirror: Mirror, case: str, way: str) -> None:
    head, wire, meant = CASES[case]
    url = mirror.raw(head + wire[:2500], then="chop").url
    with Session().get(url, stream=True, timeout=10) as response:
        got = b""
        with pytest.raises(Exception, match="IncompleteRead"):
            while piece := WAYS[way](response):
                got += piece
        assert got == meant(wire[:2500])


def test_what_came_before_a_stall_is_handed_over(mirror: Mirror) -> None:
    file = mirror.raw(COUNTED + BODY[:1000], then="hang")
    with Session().get(file.url, stream=True, timeout=(5, 0.1)) as response:
        assert response.raw.read(4000) == BODY[:1000]
        with pytest.raises(Exception, match="timed out"):
            response.raw.read(4000)
    with gevent.Timeout(10), pytest.raises(Stalled), opened(Session(), Source(file.url), PATIENT) as body:
        body._longest_s = 0.1
        for piece in body:
            assert piece == BODY[:1000]
