"""What each fault of a source is called, and what is left of it: an Outcome, nothing under the final name, no part.

Every row runs over the scripted origin, with one source, no retry, and a FileStore.
"""

from __future__ import annotations

import base64
import errno
import gzip
import pickle
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geofetch.errors import (
    BadStatus,
    DeadlineExceeded,
    DigestMismatch,
    FetchError,
    NotFound,
    RateLimited,
    SizeMismatch,
    SourceError,
    Stalled,
    StoreError,
    TooLarge,
    Truncated,
    Unauthorized,
    Undecodable,
    Unreachable,
    UntrustedTLS,
)
from geofetch.events import Outcome
from geofetch.session import Session
from geofetch.spec import Profile, Spec
from geofetch.store import FileStore
from tests.origin.content import made
from tests.origin.faults import BODY, FAULTS
from tests.origin.scenes import Drip, Scene
from tests.support.diary import sha256
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror, Origins
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

GET = Callable[..., Outcome]
FILE = made(20_000, "faults")


@pytest.fixture
def get(tmp_path: Path, spotless: Leftovers) -> GET:
    """One spec, one try, into a FileStore; whatever fails leaves nothing there."""
    root = tmp_path / "store"

    def get(url: str, *, pool: dict[str, Any] | None = None, **spec: Any) -> Outcome:
        store = FileStore(root)
        with pooled(**{"store": store, "retries": 0, "timeout": 5, **(pool or {})}) as made_pool:
            (outcome,) = made_pool.map([Spec(url, path="file", **spec)])
        store.close()
        there = [path.name for path in root.rglob("*")] if root.exists() else []
        assert there == (["file"] if outcome.ok else [])
        assert (outcome.error is None) == outcome.ok
        if not outcome.ok:
            assert outcome.state == "failed"
            assert outcome.location is None
            _is_complete(outcome)
        return outcome

    return get


def _is_complete(outcome: Outcome) -> None:
    """An error says which source and why, knows its attempts, and survives a pickle."""
    error = outcome.error
    assert error is not None
    assert error.spec is outcome.spec
    assert error.attempts == outcome.attempts
    assert outcome.attempts[-1].error is error
    if isinstance(error, SourceError):
        assert error.source == outcome.spec.source
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert outcome.spec.source.shown in str(error)


def read(outcome: Outcome) -> bytes:
    return bytes(outcome.location.read_bytes())


# ---------------------------------------------------------------------------------------------------- in every state


def test_the_outcome_of_what_was_stored(mirror: Mirror, get: GET) -> None:
    source = mirror.serves(FILE)
    outcome = get(source.url, size=len(FILE), digests=sha256(FILE))
    assert (outcome.state, outcome.ok, outcome.error) == ("stored", True, None)
    assert outcome.source == source
    assert (outcome.size, outcome.fetched, outcome.verified) == (len(FILE), len(FILE), "digest")
    assert {str(digest) for digest in outcome.digests.values()} == {sha256(FILE)}
    (attempt,) = outcome.attempts
    assert (attempt.number, attempt.source, attempt.error, attempt.received_bytes) == (1, source, None, len(FILE))
    assert attempt.head is not None
    assert (attempt.head.status, attempt.head.length, attempt.head.framed, attempt.head.encoding) == (
        200,
        len(FILE),
        True,
        "",
    )
    assert read(outcome) == FILE


def test_the_outcome_of_what_failed(mirror: Mirror, get: GET) -> None:
    source = mirror.serves(FILE, cut=7_000)
    outcome = get(source.url)
    assert (outcome.state, outcome.ok, outcome.source, outcome.location) == ("failed", False, source, None)
    assert (outcome.fetched, outcome.verified) == (7_000, "nothing")
    with pytest.raises(Truncated, match=f"7000 of {len(FILE)} bytes") as caught:
        outcome.raise_for_error()
    assert caught.value is outcome.error


