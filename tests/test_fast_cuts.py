"""A response of 4 KiB, cut behind each of its bytes: never a success, and all that came of the body is handed over.

By default behind each byte of the head, of the end, and every eighth one between; with GEOFETCH_TEST_FULL=1 each one.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import gevent
import pytest
import requests

from geofetch.errors import BadResponse, SourceError, Stalled, Truncated, Unreachable
from geofetch.session import Session
from geofetch.spec import Source
from geofetch.stream import opened
from tests.origin.content import made
from tests.origin.scenes import chunks, raw
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import PATIENT

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
FULL = bool(os.environ.get("GEOFETCH_TEST_FULL"))


def cuts_of(head: bytes, wire: bytes) -> list[int]:
    """Behind which bytes to cut."""
    every, size = 1 if FULL else 8, len(head) + len(wire)
    return [cut for cut in range(size) if cut % every == 0 or cut < len(head) + 5 or cut > size - 20]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("end", ["chop", "reset"])
def test_cut_behind_any_byte_it_is_no_success_and_nothing_is_lost(mirror: Mirror, case: str, end: str) -> None:
    head, wire, meant = CASES[case]
    session, cuts = Session(), cuts_of(head, wire)[:: 1 if end == "chop" else 20]
    for first in range(0, len(cuts), 500):
        batch = cuts[first : first + 500]
        url = mirror.plays([raw((head + wire)[:cut], then=end) for cut in batch]).url  # type: ignore[arg-type]
        for cut in batch:
            got, error = walked(session, url)
            assert got == meant(wire[: max(0, cut - len(head))]), cut
            if end == "chop":
                assert type(error) is (Unreachable if cut == 0 else BadResponse if cut < len(head) else Truncated), cut


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
        body._patience = type(PATIENT)(read_s=0.1)
        for piece in body:
            assert piece == BODY[:1000]
