"""The fault matrix, part B: answers that are framed otherwise than they should be.  The ids are its rows.

Each row on both lanes: the class of the error, what the plan makes of it, the bytes that had reached the part by the
time of ``failed``, and what became of the connection.  Whatever the row, the same pool then downloads a file from the
same server, which comes whole.
"""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest

from geofetch.errors import (
    BadResponse,
    BadStatus,
    DeadlineExceeded,
    DigestMismatch,
    FetchError,
    SizeMismatch,
    Stalled,
    TooLarge,
    Truncated,
    Undecodable,
)
from geofetch.pipeline import LANE_FROM
from geofetch.spec import Profile
from tests.origin.content import made
from tests.origin.faults import BODY, FAULTS
from tests.origin.scenes import GATE, Drip, Endless, Scene, chunks, raw
from tests.support.certs import Authority
from tests.support.diary import sha256
from tests.support.keeping import Keeping
from tests.support.lanes import *  # noqa: F403 - the fixtures of these tests
from tests.support.lanes import Lanes
from tests.support.mirrors import Mirror, Origins
from tests.support.rows import AGAIN, ANY, NEXT, STOP, Row, held
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = b"Content-Length: 100\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
WANTED = {"size": len(BODY), "digests": sha256(BODY)}
ZIPPED = gzip.compress(BODY * 50, mtime=0)
HALF = ZIPPED[: len(ZIPPED) // 2]
BOMB = gzip.compress(bytes(20 << 20), 9, mtime=0)
PAGE = b"<html>Please log in to the network of this hotel, and tell us who you are.".ljust(100)
QUICK = {"timeout": (5, 0.4)}
UNDONE = {"decode": True}


def inflated(data: bytes) -> bytes:
    """What there is of it in the beginning of a gzip."""
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data)


def sent(*parts: Any, then: Any = "keep") -> Scene:
    """These bytes, in one piece where they are one, and a server that goes on: what closes is closed by us."""
    return raw(*parts, then=then)


def bad(scene: Scene, then: Any = "dropped", part: bytes | None = None) -> Row:
    """A head or a chunk that is none: no other try of this source will do."""
    scene = scene.but(then="hang") if then == "dropped" else scene
    return Row(scene, BadResponse, NEXT, False, part, then)


def cut(scene: Scene, part: bytes, **how: Any) -> Row:
    return Row(scene, Truncated, AGAIN, True, part, "ended", **how)


def unproven(error: type[FetchError], **how: Any) -> Row:
    """Half of a body that ends with its connection, where a size or a digest tells."""
    return Row(Scene(body=BODY, announce=None, cut=50), error, NEXT, False, BODY[:50], "ended", **how)


def none(scene: Scene, part: bytes = b"") -> Row:
    """A chunk that is none, behind a head that was one."""
    return bad(scene, part=part)


def taken(scene: Scene, then: Any = "used", part: bytes = BODY, **how: Any) -> Row:
    return Row(scene, None, None, False, part, then, **how)


def status(scene: Scene, then: Any) -> Row:
    return Row(scene, BadStatus, NEXT, False, None, then)


def framed(name: str) -> Scene:
    return FAULTS[name]


