"""The single writer: many rows a commit, one bad row alone, a hub that never waits, a process that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent.subprocess import PIPE, Popen
from peewee import DataError

from geofetch.errors import RecordError
from geofetch.records import Recorder, lane
from geofetch.records.lane import MOST, Lane
from geofetch.spec import Spec

from .support.hub_errors import HubErrors
from .support.servers import Place
from .support.ticking import Ticker
from .support.waiting import until
from .test_records import STORE, attempt, sha256, store

ROOT = Path(__file__).parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "units.db"


@pytest.fixture
def recorder(database: Place) -> Iterator[Recorder]:
    with Recorder(database.url) as opened:
        yield opened


@pytest.fixture
def filed(path: Path) -> Iterator[Recorder]:
    """Records in a file of SQLite's."""
    with Recorder(f"sqlite:///{path}") as opened:
        yield opened


def specs(count: int) -> list[Spec]:
    return [Spec(f"http://a.example/{n}", digests=sha256(b"the file"), repository="main") for n in range(count)]


def test_rows_of_one_moment_share_a_commit(recorder: Recorder) -> None:
    gevent.joinall([gevent.spawn(store, recorder, spec) for spec in specs(400)], raise_error=True)
    assert recorder.count() == 400
    assert 1 <= recorder.commits <= 4


def test_rows_gather_while_a_commit_is_under_way(recorder: Recorder) -> None:
    wanted = iter(specs(600))

    def work() -> None:
        for spec in wanted:
            store(recorder, spec)

    gevent.joinall([gevent.spawn(work) for _ in range(60)], raise_error=True)
    assert recorder.count() == 600
    assert recorder.commits <= 30


@pytest.fixture
def busy() -> Iterator[None]:
    """A hub that always has something else to do."""

    def spin() -> None:
        while True:
            gevent.sleep(0)

    spinning = gevent.spawn(spin)
    yield
    spinning.kill()


def test_rows_gather_while_the_hub_is_busy(recorder: Recorder, busy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "GATHER_S", 1.0)
    recorder.count()  # the database is open
    began = monotonic()
    first = gevent.spawn(store, recorder, specs(1)[0])
    gevent.sleep(0.1)
    late = [gevent.spawn(store, recorder, spec) for spec in specs(50)[1:]]
    gevent.joinall([first, *late], raise_error=True)
    assert monotonic() - began >= 0.9
    assert (recorder.count(), recorder.commits) == (50, 1)


@pytest.mark.parametrize("gather_s", [0.0, 60.0])
def test_rows_do_not_gather_while_the_hub_has_nothing_else_to_do(
    recorder: Recorder, gather_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "GATHER_S", gather_s)
    with gevent.Timeout(30):
        for spec in specs(3):
            store(recorder, spec)
    assert (recorder.count(), recorder.commits) == (3, 3)


def test_who_asks_does_not_wait_for_rows_that_gather(
    recorder: Recorder, busy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "GATHER_S", 60.0)
    with gevent.Timeout(30):
        storing = gevent.spawn(store, recorder, specs(1)[0])
        gevent.sleep(0.1)
        assert not storing.ready()
        assert recorder.count() == 1  # asked later, answered later
        storing.get()


def test_a_bad_row_fails_alone(recorder: Recorder, green_errors_are_fatal: HubErrors) -> None:
    bad = [Spec("http://a.example/\udcff", path="bad"), Spec("http://a.example/b", unit={"type": "x", "k": "\udcff"})]
    huge = attempt(Spec("http://a.example/huge"))
    assert huge.kept is not None
    object.__setattr__(huge.kept, "size", 2**63)
    good = specs(50)
    tasks = [gevent.spawn(store, recorder, spec) for spec in (*good[:25], bad[0], *good[25:])]
    tasks.append(gevent.spawn(recorder.bind(huge)["stored"], "anywhere"))
    for task in tasks:
        with gevent.Timeout(20):
            task.join()
    failed = [task for task in tasks if not task.successful()]
    assert [type(task.exception) for task in failed] == [RecordError, RecordError]
    # A size beyond 63 bits: SQLite's driver sees it, a server says so.
    assert isinstance(failed[0].exception.__cause__, UnicodeEncodeError)
    assert isinstance(failed[1].exception.__cause__, OverflowError | DataError)
    assert recorder.count() == 50
    green_errors_are_fatal.expected("RecordError")
    store(recorder, bad[1])  # JSON in ASCII holds even that
    assert recorder.count() == 51


