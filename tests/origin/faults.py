"""The answers of the fault matrix that no well-behaved server gives, by name.  In: nothing.  Out: Scenes.

A name is the id of a test case.  What geofetch makes of each stands in the tests, not here.
"""

from __future__ import annotations

import gzip

from .scenes import Drip, Endless, Scene, chunks, raw

__all__ = ["BODY", "FAULTS"]

#: What each of these would be if it were whole.
BODY = b"0123456789" * 10

_OK = b"HTTP/1.1 200 OK\r\n"
_SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def _answer(head: bytes, body: bytes = BODY, status: bytes = _OK) -> Scene:
    return raw(status + head + b"\r\n" + body)


def _chunked(body: bytes, more: bytes = b"") -> Scene:
    return _answer(b"Transfer-Encoding: chunked\r\n" + more, body)


_ZIPPED = gzip.compress(BODY * 50, mtime=0)
_LENGTH = b"Content-Length: 100\r\n"

FAULTS: dict[str, Scene] = {
    # A: no answer at all
    "reset-before-the-answer": Scene(reset="head"),
    "closed-before-the-answer": Scene(cut="head"),
    # B: the end of the body
    "length-cut": Scene(body=BODY, cut=50),
    "length-reset": Scene(body=BODY, reset=50),
    "length-cut-at-nothing": Scene(body=BODY, cut=0),
    "length-cut-before-last-byte": Scene(body=BODY, cut=99),
    "chunk-cut": Scene(body=BODY, chunked=40, cut=60),
    "chunk-reset": Scene(body=BODY, chunked=40, reset=60),
    "no-last-chunk": _chunked(chunks(BODY, 40).removesuffix(b"0\r\n\r\n")),
    "last-chunk-without-its-end": _chunked(chunks(BODY, 40).removesuffix(b"\r\n")),
    "no-length": Scene(body=BODY, announce=None),
    "no-length-reset": Scene(body=BODY, announce=None, reset=50),
    # B: chunks
    "chunk-size-garbage": _chunked(b"zz\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk-size-negative": _chunked(b"-5\r\nabcde\r\n0\r\n\r\n"),
    "chunk-size-huge": _chunked(b"ffffffffffffffffff\r\n" + BODY),
    "chunk-size-empty": _chunked(b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk-size-0x": _chunked(b"0x64\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk-longer-than-its-size": _chunked(b"5\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunk-extension-of-80-kb": _chunked(b"64;x=" + b"a" * 80_000 + b"\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "trailers-of-80-kb": _chunked(chunks(BODY)[:-2] + b"X-Trailer: " + b"a" * 80_000 + b"\r\n\r\n"),
    "trailers-without-end": raw(
        _OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks(BODY)[:-2], Endless(b"X-T: a\r\n")
    ),
    # B: Content-Length
    "two-lengths": Scene(body=BODY, announce=(100, 50), then="close"),
    "two-lengths-in-one-line": Scene(body=BODY, announce="100, 50", then="close"),
    "same-length-twice": Scene(body=BODY, announce=(100, 100)),
    "negative-length": Scene(body=BODY, announce=-1, then="close"),
    "length-in-words": Scene(body=BODY, announce="hundred", then="close"),
    "length-with-unit": Scene(body=BODY, announce="100s", then="close"),
    "length-with-comma": Scene(body=BODY, announce="100,", then="close"),
    "length-with-plus": Scene(body=BODY, announce="+100", then="close"),
    "length-empty": Scene(body=BODY, announce="", then="close"),
    "length-beyond-any-number": Scene(body=BODY, announce="9" * 400, then="close"),
    # B: Transfer-Encoding
    "te-and-length": _chunked(chunks(BODY), b"Content-Length: 5\r\n"),
    "te-gzip": _answer(b"Transfer-Encoding: gzip\r\n"),
    "te-gzip-chunked": _answer(b"Transfer-Encoding: gzip, chunked\r\n", chunks(_ZIPPED)),
    "te-chunked-gzip": _answer(b"Transfer-Encoding: chunked, gzip\r\n", chunks(BODY)),
    "te-chunked-twice": _answer(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks(BODY)),
    "te-unknown": _answer(b"Transfer-Encoding: xchunked\r\n", chunks(BODY)),
    # B: status line
    "status-line-bad": raw(b"HTTP/1.1 OK\r\nContent-Length: 100\r\n\r\n" + BODY),
    "status-line-of-another-protocol": raw(b"220 mail.example ESMTP ready\r\n"),
    "http-0.9": raw(BODY),
    "http-2": raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18)),
    "status-99": _answer(_LENGTH, status=b"HTTP/1.1 99 Odd\r\n"),
    "status-1000": _answer(_LENGTH, status=b"HTTP/1.1 1000 Odd\r\n"),
    "status-999": _answer(_LENGTH, status=b"HTTP/1.1 999 Odd\r\n"),
    # B: interim answers and statuses that are no file
    "100-three-times": Scene(body=BODY, interim=(100, 100, 100)),
    "103-first": Scene(body=BODY, interim=(103,)),
    "102-first": Scene(body=BODY, interim=(102,)),
    "100-storm": Scene(storm=100),
    "103-storm": Scene(storm=103),
    "101": Scene(status=101, headers={"Upgrade": "websocket", "Connection": "Upgrade"}, then="hang"),
    "204": Scene(status=204),
    "204-with-body": Scene(status=204, body=BODY),
    "205": Scene(status=205),
    "206-unasked": Scene(status=206, body=BODY[:50], headers={"Content-Range": "bytes 0-49/100"}),
    "304-unasked": Scene(status=304),
    # B: head
    "200-headers": _answer(b"".join(b"X-H%d: v\r\n" % n for n in range(200)) + _LENGTH),
    "header-of-70-kb": _answer(b"X-Big: " + b"a" * 70_000 + b"\r\n" + _LENGTH),
    "header-without-colon": _answer(b"nonsense\r\n" + _LENGTH),
    "header-with-nul": _answer(b"X-Nul: a\0b\r\n" + _LENGTH),
    "header-folded": _answer(b"X-Fold: a\r\n b\r\n" + _LENGTH),
    "header-with-bare-cr": _answer(b"X-Cr: a\rContent-Length: 5\r\n" + _LENGTH),
    "header-with-space-before-colon": _answer(b"Content-Length : 100\r\n"),
    "head-a-byte-at-a-time": raw(Drip(_OK + _LENGTH + b"\r\n", 1, 0.005), BODY),
    "head-without-end": raw(_OK, Endless(b"X-More: of it\r\n")),
    "header-without-end": raw(_OK + b"X-Long: ", Endless(b"a" * 100)),
    "lines-end-in-lf": raw(b"HTTP/1.1 200 OK\nContent-Length: 100\n\n" + BODY),
    # B: what follows the end
    "bytes-after-the-end": Scene(body=BODY, extra=b"more"),
    "smuggled-answer": Scene(body=BODY, extra=_SMUGGLED),
    "smuggled-answer-after-chunks": Scene(body=BODY, chunked=True, extra=_SMUGGLED),
    "endless-body": Scene(body=BODY, endless=True),
    # B: encodings
    "gzip-unasked": Scene(body=BODY, gzip=True),
    "gzip-in-name-only": Scene(body=BODY, headers={"Content-Encoding": "gzip"}),
    "gzip-cut": Scene(body=_ZIPPED[: len(_ZIPPED) // 2], headers={"Content-Encoding": "gzip"}),
    "gzip-and-junk": Scene(body=_ZIPPED + b"junk", headers={"Content-Encoding": "gzip"}),
    "encoding-unknown": Scene(body=BODY, headers={"Content-Encoding": "zork"}),
}