@pytest.mark.parametrize(
    ("spec", "scene", "verified"),
    [
        pytest.param({"digests": sha256(BODY)}, Scene(body=BODY), "digest", id="digest"),
        pytest.param({"digests": sha256(BODY), "size": 100}, Scene(body=BODY, announce=None), "digest", id="both"),
        pytest.param({"size": 100}, Scene(body=BODY), "size", id="size"),
        pytest.param({"size": 100}, Scene(body=BODY, announce=None), "size", id="size-without-framing"),
        pytest.param({}, Scene(body=BODY), "framing", id="length"),
        pytest.param({}, Scene(body=BODY, chunked=30), "framing", id="chunks"),
        pytest.param({}, Scene(body=BODY, announce=None), "nothing", id="no-length"),
    ],
)
def test_what_proved_the_bytes_is_told(mirror: Mirror, get: GET, spec: Any, scene: Scene, verified: str) -> None:
    outcome = get(mirror.plays([scene]).url, **spec)
    assert (outcome.state, outcome.verified, outcome.size) == ("stored", verified, 100)


# ----------------------------------------------------------------------------------------------------- no answer at all


def test_a_refused_connection(origins: Origins, get: GET) -> None:
    outcome = get(origins.refusing().source.url)
    assert type(outcome.error) is Unreachable
    assert outcome.error.errno == errno.ECONNREFUSED


@pytest.mark.parametrize("greets", ["reset", "close"])
def test_a_connection_that_ends_at_once(origins: Origins, get: GET, greets: str) -> None:
    outcome = get(origins.http(greets=[greets]).source.url)
    assert type(outcome.error) is Unreachable


@pytest.mark.parametrize("fault", ["reset-before-the-answer", "closed-before-the-answer"])
def test_a_connection_that_ends_when_it_was_asked(mirror: Mirror, get: GET, fault: str) -> None:
    assert type(get(mirror.plays([FAULTS[fault]]).url).error) is Unreachable


def test_a_server_that_never_answers(origins: Origins, get: GET) -> None:
    outcome = get(origins.silent().source.url, pool={"timeout": (5, 0.1)})
    assert type(outcome.error) is Stalled


def test_a_server_that_never_accepts(origins: Origins, get: GET) -> None:
    outcome = get(origins.full().source.url, pool={"timeout": (0.2, 5)})
    assert type(outcome.error) is Stalled


def test_a_host_without_an_address(get: GET) -> None:
    outcome = get("http://nowhere.invalid/file")
    assert type(outcome.error) is Unreachable


def test_a_certificate_that_nobody_vouches_for(secure: Mirror, get: GET) -> None:
    outcome = get(secure.serves(FILE).url)
    assert type(outcome.error) is UntrustedTLS


def test_a_head_that_comes_drop_by_drop_ends_in_time(mirror: Mirror, get: GET) -> None:
    slow = mirror.raw(Drip(b"HTTP/1.1 200 OK\r\n" * 500, 1, 0.01))
    outcome = get(slow.url, pool={"timeout": (0.2, 0.2)})
    assert type(outcome.error) is Stalled
    assert re.search(r"no complete head within 0\.[24] s", str(outcome.error))


# --------------------------------------------------------------------------------------------------------- in the body


def test_a_body_that_stops(mirror: Mirror, get: GET) -> None:
    outcome = get(mirror.serves(FILE, stall=5_000).url, pool={"timeout": (5, 0.1)})
    assert type(outcome.error) is Stalled
    assert f"5000 of {len(FILE)} bytes" in str(outcome.error)
    assert outcome.fetched == 5_000


def test_a_body_that_drips_below_the_low_speed(mirror: Mirror, get: GET) -> None:
    outcome = get(mirror.serves(FILE, drip=(1, 0.01)).url, pool={"low_speed": (10_000, 0.2)})
    assert type(outcome.error) is Stalled
    assert "slower than 10000 bytes/s" in str(outcome.error)


def test_a_deadline_ends_what_goes_on_for_ever(mirror: Mirror, get: GET) -> None:
    outcome = get(mirror.serves(FILE, drip=(10, 0.01)).url, pool={"deadline": 0.2})
    assert type(outcome.error) is DeadlineExceeded
    assert "not done within 0.2 s" in str(outcome.error)
    mirror.left()


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (Unauthorized, (401, 403)),
        (NotFound, (404, 410)),
        (RateLimited, (429,)),
        (BadStatus, (400, 402, 405, 408, 416, 418, 451)),
        (BadStatus, (500, 501, 502, 503, 504)),
        (BadStatus, (201, 202, 226, 299, 300, 399, 600, 999)),
    ],
)
def test_a_status_that_is_no_file(mirror: Mirror, get: GET, kind: type[BadStatus], statuses: tuple[int, ...]) -> None:
    for status in statuses:
        outcome = get(mirror.serves(b"<h1>sorry</h1>", status=status).url)
        assert type(outcome.error) is kind
        assert isinstance(outcome.error, BadStatus)
        assert outcome.error.status == status
        assert outcome.error.response is not None
        assert outcome.error.response.content == b"<h1>sorry</h1>"