def test_what_no_row_can_be_made_of_fails_alone_and_says_why(
    recorder: Recorder, green_errors_are_fatal: HubErrors
) -> None:
    inner: dict[Any, Any] = {"a": 1}
    bad = Spec("http://a.example/bad", unit={"type": "x", "k": inner})
    inner[1] = "mixed keys have no order"  # a spec is frozen, what it was given is its caller's
    tasks = [gevent.spawn(store, recorder, spec) for spec in (*specs(10), bad)]
    gevent.joinall(tasks)
    (failed,) = [task.exception for task in tasks if task.exception]
    assert isinstance(failed, RecordError)
    assert "this cannot be recorded: '<' not supported" in str(failed)
    assert isinstance(failed.__cause__, TypeError)
    assert recorder.count() == 10
    green_errors_are_fatal.expected("RecordError")


def test_who_is_killed_while_waiting_harms_nobody(recorder: Recorder) -> None:
    tasks = [gevent.spawn(store, recorder, spec) for spec in specs(20)]
    gevent.sleep(0)
    gevent.killall(tasks[:10])
    gevent.joinall(tasks[10:], raise_error=True)
    recorder.flush()
    assert {unit.path for unit in recorder.units()} >= {str(n) for n in range(10, 20)}
    assert recorder.count() in range(10, 21)


HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
held.execute("ROLLBACK")
"""


def test_a_lock_of_another_process_is_waited_for_without_the_hub(filed: Recorder, path: Path, ticker: Ticker) -> None:
    store(filed, Spec("http://a.example/first"))
    with Popen([sys.executable, "-c", HOLD, str(path)], stdin=PIPE, stdout=PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with ticker:
            tasks = [gevent.spawn(store, filed, spec) for spec in specs(30)]
            gevent.sleep(0.3)
            assert not any(task.ready() for task in tasks)
            holder.stdin.close()
            gevent.joinall(tasks, raise_error=True)
    assert filed.count() == 31
    assert ticker.worst_s < 0.1


def test_the_hub_is_free_while_thousands_of_rows_are_put_durably(path: Path, ticker: Ticker) -> None:
    def work(recorder: Recorder, wanted: Iterator[Spec]) -> None:
        for spec in wanted:
            store(recorder, spec)

    def turn(number: int) -> float:
        with Recorder(f"sqlite:///{path}-{number}", durable=True) as recorder, ticker:
            wanted = iter(specs(400))
            gevent.joinall([gevent.spawn(work, recorder, wanted) for _ in range(128)], raise_error=True)
            assert sum(1 for _ in recorder.units()) == 400
        return ticker.worst_s

    # Where others keep every core busy, a thread is put aside while it holds the GIL, and the hub waits for it: then a
    # turn says nothing.  A hub that waits for the database has no good turn.
    assert any(turn(number) < 0.1 for number in range(12))


def test_durable_may_be_said_at_any_time(filed: Recorder, path: Path) -> None:
    levels = []
    for durable in (False, True, False):
        filed.durable = durable
        store(filed, Spec("http://a.example/a"))
        levels.append(filed._lane.ask("answer", lambda database: database.pragma("synchronous")).get())
    assert levels == [1, 2, 1]


def test_another_thread_gets_an_error_not_a_wait_without_end(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a"))

    def elsewhere() -> str:
        with pytest.raises(RecordError) as caught:
            recorder.recall(STORE, "a")
        return str(caught.value)

    assert "another thread" in gevent.get_hub().threadpool.apply(elsewhere)
    assert recorder.recall(STORE, "a") is not None


# From 3.12 on Python warns of every fork beside a thread; that is what is tested.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_gets_an_error_and_leaves_the_parents_records_alone(recorder: Recorder) -> None:
    store(recorder, Spec("http://a.example/a"))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            recorder.recall(STORE, "a")
            os.write(write, b"no error")
        except RecordError as exc:
            os.write(write, str(exc).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    assert b"fork" in os.read(read, 1000)
    os.close(read)
    store(recorder, Spec("http://a.example/b"))
    assert recorder.count() == 2


SYNC = """
import sys
import gevent
from geofetch.records import Recorder
from geofetch.spec import Spec
from tests.test_records import store
recorder = Recorder(sys.argv[1])
numbers = iter(range(1_000_000))
def work():
    for number in numbers:
        store(recorder, Spec(f"http://a.example/{number}"))
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
gevent.joinall([gevent.spawn(work) for _ in range(32)], raise_error=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 70, 700])
def test_a_killed_process_leaves_every_row_that_it_acknowledged(database: Place, acknowledged: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SYNC, database.url], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(acknowledged)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.readlines()
    known = {line.decode().strip() for line in said if line.endswith(b"\n")}
    with Recorder(database.url) as recorder:
        assert {unit.path for unit in recorder.units()} >= known
        store(recorder, Spec("http://a.example/next"))
    if database.kind == "sqlite":
        assert database.rows("PRAGMA integrity_check") == [("ok",)]
        assert database.rows("PRAGMA foreign_key_check") == []


