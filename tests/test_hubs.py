"""Native threads that are one hub's own: how long they live."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import geofetch
from geofetch.pipeline import LANE_FROM
from geofetch.store import native
from tests.origin.content import made
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

    _in_a_thread(download)
    before = len(sys._current_frames())
    for _ in range(4):
        (tmp_path / "a").unlink()
        _in_a_thread(download)
    assert (tmp_path / "a").read_bytes() == body
    until(lambda: len(sys._current_frames()) <= before, what="only the last one's threads are left")
