"""verify and repair of many files: in batches, at a pace, gone on with, and leaving the system's cache as it was."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gevent
import pytest

import geofetch
from geofetch import SpecError
from geofetch.records import Unit
from geofetch.upkeep import cache, scrub
from geofetch.upkeep.batches import MOST, MOST_BYTES, SMALL_BYTES, batches
from geofetch.upkeep.pace import LEAST_BYTES, STEP_S, Pace
from tests.test_cli import environment
from tests.upkeep_ground import Ground, deleted, flipped, ground, warm  # noqa: F401 - fixtures


def unit(size: int, store: str = "file:///srv") -> Unit:
    return Unit("file", {"path": "a", "store": store}, "a", store, "a", size)


# ------------------------------------------------------------------------------------------------------------ batches


def test_few_files_are_spread_over_all_threads_and_many_share_a_trip() -> None:
    sizes = [len(batch) for batch in batches([unit(10)] * 5000, jobs=2)]
    assert sizes[:6] == [1, 1, 2, 2, 4, 4]
    assert max(sizes) == MOST
    assert sum(sizes) == 5000


def test_a_large_file_goes_by_itself_and_holds_up_nobody() -> None:
    large, small = unit(SMALL_BYTES + 1), unit(1)
    found = list(batches([small] * 4 + [large] + [small] * 4, jobs=1))
    assert [large] in found
    assert sum(map(len, found)) == 9
    assert all(len(batch) == 1 for batch in found if large in batch)


def test_a_batch_is_of_one_store_and_bounded_in_bytes() -> None:
    one, other = unit(SMALL_BYTES, "file:///one"), unit(SMALL_BYTES, "file:///other")
    found = list(batches([one] * 100 + [other] * 100, jobs=1))
    assert all(len({each.store for each in batch}) == 1 for batch in found)
    assert max(sum(each.size for each in batch) for batch in found) <= MOST_BYTES
    assert sum(map(len, found)) == 200


# --------------------------------------------------------------------------------------------------------------- pace


def test_no_more_bytes_than_the_rate_allows_however_long_nobody_read() -> None:
    pace = Pace(1_000_000)
    pace.wait(1, lambda: False)
    time.sleep(0.2)  # what was not read now is no credit for later
    began = time.monotonic()
    for _ in range(4):
        pace.wait(50_000, lambda: False)
    assert time.monotonic() - began >= 0.2


def test_a_slow_pace_reads_in_small_pieces() -> None:
    assert Pace(1_000_000).piece_bytes == 1_000_000 * STEP_S
    assert Pace(10).piece_bytes == LEAST_BYTES


def test_who_is_not_waited_for_any_more_does_not_wait() -> None:
    pace = Pace(1)
    pace.wait(0, lambda: False)
    began = time.monotonic()
    pace.wait(3600, lambda: True)
    assert time.monotonic() - began < 60


def test_a_verify_keeps_to_its_rate_from_beginning_to_end(ground: Ground) -> None:  # noqa: F811
    rate, jobs = 4_000_000, 2
    ground.stock({**ground.files(20, 20_000), "large": ground.bytes(1_000_000)})
    total = sum(map(len, ground.content.values()))
    tallies: list[geofetch.Tally] = []
    assert ground.verify(rate_bps=rate, jobs=jobs, progress=tallies.append).ok
    # What was read is counted before it is waited for: a piece a thread.
    most = jobs * rate * STEP_S
    assert len(tallies) > 1
    assert all(tally.bytes_done <= rate * tally.elapsed_s + most for tally in tallies)
    assert tallies[-1].elapsed_s >= (total - most) / rate


def test_a_verify_that_waits_for_its_pace_can_be_killed(ground: Ground) -> None:  # noqa: F811
    ground.stock({"a": ground.bytes(2_000_000)})
    run = gevent.spawn(ground.verify, rate_bps=10)
    gevent.sleep(0.2)
    run.kill(timeout=30)
    assert run.dead
    assert ground.unit("a").scrubbed_at is None


_WORLD = """
import sys
world = sys.argv[1]
if world == "first":
    from gevent import monkey; monkey.patch_all()
import geofetch, gevent
if world == "requests":
    geofetch.patch_requests()
if world == "late":
    import requests
    geofetch.patch_all()
store = geofetch.FileStore("srv")
with geofetch.Recorder("sqlite:///units.db") as recorder:
    with geofetch.Pool(2, store=store, recorder=recorder, progress=False) as pool:
        assert pool.map([f"file://{sys.argv[2]}/{n}" for n in range(4)])[0].ok
    ticks = []
    def tick():
        while True:
            gevent.sleep(0.01)
            ticks.append(1)
    ticker = gevent.spawn(tick)
    found = geofetch.verify(recorder, store, rate_bps=1_000_000)
    ticker.kill()
    assert found.ok and found.checked == 4, found
    assert found.elapsed_s >= 0.25, found
    assert len(ticks) >= 5, len(ticks)
