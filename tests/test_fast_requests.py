"""What goes over the wire for a request: the same bytes as urllib3's, in one piece where it is small and plain."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection
from urllib3.util import SKIP_HEADER

from geofetch.session import Session
from geofetch.transport import pools
from geofetch.transport.connection import PlainConnection
from geofetch.transport.request import SMALL, composed
from tests.origin.scenes import Scene
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests

AGENT = {"User-Agent": "x/1"}


class Wire(socket.socket):
    """One end of a connection; it remembers what was written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.written.append(bytes(data))


def written(kind: type[HTTPConnection], host: str, port: int, *args: Any, **kwargs: Any) -> list[bytes] | str:
    """What such a connection writes for a request, or the name of what it raises."""
    conn = kind(host, port)
    conn.sock = wire = Wire()
    try:
        conn.request(*args, **kwargs)
    except Exception as exc:
        return type(exc).__name__
    finally:
        wire.close()
    return wire.written


def generated() -> Iterator[bytes]:
    yield b"one"
    yield b""
    yield b"two"


#: Method, target, body, headers, chunked; and whether it goes in one piece.
REQUESTS: dict[str, tuple[Any, ...]] = {
    "get": ("GET", "/a?b=c%20d", None, AGENT, False, True),
    "no-target": ("GET", "", None, AGENT, False, True),
    "all-headers-added": ("GET", "/", None, {}, False, True),
    "no-headers": ("GET", "/", None, None, False, True),
    "host-and-encodings-told": ("GET", "/", None, {"host": "elsewhere", "ACCEPT-ENCODING": "gzip"}, False, True),
    "latin-1": ("GET", "/", None, {"X-Name": "caf\xe9"}, False, True),
    "empty-value": ("GET", "/", None, {"X-Empty": ""}, False, True),
    "case-insensitive": ("GET", "/", None, CaseInsensitiveDict({"Accept": "*/*", **AGENT}), False, True),
    "head": ("HEAD", "/", None, AGENT, False, True),
    "odd-method": ("M-SEARCH", "/", None, AGENT, False, True),
    "post-nothing": ("POST", "/", None, AGENT, False, True),
    "post-empty": ("POST", "/", b"", AGENT, False, True),
    "post": ("POST", "/", b"body", AGENT, False, True),
    "length-told": ("POST", "/", b"body", {"Content-Length": "4"}, False, True),
    "expect": ("POST", "/", b"body", {"Expect": "100-continue"}, False, True),
    "delete-with-a-body": ("DELETE", "/", b"body", AGENT, False, True),
    "star": ("OPTIONS", "*", None, AGENT, False, True),
    "small": ("PUT", "/", b"x" * SMALL, AGENT, False, True),
    "large": ("PUT", "/", b"x" * (SMALL + 1), AGENT, False, False),
    "text": ("POST", "/", "b\xf6dy", AGENT, False, False),
    "generator": ("POST", "/", "generated", AGENT, False, False),
    "file": ("POST", "/", "file", AGENT, False, False),
    "file-with-length": ("POST", "/", "file", {"Content-Length": "9"}, False, False),
    "chunked": ("POST", "/", b"body", AGENT, True, False),
    "chunked-told": ("POST", "/", b"body", {"Transfer-Encoding": "chunked"}, False, False),
    "bytearray": ("POST", "/", bytearray(b"body"), AGENT, False, False),
    "no-body-at-all": ("POST", "/", 7, AGENT, False, False),
    "bytes-in-headers": ("GET", "/", None, {b"X-Bytes": b"v", "Y": b"w"}, False, False),
    "number-in-headers": ("GET", "/", None, {"X-Number": 5}, False, False),
    "skipped": ("GET", "/", None, {"User-Agent": SKIP_HEADER, "Host": SKIP_HEADER}, False, False),
    "skipped-what-cannot-be": ("GET", "/", None, {"Accept": SKIP_HEADER}, False, False),
    "folded-value": ("GET", "/", None, {"X-Fold": "a\r\n b"}, False, False),
    "header-put-in": ("GET", "/", None, {"X-Evil": "a\r\nX-More: b"}, False, False),
    "lf-in-a-value": ("GET", "/", None, {"X-Evil": "a\nb"}, False, False),
    "cr-in-a-value": ("GET", "/", None, {"X-Evil": "a\rb"}, False, False),
    "colon-in-a-name": ("GET", "/", None, {"X:Evil": "a"}, False, False),
    "space-before-a-name": ("GET", "/", None, {" X-Evil": "a"}, False, False),
    "line-in-a-name": ("GET", "/", None, {"X-A: b\r\nX-Evil": "a"}, False, False),
    "empty-name": ("GET", "/", None, {"": "a"}, False, False),
    "name-beyond-ascii": ("GET", "/", None, {"X-\xe9": "a"}, False, False),
    "value-beyond-latin-1": ("GET", "/", None, {"X-Euro": "\u20ac"}, False, False),
    "space-in-the-target": ("GET", "/a b", None, AGENT, False, False),
    "line-in-the-target": ("GET", "/a\r\nX-Evil: b", None, AGENT, False, False),
    "delete-in-the-target": ("GET", "/a\x7f", None, AGENT, False, False),
    "target-beyond-ascii": ("GET", "/\xe9", None, AGENT, False, False),
    "whole-url": ("GET", "http://elsewhere.example/a", None, AGENT, False, False),
    "no-method": ("", "/", None, AGENT, False, False),
    "line-in-the-method": ("GET / HTTP/1.1\r\nX-Evil: a\r\n", "/", None, AGENT, False, False),
}
HOSTS = [
    ("example.org", 80),
    ("example.org", 8080),
    ("127.0.0.1", 81),
    ("::1", 80),
    ("fe80::1", 81),
    ("fe80::1%lo", 81),
]


