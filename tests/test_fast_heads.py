"""Heads: what llhttp lets pass is what the email parser reads, the rest is read by that one; and each cap holds."""

from __future__ import annotations

import http.client
import io
import os
from collections.abc import Callable
from typing import Any

import pytest
import requests
from hypothesis import given, note, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3._collections import HTTPHeaderDict

from geofetch.errors import BadResponse
from geofetch.session import Session
from geofetch.transport import fields
from geofetch.transport import head as heads
from geofetch.transport.connection import PlainConnection
from tests.origin.scenes import Drip, Endless, raw
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded, refused

EXAMPLES = 5000 if os.environ.get("GEOFETCH_TEST_FULL") else 500
OK = b"HTTP/1.1 200 OK\r\n"
BODY = b"0123456789" * 10
LENGTH = b"Content-Length: 100\r\n"

NAMES = st.sampled_from(
    [b"Server", b"Content-Length", b"set-cookie", b"Transfer-Encoding", b"Connection", b"From", b"X", b"Content-Type"]
)
ANY = st.binary(max_size=4)
VALUES = st.sampled_from([b"5", b"chunked", b"gzip, chunked", b"close", b"upgrade", b"a=b; c", b"", b"caf\xe9", b"x y"])
VALUES |= st.sampled_from([b"multipart/x; boundary=b", b"multipart/x", b"message/rfc822", b"message/delivery-status"])
LINES = st.one_of(
    st.tuples(NAMES, st.just(b":"), st.sampled_from([b"", b" ", b"\t ", b"  "]), VALUES, st.sampled_from([b"", b" "])),
    st.tuples(NAMES, ANY, st.just(b":"), ANY, VALUES, ANY),
    st.tuples(ANY, VALUES),
    st.tuples(st.sampled_from([b" ", b"\t"]), VALUES),
)
ENDS = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n"])


@settings(max_examples=EXAMPLES, deadline=None)
@given(lines=st.lists(st.tuples(LINES, ENDS), max_size=6))
def test_a_head_is_read_as_the_standard_library_reads_it(lines: list[tuple[tuple[bytes, ...], bytes]]) -> None:
    block = OK + b"".join(b"".join(line) + end for line, end in lines) + b"\r\n\r\n"
    block = block[: heads._END.search(block).end()]  # type: ignore[union-attr]
    note(repr(block))
    file = io.BytesIO(block)
    file.readline()
    theirs = http.client.parse_headers(file)
    ours = heads._parsed(block, (11, 200, "OK"))
    assert ours.fields == [(name, heads.unfolded(value)) for name, value in theirs.items()]
    assert ours.message.items() == theirs.items()
    # A bare CR counts by itself, and hides from http.client what comes behind it.
    assert ours.is_flawed() == (
        heads.flawed(theirs) or (ours._message is not None and heads._ODD.search(block) is not None)
    )


FIELDS = st.tuples(st.sampled_from(["A", "a", "Set-Cookie", "set-cookie", "X-B"]), st.sampled_from(["1", "", "x, y"]))


@settings(max_examples=EXAMPLES, deadline=None)
@given(told=st.lists(FIELDS, max_size=6))
def test_fields_are_what_the_methods_of_both_mappings_make_of_them(told: list[tuple[str, str]]) -> None:
    theirs = HTTPHeaderDict()
    for name, value in told:
        theirs.add(name, value)
    ours = fields.told(told)
    assert [*ours.iteritems()] == [*theirs.iteritems()]
    assert [*fields.merged(ours).items()] == [*CaseInsensitiveDict(theirs.itermerged()).items()]


def test_plain_heads_are_llhttps_and_the_rest_is_not() -> None:
    """The comparison above would hold for anything, were one of both ways never walked."""
    plain = heads._parsed(OK + b"Server: x\r\nX-Empty:\r\nX: caf\xe9\r\n\r\n", (11, 200, "OK"))
    assert plain._message is None
    for odd in (b"X: a\r\n b\r\n", b"X: a\n", b"no colon\r\n", b"X: a\0\r\n", b"X : a\r\n", b"X: a\rb\r\n", b": a\r\n"):
        assert heads._parsed(OK + odd + b"\r\n", (11, 200, "OK"))._message is not None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"HTTP/1.1 200 OK\r\n", (11, 200, "OK")),
        (b"HTTP/1.1 200\r\n", (11, 200, "")),
        (b"HTTP/1.1 200 \r\n", (11, 200, "")),
        (b"HTTP/1.1  404  Not  Found \r\n", (11, 404, "Not  Found")),
        (b"HTTP/1.0 200 OK\n", (10, 200, "OK")),
        (b"HTTP/0.9 200 OK\r\n", (10, 200, "OK")),
        (b"HTTP/1.7 999 Odd\r\n", (11, 999, "Odd")),
        (b"HTTP/1.1 200 \xe9\r\n", (11, 200, "\xe9")),
        (b"HTTP/1.1 200 OK", (11, 200, "OK")),
        (b"HTTP/1.1 99 Odd\r\n", http.client.BadStatusLine),
        (b"HTTP/1.1 1000 Odd\r\n", http.client.BadStatusLine),
        (b"HTTP/1.1 OK\r\n", http.client.BadStatusLine),
        (b"HTTP/1.1\r\n", http.client.BadStatusLine),
        (b"220 ready\r\n", http.client.BadStatusLine),
        (b"\r\n", http.client.BadStatusLine),
        (b"HTTP/2 200 OK\r\n", http.client.UnknownProtocol),
        (b"HTTP/2 103 Hints\r\n", (11, 103, "Hints")),
    ],
)
def test_a_status_line_means_what_it_means_to_the_standard_library(line: bytes, told: object) -> None:
    if isinstance(told, tuple):
        assert heads.status_of(line) == told
        assert heads.status_of(line + b"Server: x\r\n\r\n") == told or not line.endswith(b"\n")
    else:
        with pytest.raises(told):  # type: ignore[call-overload]
            heads.status_of(line)