ROWS: dict[str, Row] = {
    # --------------------------------------------------------------------------------------------------------- too slow
    "B1": Row(Scene(stall="head"), Stalled, NEXT, True, None, "dropped", pool=QUICK),
    "B2": Row(
        sent(Drip(OK + b"X-More: of it\r\n" * 500, 1, 0.01)),
        Stalled,
        NEXT,
        True,
        None,
        "dropped",
        pool={"timeout": (0.2, 0.2)},
    ),
    "B2 stopped": Row(sent(OK + b"Content-", GATE), Stalled, NEXT, True, None, "dropped", pool=QUICK),
    "B3": Row(
        Scene(body=BODY * 9, drip=(1, 0.01)),
        Stalled,
        NEXT,
        True,
        ANY,
        "dropped",
        pool={"low_speed": (10_000, 0.2)},
        body=BODY * 9,
    ),
    "B3 stopped": Row(Scene(body=BODY, stall=50), Stalled, NEXT, True, BODY[:50], "dropped", pool=QUICK),
    "B3 stopped in chunks": Row(
        sent(CHUNKED + chunks(BODY, 40)[:60], GATE), Stalled, NEXT, True, BODY[:50], "dropped", pool=QUICK
    ),
    # -------------------------------------------------------------------------------------------------------- cut short
    "B4": cut(framed("length-cut"), BODY[:50]),
    "B4 at nothing": cut(framed("length-cut-at-nothing"), b""),
    "B4 before the last byte": cut(framed("length-cut-before-last-byte"), BODY[:99]),
    "B4 though the digest is known": cut(framed("length-cut"), BODY[:50], spec=WANTED),
    "B5": cut(framed("length-reset"), BODY[:50]),
    "B5 in chunks": cut(framed("chunk-reset"), BODY[:50]),
    "B6": taken(sent(OK + LENGTH + BODY + b"more"), "dropped"),
    "B6 behind chunks": taken(sent(CHUNKED + chunks(BODY, 40) + b"more"), "dropped"),
    "B7": cut(framed("chunk-cut"), BODY[:50]),
    "B7 in a size": cut(sent(CHUNKED + chunks(BODY, 40)[:47], then="chop"), BODY[:40]),
    "B7 behind a chunk": cut(sent(CHUNKED + chunks(BODY, 40)[:44], then="chop"), BODY[:40]),
    "B8": cut(framed("no-last-chunk"), BODY),
    "B8 without its empty line": cut(framed("last-chunk-without-its-end"), BODY),
    # ----------------------------------------------------------------------------------------------------------- chunks
    "B9 garbage": none(framed("chunk-size-garbage")),
    "B9 garbage behind a chunk": none(sent(CHUNKED + b"64\r\n" + BODY + b"\r\nzz\r\n"), BODY),
    "B9 negative": none(framed("chunk-size-negative")),
    "B9 negative behind a chunk": none(sent(CHUNKED + b"64\r\n" + BODY + b"\r\n-5\r\nabcde\r\n"), BODY),
    "B9 huge": none(framed("chunk-size-huge")),
    "B9 empty": none(framed("chunk-size-empty")),
    "B9 0x": none(framed("chunk-size-0x")),
    "B9 longer than it says": none(framed("chunk-longer-than-its-size"), BODY[:5]),
    "B9 others than its end": none(sent(CHUNKED + b"5\r\n01234!!5\r\n56789\r\n0\r\n\r\n"), BODY[:5]),
    "B10": none(sent(CHUNKED + b"64;x=", Endless(b"a" * 1000, 0))),
    "B10 of 80 kb": none(framed("chunk-extension-of-80-kb")),
    "B10 behind a chunk": none(sent(CHUNKED + b"64\r\n" + BODY + b"\r\n5;x=", Endless(b"a" * 1000, 0)), BODY),
    "B11": Row(framed("trailers-without-end").but(then="hang"), Truncated, AGAIN, True, BODY, "dropped"),
    "B11 of 80 kb": none(framed("trailers-of-80-kb"), BODY),
    "B11 slow": Row(
        sent(CHUNKED + chunks(BODY)[:-2], Drip(b"X" * 1000, 1, 0.01)), Stalled, NEXT, True, BODY, "dropped", pool=QUICK
    ),
    # -------------------------------------------------------------------------------------------------------- no length
    "B12": taken(framed("no-length"), "ended", verified="nothing"),
    "B12 with a size": taken(framed("no-length"), "ended", verified="size", spec={"size": 100}),
    "B12 with a digest": taken(framed("no-length"), "ended", verified="digest", spec=WANTED),
    "B12 too short": unproven(SizeMismatch, spec={"size": 100}),
    "B12 another": unproven(DigestMismatch, spec={"digests": sha256(BODY)}),
    "B13": cut(framed("no-length-reset"), BODY[:50]),
    "B13 tls": taken(Scene(body=BODY, announce=None, cut=50), "ended", BODY[:50], verified="nothing", tls=True),
    "B13 tls with a size": unproven(SizeMismatch, spec={"size": 100}, tls=True),
    "B13 tls with a digest": unproven(DigestMismatch, spec={"digests": sha256(BODY)}, tls=True),
    "B13 tls with a length": cut(Scene(body=BODY, cut=50), BODY[:50], tls=True),
    # --------------------------------------------------------------------------------------------------- Content-Length
    "B14": bad(framed("two-lengths")),
    "B14 in one line": bad(framed("two-lengths-in-one-line")),
    "B14 the same twice": taken(framed("same-length-twice")),
    "B15 negative": bad(framed("negative-length")),
    "B15 text": bad(framed("length-in-words")),
    "B15 42s": bad(framed("length-with-unit")),
    "B15 empty": bad(framed("length-empty")),
    "B15 comma": bad(framed("length-with-comma")),
    "B15 plus": bad(framed("length-with-plus")),
    "B15 beyond any number": bad(framed("length-beyond-any-number")),
    # ------------------------------------------------------------------------------------------------ Transfer-Encoding
    "B16": taken(framed("te-and-length").but(then="keep"), "dropped"),
    "B17 gzip": bad(framed("te-gzip")),
    "B17 gzip, chunked": bad(framed("te-gzip-chunked")),
    "B17 chunked, gzip": bad(framed("te-chunked-gzip")),
    "B17 chunked twice": bad(framed("te-chunked-twice")),
    "B17 unknown": bad(framed("te-unknown")),
    # ------------------------------------------------------------------------------------------------------ status line
    "B18": bad(framed("status-line-bad")),
    "B18 another protocol": bad(framed("status-line-of-another-protocol")),
    "B18 http/0.9": bad(framed("http-0.9"), "ended"),  # no line has come to its end before the connection does
    "B18 http/2": bad(framed("http-2"), "ended"),
    "B18 99": bad(framed("status-99")),
    "B18 1000": bad(framed("status-1000")),
    "B18 999": status(framed("status-999").but(then="keep"), "used"),
    # -------------------------------------------------------------------------------------------------- interim answers
    "B19": taken(framed("100-three-times")),
    "B20 103": taken(framed("103-first")),
    "B20 102": taken(framed("102-first")),
    "B20 103 and no more": Row(sent(INTERIM, GATE), Stalled, NEXT, True, None, "dropped", pool=QUICK),
    "B21 100": bad(framed("100-storm")),
    "B21 103": bad(framed("103-storm")),
    "B21 16": taken(Scene(body=BODY, interim=(103,) * 16)),
    "B21 17": bad(Scene(body=BODY, interim=(103,) * 17)),
    "B22": status(framed("101"), "dropped"),
    # ------------------------------------------------------------------------------------------------------------- head
    "B23 200 headers": bad(framed("200-headers")),
    "B23 header of 70 kb": bad(framed("header-of-70-kb")),
    "B23 head without end": bad(framed("head-without-end")),
    "B23 header without end": bad(framed("header-without-end")),
    "B24 no colon": bad(framed("header-without-colon")),
    "B24 nul": bad(framed("header-with-nul")),
    "B24 bare cr": bad(framed("header-with-bare-cr")),
    "B24 space before colon": bad(framed("header-with-space-before-colon")),
    "B24 folded": taken(framed("header-folded").but(then="keep")),
    "B24 lf": taken(framed("lines-end-in-lf").but(then="keep")),
    "B24 lf in chunks": taken(sent(CHUNKED + b"64\n" + BODY + b"\r\n0\n\n")),
    # ------------------------------------------------------------------------------------------------------ without end
    "B25": Row(framed("endless-body"), TooLarge, NEXT, False, ANY, "dropped", spec={"size": 1000}, body=BODY * 10),
    "B25 chunks": Row(
        sent(CHUNKED, Endless(b"64\r\n" + BODY + b"\r\n", 0)),
        TooLarge,
        NEXT,
        False,
        ANY,
        "dropped",
        spec={"size": 1000},
        body=BODY * 10,
    ),
    "B25 no size": Row(
        Scene(body=BODY, endless=True, drip=(100, 0.001)),
        DeadlineExceeded,
        STOP,
        False,
        ANY,
        "dropped",
        pool={"deadline": 1},
        body=BODY,
    ),
    # ----------------------------------------------------------------------------------------------------- another file
    "B26": Row(Scene(body=PAGE), DigestMismatch, NEXT, False, PAGE, "used", spec=WANTED),
    # Refused by its head; a body that came whole with it would leave a connection that can be used.
    "B26 of another length": Row(
        Scene(body=PAGE[:90], drip=(50, 0.5)), SizeMismatch, NEXT, False, None, "dropped", spec=WANTED
    ),
    "B26 longer": Row(Scene(body=PAGE + b"!", drip=(50, 0.5)), TooLarge, NEXT, False, None, "dropped", spec=WANTED),
    "B26 in chunks": Row(
        sent(CHUNKED + chunks(PAGE[:90], 40)), SizeMismatch, NEXT, False, PAGE[:90], "used", spec=WANTED
    ),
    "B26 and nothing known": taken(Scene(body=PAGE), part=PAGE),
    "B27 204": status(framed("204"), "used"),
    "B27 204 with a body": status(sent(b"HTTP/1.1 204 No Content\r\n" + LENGTH + BODY), "dropped"),
    "B27 205": status(framed("205"), "used"),
    "B27 304": status(framed("304-unasked"), "used"),
    "B27 206": bad(framed("206-unasked")),
    "B27 empty": Row(Scene(), SizeMismatch, NEXT, False, None, "dropped", spec={"size": 100}),
    "B27 empty without a length": Row(
        Scene(announce=None, then="close"), SizeMismatch, NEXT, False, b"", "ended", spec={"size": 100}
    ),
    # -------------------------------------------------------------------------------------------------------- encodings
    "B28": taken(framed("gzip-in-name-only")),
    "B28 to be undone": Row(framed("gzip-in-name-only"), Undecodable, NEXT, False, b"", "used", pool=UNDONE),
    "B28 the file itself": taken(
        Scene(body=ZIPPED, headers={"Content-Encoding": "x-gzip"}),
        part=ZIPPED,
        verified="digest",
        spec={"size": len(ZIPPED), "digests": sha256(ZIPPED)},
    ),
    "B28 unasked": Row(
        Scene(body=BODY * 50, gzip=True), Undecodable, NEXT, False, ZIPPED, "used", spec={"digests": sha256(BODY * 50)}
    ),
    "B29": Row(framed("gzip-cut"), Truncated, AGAIN, True, inflated(HALF), "used", pool=UNDONE),
    "B29 as it is": taken(framed("gzip-cut"), part=HALF),
    "B29 junk": Row(framed("gzip-and-junk"), Undecodable, NEXT, False, BODY * 50, "used", pool=UNDONE),
    "B29 two members": taken(
        Scene(body=ZIPPED * 2, headers={"Content-Encoding": "gzip"}), part=BODY * 100, pool=UNDONE
    ),
    "B29 a chain of six": Row(
        Scene(body=ZIPPED, headers={"Content-Encoding": ", ".join(["gzip"] * 6)}),
        Undecodable,
        NEXT,
        False,
        None,
        "dropped",
        pool=UNDONE,
    ),
    "B30": Row(
        Scene(body=BOMB, headers={"Content-Encoding": "gzip"}, stall=len(BOMB) // 2),
        TooLarge,
        NEXT,
        False,
        b"",
        "dropped",
        spec={"size": 1000},
        pool=UNDONE,
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_part_b(origins: Origins, ca: Authority, lanes: Lanes, lane: str, name: str) -> None:
    row = ROWS[name]
    held(row, origins.https() if row.tls else origins.http(), Profile(ca=ca.pem) if row.tls else Profile())
    assert lanes.taken == [lane] * 2


def test_every_row_of_part_b_is_there() -> None:
    assert {name.partition(" ")[0] for name in ROWS} == {f"B{n}" for n in range(1, 31)}


def test_of_a_large_body_that_is_cut_all_that_came_has_reached_the_part(
    mirror: Mirror, lanes: Lanes, lane: str
) -> None:
    """B4 again, off the hub: chunks are handed to a native thread in batches, and the last one is never full."""
    body, store = made(3 * LANE_FROM, "large"), Keeping()
    cut = LANE_FROM + LANE_FROM // 2
    with pooled(1, store=store, retries=0) as pool:
        (outcome,) = pool.map([mirror.serves(body, cut=cut).url])
    assert (type(outcome.error), outcome.fetched) == (Truncated, cut)
    assert lanes.taken == [lane]
    (part,) = store.parts
    assert len(part.data) == cut
    assert part.data == body[:cut]
