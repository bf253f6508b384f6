"""Native threads that are one hub's own: how long they live, and what is done where the system gives no more."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.threadpool
import pytest

import geofetch
from geofetch.lane import THREADS, Lane
from geofetch.pipeline import LANE_FROM
from geofetch.store import native
from geofetch.transport import BROAD, broad_buffers
from tests.origin.content import made
from tests.support.doors import Door
from tests.support.mirrors import Mirror
from tests.support.waiting import until


def _in_a_thread(work: Callable[[], object]) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as exc:
            failed.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert failed == []


@pytest.mark.parametrize("kind", [native.READ, native.SYNC])
def test_who_begins_ends_the_threads_of_those_who_ended(kind: str) -> None:
    _in_a_thread(lambda: native.call(int, kind=kind))
    before = len(sys._current_frames())
    for _ in range(5):
        _in_a_thread(lambda: native.settle_all(int, [()] * native.THREADS, kind=kind))
    _in_a_thread(lambda: native.call(int, kind=kind))
    until(lambda: len(sys._current_frames()) <= before, what="only the last one's thread is left")


def test_a_program_that_downloads_in_a_new_thread_each_time_has_no_more_threads_in_the_end(
    mirror: Mirror, tmp_path: Path
) -> None:
    source = mirror.serves(body := made(4 * LANE_FROM, "threads"))

    def download() -> None:
        geofetch.fetch(source.url, to=tmp_path / "a", progress=False)

    before = len(sys._current_frames())
    for _ in range(12):
        (tmp_path / "a").unlink(missing_ok=True)
        _in_a_thread(download)
    assert (tmp_path / "a").read_bytes() == body
    one = THREADS + 2 * native.THREADS  # how many of them a download starts is not always the same
    until(lambda: len(sys._current_frames()) <= before + one, what="only the last one's threads are left")


def _no_more_threads(patch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise RuntimeError("can't start new thread")

    patch.setattr(gevent.threadpool, "start_new_thread", refused)


def test_where_the_system_gives_no_more_threads_those_that_are_there_do_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door, done = Door(), []

    def work(number: int) -> int:
        door.wait()
        done.append(number)
        return number

    native.call(int, kind="few")
    _no_more_threads(monkeypatch)
    working = gevent.spawn(native.settle_all, work, [(0,), (1,), (2,)], "few")
    gevent.sleep(0)
    assert not working.ready()
    door.open()
    assert working.get() == done == [0, 1, 2]
    door.close()


def test_where_the_system_gives_no_thread_at_all_nothing_is_done_later_either() -> None:
    done: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        _no_more_threads(patch)
        with pytest.raises(RuntimeError, match="can't start"):
            native.settle(done.append, 1, kind="none")
    native.settle(done.append, 2, kind="none")
    assert done == [2]


def test_a_lane_shares_the_only_thread_that_the_system_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        door, seen = Door(), bytearray()
        busy, other = Lane([lambda view: door.wait()]), Lane([seen.extend])
        busy.put(bytes(BROAD))
        _no_more_threads(monkeypatch)
        other.put(bytes(3 * BROAD))
        assert not seen
        door.open()
        for lane in (busy, other):
            lane.finish()
            lane.stop()
        assert (len(seen), broad_buffers().lent) == (3 * BROAD, 0)
        door.close()

    _in_a_thread(work)  # whose hub has none yet