def test_a_process_that_never_closes_its_records_ends(database: Place) -> None:
    script = "from tests.test_records import *\nr = Recorder(sys.argv[1])\nstore(r, Spec('http://a.example/a'))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys\n{script}", database.url], cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0
    with Recorder(database.url) as recorder:
        assert recorder.count() == 1


def test_two_processes_may_begin_the_same_records_at_once(database: Place) -> None:
    script = (
        "from tests.test_records import *\nsys.stdin.read()\n"
        "with Recorder(sys.argv[1]) as r:\n"
        "    for n in range(20): store(r, Spec(f'http://a.example/{n}', repository='main'))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", f"import sys\n{script}", database.url]
    both = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in both] == [0, 0]
    with Recorder(database.url) as recorder:
        assert recorder.count() == 20


def test_records_whose_file_is_removed_say_so_and_begin_anew(filed: Recorder, path: Path) -> None:
    store(filed, Spec("http://a.example/a"))
    for file in path.parent.iterdir():
        file.unlink()
    with pytest.raises(RecordError, match="removed or replaced"):
        store(filed, Spec("http://a.example/b"))
    store(filed, Spec("http://a.example/c"))
    assert [unit.path for unit in filed.units()] == ["c"]


def test_trouble_with_the_database_fails_all_at_once(
    filed: Recorder, path: Path, green_errors_are_fatal: HubErrors
) -> None:
    store(filed, Spec("http://a.example/a"))
    filed._lane.ask("answer", lambda database: database.execute_sql("PRAGMA query_only = 1")).get()
    tasks = [gevent.spawn(store, filed, spec) for spec in specs(10)]
    gevent.joinall(tasks)
    assert {type(task.exception) for task in tasks} == {RecordError}
    assert str(path) in str(tasks[0].exception)
    green_errors_are_fatal.expected("RecordError")
    store(filed, Spec("http://a.example/b"))  # a new connection
    assert filed.count() == 2


def test_a_full_batch_makes_the_next_ones_wait() -> None:
    sizes = []

    def run(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return [item + 1 for item in items]

    lane = Lane(work=run)
    asked: list[int] = []

    def ask() -> None:
        for number in range(MOST + 10):
            lane.ask("work", number)
            asked.append(number)

    asking = gevent.spawn(ask)
    gevent.sleep(0)
    assert len(asked) == MOST
    assert lane.full("work")
    asking.join()
    last = lane.ask("work", 41)
    assert last.get(10) == 42
    assert max(sizes) == MOST
    lane.end(lambda: None)


def test_a_pending_answer_may_be_given_up_for_now() -> None:
    lane = Lane(work=lambda items: [item * 2 for item in items])
    pending = lane.ask("work", "a")
    with pytest.raises(TimeoutError):
        pending.get(0)
    until(lambda: pending.ready)
    assert pending.get() == "aa"
    lane.end(lambda: None)


def test_nobody_waits_for_ever_when_the_writer_is_killed() -> None:
    lane = Lane(work=lambda items: list(items))
    pending = lane.ask("work", "a")
    gevent.sleep(0)
    assert lane._pump is not None
    lane._pump.kill()
    with pytest.raises(RecordError, match="ended"):
        pending.get(10)
    assert lane.ask("work", "b").get(10) == "b"
    lane.end(lambda: None)


def test_nobody_waits_for_ever_when_the_writer_is_killed_before_it_began() -> None:
    lane = Lane(work=lambda items: list(items))
    pending = lane.ask("work", "a")
    assert lane._pump is not None
    lane._pump.kill(block=False)
    with pytest.raises(RecordError, match="ended"):
        pending.get(10)
    pending = lane.ask("work", "b")
    lane._pump.kill(block=False)
    assert lane.ask("work", "c").get(10) == "c"  # asked before anybody could be told: the next writer does both
    assert pending.get(10) == "b"
    lane.end(lambda: None)