"""


@pytest.mark.parametrize("world", ["nothing", "requests", "first", "late"])
def test_a_pace_stops_no_hub_in_any_world(world: str, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 100_000)
    done = subprocess.run(
        [sys.executable, "-c", _WORLD, world, str(tmp_path)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("rate", [0, -1, True, "200M", float("inf"), float("nan")], ids=repr)
def test_a_rate_is_a_number_of_bytes(ground: Ground, rate: Any) -> None:  # noqa: F811
    with pytest.raises(SpecError, match="rate_bps"):
        ground.verify(rate_bps=rate)


# -------------------------------------------------------------------------------------------------------- gone on with


def ended(ground: Ground, after: int) -> tuple[float, set[str]]:  # noqa: F811
    """A verify that was ended when it had found so many files: when it began, and what it had read."""
    began_at = time.time()
    findings = scrub(ground.recorder, ground.store, jobs=1)
    for _ in range(after):
        next(findings)
    findings.close()  # type: ignore[attr-defined]
    ground.recorder.flush()
    return began_at, {unit.path for unit in ground.recorder.units() if unit.scrubbed_at is not None}


def test_what_was_read_before_the_end_is_not_read_again_and_is_counted(ground: Ground) -> None:  # noqa: F811
    ground.stock(ground.files(60, 30_000))
    first, second, *_, last = [unit.path for unit in ground.recorder.units()]
    harmed = ground.harm([first, last], flipped(ground.random))
    ground.harm([second], deleted)
    began_at, read = ended(ground, 10)
    assert {first, second} <= read
    assert len(read) < 60
    left = sum(len(body) for name, body in ground.content.items() if name not in read)
    found = ground.verify(began_at=began_at)
    assert found.read_bytes == left
    assert (found.checked, found.present, found.corrupt, found.missing) == (60, 57, 2, 1)
    assert sorted(one.unit.path for one in found) == sorted([*harmed, second])
    assert found.began_at == began_at
    again = ground.verify(began_at=began_at)
    assert (again.read_bytes, again.checked, again.corrupt) == (0, 60, 2)
    assert ground.repair(findings=again).repaired == 3
    ground.assert_whole()


def test_only_what_was_old_when_it_began_is_gone_on_with(ground: Ground) -> None:  # noqa: F811
    ground.stock(ground.files(10))
    ground.verify(path="pool/00[0-4].rpm")
    began_at = time.time()
    assert ground.verify(older_than_s=0.0, began_at=began_at, path="pool/000.rpm").checked == 0 + 1
    # The others of the first five were verified within the day: it did not mean them.
    found = ground.verify(older_than_s=86_400, began_at=began_at)
    assert (found.checked, found.read_bytes) == (6, sum(len(ground.content[f"pool/00{n}.rpm"]) for n in range(5, 10)))


def test_a_sample_and_states_are_not_gone_on_with(ground: Ground) -> None:  # noqa: F811
    for asked in ({"sample": 5}, {"state": "missing"}):
        with pytest.raises(SpecError, match="began_at"):
            ground.verify(began_at=time.time(), **asked)
    for moment in (-1, time.time() + 3600, True, "now"):
        with pytest.raises(SpecError, match="moment in the past"):
            ground.verify(began_at=moment)


# --------------------------------------------------------------------------------------------------------------- cache


def cached(path: Path) -> int:
    """How many pages of a file are in memory; asking brings none there, as a read that does not wait would."""
    size = path.stat().st_size
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("rb+") as file, mmap.mmap(file.fileno(), size) as mapped:
        place = (ctypes.c_char * size).from_buffer(mapped)
        assert libc.mincore(ctypes.c_void_p(ctypes.addressof(place)), ctypes.c_size_t(size), pages) == 0
        del place
    return sum(page & 1 for page in pages)


def cold(path: Path) -> bool:
    """The file is on the disk alone; False where this file system keeps all in memory."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return cached(path) == 0


def test_a_large_file_is_not_left_in_the_cache_unless_it_was_there(ground: Ground) -> None:  # noqa: F811
    size = 2 * cache.EVERY_BYTES + 4096
    ground.stock({"cold": ground.bytes(size), "warm": ground.bytes(size)})
    if not all(cold(ground.path(name)) for name in ground.content):
        pytest.skip("this file system keeps all in memory")
    ground.path("warm").read_bytes()
    before = cached(ground.path("warm"))
    assert before > size // mmap.PAGESIZE // 2
    assert ground.verify().ok
    assert cached(ground.path("cold")) < size // mmap.PAGESIZE // 10
    assert cached(ground.path("warm")) == before


def test_what_is_no_file_of_the_system_s_is_read_all_the_same(tmp_path: Path) -> None:
    store = geofetch.MemoryStore()
    body = bytes(cache.LEAST_BYTES + 1)
    (tmp_path / "a").write_bytes(body)
    with geofetch.Pool(1, store=store, progress=False) as pool:
        assert pool.map([f"file://{tmp_path}/a"])[0].ok
    with geofetch.Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        recorder.put_unit(unit(len(body), "memory:")).get()
        found = geofetch.verify(recorder, {"memory:": store})
    assert (found.checked, found.present, found.read_bytes) == (1, 1, len(body))