def test_a_503_that_says_when_is_a_matter_of_time(mirror: Mirror, get: GET) -> None:
    outcome = get(mirror.serves(status=503, retry_after=7).url)
    assert type(outcome.error) is RateLimited
    assert outcome.error.retry_after_s == 7


def test_of_an_errors_body_64_kib_are_kept(mirror: Mirror, get: GET) -> None:
    outcome = get(mirror.serves(b"x", status=500, times=1 << 20).url)
    assert isinstance(outcome.error, BadStatus)
    assert outcome.error.response is not None
    assert outcome.error.response.content == b"x" * 65536
    endless = get(mirror.serves(b"x" * 1000, status=500, endless=True).url)
    assert isinstance(endless.error, BadStatus)


# ------------------------------------------------------------------------------------------------------ size and digest


@pytest.mark.parametrize(
    ("scene", "kind", "words", "most"),
    [
        # More than comes with a head: what came whole leaves a connection that can be kept.
        pytest.param(Scene(body=FILE * 10), TooLarge, "200000 bytes announced, 100 wanted", 0, id="announced-more"),
        pytest.param(Scene(body=FILE[:99]), SizeMismatch, "99 bytes announced", 0, id="announced-less"),
        pytest.param(Scene(body=FILE, chunked=7), TooLarge, "more than the 100 bytes", 20_000, id="chunks-more"),
        pytest.param(Scene(body=FILE[:99], chunked=7), SizeMismatch, "99 bytes, 100 wanted", 99, id="chunks-less"),
        pytest.param(Scene(body=FILE, announce=None), TooLarge, "more than the 100", 20_000, id="no-length-more"),
        pytest.param(Scene(announce=None, then="close"), SizeMismatch, "0 bytes, 100 wanted", 0, id="nothing-at-all"),
        pytest.param(Scene(body=FILE, endless=True), TooLarge, "more than the 100", 1 << 21, id="endless"),
    ],
)
def test_another_size_than_was_told(
    mirror: Mirror, get: GET, scene: Scene, kind: type[FetchError], words: str, most: int
) -> None:
    outcome = get(mirror.plays([scene]).url, size=100)
    assert type(outcome.error) is kind
    assert words in str(outcome.error)
    assert outcome.fetched <= most
    if kind is TooLarge:
        mirror.left()  # the rest was not waited for


def test_zero_is_a_size(mirror: Mirror, get: GET) -> None:
    assert type(get(mirror.serves(b"x").url, size=0).error) is TooLarge
    assert type(get(mirror.serves(b"x", announce=None).url, size=0).error) is TooLarge


def test_the_right_number_of_wrong_bytes(mirror: Mirror, get: GET) -> None:
    wrong = bytes(len(FILE))
    outcome = get(mirror.serves(wrong).url, size=len(FILE), digests=sha256(FILE))
    assert type(outcome.error) is DigestMismatch
    assert f"{sha256(wrong)} came, {sha256(FILE)} was wanted" in str(outcome.error)
    assert {str(digest) for digest in outcome.digests.values()} == {sha256(wrong)}


RIGHT, WRONG = (sha256(one).removeprefix("sha256:") for one in (BODY, b"another"))


def _b64(hex_digest: str) -> str:
    return base64.b64encode(bytes.fromhex(hex_digest)).decode()


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(("Repr-Digest", "sha-256=:{}:"), id="repr-digest"),
        pytest.param(("Content-Digest", "unknown=:AAAA:, sha-256=:{}:"), id="content-digest"),
        pytest.param(("Digest", "SHA-256={}"), id="digest"),
    ],
)
def test_a_digest_that_the_server_announces_is_held_against_the_bytes(
    mirror: Mirror, get: GET, field: tuple[str, str]
) -> None:
    name, template = field
    wrong = get(mirror.serves(BODY, headers={name: template.format(_b64(WRONG))}).url)
    assert type(wrong.error) is DigestMismatch
    assert f"sha256:{WRONG} was announced by the server" in str(wrong.error)
    right = get(mirror.serves(BODY, headers={name: template.format(_b64(RIGHT))}).url)
    assert right.state == "stored"
    assert {str(digest) for digest in right.digests.values()} == {f"sha256:{RIGHT}"}


