"""Part F of the fault matrix: records that are locked, full, gone, or on a server that dies, hangs or loses its word.

Downloads go on as far as memory is bounded; nothing is told as stored before it is recorded; what is stored and could
not be recorded is adopted by the next run, and not fetched again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from geofetch.errors import RecordError
from geofetch.events import Outcome
from geofetch.records import Recorder
from geofetch.spec import Spec
from geofetch.store import FileStore
from tests.support.apart import *  # noqa: F403 - a fixture of these tests
from tests.support.apart import Disk, command
from tests.support.meddling import Meddler
from tests.support.mirrors import Mirror, Tree
from tests.support.servers import Place, Server
from tests.support.ticking import Ticker
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled
from tests.test_records import store
from tests.test_records_lane import HOLD

LOCKED_S = 10.0 if os.environ.get("GEOFETCH_TEST_FULL") else 2.0
SIZE = 4
#: Of a pool of this size so many files are under way at most, fetched or not.
BOUND = 4 * SIZE


@pytest.fixture
def place(postgresql: Server) -> Iterator[Place]:
    place = postgresql.place()
    yield place
    place.drop()


class Run:
    """A pool at work on a tree, in a greenlet; ``outcomes`` are those that were told so far."""

    def __init__(self, tree: Tree, folder: Path, recorder: Recorder) -> None:
        self.tree, self.root, self._recorder = tree, folder / "srv", recorder
        self.outcomes: list[Outcome] = []
        self._greenlet = gevent.spawn(self._all)

    def _all(self) -> None:
        specs = [
            Spec(url, path=name, digests=f"sha256:{self.tree.digests[name]}")
            for name, url in zip(self.tree.names, self.tree.urls, strict=True)
        ]
        store = FileStore(self.root)
        with pooled(SIZE, store=store, recorder=self._recorder, retries=0) as pool:
            for outcome in pool.imap_unordered(specs):
                self.outcomes.append(outcome)
        store.close()

    @property
    def hits(self) -> int:
        return sum(self.tree.hits.values())

    def begun(self, count: int) -> None:
        until(lambda: len(self.outcomes) >= count, 30, f"{count} outcomes")

    def stands(self, ticker: Ticker, seconds: float) -> None:
        """For so long nothing is told; what may be fetched meanwhile is fetched, and no more."""
        told = len(self.outcomes)
        with ticker:
            until(lambda: self.hits >= min(told + BOUND, len(self.tree.names)), 30, "all that memory allows")
            gevent.sleep(seconds)
        assert ticker.worst_s < 0.1
        # What was under way when it began may have been told since.
        assert len(self.outcomes) <= told + SIZE
        assert self.hits <= len(self.outcomes) + BOUND

    def complete(self) -> None:
        """All are stored, each fetched once and recorded once."""
        self._greenlet.get(timeout=60)
        assert {outcome.state for outcome in self.outcomes} == {"stored"}
        assert set(self.tree.hits.values()) == {1}
        assert sorted(unit.path for unit in self._recorder.units()) == sorted(self.tree.names)

    def end(self) -> list[Outcome]:
        self._greenlet.get(timeout=60)
        return self.outcomes


# --------------------------------------------------------------------------------------------------- a file of SQLite's


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Has another process hold the writer's lock of the records; its stdin closed, it lets go."""
    holders: list[subprocess.Popen[bytes]] = []

    def hold() -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", HOLD, str(tmp_path / "units.db")]
        holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        return holder

    yield hold
    for holder in holders:
        holder.kill()
        with holder:
            pass


def test_downloads_go_on_while_another_process_locks_the_records_f1(
    mirror: Mirror, tmp_path: Path, held: Callable[[], Any], ticker: Ticker
) -> None:
    tree = mirror.tree(40)
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        recorder.count()
        holder = held()
        run = Run(tree, tmp_path, recorder)
        run.stands(ticker, LOCKED_S)
        assert run.outcomes == []
        assert run.hits == BOUND
        holder.stdin.close()
        run.complete()


