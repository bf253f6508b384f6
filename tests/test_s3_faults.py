"""S3Store where something is wrong: a killed process, a server that goes away, keys and buckets that are not right."""

from __future__ import annotations

import copy
import errno
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import gevent
import pytest

import geofetch
from geofetch import Digest, Pool, S3Store, Spec, SpecError, StoreError
from geofetch.store.s3 import DEAD_S
from geofetch.store.s3.checks import Sums, confirm, digests_told, sums_of, sums_of_parts
from geofetch.store.s3.place import place_of
from geofetch.store.s3.refusals import CODES, passing, refused
from geofetch.testing.store import HEAD, PATH, attempt, digests_of, put, written

from .support.apart import environment
from .support.mirrors import Mirror
from .support.objects import BUCKET, KEY, SECRET, ObjectServer, s3_store
from .support.process import ROOT, Child
from .support.waiting import until
from .test_s3_store import BLOCK, LARGE, MIB, boto, make, objects, prefix, under_way

__all__ = ["boto", "make", "prefix"]

SYNC = """
import json, sys
import geofetch
how = json.loads(sys.argv[1])
store = geofetch.S3Store(how.pop("place"), **how)
with geofetch.Pool(2, store=store, progress=False) as pool:
    print(pool.map([sys.argv[2]]), flush=True)
"""


# ------------------------------------------------------------------------------------------------------ killed, swept