def test_an_announced_digest_is_found_where_names_are_kept_as_they_were_sent(mirror: Mirror, get: GET) -> None:
    source = mirror.serves(BODY, headers={"Repr-Digest": f"sha-256=:{_b64(WRONG)}:"})
    with Session() as session:
        session.hooks["response"].append(lambda response, **how: None)  # requests' own way, and its headers
        assert type(get(source.url, pool={"session": session}).error) is DigestMismatch


def test_content_md5_is_held_against_the_bytes(mirror: Mirror, get: GET) -> None:
    md5 = "4c8d8ea5d8b8d2b0b0b2d8e0e5a7f1c4"
    outcome = get(mirror.serves(BODY, headers={"Content-MD5": _b64(md5)}).url)
    assert type(outcome.error) is DigestMismatch


@pytest.mark.parametrize("value", ["sha-256=nonsense", "sha-256=::", "sha-256=:AAAA:", ";;;", "md5"])
def test_an_announced_digest_that_cannot_be_read_proves_nothing_either_way(
    mirror: Mirror, get: GET, value: str
) -> None:
    assert get(mirror.serves(BODY, headers={"Repr-Digest": value}).url).verified == "framing"


# -------------------------------------------------------------------------------------------------- encodings unasked

PLAIN = b"all work and no play makes Jack a dull boy\n" * 100
ZIPPED = gzip.compress(PLAIN, mtime=0)
GZIP = {"Content-Encoding": "gzip"}


def test_identity_is_asked_for(mirror: Mirror, get: GET) -> None:
    source = mirror.serves(PLAIN)
    get(source.url)
    assert source.request.header("Accept-Encoding") == "identity"


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"digests": sha256(PLAIN)}, id="digest"),
        pytest.param({"size": len(PLAIN)}, id="size"),
        pytest.param({"size": len(PLAIN), "digests": sha256(PLAIN)}, id="both"),
    ],
)
@pytest.mark.parametrize("framing", [{}, {"chunked": True}, {"announce": None}], ids=["length", "chunks", "none"])
def test_gzip_served_for_identity_is_undecodable_unless_it_is_to_be_undone(
    mirror: Mirror, get: GET, spec: Any, framing: Any
) -> None:
    source = mirror.serves(PLAIN, gzip=True, **framing)
    outcome = get(source.url, **spec)
    assert type(outcome.error) is Undecodable
    assert "sent with Content-Encoding 'gzip' although identity was asked for; decode=True undoes it" in str(
        outcome.error
    )
    decoded = get(source.url, pool={"decode": True}, **spec)
    assert read(decoded) == PLAIN
    assert (decoded.size, decoded.fetched) == (len(PLAIN), len(ZIPPED))
    assert decoded.verified == ("digest" if "digests" in spec else "size")


def test_gzip_for_identity_is_stored_as_sent_where_nothing_is_expected(mirror: Mirror, get: GET) -> None:
    outcome = get(mirror.serves(PLAIN, gzip=True).url)
    assert (outcome.state, read(outcome)) == ("stored", ZIPPED)
    assert outcome.attempts[0].head is not None
    assert outcome.attempts[0].head.encoding == "gzip"


def test_gzip_that_is_the_file_itself_is_the_file(mirror: Mirror, get: GET) -> None:
    """Servers say ``Content-Encoding: x-gzip`` of a .gz file: the bytes that were wanted are the encoded ones."""
    source = mirror.serves(ZIPPED, headers={"Content-Encoding": "x-gzip"})
    outcome = get(source.url, size=len(ZIPPED), digests=sha256(ZIPPED))
    assert (outcome.state, outcome.verified, read(outcome)) == ("stored", "digest", ZIPPED)