def test_a_lock_that_is_not_let_go_loses_no_file_f1(
    mirror: Mirror, tmp_path: Path, held: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofetch.records.database.sqlite.BUSY_S", 0.3)
    tree = mirror.tree(10)
    with Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        recorder.count()
        holder = held()
        outcomes = Run(tree, tmp_path, recorder).end()
        assert {type(outcome.error) for outcome in outcomes} == {RecordError}
        assert "locked" in str(outcomes[0].error)
        holder.stdin.close()
        assert holder.wait(10) == 0
        _adopted(Run(tree, tmp_path, recorder).end(), tree)
        assert recorder.count() == 10


def _adopted(outcomes: list[Outcome], tree: Tree) -> None:
    """The run after it found every file that was fetched, and fetched each once in all."""
    assert {outcome.state for outcome in outcomes} <= {"adopted", "stored"}
    assert set(tree.hits.values()) == {1}


TROUBLE: dict[str, tuple[Callable[[Disk], Any], Callable[[Disk], Any]]] = {
    "full": (
        lambda disk: disk.does("sh", "-c", f'cat /dev/zero >"{disk.path}/filler" 2>/dev/null || true'),
        lambda disk: disk.does("rm", f"{disk.path}/filler"),
    ),
    "read-only": (
        lambda disk: disk.remount("ro"),
        lambda disk: disk.remount("rw"),
    ),
    "garbage": (
        lambda disk: disk.does("sh", "-c", f'rm "{disk.path}"/units.db*; echo no database >"{disk.path}/units.db"'),
        lambda disk: disk.does("rm", f"{disk.path}/units.db"),
    ),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_records_that_cannot_be_opened_end_it_before_anything_is_fetched_f2(
    mirror: Mirror, tmp_path: Path, disk: Callable[[str], Disk], trouble: str
) -> None:
    small, tree = disk("size=400k"), mirror.tree(6)
    first = tmp_path / "first"
    first.write_text(mirror.serves(b"first", name="first").url)
    (tmp_path / "SHA256SUMS").write_text(tree.sums)
    how = ["--into", tmp_path / "srv", "--db", f"sqlite:///{small.path}/units.db", "--json", "-q"]
    words = ["sync", tmp_path / "SHA256SUMS", "--base", tree.base, *how]
    assert command(["sync", first, *how], small.before).returncode == 0
    harm, mend = TROUBLE[trouble]
    harm(small)
    done = command(words, small.before)
    assert done.returncode == 13, done.stderr
    assert "Traceback" not in done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["error"]["type"] == "RecordError"
    assert "units.db" in summary["error"]["message"]
    assert (done.stdout.count("\n"), tree.hits) == (1, {})
    mend(small)
    assert command(words, small.before).returncode == 0
    assert set(tree.hits.values()) == {1}


def test_records_that_are_deleted_meanwhile_are_begun_anew_and_lose_no_file_f2(mirror: Mirror, tmp_path: Path) -> None:
    url, tree = f"sqlite:///{tmp_path}/units.db", mirror.tree(60)
    with Recorder(url) as recorder:
        run = Run(tree, tmp_path, recorder)
        run.begun(10)
        for path in tmp_path.glob("units.db*"):
            path.unlink()
        outcomes = run.end()
        failed = [outcome for outcome in outcomes if not outcome.ok]
        assert failed
        assert all(isinstance(outcome.error, RecordError) for outcome in failed)
        assert "removed or replaced" in str(failed[0].error)
        _adopted(Run(tree, tmp_path, recorder).end(), tree)
        assert recorder.count() == 60


# ---------------------------------------------------------------------------------------------------------- PostgreSQL


def test_a_server_that_is_down_at_the_start_ends_it_before_anything_is_fetched_f3(
    mirror: Mirror, place: Place, tmp_path: Path
) -> None:
    tree = mirror.tree(6)
    assert place.server is not None
    (tmp_path / "SHA256SUMS").write_text(tree.sums)
    words = ["sync", tmp_path / "SHA256SUMS", "--base", tree.base]
    place.server.stop()
    try:
        done = command([*words, "--into", tmp_path / "srv", "--db", place.url, "--json", "-q"])
    finally:
        place.server.start()
    assert done.returncode == 13, done.stderr
    assert "127.0.0.1" in done.stderr
    assert tree.hits == {}


@pytest.mark.parametrize("how", [None, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_dies_meanwhile_and_comes_back_loses_no_file_f3(
    mirror: Mirror, place: Place, tmp_path: Path, ticker: Ticker, how: signal.Signals | None
) -> None:
    assert place.server is not None
    with Recorder(place.url) as recorder:
        run = Run(mirror.tree(60), tmp_path, recorder)
        run.begun(10)
        place.server.stop(how)
        try:
            run.stands(ticker, 0.5)
        finally:
            place.server.start()
        run.complete()
    assert place.rows("SELECT count(*) FROM sources") == [(60,)]


def test_a_commit_whose_answer_is_lost_is_made_once_f4(place: Place) -> None:
    assert place.server is not None
    with Meddler(place.server.port, swallow="COMMIT") as meddler:
        through = place.url.replace(f":{place.server.port}/", f":{meddler.port}/")
        assert through != place.url
        with Recorder(through) as recorder:
            store(recorder, Spec("http://a.example/before", repository="main"))
            meddler.tell("arm")
            assert meddler.said() == "armed"
            tasks = [gevent.spawn(store, recorder, Spec(f"http://a.example/{n}", repository="main")) for n in range(5)]
            assert gevent.get_hub().threadpool.apply(meddler.said) == "swallowed"
            # It is committed, and nobody here has heard of it.
            until(lambda: place.rows("SELECT count(*) FROM units") == [(6,)], what="the commit")
            assert not any(task.ready() for task in tasks)
            meddler.tell("go")
            gevent.joinall(tasks, timeout=30, raise_error=True)
            assert recorder.commits == 2
    for table in ("units", "sources", "unit_repositories"):
        assert place.rows(f"SELECT count(*) FROM {table}") == [(6,)]


def backends(place: Place) -> list[int]:
    """The server's processes that serve the records."""
    assert place.server is not None
    return [pid for (pid,) in place.server.ask("SELECT pid FROM pg_stat_activity WHERE usename = 'records'")]


def test_downloads_go_on_while_the_server_stands_still_f5(
    mirror: Mirror, place: Place, tmp_path: Path, ticker: Ticker
) -> None:
    with Recorder(place.url) as recorder:
        run = Run(mirror.tree(60), tmp_path, recorder)
        run.begun(10)
        (pid,) = backends(place)
        os.kill(pid, signal.SIGSTOP)
        try:
            run.stands(ticker, 1)
        finally:
            os.kill(pid, signal.SIGCONT)
        run.complete()
        assert backends(place) == [pid]


def test_a_connection_that_stands_still_for_too_long_is_given_up_for_another_f5(
    mirror: Mirror, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geofetch.records.database.postgresql.SILENT_S", 1)
    with Recorder(place.url) as recorder:
        assert recorder.count() == 0
        (pid,) = backends(place)
        os.kill(pid, signal.SIGSTOP)
        try:
            Run(mirror.tree(20), tmp_path, recorder).complete()
            assert [other for other in backends(place) if other != pid]
        finally:
            os.kill(pid, signal.SIGCONT)


def logged(place: Place, words: str) -> bool:
    assert place.server is not None
    return words in (place.server.folder / "log").read_text(errors="replace")


def test_a_deadlock_is_tried_again_f6(place: Place) -> None:
    import psycopg

    assert place.server is not None
    with Recorder(place.url) as recorder:
        for number in range(3):
            store(recorder, Spec(f"http://a.example/{number}"))
        other = psycopg.connect(
            host="127.0.0.1", port=place.server.port, dbname="postgres", user="postgres", password="administrator",
            options=f"-csearch_path={place.name}",
        )  # fmt: skip
        try:
            other.execute("SET deadlock_timeout = '60s'")  # so that the other one notices
            other.execute("UPDATE units SET size_bytes = size_bytes WHERE path = '1'")
            task = gevent.spawn(store, recorder, Spec("http://b.example/1", path="1"), b"another", mtime=2)
            waits = "SELECT 1 FROM pg_stat_activity WHERE usename = 'records' AND wait_event_type = 'Lock'"
            until(lambda: place.server is not None and place.server.ask(waits), what="it waits for the row")
            threads = gevent.get_hub().threadpool
            threads.apply(other.execute, ("SELECT pg_advisory_xact_lock(1734700902, hashtext(current_schema()))",))
            other.rollback()
        finally:
            other.close()
        task.get(timeout=30)
        assert recorder.count() == 3
        unit = recorder.unit("1")
        assert unit is not None
        assert [source.url for source in unit.sources] == ["http://b.example/1"]
    assert logged(place, "deadlock detected")


def test_a_serialization_failure_is_tried_again_f6(place: Place) -> None:
    assert place.server is not None
    url = f"{place.url}%20-cdefault_transaction_isolation%3Dserializable"
    with Recorder(url) as one, Recorder(url) as other:
        one.count()
        other.count()
        tasks = [
            gevent.spawn(store, recorder, Spec(f"http://{name}.example/{number}", path=f"{number}"))
            for number in range(60)
            for name, recorder in (("one", one), ("other", other))
        ]
        gevent.joinall(tasks, timeout=60, raise_error=True)
        units = list(one.units())
    assert len(units) == 60
    assert logged(place, "could not serialize access")


def test_there_is_one_connection_whatever_downloads_f7_f8(mirror: Mirror, place: Place, tmp_path: Path) -> None:
    assert place.server is not None
    until(lambda: not backends(place), what="nobody else's connection")
    seen: set[int] = set()

    def look() -> None:
        while True:
            seen.update(backends(place))
            gevent.sleep(0.01)

    place.server.ask("ALTER ROLE records CONNECTION LIMIT 1")  # who opened a second one would be refused
    try:
        tree = mirror.tree(300)
        looking = gevent.spawn(look)
        specs = [Spec(url, path=name, repository="main") for name, url in zip(tree.names, tree.urls, strict=True)]
        files = FileStore(tmp_path / "srv")
        with Recorder(place.url) as recorder:
            with pooled(100, store=files, recorder=recorder) as pool:
                assert {outcome.state for outcome in pool.map(specs)} == {"stored"}
                assert {outcome.state for outcome in pool.map(specs)} <= {"stored", "adopted"}
            assert len(list(recorder.units())) == 300
            until(lambda: seen, what="a look")
        looking.kill()
        files.close()
        assert len(seen) == 1
    finally:
        place.server.ask("ALTER ROLE records CONNECTION LIMIT -1")
