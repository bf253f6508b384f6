"""A cancel, and a signal, while an object store stands still or is away: an end within two seconds, and nothing half.

The server is stopped by SIGSTOP: its system takes connections and requests, and nobody answers.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch import Pool, S3Store, Spec

from .support.apart import commanded
from .support.mirrors import Mirror
from .support.objects import BUCKET, KEY, SECRET, ObjectServer
from .support.waiting import until
from .test_s3_faults import away, parts
from .test_s3_store import BLOCK, MIB, boto, make, objects, prefix, under_way

__all__ = ["boto", "make", "prefix"]

#: What is promised for a cancel, and for a signal; here it takes 0.4 to 1.1 s.
PROMISED_S = 2.0
#: A process that ends, too: some for a busy machine to notice.
ENDED_S = 2.5


@contextmanager
def frozen(server: ObjectServer) -> Iterator[None]:
    server.freeze()
    try:
        yield
    finally:
        server.thaw()


WAYS: list[Any] = [
    pytest.param(frozen, True, id="stopped-on-a-lane"),
    pytest.param(frozen, False, id="stopped-on-the-hub"),
    pytest.param(away, True, id="away"),
]


@pytest.mark.parametrize(("gone", "offload"), WAYS)
def test_a_cancel_of_a_large_upload_does_not_wait_for_the_server(
    mirror: Mirror, object_server: ObjectServer, make: Callable[..., S3Store], boto: Any, prefix: str, gone: Any,
    offload: bool,
) -> None:  # fmt: skip
    store = make(patience_s=600)
    store.ready()
    asking(store)
    handle = mirror.serves(BLOCK, times=40, stall=12 * MIB, name="large.bin")
    with Pool(2, store=store, progress=False, offload=offload) as pool:
        job = pool.spawn(handle.url)
        until(lambda: parts(boto, prefix), 30, "a part sent")
        with gone(object_server):
            handle.release()
            until(lambda: asking(store), 10, "a part that nobody answers")
            began = time.monotonic()
            job.cancel()
            outcome = until(lambda: job.outcome, 20)
            took = time.monotonic() - began
            assert took < PROMISED_S
            until(lambda: not asking(store), 5, "no thread that asks any more")
    assert outcome is not None
    assert outcome.state == "cancelled"
    assert objects(boto, prefix) == []
    make().abort_incomplete_uploads(older_than_s=0)  # what could not be aborted is swept
    assert under_way(boto, prefix) == []


def asking(store: S3Store) -> list[str]:
    """What native threads are asking the server of this store now."""
    bucket: Any = store._bucket
    if not hasattr(bucket, "asked"):
        bucket.asked, ask = [], bucket.ask

        def counted(operation: str, *args: Any, **named: Any) -> Any:
            bucket.asked.append(operation)
            try:
                return ask(operation, *args, **named)
            finally:
                bucket.asked.remove(operation)

        bucket.ask = counted
    return list(bucket.asked)


@pytest.mark.parametrize("large", [False, True], ids=["one-request", "in-parts"])
def test_a_cancel_of_what_is_being_published_does_not_wait_for_the_server(
    mirror: Mirror, object_server: ObjectServer, make: Callable[..., S3Store], boto: Any, prefix: str, large: bool
) -> None:
    store = make(patience_s=600)
    store.ready()
    asking(store)
    size = 12 * MIB if large else 1000
    handle = mirror.serves(os.urandom(1000), times=size // 1000, stall=size // 1000 * 1000 - 1, name="a.bin")
    with Pool(2, store=store, progress=False) as pool:
        job = pool.spawn(handle.url)
        handle.arrived(20)
        if large:
            until(lambda: parts(boto, prefix), 30, "a part sent")
        with frozen(object_server):
            handle.release()
            until(lambda: asking(store), 10, "a request that nobody answers")
            began = time.monotonic()
            job.cancel()
            outcome = until(lambda: job.outcome, 20)
            assert time.monotonic() - began < PROMISED_S
    assert outcome is not None
    assert outcome.state == "cancelled"
    make().abort_incomplete_uploads(older_than_s=0)
    assert under_way(boto, prefix) == []


def test_a_kill_of_what_asks_a_server_that_stands_still(
    object_server: ObjectServer, make: Callable[..., S3Store], boto: Any, prefix: str
) -> None:
    store = make(patience_s=600)
    boto.put_object(Bucket=BUCKET, Key=f"{prefix}/a", Body=b"x")
    store.ready()
    with frozen(object_server):
        asks = [lambda: store.quarantine("a"), store.abort_incomplete_uploads, lambda: store.stat("a")]
        greenlets = [gevent.spawn(ask) for ask in asks]
        gevent.sleep(0.3)
        assert not any(one.ready() for one in greenlets)
        began = time.monotonic()
        gevent.killall(greenlets, timeout=20)
        assert time.monotonic() - began < PROMISED_S
        assert all(one.ready() for one in greenlets)
    assert store.stat("a") is not None


def test_a_request_that_is_answered_soon_is_not_broken_off(
    mirror: Mirror, object_server: ObjectServer, make: Callable[..., S3Store], boto: Any, prefix: str
) -> None:
    """A cancel that comes when the file is as good as published waits for it, and the file is told as stored."""
    store = make()
    store.ready()
    asking(store)
    handle = mirror.serves(b"x" * 1000, stall=999, name="a.bin")
    with Pool(2, store=store, progress=False) as pool:
        job = pool.spawn(handle.url)
        handle.arrived(20)
        with frozen(object_server):
            handle.release()
            until(lambda: asking(store), 10, "a request")
            job.cancel()
            gevent.sleep(0.05)
        outcome = until(lambda: job.outcome, 20)
    assert outcome is not None
    assert outcome.state == "stored"
    assert objects(boto, prefix) == ["a.bin"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_a_sync_whose_server_stands_still(
    mirror: Mirror, object_server: ObjectServer, boto: Any, prefix: str, tmp_path: Path, number: int, code: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    small, large = mirror.serves(b"small", name="a.bin"), mirror.serves(BLOCK, times=40, stall=12 * MIB, name="b.bin")
    (tmp_path / "list").write_text(f"{small.url}\n{large.url}\n")
    place = f"s3+{object_server.endpoint}/{BUCKET}/{prefix}"
    words = ["sync", tmp_path / "list", "--into", place, "--db", f"sqlite:///{tmp_path}/units.db", "--json"]
    with commanded([*words, "--no-progress"]) as process:
        until(lambda: parts(boto, prefix) and objects(boto, prefix), 30, "one file, and a part of another")
        with frozen(object_server):
            large.release()
            gevent.sleep(0.3)
            began = time.monotonic()
            process.send_signal(number)
            out, err = process.communicate(timeout=30)
            took = time.monotonic() - began
    assert process.returncode == code, err
    assert took < ENDED_S
    assert '"event": "summary"' in out, "it ended in good order"
    assert objects(boto, prefix) == ["a.bin"]


def test_spec_of_a_file_that_is_there_is_given_up_at_once(
    mirror: Mirror, object_server: ObjectServer, make: Callable[..., S3Store]
) -> None:
    store = make()
    store.ready()
    with frozen(object_server), Pool(2, store=store, progress=False) as pool:
        job = pool.spawn(Spec(mirror.serves(b"12345", name="a.bin").url, size=5))
        gevent.sleep(0.3)
        began = time.monotonic()
        job.cancel()
        until(lambda: job.outcome, 20)
        assert time.monotonic() - began < PROMISED_S