def test_what_a_killed_process_left_is_swept_by_age(
    mirror: Mirror, object_server: ObjectServer, make: Callable[..., S3Store], boto: Any, prefix: str
) -> None:
    stalls = mirror.serves(BLOCK, times=30, stall=20 * MIB, name="large.bin")
    how = {"place": f"s3://{BUCKET}/{prefix}", "endpoint": object_server.endpoint, "region": "us-east-1"}
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    program = [sys.executable, "-c", SYNC, geofetch_json(how), stalls.url]
    with Child(program, env={**environment(), **keys}, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        until(lambda: parts(boto, prefix) >= 2, 30, "two parts sent")
        child.kill()
        assert child.wait(10) == -9
    assert len(under_way(boto, prefix)) == 1
    assert objects(boto, prefix) == []
    store = make()
    store.ready()  # it is young: for all that is known somebody sends it still
    assert len(under_way(boto, prefix)) == 1
    assert store.abort_incomplete_uploads(older_than_s=3600) == 0
    assert make("-other").abort_incomplete_uploads(older_than_s=0) == 0
    assert store.abort_incomplete_uploads(older_than_s=0) == 1
    assert under_way(boto, prefix) == []


def geofetch_json(value: Any) -> str:
    import json

    return json.dumps(value)


def parts(boto: Any, prefix: str) -> int:
    """How many parts there are of uploads under way."""
    found = boto.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", [])
    told = [boto.list_parts(Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"]) for one in found]
    return sum(len(one.get("Parts", [])) for one in told)


def test_a_store_sweeps_what_is_old_when_it_is_first_used(
    make: Callable[..., S3Store], boto: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    boto.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/left")
    boto.put_object(Bucket=BUCKET, Key=f"{prefix}/.geofetch/parts/left", Body=b"never got its name")
    make().ready()
    assert len(under_way(boto, prefix)) == 1
    assert DEAD_S >= 86_400
    monkeypatch.setattr("geofetch.store.s3.DEAD_S", 0.0)
    store = make()
    store.ready()
    assert under_way(boto, prefix) == []
    assert objects(boto, prefix) == []
    boto.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/later")
    store.close()
    store.ready()  # once a store is enough: what comes later has to grow old first
    assert len(under_way(boto, prefix)) == 1


# ------------------------------------------------------------------------------------------- a server that goes away


@contextmanager
def away(server: ObjectServer) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        gevent.get_hub().threadpool.apply(server.start)  # the hub goes on meanwhile


def test_a_server_that_is_started_again_is_waited_for(
    mirror: Mirror, object_server: ObjectServer, make: Callable[..., S3Store], boto: Any, prefix: str
) -> None:
    stalls = mirror.serves(BLOCK, times=20, stall=12 * MIB, name="large.bin")
    small = [mirror.serves(b"%d" % number, name=f"{number}.bin") for number in range(4)]
    with Pool(8, store=make(), progress=False, retries=0) as pool:
        job = pool.spawn(stalls.url)
        until(lambda: parts(boto, prefix), 20, "a part sent")
        with away(object_server):
            jobs = [pool.spawn(handle.url) for handle in small]
            stalls.release()
            gevent.sleep(2)  # so long it is away at least
            assert not any(one.outcome for one in (job, *jobs))
        outcomes = [one.get(timeout=60) for one in (job, *jobs)]
    assert [outcome.state for outcome in outcomes] == ["stored"] * 5
    assert sorted(objects(boto, prefix)) == ["0.bin", "1.bin", "2.bin", "3.bin", "large.bin"]
    assert boto.get_object(Bucket=BUCKET, Key=f"{prefix}/large.bin")["Body"].read() == BLOCK * 20
    assert under_way(boto, prefix) == []


def test_a_server_that_stays_away_is_an_error_that_says_so(make: Callable[..., S3Store]) -> None:
    gone = S3Store(
        f"s3+http://127.0.0.1:9/{BUCKET}/x", aws_access_key_id=KEY, aws_secret_access_key=SECRET, patience_s=0.5
    )
    with pytest.raises(StoreError, match="does not answer; is it running") as caught:
        gone.ready()
    assert caught.value.errno is None
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("where", ["looking", "storing"])
def test_a_cancel_does_not_wait_for_a_server_that_is_away(
    mirror: Mirror, make: Callable[..., S3Store], object_server: ObjectServer, where: str
) -> None:
    store = make(patience_s=600)
    store.ready()
    asking = _counted(store)
    handle = mirror.serves(b"small", name="a.bin")
    with away(object_server), Pool(2, store=store, progress=False) as pool:
        job = pool.spawn(Spec(handle.url, size=5 if where == "looking" else None))
        until(lambda: asking, 10, "somebody asking the server")
        job.cancel()
        outcome = until(lambda: job.outcome, 10)
        until(lambda: not asking, 10, "no thread that asks any more")
    assert outcome is not None
    assert outcome.state == "cancelled"


def _counted(store: S3Store) -> list[str]:
    """What native threads are asking the server now."""
    asking: list[str] = []
    ask = store._bucket.ask

    def counted(operation: str, *args: Any, **named: Any) -> Any:
        asking.append(operation)
        try:
            return ask(operation, *args, **named)
        finally:
            asking.remove(operation)

    store._bucket.ask = counted  # type: ignore[method-assign]
    return asking


# ------------------------------------------------------------------------------------------------------------ refusals


def test_wrong_keys_are_told_and_not_shown(object_server: ObjectServer, prefix: str, caplog: Any) -> None:
    caplog.set_level(logging.DEBUG, "geofetch")
    wrong = "another-secret-that-nobody-may-see"
    store = s3_store(object_server, prefix, aws_secret_access_key=wrong)
    shown = [repr(store), store.name, repr(store._bucket.access)]
    for ask in (store.ready, lambda: put(store, b"x"), lambda: list(store.keys()), lambda: store.stat(PATH)):
        with pytest.raises(StoreError) as caught:
            ask()
        error = caught.value
        assert error.errno == errno.EACCES
        cause: Any = error.__cause__
        shown += [str(error), repr(error), str(cause), repr(cause), repr(cause.response["Error"])]
        shown += [str(copy.copy(error)), repr(pickle.dumps(error))]
    assert "the secret key is not the one of this access key" in shown[3]
    assert "AWS_SECRET_ACCESS_KEY" in shown[3]
    told = "\n".join([*shown, caplog.text])
    assert not [secret for secret in (wrong, SECRET, KEY) if secret in told]


def test_keys_that_nobody_knows(object_server: ObjectServer, prefix: str) -> None:
    store = s3_store(object_server, prefix, aws_access_key_id="AKIANOBODYKNOWSTHIS0")
    with pytest.raises(StoreError, match="the access key is not known there"):
        store.ready()


def test_no_keys_at_all(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match=r"there are no credentials; give .*AWS_ACCESS_KEY_ID"):
        S3Store(f"s3://{BUCKET}/x", endpoint=object_server.endpoint).ready()


def test_keys_and_endpoint_come_from_the_environment_as_with_boto3(
    object_server: ObjectServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", object_server.endpoint)
    store = S3Store(f"s3://{BUCKET}/{prefix}")
    store.ready()
    put(store, b"x")
    assert store.name == f"s3+{object_server.endpoint}/{BUCKET}/{prefix}"
    assert S3Store(store.name).name == store.name


def test_an_endpoint_that_only_a_profile_knows_has_to_be_said(
    object_server: ObjectServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(f"[profile here]\nendpoint_url = {object_server.endpoint}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(StoreError, match="name another endpoint; say so"):
        S3Store(f"s3://{BUCKET}/x", profile="here").ready()
    with pytest.raises(StoreError, match="nobody"):
        S3Store(f"s3://{BUCKET}/x", profile="nobody").ready()


def test_a_bucket_that_is_not_there_makes_no_file_a_missing_one(object_server: ObjectServer) -> None:
    store = S3Store(
        "s3://no-such-bucket/x", endpoint=object_server.endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET
    )
    for ask in (store.ready, lambda: store.stat(PATH), lambda: store.open(PATH), lambda: put(store, b"x")):
        with pytest.raises(StoreError, match="there is no such bucket; create it") as caught:
            ask()
        assert caught.value.errno is None


class _Said(Exception):
    """What botocore raises, in shape."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        error = {
            "Code": code,
            "Message": message,
            "AWSAccessKeyId": KEY,
            "StringToSign": "…",
            "SignatureProvided": "s1g",
        }
        self.response = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}


@pytest.mark.parametrize("code", [*CODES, "404", "SomethingNew"])
def test_every_refusal_has_words_and_no_secret(code: str) -> None:
    said = _Said(code, f"the key {KEY} with X-Amz-Signature=abcdef0123 is not right")
    error = refused(said, "storing s3://b/k")
    assert str(error).startswith("storing s3://b/k: ")
    assert error.code == code
    assert not [secret for secret in (KEY, "abcdef0123", "s1g") if secret in str(error)]
    assert set(said.response["Error"]) <= {"Code", "Message"}


@pytest.mark.parametrize(
    ("code", "status", "passes"),
    [
        ("SlowDown", 503, True),
        ("InternalError", 500, True),
        ("RequestTimeout", 400, True),
        ("ThrottlingException", 400, True),
        ("BadDigest", 400, True),
        ("500", 500, True),
        ("", 502, True),
        ("SignatureDoesNotMatch", 403, False),
        ("AccessDenied", 403, False),
        ("NoSuchKey", 404, False),
        ("PreconditionFailed", 412, False),
        ("", 400, False),
    ],
)
def test_what_is_asked_again(code: str, status: int, passes: bool) -> None:
    assert passing(_Said(code, status=status)) is passes


# ------------------------------------------------------------------------------------------------------ what came back


WHOLE = sums_of(b"hello")
PARTS = sums_of_parts([sums_of(b"a"), sums_of(b"b")])


@pytest.mark.parametrize(
    ("answer", "sums", "right"),
    [
        pytest.param({"ETag": f'"{WHOLE.md5.hex()}"'}, WHOLE, True, id="md5"),
        pytest.param({"ETag": f'"{bytes(16).hex()}"'}, WHOLE, False, id="another-md5"),
        pytest.param({"ETag": '"opaque"'}, WHOLE, True, id="no-md5"),
        pytest.param({"ETag": f'"{bytes(16).hex()}"', "ServerSideEncryption": "aws:kms"}, WHOLE, True, id="encrypted"),
        pytest.param({"ETag": '"x"', "ChecksumSHA256": WHOLE.checksum}, WHOLE, True, id="checksum"),
        pytest.param(
            {"ETag": f'"{WHOLE.etag}"', "ChecksumSHA256": sums_of(b"").checksum}, WHOLE, False, id="another-checksum"
        ),
        pytest.param({"ETag": f'"{PARTS.etag}"'}, PARTS, True, id="parts"),
        pytest.param({"ETag": f'"{WHOLE.md5.hex()}-2"'}, PARTS, False, id="other-parts"),
        pytest.param({"ETag": '"x"', "ChecksumSHA256": PARTS.checksum}, PARTS, True, id="parts-checksum"),
        pytest.param({"ETag": f'"{WHOLE.etag}"'}, PARTS, True, id="parts-joined-by-the-server"),
    ],
)
def test_what_comes_back_is_compared(answer: dict[str, str], sums: Sums, right: bool) -> None:
    if right:
        confirm(answer, sums, "storing it")
        return
    with pytest.raises(StoreError, match="the server has other bytes than were sent"):
        confirm(answer, sums, "storing it")


def test_an_object_that_comes_back_as_another_is_taken_away(
    make: Callable[..., S3Store], boto: Any, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make()

    def lying(answer: Any, sums: Sums, what: str) -> None:
        other = sums_of(b"other")
        confirm({**answer, "ChecksumSHA256": (sums_of_parts([other]) if sums.parts else other).checksum}, sums, what)

    monkeypatch.setattr("geofetch.store.s3.bucket.confirm", lying)
    for content in (b"small", LARGE):
        part = written(store, content)
        with pytest.raises(StoreError, match="other bytes than were sent"):
            part.publish(digests_of(content))
        part.discard()
        assert objects(boto, prefix) == []
        assert under_way(boto, prefix) == []


def test_digests_that_a_head_tells() -> None:
    told = digests_told({"Metadata": {"geofetch-digests": "md5:5d41402abc4b2a76b9719d911017c592 no:such sha256:zz"}})
    assert set(told) == {"md5"}
    full = {"ChecksumSHA256": WHOLE.checksum, "ChecksumType": "FULL_OBJECT"}
    assert digests_told(full) == {"sha256": Digest("sha256", WHOLE.sha256)}
    assert digests_told({"ChecksumSHA256": PARTS.checksum, "ChecksumType": "COMPOSITE"}) == {}


# -------------------------------------------------------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("url", "told", "name"),
    [
        ("s3://bucket/a%2525b", None, "s3://bucket/a%2525b"),
        ("s3://bucket/a%3Fb", None, "s3://bucket/a%3Fb"),
        ("s3://bucket/a%2525b", "http://127.0.0.1:9", "s3+http://127.0.0.1:9/bucket/a%2525b"),
        ("s3+https://s3.eu-west-1.amazonaws.com/bucket/a", "http://127.0.0.1:9", "s3://bucket/a"),
    ],
)
def test_a_store_is_where_its_url_says_and_the_environment(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str | None, name: str
) -> None:
    for variable in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(variable, raising=False)
    if told is not None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", told)
    store = S3Store(url)
    assert store.name == name
    assert store._bucket.place.prefix == unquote(url.rpartition("bucket/")[2])


@pytest.mark.parametrize(
    ("url", "endpoint", "name"),
    [
        ("s3://bucket", None, "s3://bucket"),
        ("s3://bucket/", None, "s3://bucket"),
        ("s3://bucket/a/b/", None, "s3://bucket/a/b"),
        ("s3://bucket/a b", None, "s3://bucket/a%20b"),
        ("s3://bucket/a", "https://S3.example:8333", "s3+https://s3.example:8333/bucket/a"),
        ("s3+http://127.0.0.1:1/bucket/a", None, "s3+http://127.0.0.1:1/bucket/a"),
        ("s3://bucket/a", "https://s3.eu-west-1.amazonaws.com", "s3://bucket/a"),
    ],
)
def test_the_name_of_a_place_says_where(url: str, endpoint: str | None, name: str) -> None:
    place = place_of(url, endpoint)
    assert place.name == name
    assert place_of(place.name) == place


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://", None),
        ("s3://b", None),
        ("s3://bucket/../x", None),
        ("s3://bucket/.geofetch/x", None),
        ("s3://key:hunter2@bucket/x", None),
        ("s3+https://key:hunter2@host/bucket", None),
        ("s3://bucket/x?secret=hunter2", None),
        ("s3://bucket/x", "https://key:hunter2@host"),
        ("s3://bucket/x", "ftp://host"),
        ("s3+https://host/bucket", "https://other"),
        ("https://bucket/x", None),
    ],
)
def test_what_names_no_place_is_refused_before_anything_is_asked(url: str, endpoint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        S3Store(url, endpoint=endpoint)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"part_bytes": MIB}, "no smaller parts"),
        ({"layout": "date"}, "layout is"),
        ({"aws_access_key_id": KEY}, "given together"),
        ({"aws_session_token": "t"}, "given together"),
    ],
)
def test_arguments_that_cannot_be(how: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        S3Store("s3://bucket/x", **how)


def test_without_boto3_the_error_says_what_to_install() -> None:
    script = """
import sys
sys.modules["boto3"] = None
import geofetch
try:
    geofetch.S3Store("s3://bucket/x")
except geofetch.SpecError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "an object store needs boto3: pip install 'geofetch[s3]'", done.stderr


def test_a_part_that_was_refused_is_discarded_without_a_word(make: Callable[..., S3Store]) -> None:
    part = make().begin(attempt(), HEAD)
    part.write(memoryview(os.urandom(10)))
    with pytest.raises(StoreError, match="have changed since"):
        part.publish(digests_of(b"other"))
    part.discard()
    part.discard()


def test_spec_and_destination_take_the_url(mirror: Mirror, make: Callable[..., S3Store]) -> None:
    store = make()
    os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"] = KEY, SECRET
    try:
        outcome = geofetch.fetch(Spec(mirror.serves(b"bytes", name="a.bin").url), to=store.name)
        with Pool(2, store=store.name, progress=False) as pool:
            (other,) = pool.map([mirror.serves(b"more", name="b.bin").url])
    finally:
        del os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    assert (outcome.location, other.location) == (f"{store.name}/a.bin", f"{store.name}/b.bin")
    assert sorted(store.keys()) == ["a.bin", "b.bin"]