def made(body: Any) -> Any:
    if not isinstance(body, str) or body not in ("generated", "file"):
        return body
    return generated() if body == "generated" else io.BytesIO(b"some file")


@pytest.mark.parametrize("name", REQUESTS)
def test_the_bytes_are_urllib3s(name: str) -> None:
    method, target, body, headers, chunked, whole = REQUESTS[name]
    for host, port in HOSTS:
        ours, theirs = (
            written(kind, host, port, method, target, body=made(body), headers=headers, chunked=chunked)
            for kind in (PlainConnection, HTTPConnection)
        )
        assert isinstance(theirs, list) == isinstance(ours, list)
        if isinstance(theirs, list) and isinstance(ours, list):
            assert b"".join(ours) == b"".join(theirs)
            assert len(ours) == 1 or not whole or "%" in host  # a zone is for urllib3
        else:
            assert ours == theirs


@pytest.mark.parametrize("name", REQUESTS)
def test_only_what_is_plain_is_written_by_us(name: str) -> None:
    method, target, body, headers, chunked, whole = REQUESTS[name]
    mine = None if chunked else composed(method, target, "example.org", headers or {}, made(body))
    assert (mine is not None) == whole


def test_a_request_behind_one_of_urllib3s_is_sent_all_the_same(mirror: Mirror) -> None:
    """http.client counts where it is between request and answer; both ways take turns on one connection."""
    session, file = Session(), mirror.plays([Scene(body=b"x" * 10)])
    for body in (None, generated(), b"small", io.BytesIO(b"file"), None, b"x" * 100_000, None):
        assert session.post(file.url, data=body).content == b"x" * 10
    assert mirror.accepted == 1
    assert [request.body[:9] for request in file.requests] == [b"", b"onetwo", b"small", b"file", b"", b"x" * 9, b""]


def test_a_kept_connection_that_takes_no_request_any_more_is_replaced(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was heard on it before counts for nothing: not a byte of this answer came."""
    session, file = Session(), mirror.plays([Scene(body=b"x" * 10)])
    assert session.get(file.url).content == b"x" * 10
    (conn,) = pools.shared().rest._since
    conn.sock.shutdown(socket.SHUT_WR)
    # The server, which sees that, may close before we look.
    monkeypatch.setattr(PlainConnection, "is_quiet", lambda conn: True)
    assert session.get(file.url).content == b"x" * 10
    assert (mirror.accepted, file.hits) == (2, 2)


def test_what_debugging_prints_is_printed(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = mirror.serves(b"body", headers={"X-Told": "yes"})
    session = Session()
    assert session.get(file.url).content == b"body"
    assert capsys.readouterr().out == ""
    monkeypatch.setattr("http.client.HTTPConnection.debuglevel", 1)
    assert session.get(file.url).content == b"body"
    told = capsys.readouterr().out
    assert "send: b'GET" in told
    assert "reply: 'HTTP/1.1 200 OK" in told
    assert "header: X-Told: yes" in told
    monkeypatch.setattr("http.client.HTTPConnection.debuglevel", 0)
    assert session.get(file.url).content == b"body"
    assert capsys.readouterr().out == ""
