"""What S3Store alone promises, on a real server: parts, two writers, what is there already, what is listed."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from typing import Any

import gevent
import pytest
import requests

import geofetch
from geofetch import Digest, Pool, S3Store, Spec, SpecError, StoreError
from geofetch.events import Kept
from geofetch.store.s3 import bucket as bucket_room
from geofetch.store.s3 import part as part_room
from geofetch.store.s3.checks import TOLD, Sums, sums_of
from geofetch.testing.store import HEAD, PATH, attempt, digests_of, put, written

from .support.mirrors import Mirror
from .support.objects import BUCKET, ObjectServer, s3_store
from .support.ticking import Ticker
from .support.waiting import until

MIB = 1 << 20
BLOCK = os.urandom(MIB)
#: Three whole parts of the usual size, and a rest.
LARGE = BLOCK * 30
LARGE_SHA256 = hashlib.sha256(LARGE).digest()


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return f"{request.node.originalname}-{os.urandom(4).hex()}"


@pytest.fixture
def make(object_server: ObjectServer, prefix: str) -> Callable[..., S3Store]:
    def made(below: str = "", **how: Any) -> S3Store:
        return s3_store(object_server, prefix + below, **how)

    return made


@pytest.fixture
def boto(object_server: ObjectServer) -> Any:
    """A client that looks at the server without geofetch."""
    return object_server.boto()


def under_way(boto: Any, prefix: str) -> list[str]:
    """The keys of uploads that are neither completed nor aborted."""
    found = boto.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])
    return [one["Key"] for one in found]


def objects(boto: Any, prefix: str) -> list[str]:
    found = boto.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [one["Key"].removeprefix(prefix + "/") for one in found]


def spec_of(content: bytes, path: str = PATH, **more: Any) -> Spec:
    digest = Digest("sha256", hashlib.sha256(content).digest())
    return Spec("http://127.0.0.1:9/x", path=path, digests=[digest], **more)


# ------------------------------------------------------------------------------------------------------ one file's way


@pytest.mark.parametrize("known", [True, False], ids=["digest-known", "digest-not-known"])
@pytest.mark.parametrize("layout", ["path", "digest"])
def test_a_large_file_is_sent_in_parts_from_the_native_lane(
    mirror: Mirror, make: Callable[..., S3Store], boto: Any, prefix: str, ticker: Ticker, layout: str, known: bool
) -> None:
    large = mirror.serves(BLOCK, times=30, name="large.bin")
    store = make(layout=layout)
    spec = Spec(large.url, size=len(LARGE), digests=[Digest("sha256", LARGE_SHA256)] if known else None)
    store.ready()
    with ticker, Pool(2, store=store, progress=False) as pool:
        (outcome,) = pool.map([spec])
    outcome.raise_for_error()
    key = "large.bin" if layout == "path" else f"sha256/{LARGE_SHA256.hex()[:2]}/{LARGE_SHA256.hex()}"
    assert outcome.location == f"{store.name}/{key}"
    assert objects(boto, prefix) == [key]
    assert under_way(boto, prefix) == []
    head = boto.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}", ChecksumMode="ENABLED")
    if layout == "path" or known:
        assert head["ETag"].endswith('-4"')
        assert head["ChecksumSHA256"].endswith("-4")
    told = head["Metadata"].get(TOLD, "")
    assert (f"sha256:{LARGE_SHA256.hex()}" in told) == (known or layout == "digest")
    assert hashlib.sha256(boto.get_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["Body"].read()).digest() == LARGE_SHA256
    with store.open(key) as file:
        assert hashlib.file_digest(file, "sha256").digest() == LARGE_SHA256  # type: ignore[arg-type]
    assert ticker.worst_s < 2.5  # 0.5 was seen: a process that reads botocore for the first time


def test_a_small_file_is_stored_by_one_request_and_says_its_digests(
    make: Callable[..., S3Store], boto: Any, prefix: str
) -> None:
    store = make()
    part = written(store, b"small")
    part.publish(digests_of(b"small", "sha256", "md5"))
    head = boto.head_object(Bucket=BUCKET, Key=f"{prefix}/{PATH}", ChecksumMode="ENABLED")
    assert head["ChecksumSHA256"] == sums_of(b"small").checksum
    assert head["ETag"].strip('"') == hashlib.md5(b"small").hexdigest()
    assert head["Metadata"][TOLD].split() == [str(one) for one in digests_of(b"small", "md5", "sha256").values()]


def test_no_more_than_one_part_waits_in_memory(make: Callable[..., S3Store]) -> None:
    part: Any = make(part_bytes=5 * MIB).begin(attempt(), HEAD)
    most = 0
    for _ in range(12):
        part.write(memoryview(BLOCK))
        most = max(most, len(part._buffer))
    part.discard()
    assert most == 5 * MIB


@pytest.mark.parametrize("layout", ["path", "digest"])
def test_a_discarded_upload_leaves_no_part(make: Callable[..., S3Store], boto: Any, prefix: str, layout: str) -> None:
    part = written(make(layout=layout), LARGE, pieces=30)
    assert len(under_way(boto, prefix)) == 1
    part.discard()
    assert under_way(boto, prefix) == []
    assert objects(boto, prefix) == []


def test_a_cancelled_download_leaves_no_part(
    mirror: Mirror, make: Callable[..., S3Store], boto: Any, prefix: str
) -> None:
    stalls = mirror.serves(BLOCK, times=30, stall=20 * MIB, name="large.bin")
    with Pool(2, store=make(), progress=False) as pool:
        job = pool.spawn(stalls.url)
        until(lambda: under_way(boto, prefix), what="an upload begun")
        job.cancel()
        outcome = until(lambda: job.outcome)
        assert outcome is not None
        assert outcome.state == "cancelled"
        assert under_way(boto, prefix) == []
    assert objects(boto, prefix) == []


def test_wrong_bytes_leave_nothing(mirror: Mirror, make: Callable[..., S3Store], boto: Any, prefix: str) -> None:
    large = mirror.serves(BLOCK, times=12, name="large.bin")
    wanted = Spec(large.url, digests=[Digest("sha256", bytes(32))])
    with Pool(2, store=make(), progress=False, retries=0) as pool:
        (outcome,) = pool.map([wanted])
    assert isinstance(outcome.error, geofetch.DigestMismatch)
    assert under_way(boto, prefix) == []
    assert objects(boto, prefix) == []


def test_an_upload_that_says_a_digest_that_nobody_proved_is_not_published(
    make: Callable[..., S3Store], boto: Any, prefix: str
) -> None:
    part = make().begin(attempt(digests=[Digest("sha256", LARGE_SHA256)]), HEAD)
    part.write(memoryview(LARGE))
    with pytest.raises(StoreError, match="nobody has proven"):
        part.publish(digests_of(LARGE, "md5"))
    part.discard()
    assert objects(boto, prefix) == []
    assert under_way(boto, prefix) == []


@pytest.mark.parametrize("large", [False, True], ids=["whole", "in-parts"])
def test_bytes_that_change_on_their_way_are_refused_and_nothing_is_left(
    make: Callable[..., S3Store], boto: Any, prefix: str, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    room = "geofetch.store.s3.uploads.sums_of" if large else "geofetch.store.s3.part.sums_of"
    content = LARGE if large else b"small"

    def other(body: bytes) -> Sums:  # what is sent is then not what the sums were made of
        return Sums(hashlib.md5(b"other").digest(), hashlib.sha256(body).digest())

    monkeypatch.setattr(room, other)
    with pytest.raises(StoreError, match="other bytes arrived") as caught:
        written(make(patience_s=0.0), content).publish(digests_of(content))
    assert caught.value.errno == errno.EIO
    assert caught.value.__cause__ is not None
    assert objects(boto, prefix) == []


# --------------------------------------------------------------------------------------------------------- two writers


def test_two_writers_of_one_path_leave_one_of_their_files_whole(make: Callable[..., S3Store]) -> None:
    stores = [make(), make()]
    contents = [bytes([number]) * (MIB + number) for number in range(8)]
    jobs = [gevent.spawn(put, stores[number % 2], content) for number, content in enumerate(contents)]
    gevent.joinall(jobs, raise_error=True)
    with stores[0].open(PATH) as file:
        assert file.read() in contents


@pytest.mark.parametrize("large", [False, True], ids=["whole", "in-parts"])
@pytest.mark.parametrize("conditional", [True, False], ids=["conditions", "no-conditions"])
def test_by_digest_the_first_of_two_writers_stays_and_the_second_has_it_too(
    make: Callable[..., S3Store], boto: Any, prefix: str, large: bool, conditional: bool
) -> None:
    content = LARGE[: 9 * MIB] if large else b"the same"
    wanted = {"digests": list(digests_of(content).values())} if large else {}
    stores = [make(layout="digest"), make(layout="digest")]
    parts = []
    for store in stores:
        store._bucket.conditional = conditional
        part = store.begin(attempt(**wanted), HEAD)
        part.write(memoryview(content))
        parts.append(part)
    first, _ = parts[0].publish(digests_of(content))
    second, _ = parts[1].publish(digests_of(content, "sha256", "md5"))
    assert first == second
    (key,) = objects(boto, prefix)
    # What the second would have said of it is not there: it was not written again.
    told = boto.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["Metadata"][TOLD]
    assert told == str(digests_of(content)["sha256"])
    assert under_way(boto, prefix) == []


@pytest.mark.parametrize("conditional", [True, False], ids=["conditions", "no-conditions"])
@pytest.mark.parametrize("rotten", [b"the SAME", b"shorter"], ids=["same-size", "another-size"])
def test_by_digest_what_has_rotted_is_replaced(
    make: Callable[..., S3Store], boto: Any, prefix: str, rotten: bytes, conditional: bool
) -> None:
    store = make(layout="digest")
    store._bucket.conditional = conditional
    put(store, b"the same")
    (key,) = objects(boto, prefix)
    boto.put_object(Bucket=BUCKET, Key=f"{prefix}/{key}", Body=rotten)
    put(store, b"the same")
    assert boto.get_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["Body"].read() == b"the same"


def test_many_writers_of_one_digest_at_once_all_have_it(make: Callable[..., S3Store], boto: Any, prefix: str) -> None:
    stores = [make(layout="digest") for _ in range(4)]
    jobs = [gevent.spawn(put, stores[number % 4], b"popular", f"{number}") for number in range(16)]
    gevent.joinall(jobs, raise_error=True)
    assert len({job.value[0] for job in jobs}) == 1
    assert len(objects(boto, prefix)) == 1


def test_a_server_that_knows_no_conditions_is_heard(make: Callable[..., S3Store]) -> None:
    found = make()._bucket
    refusal = bucket_room.Refused("not implemented")
    refusal.code = "NotImplemented"
    found.heard(refusal, None)
    assert found.conditions(bucket_room.NEW) == {"IfNoneMatch": "*"}
    found.heard(refusal, bucket_room.NEW)
    assert found.conditions(bucket_room.NEW) == {}


# ----------------------------------------------------------------------------------------------- what is there already


def test_what_its_head_proves_is_had_unread(
    make: Callable[..., S3Store], boto: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    put(store, b"mine")
    read: list[str] = []
    monkeypatch.setattr(store._bucket, "piece", lambda key, *args: read.append(key))
    found = store.have(spec_of(b"mine"), None)
    assert found is not None
    assert (found.verified, read) == ("digest", [])
    assert store.have(spec_of(b"other"), None) is None
    assert read == []


def test_a_strangers_object_is_read_and_recalled_by_size_time_and_etag(
    make: Callable[..., S3Store], boto: Any, prefix: str
) -> None:
    store = make()
    boto.put_object(Bucket=BUCKET, Key=f"{prefix}/{PATH}", Body=b"theirs")
    read: list[str] = []
    piece = store._bucket.piece
    store._bucket.piece = lambda key, *args: (read.append(key), piece(key, *args))[1]  # type: ignore[method-assign]
    found = store.have(spec_of(b"theirs"), None)
    assert found is not None
    assert read == [PATH]
    kept = found.kept
    assert kept is not None

    def recall(store: str, key: str) -> tuple[Kept, dict[str, Digest]]:
        assert kept is not None
        return kept, digests_of(b"theirs")

    again = store.have(spec_of(b"theirs"), recall)
    assert again is not None
    assert read == [PATH]
    boto.put_object(Bucket=BUCKET, Key=f"{prefix}/{PATH}", Body=b"THEIRS")
    assert store.have(spec_of(b"theirs"), recall) is None
    assert read == [PATH] * 2


def test_a_file_is_stored_and_the_next_run_adopts_it(mirror: Mirror, make: Callable[..., S3Store]) -> None:
    handle = mirror.serves(b"bytes", name="a.bin")
    spec = Spec(handle.url, digests=list(digests_of(b"bytes").values()))
    for state in ("stored", "adopted"):
        with Pool(2, store=make(), recorder="sqlite:///:memory:", progress=False) as pool:
            (outcome,) = pool.map([spec])
        assert outcome.state == state, outcome
    assert handle.hits == 1


def test_a_reader_whose_object_is_replaced_is_told_so(make: Callable[..., S3Store]) -> None:
    store = make()
    put(store, LARGE[: 9 * MIB])
    with store.open(PATH) as file:
        assert file.read(MIB) == BLOCK
        put(store, b"newer")
        with pytest.raises(StoreError, match="replaced while it was read") as caught:
            file.read()
    assert caught.value.errno == errno.ESTALE


def test_a_stream_seeks(make: Callable[..., S3Store]) -> None:
    store, content = make(), os.urandom(9 * MIB)
    put(store, content)
    with store.open(PATH) as file:
        for start in (8 * MIB + 5, 3, 5 * MIB):
            file.seek(start)
            assert file.read(10) == content[start : start + 10]
        assert file.seek(0, os.SEEK_END) == len(content)
        assert file.read() == b""


# --------------------------------------------------------------------------------------------- listing, putting aside


def test_a_listing_goes_on_where_another_one_stopped(
    make: Callable[..., S3Store], boto: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()
    for number in range(25):
        put(store, b"x", f"d/{number:03}")
    boto.put_object(Bucket=BUCKET, Key=f"{prefix}/.geofetch/other", Body=b"ours")
    monkeypatch.setattr(bucket_room, "PAGE", 10)
    keys = list(store.keys())
    assert keys == [f"d/{number:03}" for number in range(25)]
    assert list(store.keys(after=keys[12])) == keys[13:]
    assert list(make("-other").keys()) == []


def test_what_is_put_aside_keeps_what_its_head_says(make: Callable[..., S3Store], boto: Any, prefix: str) -> None:
    store = make()
    put(store, b"rotten")
    aside = store.quarantine(PATH)
    assert aside == f"{store.name}/.geofetch/quarantine/{PATH}"
    put(store, b"rotten, too")
    assert store.quarantine(PATH) not in (aside, "")
    assert list(store.keys()) == []
    head = boto.head_object(Bucket=BUCKET, Key=f"{prefix}/.geofetch/quarantine/{PATH}")
    assert head["Metadata"][TOLD]


def test_a_copy_that_is_too_large_for_one_request_is_made_in_parts(
    make: Callable[..., S3Store], boto: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_room, "COPY_MOST", 5 * MIB)
    store = make()
    put(store, LARGE)
    store.quarantine(PATH)
    found = boto.get_object(Bucket=BUCKET, Key=f"{prefix}/.geofetch/quarantine/{PATH}")
    assert "-" in found["ETag"]
    assert hashlib.sha256(found["Body"].read()).digest() == LARGE_SHA256
    assert under_way(boto, prefix) == []


def test_a_signed_url_is_fetched_by_anybody_until_it_expires(make: Callable[..., S3Store]) -> None:
    store = make()
    put(store, b"for all")
    assert requests.get(store.url_for(PATH, expires_s=60), timeout=10).content == b"for all"
    plain = store.url_for(PATH).partition("?")[0]
    assert requests.get(plain, timeout=10).status_code == 403
    with pytest.raises(SpecError, match="a week"):
        store.url_for(PATH, expires_s=10**6)


@pytest.mark.parametrize("path", ["ünï/ a+b%2F&c?.bin", "a/" * 40 + "deep", "~", "x" * 200])
def test_a_path_of_any_letters_is_one_key_everywhere(make: Callable[..., S3Store], path: str) -> None:
    store = make()
    location, _ = put(store, b"odd", path)
    assert list(store.keys()) == [path]
    assert store.have(spec_of(b"odd", path), None).location == location  # type: ignore[union-attr]
    with store.open(path) as file:
        assert file.read() == b"odd"
    assert requests.get(store.url_for(path), timeout=10).content == b"odd"
    store.quarantine(path)
    assert store.stat(path) is None


def test_parts_are_large_enough_for_any_object() -> None:
    least = 8 * MIB
    sizes = [part_room.part_bytes(least, number) for number in (1, 1000, 1001, 10_000)]
    assert sizes == [least, least, 2 * least, least << 9]
    assert sum(part_room.part_bytes(least, number) for number in range(1, 10_001)) > 5 << 40
