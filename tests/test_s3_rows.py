"""Rows S1o to S6o of the fault matrix: what an object store does wrong, made by a proxy before a real one.

S4o, what is changed behind our back, needs none: tests/test_s3_commands.py has it.

Whatever it is: bounded, told in words that help, no secret among them; no record of what is not there, the bytes that
came are not asked for again, and nothing is left under a name that is not whole.
"""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch import Pool, S3Store, Spec, StoreError
from geofetch.events import Verdict
from geofetch.plan import verdict
from geofetch.records import Recorder
from geofetch.testing.store import digests_of, put, written

from .support.mirrors import Mirror
from .support.object_faults import Faults, faults_before
from .support.objects import BUCKET, KEY, SECRET, ObjectServer
from .support.waiting import until
from .test_s3_store import BLOCK, MIB, boto, objects, prefix, under_way

__all__ = ["boto", "prefix"]


@pytest.fixture(scope="module")
def proxy(object_server: ObjectServer) -> Iterator[Faults]:
    with faults_before(object_server) as faults:
        yield faults


@pytest.fixture
def faults(proxy: Faults) -> Iterator[Faults]:
    proxy.are()
    yield proxy
    proxy.are()


@pytest.fixture
def make(faults: Faults, prefix: str) -> Callable[..., S3Store]:
    def made(**how: Any) -> S3Store:
        from botocore.config import Config

        told = {
            "endpoint": faults.endpoint,
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
            "options": {"config": Config(read_timeout=0.5)},  # how long silence is listened to
            **how,
        }
        return S3Store(f"s3://{BUCKET}/{prefix}", **told)

    return made


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        yield recorder


PASSING = ["500 InternalError", "503 SlowDown", "503 ServiceUnavailable", "429 TooManyRequests", "reset", "silence"]


@pytest.mark.parametrize("does", PASSING)
def test_s1o_what_passes_is_asked_again_and_nothing_is_fetched_twice(
    mirror: Mirror, make: Callable[..., S3Store], recorder: Recorder, faults: Faults, boto: Any, prefix: str, does: str
) -> None:
    store = make()
    store.ready()
    handle = mirror.serves(b"the file", name="a.bin")
    faults.are({"method": "PUT", "times": 2, "does": does})
    with Pool(2, store=store, recorder=recorder, progress=False) as pool:
        (outcome,) = pool.map([handle.url])
    assert outcome.state == "stored", outcome.error
    assert faults.are() == [2]
    assert handle.hits == 1
    assert objects(boto, prefix) == ["a.bin"]
    assert recorder.count(state="present") == 1