def told_to(mirror: Mirror, *parts: object) -> requests.Response:
    return Session().get(mirror.plays([raw(*parts)]).url, timeout=10)


HUNDRED = b"".join(b"X-H%d: v\r\n" % number for number in range(99)) + LENGTH


def test_a_hundred_headers_are_taken(mirror: Mirror) -> None:
    response = told_to(mirror, OK + HUNDRED + b"\r\n" + BODY)
    assert (len(response.headers), response.content) == (100, BODY)


LONG = b"X-Long: " + b"a" * (65536 - 10) + b"\r\n"


def test_a_line_of_64_kib_is_taken(mirror: Mirror) -> None:
    assert len(LONG) == 65536
    response = told_to(mirror, OK + LONG + LENGTH + b"\r\n" + BODY)
    assert (len(response.headers["x-long"]), response.content) == (65526, BODY)


BEYOND: dict[str, tuple[object, ...]] = {
    "a-header-more": (OK + b"X: y\r\n" + HUNDRED + b"\r\n" + BODY,),
    "five-thousand-headers": (OK + b"X: y\r\n" * 5000 + LENGTH + b"\r\n" + BODY,),
    "headers-without-end": (OK, Endless(b"X-More: of it\r\n" * 50)),
    "a-byte-more": (OK + b"Y" + LONG + LENGTH + b"\r\n" + BODY,),
    "a-line-without-end": (OK + b"X-Long: ", Endless(b"a" * 1000)),
    "a-status-line-without-end": (b"HTTP/1.1 200 ", Endless(b"a" * 1000)),
    "lines-of-a-megabyte-together": (OK + (b"X: " + b"a" * 50_000 + b"\r\n") * 30 + LENGTH + b"\r\n" + BODY,),
    "an-interim-answer-without-end": (b"HTTP/1.1 103 Hints\r\n", Endless(b"Link: </x>\r\n" * 50)),
    "interim-answers-without-end": (Endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 20),),
    "interim-answers-at-once": (b"HTTP/1.1 102 Processing\r\n\r\n" * 17 + OK + LENGTH + b"\r\n" + BODY,),
    "another-protocol": (b"220 mail.example ESMTP ready\r\n", Endless(b"", 0.01)),
}


@pytest.mark.parametrize("what", BEYOND)
def test_a_head_beyond_a_cap_is_refused_at_once(mirror: Mirror, what: str) -> None:
    file = mirror.plays([raw(*BEYOND[what])])
    with pytest.raises(requests.ConnectionError):
        Session().get(file.url, timeout=10)
    refused(BadResponse, file.url)
    mirror.left()


TOLERATED: dict[str, tuple[bytes, dict[str, str], bytes]] = {
    "lines-end-in-lf": (b"HTTP/1.1 200 OK\nContent-Length: 100\nX: y\n\n", {"X": "y"}, BODY),
    "one-line-ends-in-lf": (OK + b"Content-Length: 100\nX: y\r\n\r\n", {"X": "y"}, BODY),
    "empty-line-is-lf": (OK + LENGTH + b"X: y\r\n\n", {"X": "y"}, BODY),
    "folded": (OK + b"X: a \r\n\t b\r\n" + LENGTH + b"\r\n", {"X": "a b"}, BODY),
    "same-name-twice": (OK + b"X: a\r\nx: b\r\n" + LENGTH + b"\r\n", {"X": "a, b"}, BODY),
    "odd-name": (OK + b"X(y): a\r\n" + LENGTH + b"\r\n", {"X(y)": "a"}, BODY),
    "no-reason": (b"HTTP/1.1 200\r\n" + LENGTH + b"\r\n", {}, BODY),
    "upgrade-offered": (OK + b"Connection: upgrade\r\nUpgrade: h2c\r\n" + LENGTH + b"\r\n", {"upgrade": "h2c"}, BODY),
}


