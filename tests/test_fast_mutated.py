"""Responses that were damaged on their way, read our way and http.client's: no other errors, no hang, no other bytes.

A few hundred by default; 2,000 with GEOFETCH_TEST_FULL=1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import gevent
import pytest
import requests
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from geofetch import limits
from geofetch.errors import FetchError
from geofetch.session import Session
from geofetch.transport.connection import PlainConnection
from geofetch.transport.reply import Reply
from tests.origin.content import made
from tests.origin.scenes import chunks, raw
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded

EXAMPLES = 2000 if os.environ.get("GEOFETCH_TEST_FULL") else 200
BODY = made(300, "mutated")
OK = b"HTTP/1.1 200 OK\r\n"
MORE = b"Server: x\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nX-Empty:\r\n"
WHOLE = [
    OK + MORE + b"Content-Length: 300\r\n\r\n" + BODY,
    OK + b"Content-Length: 300\r\nConnection: close\r\n" + MORE + b"\r\n" + BODY,
    OK + MORE + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(BODY, 70),
    OK + b"Transfer-Encoding: chunked\r\n" + MORE + b"\r\n" + chunks(BODY, 100)[:-2] + b"X-Sum: 1\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"12c;a=b\r\n" + BODY + b"\r\n0;x\r\n\r\n",
    OK + MORE + b"\r\n" + BODY,
    OK.replace(b"\r", b"") + b"Content-Length: 300\n\n" + BODY,
    OK + b"X-Fold: a\r\n b\r\nContent-Length: 300\r\n\r\n" + BODY,
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 300\r\n\r\n" + BODY,
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 300\r\n\r\n" + BODY,
    b"HTTP/1.1 204 No Content\r\nContent-Length: 300\r\n\r\n" + BODY,
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    OK + b"Content-Type: multipart/x; boundary*=a'en'x; boundary*0=y\r\nContent-Length: 300\r\n\r\n" + BODY,
]
WORDS = [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b"\0", b"\x7f", b"\xff", b"0", b"-", b"+", b"f", b"g", b","]
WORDS += [b"Content-Length: 5\r\n", b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.1 "]
WORDS += [
    b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: h2c\r\n",
    b"no header\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A response with some bytes replaced, put in, left out or cut off; mostly in its head and between its chunks."""
    data = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(1, 4))):
        lines = [at for at in range(len(data)) if data[at : at + 1] in b"\r\n:;"] or [0]
        at = draw(st.sampled_from(lines) | st.integers(0, len(data))) + draw(st.integers(-3, 3))
        at = min(max(at, 0), len(data))
        match draw(st.sampled_from(["put", "put", "replace", "drop", "byte", "cut"])):
            case "put":
                data[at:at] = draw(st.sampled_from(WORDS))
            case "replace":
                data[at : at + draw(st.integers(1, 4))] = draw(st.sampled_from(WORDS))
            case "drop":
                del data[at : at + draw(st.integers(1, 6))]
            case "byte":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "cut":
                del data[at:]
    return bytes(data)


@dataclass(frozen=True)
class Told:
    """What an answer came to."""

    status: int
    framing: tuple[bool, int | None]
    fields: list[tuple[str, str]]
    content: bytes


def called(url: str) -> Told | str:
    """What a Session makes of it; the name of what it raises, which is always an error of requests'."""
    try:
        with Session().get(url, stream=True, timeout=10) as response:
            original: Any = response.raw._original_response
            framing = response.raw.chunked and original.chunked, original.length
            return Told(response.status_code, framing, list(response.raw.headers.items()), response.content)
    except requests.RequestException as exc:
        return type(exc).__name__


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A call over connections that read as http.client does."""

    def call(url: str) -> Told | str:
        with monkeypatch.context() as patch:
            patch.setattr(PlainConnection, "fast", False)
            try:
                return called(url)
            except (ValueError, TypeError):
                return "a bare error, as http.client has it for a negative size of a chunk or an odd boundary"

    return call


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=damaged())
@example(data=b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nContent-Length: 300\r\n\r\n" + BODY)
def test_what_requests_reads_is_read_the_same_and_a_download_fails_in_our_words(
    mirror: Mirror, theirs: Any, data: bytes
) -> None:
    note(repr(data))
    url = mirror.plays([raw(data, then="close")]).url
    with gevent.Timeout(20):
        ours = called(url)
        assert limits.process.used == 0
        old = theirs(url)
        try:
            head, content = downloaded(url)
        except FetchError:
            assert limits.process.used == 0
        else:
            # What a download takes, everybody takes, and takes for the same.
            assert isinstance(ours, Told)
            assert (head.status, content) == (ours.status, ours.content)
    if not isinstance(old, Told):
        return
    if isinstance(ours, Told) and ours.framing == old.framing:
        assert ours == old
    else:
        assert _framed_otherwise(old), (ours, old)


def _framed_otherwise(old: Told) -> bool:
    """Where we go by RFC 9112 and http.client does not: bodies where there are none, a length in a list, codings."""
    lengths = [value for name, value in old.fields if name.lower() == "content-length"]
    codings = [value.lower() for name, value in old.fields if name.lower() == "transfer-encoding"]
    odd_length = len(lengths) > 1 or not all(length.isdecimal() for length in lengths)
    return old.status in (204, 304) or odd_length or codings not in ([], ["chunked"])


def test_both_ways_are_walked(mirror: Mirror, theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison above would hold for anything, were they the same one."""
    made_of: list[bool] = []
    inner = Reply.__init__

    def noted(self: Reply, *args: Any) -> None:
        made_of.append(True)
        inner(self, *args)

    monkeypatch.setattr(Reply, "__init__", noted)
    url = mirror.plays([raw(WHOLE[0], then="close")]).url
    assert called(url) == theirs(url)
    assert made_of == [True]