@pytest.mark.parametrize("does", ["503 SlowDown", "reset"])
@pytest.mark.parametrize("size", [1000, 12 * MIB], ids=["one-request", "in-parts"])
def test_s1o_what_does_not_pass_is_an_error_within_the_limit(
    mirror: Mirror, make: Callable[..., S3Store], recorder: Recorder, faults: Faults, boto: Any, prefix: str, does: str,
    size: int,
) -> None:  # fmt: skip
    store = make(patience_s=0.6)
    store.ready()
    handle = mirror.serves(b"x" * 1000, times=size // 1000, name="a.bin")
    faults.are({"method": "PUT", "does": does})
    with Pool(2, store=store, recorder=recorder, progress=False, retries=5) as pool:
        (outcome,) = pool.map([handle.url])
    assert isinstance(outcome.error, StoreError)
    assert verdict(outcome.error) is Verdict.STOP
    assert faults.are()[0] >= 2
    assert handle.hits == 1  # another source has the same bytes: the store would refuse them, too
    assert (objects(boto, prefix), under_way(boto, prefix)) == ([], [])
    assert recorder.count() == 0


@pytest.mark.parametrize("times", [1, None], ids=["once", "always"])
def test_s2o_other_bytes_than_were_sent_are_noticed_before_the_record(
    mirror: Mirror, make: Callable[..., S3Store], recorder: Recorder, faults: Faults, boto: Any, prefix: str,
    times: int | None,
) -> None:  # fmt: skip
    store = make(patience_s=1.0)
    store.ready()
    fault: dict[str, Any] = {"method": "PUT", "does": "swap"}
    faults.are(fault if times is None else {**fault, "times": times})
    handle = mirror.serves(b"the very bytes", name="a.bin")
    with Pool(2, store=store, recorder=recorder, progress=False) as pool:
        (outcome,) = pool.map([handle.url])
        assert isinstance(outcome.error, StoreError)
        assert "the server has other bytes than were sent; nothing of it is kept" in str(outcome.error)
        assert objects(boto, prefix) == []
        assert recorder.count() == 0
        if times is not None:
            (outcome,) = pool.map([handle.url])
            assert outcome.state == "stored"
            assert boto.get_object(Bucket=BUCKET, Key=f"{prefix}/a.bin")["Body"].read() == b"the very bytes"


@pytest.mark.parametrize("part", [1, 2])
def test_s3o_an_upload_that_is_interrupted_at_a_part_leaves_nothing(
    mirror: Mirror, make: Callable[..., S3Store], recorder: Recorder, faults: Faults, boto: Any, prefix: str, part: int
) -> None:
    store = make(patience_s=0.5)
    store.ready()
    handle = mirror.serves(BLOCK, times=20, name="large.bin")
    faults.are({"method": "PUT", "has": f"partNumber={part}", "does": "500 InternalError"})
    with Pool(2, store=store, recorder=recorder, progress=False) as pool:
        (outcome,) = pool.map([handle.url])
        assert isinstance(outcome.error, StoreError)
        assert f"storing part {part} of " in str(outcome.error)
        assert (objects(boto, prefix), under_way(boto, prefix), recorder.count()) == ([], [], 0)
        faults.are()
        (outcome,) = pool.map([handle.url])
    assert outcome.state == "stored"
    assert objects(boto, prefix) == ["large.bin"]


def test_s3o_an_abort_that_is_refused_is_swept_by_the_next_run(
    mirror: Mirror, make: Callable[..., S3Store], faults: Faults, boto: Any, prefix: str,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    store = make(patience_s=0.5)
    store.ready()
    refused = {"has": "uploadId=", "does": "503 SlowDown"}
    faults.are({"method": "PUT", **refused}, {"method": "DELETE", **refused})
    with Pool(2, store=store, progress=False) as pool:
        (outcome,) = pool.map([mirror.serves(BLOCK, times=12, name="large.bin").url])
    assert isinstance(outcome.error, StoreError)
    assert "are left, until they are swept" in caplog.text
    assert len(under_way(boto, prefix)) == 1
    faults.are()
    monkeypatch.setattr("geofetch.store.s3.DEAD_S", 0.0)  # two days later
    make().ready()
    assert under_way(boto, prefix) == []


def test_s3o_an_answer_to_the_last_request_that_is_lost_is_no_lost_file(
    mirror: Mirror, make: Callable[..., S3Store], faults: Faults, object_server: ObjectServer, boto: Any, prefix: str
) -> None:
    """The upload is completed while nobody hears of it: asked again, it is gone, and its object is there."""
    store = make(patience_s=10)
    store.ready()
    fault = {"method": "POST", "has": "uploadId=", "times": 1, "does": "hold"}
    faults.are(fault)
    with Pool(2, store=store, progress=False) as pool:
        job = pool.spawn(mirror.serves(BLOCK, times=12, name="large.bin").url)
        until(faults.struck, 30, "the upload being completed")
        faults.are()  # it goes through, and whoever asked has given up listening after half a second, or not
        outcome = job.get(timeout=60)
    assert outcome.state == "stored", outcome.error
    assert boto.head_object(Bucket=BUCKET, Key=f"{prefix}/large.bin")["ContentLength"] == 12 * MIB


def test_s5o_who_comes_second_has_it_too_and_has_read_it(
    make: Callable[..., S3Store], faults: Faults, boto: Any, prefix: str
) -> None:
    first, second = make(layout="digest"), make(layout="digest", options={})
    second.ready()
    content = b"the same bytes"
    late = written(second, content)
    faults.are(
        {"method": "PUT", "times": 1, "does": "hold"}, {"method": "GET", "has": "sha256", "does": "reset", "times": 0}
    )
    publishing = gevent.spawn(late.publish, digests_of(content))
    until(faults.struck, 10, "the second one's upload on its way")
    location, kept = put(first, content)  # while the other one's waits
    (key,) = first.keys()
    before = boto.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["LastModified"]
    faults.are()
    publishing.join(30)
    other, other_kept = publishing.get()
    assert other == location
    assert kept is not None
    assert (other_kept.size, other_kept.inode) == (kept.size, kept.inode)
    assert boto.head_object(Bucket=BUCKET, Key=f"{prefix}/{key}")["LastModified"] == before


def test_s5o_who_comes_second_replaces_what_is_not_right(
    make: Callable[..., S3Store], faults: Faults, boto: Any, prefix: str
) -> None:
    store = make(layout="digest", options={})
    content = b"the right bytes"
    late = written(store, content)
    faults.are({"method": "PUT", "times": 1, "does": "hold"})
    publishing = gevent.spawn(late.publish, digests_of(content))
    until(faults.struck, 10, "the upload on its way")
    hex_ = digests_of(content)["sha256"].hex
    key = f"{prefix}/sha256/{hex_[:2]}/{hex_}"
    boto.put_object(Bucket=BUCKET, Key=key, Body=b"the wrong bytes")
    faults.are()
    publishing.join(30)
    publishing.get()
    assert boto.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("403 RequestTimeTooSkewed", "this machine's clock is wrong; set it"),
        ("400 ExpiredToken", "the session token has expired; give other credentials"),
        ("403 InvalidAccessKeyId", "the access key is not known there; give other credentials"),
        ("403 AccessDenied", "access is denied; let these credentials"),
    ],
)
def test_s6o_credentials_that_expire_in_the_middle_stop_and_say_so(
    mirror: Mirror, make: Callable[..., S3Store], recorder: Recorder, faults: Faults, does: str, said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG, "geofetch")
    store = make()
    handles = [mirror.serves(b"%d" % number, name=f"{number}.bin") for number in range(4)]
    with Pool(1, store=store, recorder=recorder, progress=False, retries=3) as pool:
        assert pool.map([handles[0].url])[0].ok
        faults.are({"method": "PUT", "does": does})
        outcomes = pool.map([Spec(handle.url) for handle in handles[1:]])
    assert faults.are() == [3]  # none was asked again
    assert [handle.hits for handle in handles] == [1] * 4
    shown = [caplog.text]
    for outcome in outcomes:
        error = outcome.error
        assert isinstance(error, StoreError)
        assert said in str(error)
        assert verdict(error) is Verdict.STOP
        shown += [str(error), repr(error), repr(error.__cause__), str(copy.copy(error)), repr(pickle.dumps(error))]
    assert not [secret for secret in (KEY, SECRET, "s1gn4tur3") if secret in "\n".join(shown)]
    assert recorder.count() == 1