@pytest.mark.parametrize(
    ("body", "encoding", "kind"),
    [
        pytest.param(ZIPPED[: len(ZIPPED) // 2], "gzip", Truncated, id="cut-in-its-middle"),
        pytest.param(ZIPPED[:-1], "gzip", Truncated, id="cut-before-its-last-byte"),
        pytest.param(PLAIN, "gzip", Undecodable, id="in-name-only"),
        pytest.param(ZIPPED + b"junk", "gzip", Undecodable, id="and-junk"),
        pytest.param(ZIPPED[:-8] + bytes(8), "gzip", Undecodable, id="wrong-checksum"),
        pytest.param(PLAIN, "zork", Undecodable, id="unknown"),
        pytest.param(ZIPPED, "gzip, gzip", Undecodable, id="twice"),
        pytest.param(ZIPPED + ZIPPED, "gzip", PLAIN + PLAIN, id="two-members"),
        pytest.param(PLAIN, "identity", PLAIN, id="identity"),
    ],
)
def test_an_encoding_that_is_to_be_undone(
    mirror: Mirror, get: GET, body: bytes, encoding: str, kind: type[FetchError] | bytes
) -> None:
    outcome = get(mirror.serves(body, headers={"Content-Encoding": encoding}).url, pool={"decode": True})
    if isinstance(kind, bytes):
        assert read(outcome) == kind
    else:
        assert type(outcome.error) is kind


def test_a_bomb_is_stopped_by_the_size_that_was_told(mirror: Mirror, get: GET) -> None:
    bomb = gzip.compress(bytes(100 << 20), 9, mtime=0)
    written: list[int] = []
    source = mirror.serves(bomb, headers=GZIP)
    hooks = {"chunk": lambda attempt, view: written.append(len(view))}
    outcome = get(source.url, size=1_000, pool={"decode": True, "hooks": hooks})
    assert type(outcome.error) is TooLarge
    assert sum(written) < 1 << 20


# ------------------------------------------------------------------------------------------------- what only TLS can do


def test_a_body_without_a_length_that_tls_did_not_end_is_unverified(secure: Mirror, get: GET, ca: Any) -> None:
    profile = Profile(ca=str(ca.path))
    cut = secure.serves(FILE, announce=None, cut=5_000)
    assert type(get(cut.url, profile=profile, digests=sha256(FILE)).error) is DigestMismatch
    assert type(get(cut.url, profile=profile, size=len(FILE)).error) is SizeMismatch
    outcome = get(cut.url, profile=profile)
    assert (outcome.state, outcome.size, outcome.verified) == ("stored", 5_000, "nothing")


# ------------------------------------------------------------------------------------------------------- our own fault


def test_a_store_that_cannot_take_it_is_asked_before_the_source(
    mirror: Mirror, spotless: Leftovers, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file where a folder is wanted")
    source = mirror.serves(FILE)
    with pooled(store=FileStore(tmp_path / "taken")) as pool:
        (outcome,) = pool.map([source.url])
    assert type(outcome.error) is StoreError
    assert outcome.error.errno == errno.ENOTDIR
    assert (outcome.state, source.hits, outcome.attempts) == ("failed", 0, ())


def test_a_profile_that_nobody_gave_is_the_callers_mistake(mirror: Mirror) -> None:
    source = mirror.serves(FILE)
    with pooled() as pool:
        (outcome,) = pool.map([Spec(source.url, profile="unheard-of")])
    assert "no profile is called 'unheard-of'" in str(outcome.error)
    assert source.hits == 0


def test_a_named_profile_is_found(mirror: Mirror) -> None:
    source = mirror.serves(FILE)
    with pooled(profiles={"known": Profile(headers={"X-Key": "k"})}) as pool:
        (outcome,) = pool.map([Spec(source.url, profile="known")])
    assert outcome.ok
    assert source.request.header("X-Key") == "k"


def test_headers_of_the_session_go_along(mirror: Mirror) -> None:
    session = Session()
    session.headers["X-Who"] = "me"
    source = mirror.serves(FILE)
    with pooled(session=session) as pool:
        pool.map([source.url])[0].raise_for_error()
    assert source.request.header("X-Who") == "me"


def test_a_body_that_stops_is_below_any_speed(mirror: Mirror, get: GET) -> None:
    began = time.monotonic()
    outcome = get(mirror.serves(FILE, stall=100).url, pool={"low_speed": (1000, 0.2), "timeout": 30})
    assert type(outcome.error) is Stalled
    assert time.monotonic() - began < 15
