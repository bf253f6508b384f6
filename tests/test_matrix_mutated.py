"""Answers that were damaged on their way, on both lanes: the file with its very digest, or an error of the source's.

Each answer twice: where the digest is known, and where nothing is.  Known, whatever is stored has it.  Unknown, both
lanes store the same bytes or fail in the same way.  The server closes when it has said it: whoever hangs is at fault.
"""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from geofetch.errors import SourceError
from geofetch.events import Outcome
from geofetch.spec import Spec
from tests.origin.content import made
from tests.origin.scenes import chunks
from tests.support.diary import sha256
from tests.support.keeping import Keeping
from tests.support.lanes import *  # noqa: F403 - the fixtures of these tests
from tests.support.lanes import LANES, Lanes
from tests.support.mirrors import Mirror
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

#: Over all answers 2,000.
EXAMPLES = -(-2000 // 9)
#: Seconds for one answer, which takes some milliseconds.
DEADLINE_S = 20
BODY = made(300, "damaged")
DIGEST = sha256(BODY)
OK = b"HTTP/1.1 200 OK\r\n"
MORE = b'Server: x\r\nETag: "abc"\r\nX-Empty:\r\n'
LENGTH = b"Content-Length: 300\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
WHOLE = {
    "length": OK + MORE + LENGTH + b"\r\n" + BODY,
    "chunks": OK + MORE + CHUNKED + b"\r\n" + chunks(BODY, 70),
    "trailers": OK + CHUNKED + MORE + b"\r\n" + chunks(BODY, 100)[:-2] + b"X-Sum: 1\r\n\r\n",
    "extensions": OK + CHUNKED + b"\r\n12c;a=b\r\n" + BODY + b"\r\n0;x\r\n\r\n",
    "neither": OK + MORE + b"\r\n" + BODY,
    "lf": OK.replace(b"\r", b"") + b"Content-Length: 300\n\n" + BODY,
    "folded": OK + b"X-Fold: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + LENGTH + b"\r\n" + BODY,
    "http-1.0": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + LENGTH + b"\r\n" + BODY,
}
WORDS = [b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b";", b"\0", b"\x7f", b"\xff", b"0", b"-", b"+", b"f", b"g", b","]
WORDS += [
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: gzip\r\n",
    CHUNKED,
    b"HTTP/1.1 ",
    b"Content-Encoding: gzip\r\n",
]
WORDS += [b"Connection: close\r\n", b"Set-Cookie: a=b\r\n", b"no header\r\n", b"\r\n\r\n", b"0\r\n\r\n"]
KINDS = ["flip", "flip", "put", "put", "drop", "again", "move", "cut", "join"]


@st.composite
def damaged(draw: st.DrawFn, answer: bytes) -> bytes:
    """The answer with bits flipped, bytes put in, left out, said again or elsewhere; cut off, joined with another."""
    data = bytearray(answer)
    for _ in range(draw(st.integers(1, 4))):
        at = _place(draw, data)
        size = draw(st.integers(1, 8))
        match draw(st.sampled_from(KINDS)):
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "put":
                data[at:at] = draw(st.sampled_from(WORDS))
            case "drop":
                del data[at : at + size]
            case "again":
                data[at:at] = data[max(0, at - size * 8) : at]
            case "move":
                piece = data[at : at + size]
                del data[at : at + size]
                to = _place(draw, data)
                data[to:to] = piece
            case "cut":
                del data[at:]
            case "join":
                data[at:] = draw(st.sampled_from([*WHOLE.values()]))
    return bytes(data)


def _place(draw: st.DrawFn, data: bytearray) -> int:
    """Somewhere; mostly in the head and between chunks, where what is said decides."""
    lines = [at for at in range(len(data)) if data[at : at + 1] in b"\r\n:;"] or [0]
    at = draw(st.sampled_from(lines) | st.integers(0, len(data))) + draw(st.integers(-3, 3))
    return min(max(at, 0), len(data))


class Both:
    """The same download on each lane; with a Session of its own, as a cookie would close the express lane."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        self.store = Keeping()
        self.stored = self.failed = 0

    def told(self, url: str, lane: str, **known: Any) -> tuple[Any, ...]:
        """How it ends on a lane: what is stored, or which error."""
        self.lanes.closed, self.lanes.taken[:] = lane == "requests", []
        with pooled(1, store=self.store, retries=0, timeout=DEADLINE_S) as pool:
            (outcome,) = pool.map([Spec(url, **known)])
        assert self.lanes.taken == [lane]
        return self._judged(outcome, bool(known))

    def _judged(self, outcome: Outcome, known: bool) -> tuple[Any, ...]:
        (part,) = self.store.parts or [None]
        self.store.parts.clear()
        if outcome.ok:
            self.stored += 1
            assert part is not None
            assert (outcome.state, outcome.error, part.ended) == ("stored", None, "published")
            assert outcome.location == part.data
            assert not known or (part.data, outcome.verified) == (BODY, "digest")
            return outcome.verified, part.data
        self.failed += 1
        assert outcome.state == "failed"
        # An internal error, or one of a hook, is a FetchError and no more: nothing of that kind is the source's.
        assert isinstance(outcome.error, SourceError), repr(outcome.error.__cause__)
        assert part is None or part.ended == "discarded"
        assert outcome.location is None
        return type(outcome.error), None if part is None else part.data


@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_answer_is_the_file_or_an_error_of_the_sources(mirror: Mirror, lanes: Lanes, name: str) -> None:
    both = Both(lanes)

    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(data=damaged(WHOLE[name]))
    def judged(data: bytes) -> None:
        note(repr(data))
        url = mirror.raw(data, then="close", at="/damaged").url
        with gevent.Timeout(DEADLINE_S, AssertionError("it hangs")):
            known = [both.told(url, lane, digests=DIGEST) for lane in LANES]
            unknown = [both.told(url, lane) for lane in LANES]
        assert known[0] == known[1]
        assert unknown[0] == unknown[1]

    judged()
    # All of it would hold for anything, were all of them whole or all of them beyond hope.
    assert both.stored > EXAMPLES // 4
    assert both.failed > EXAMPLES // 4


@pytest.mark.parametrize("name", WHOLE)
def test_undamaged_it_is_the_file(mirror: Mirror, lanes: Lanes, name: str) -> None:
    both, url = Both(lanes), mirror.raw(WHOLE[name], then="close").url
    for lane in LANES:
        assert both.told(url, lane, digests=DIGEST) == ("digest", BODY)