@pytest.mark.parametrize("what", TOLERATED)
def test_a_careless_head_is_taken_by_everybody(mirror: Mirror, what: str) -> None:
    head, fields, body = TOLERATED[what]
    for parts in ((head + body,), (Drip(head, 1, 0.0), body)):
        response = told_to(mirror, *parts)
        assert {name: response.headers[name] for name in fields} == fields
        assert response.content == body
        assert downloaded(mirror.plays([raw(*parts)]).url)[1] == body


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        pytest.param(b"no header at all\r\n", b"", id="without-colon"),
        pytest.param(b"X : y\r\n", b"", id="space-before-the-colon"),
        pytest.param(b"X: a\0b\r\n", b"length", id="nul"),
        pytest.param(b"X: a\rY: b\r\n", b"length", id="bare-cr"),
    ],
)
def test_what_requests_takes_and_no_proxy_reads_alike_is_no_download(mirror: Mirror, line: bytes, kept: bytes) -> None:
    file = mirror.plays([raw(OK + line + LENGTH + b"\r\n" + BODY)])
    response = Session().get(file.url, timeout=10)
    assert response.content.endswith(BODY)
    assert ("content-length" in response.headers) == bool(kept)
    assert "head" in str(refused(BadResponse, file.url))


IN_PARTS: dict[str, bytes] = {
    "multipart": b"multipart/mixed; boundary=x",
    "multipart-without-boundary": b"multipart/mixed",
    "multipart-encoded": b"multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: base64",
    "message": b"message/rfc822",
    "message-in-blocks": b"message/delivery-status",
}
WAYS: dict[str, Callable[[pytest.MonkeyPatch, Session], Any]] = {
    "ours": lambda patch, session: None,
    "requests": lambda patch, session: session.cookies.set("a", "1"),
    "http.client": lambda patch, session: patch.setattr(PlainConnection, "fast", False),
    "an-adapter-of-requests": lambda patch, session: session.mount("http://", HTTPAdapter()),
}


@pytest.mark.parametrize("end", [pytest.param(b"\r\n", id="crlf"), pytest.param(b"\n", id="lf")])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", IN_PARTS)
def test_a_type_that_promises_parts_is_no_flaw_of_a_head(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, what: str, way: str, end: bytes
) -> None:
    """http.client looks behind the head for them; the body comes later."""
    line = b"Content-Type: " + IN_PARTS[what] + end
    good = mirror.plays([raw(OK + line + LENGTH + b"\r\n" + BODY)])
    bad = mirror.plays([raw(OK + line + b"no header at all" + end + LENGTH + b"\r\n" + BODY)])
    # A session each: requests' own adapter asks on a kept connection that the server is just closing, and fails.
    assert downloaded(good.url, _through(way, monkeypatch))[1] == BODY
    assert "holds a line that is no header" in str(refused(BadResponse, bad.url, _through(way, monkeypatch)))


def _through(way: str, patch: pytest.MonkeyPatch) -> Session:
    session = Session()
    WAYS[way](patch, session)
    return session


@pytest.mark.parametrize("more", [b"X: y", b"no header", b": y", b"--x", b"--x\r\nX: y", b"--x\r\n--x--"])
@pytest.mark.parametrize("what", IN_PARTS)
def test_what_http_client_reads_behind_a_head_is_a_flaw_of_it(what: str, more: bytes) -> None:
    """A line that ends in a CR of its own ends the head for the email parser, and for nobody else."""
    block = b"Content-Type: " + IN_PARTS[what] + b"\r\r\n" + more + b"\r\n\r\n"
    assert heads.flawed(http.client.parse_headers(io.BytesIO(block)))
    assert heads._parsed(OK + block, (11, 200, "OK")).is_flawed()


PARAMETERS = {
    "too-many-digits": b"boundary*" + b"1" * 5000 + b"=x",
    "no-encoding-has-such-a-name": b"boundary*=a\0b'en'x",
    "an-encoding-that-replaces-nothing": b"boundary*=idna'en'x",
    "whole-and-in-parts": b"boundary*=x; boundary*0=y",
}


@pytest.mark.parametrize("what", PARAMETERS)
def test_a_boundary_that_http_client_chokes_on_is_not_looked_for(mirror: Mirror, what: str) -> None:
    line = b"Content-Type: multipart/x; " + PARAMETERS[what] + b"\n"
    file = mirror.plays([raw(OK + line + LENGTH + b"\r\n" + BODY)])
    assert Session().get(file.url, timeout=10).content == BODY
    if b"\0" in line:
        assert "no header" in str(refused(BadResponse, file.url))
    else:
        assert downloaded(file.url)[1] == BODY
