"""Where a body ends, decided by one pure function; every ambiguity is an error."""

from __future__ import annotations

import pytest

from geofetch.transport import BadFraming, framing

GOOD = {
    "length": ([("Content-Length", "5")], "length", 5),
    "length twice the same": ([("Content-Length", "5"), ("content-length", "5")], "length", 5),
    "length as list of the same": ([("Content-Length", "5, 5")], "length", 5),
    "zero": ([("Content-Length", "0")], "length", 0),
    "chunked": ([("Transfer-Encoding", "chunked")], "chunked", None),
    "chunked in capitals": ([("transfer-encoding", " Chunked ")], "chunked", None),
    "neither": ([("Server", "x")], "close", None),
}


@pytest.mark.parametrize(("headers", "kind", "length"), GOOD.values(), ids=list(GOOD))
def test_where_a_body_ends(headers: list[tuple[str, str]], kind: str, length: int | None) -> None:
    found = framing("GET", 200, headers)
    assert (found.kind, found.length) == (kind, length)


def test_chunks_win_over_a_length_and_the_connection_is_done_with() -> None:
    found = framing("GET", 200, [("Content-Length", "5"), ("Transfer-Encoding", "chunked")])
    assert (found.kind, found.reusable) == ("chunked", False)


BAD = {
    "two lengths": [("Content-Length", "5"), ("Content-Length", "6")],
    "two lengths in a list": [("Content-Length", "5, 6")],
    "negative": [("Content-Length", "-5")],
    "plus": [("Content-Length", "+5")],
    "text": [("Content-Length", "five")],
    "unit": [("Content-Length", "42s")],
    "empty": [("Content-Length", "")],
    "trailing comma": [("Content-Length", "30,")],
    "underscore": [("Content-Length", "1_0")],
    "other digits": [("Content-Length", "٥")],
    "gzip": [("Transfer-Encoding", "gzip")],
    "gzip, chunked": [("Transfer-Encoding", "gzip, chunked")],
    "chunked not last": [("Transfer-Encoding", "chunked, gzip")],
    "chunked twice": [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
    "unknown coding": [("Transfer-Encoding", "xchunked")],
}


@pytest.mark.parametrize("headers", BAD.values(), ids=list(BAD))
def test_an_unclear_end_is_no_end(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(BadFraming):
        framing("GET", 200, headers)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304), ("GET", 103)])
def test_some_answers_have_no_body_whatever_they_say(method: str, status: int) -> None:
    assert framing(method, status, [("Content-Length", "5")]).length == 0
