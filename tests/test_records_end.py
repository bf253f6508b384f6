"""A signal while the database is away: the command ends within two seconds, by the code of its signal, and says what
is stored and not recorded.

The database is PostgreSQL: killed, stopped by SIGSTOP (it takes connections and answers nothing), or held by a lock.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE
from typing import Any

import gevent
import pytest

from geofetch.errors import RecordError
from geofetch.records import Recorder
from geofetch.spec import Spec

from .support.apart import command, commanded
from .support.hub_errors import HubErrors
from .support.mirrors import Mirror
from .support.process import ROOT, Child
from .support.servers import Place, Server
from .support.waiting import until
from .test_records import store

#: What is promised; waits of records take 0.3 s here.
PROMISED_S = 2.0
#: A process that ends, too: a busy machine may notice it a little later.
ENDED_S = 2.5


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    """It and all its children stand still."""
    first = server.pid
    pids = [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def killed(server: Server) -> Iterator[None]:
    server.stop(signal.SIGKILL)
    try:
        yield
    finally:
        server.start()  # here: it ends with the thread that started it


@contextmanager
def locked(server: Server) -> Iterator[None]:
    """Another process has the lock without which nobody writes."""
    import psycopg

    where = {"host": "127.0.0.1", "port": server.port, "dbname": "postgres"}
    with psycopg.connect(**where, user="postgres", password="administrator") as held:
        name = server.ask("SELECT nspname FROM pg_namespace WHERE nspname LIKE 't%' ORDER BY oid DESC LIMIT 1")[0][0]
        held.execute(f"SELECT pg_advisory_lock(x'67656f66'::int, hashtext('{name}'))")
        yield


@pytest.fixture
def place(postgresql: Server) -> Iterator[Place]:
    place = postgresql.place()
    yield place
    place.drop()


@pytest.mark.parametrize(
    ("gone", "number", "code"),
    [
        pytest.param(stopped, signal.SIGINT, 130, id="stopped-SIGINT"),
        pytest.param(stopped, signal.SIGTERM, 143, id="stopped-SIGTERM"),
        pytest.param(killed, signal.SIGINT, 130, id="killed-SIGINT"),
        pytest.param(locked, signal.SIGTERM, 143, id="locked-SIGTERM"),
    ],
)
def test_a_signal_ends_a_sync_whose_database_is_away(
    mirror: Mirror, place: Place, postgresql: Server, tmp_path: Path, gone: Any, number: int, code: int
) -> None:
    tree, gated = mirror.tree(5), mirror.serves(b"x" * 1000, stall=999, name="gated")
    (tmp_path / "list").write_text("".join(f"{url}\n" for url in (*tree.urls, gated.url)))
    root = tmp_path / "store"
    words = ["sync", tmp_path / "list", "--into", root, "--db", place.url, "--json", "--no-progress"]
    with commanded(words) as process:
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline())["state"] for _ in tree.names]
        assert told == ["stored"] * 5
        gated.arrived(30)
        with gone(postgresql):
            gated.release()
            until((root / "gated").exists, 20, "the file stored")
            gevent.sleep(0.3)
            began = time.monotonic()
            process.send_signal(number)
            out, err = process.communicate(timeout=40)
            took = time.monotonic() - began
    assert process.returncode == code, err
    assert took < ENDED_S
    assert "not recorded" in err
    assert "adopted by the next run" in err
    *_, summary = map(json.loads, out.splitlines())
    assert (summary["event"], summary["exit_code"]) == ("summary", code), "it ended in good order"
    # A list of URLs tells no size and no digest: to be adopted, a file is held against one.
    (tmp_path / "list").write_text(json.dumps({"source": gated.url, "size": 1000}))
    done = command(words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["files"]["adopted"] == 1
    assert gated.hits == 1


@pytest.mark.parametrize("words", [("units", "list"), ("verify",)], ids=" ".join)
def test_a_signal_ends_a_command_that_asks_a_database_that_stands_still(
    mirror: Mirror, place: Place, postgresql: Server, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with Recorder(place.url) as recorder:
        store(recorder, Spec("http://a.example/a"))
    with stopped(postgresql), commanded([*words, "--db", place.url]) as process:
        gevent.sleep(1.5)  # it has its modules, and waits for the database
        assert process.poll() is None
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=40)
        assert time.monotonic() - began < ENDED_S
    assert process.returncode == 130


def test_records_that_are_given_up_answer_nobody_and_wait_for_nobody(
    place: Place, postgresql: Server, green_errors_are_fatal: HubErrors
) -> None:
    recorder = Recorder(place.url)
    store(recorder, Spec("http://a.example/before"))
    with stopped(postgresql):
        waiting = [gevent.spawn(store, recorder, Spec("http://a.example/a")), gevent.spawn(recorder.count)]
        gevent.sleep(0.1)
        began = time.monotonic()
        recorder.give_up(0.3)
        recorder.give_up(30.0)  # the first word counts
        gevent.joinall(waiting, timeout=20)
        recorder.close()
        assert 0.25 < time.monotonic() - began < PROMISED_S
        assert [type(one.exception) for one in waiting] == [RecordError] * 2
        assert "adopted by the next run" in str(waiting[0].exception)
        green_errors_are_fatal.expected("RecordError")
        with pytest.raises(RecordError, match="closed"):
            recorder.count()
    until(lambda: recorder._ledger._database is None, 20, "its connection closed, once the thread can")


def test_what_is_committed_in_time_is_committed(place: Place) -> None:
    with Recorder(place.url) as recorder:
        waiting = [gevent.spawn(store, recorder, Spec(f"http://a.example/{number}")) for number in range(20)]
        gevent.sleep(0)
        recorder.give_up(20.0)
        gevent.joinall(waiting, timeout=20, raise_error=True)
    with Recorder(place.url) as recorder:
        assert recorder.count() == 20


WORLD = """
import sys
world, url = sys.argv[1:]
if world == "process":
    from gevent import monkey
    monkey.patch_all()
import geofetch, gevent, requests, time
from geofetch.records import Recorder
import psycopg
if world == "requests":
    geofetch.patch_requests()
if world == "late":
    import warnings
    warnings.simplefilter("ignore")
    geofetch.patch_all()
from tests.test_records import store
from geofetch.spec import Spec
gaps = []
def tick():
    while True:
        began = time.perf_counter()
        gevent.sleep(0.01)
        gaps.append(time.perf_counter() - began)
with Recorder(url) as recorder:
    store(recorder, Spec(f"http://{world}.example/before"))
    print("ready", flush=True)
    sys.stdin.readline()
    ticking = gevent.spawn(tick)
    tasks = [gevent.spawn(store, recorder, Spec(f"http://{world}.example/{n}")) for n in range(20)]
    gevent.sleep(1)
    assert len(gaps) > 20, len(gaps)
    assert not any(task.ready() for task in tasks)
    print("waiting", flush=True)
    gevent.joinall(tasks, raise_error=True)
    ticking.kill()
print("done", flush=True)
"""


def test_a_database_that_is_away_is_waited_for_off_the_hub_in_every_world(postgresql: Server) -> None:
    worlds = ("nothing", "requests", "process", "late")
    places = [postgresql.place() for _ in worlds]
    pipes: Any = {"stdin": PIPE, "stdout": PIPE, "stderr": PIPE, "text": True}
    processes = [
        Child([sys.executable, "-W", "ignore", "-c", WORLD, world, one.url], cwd=ROOT, **pipes)
        for world, one in zip(worlds, places, strict=True)
    ]
    assert [one.stdout.readline() for one in processes] == ["ready\n"] * 4
    with killed(postgresql):
        for one in processes:
            one.stdin.write("go\n")
            one.stdin.flush()
        told = [one.stdout.readline() for one in processes]
        assert told == ["waiting\n"] * 4, [one.stderr.read() for one in processes]
    ends = [one.communicate(timeout=60) for one in processes]
    assert ends == [("done\n", "")] * 4
    for world, one in zip(worlds, places, strict=True):
        with Recorder(one.url) as recorder:
            assert recorder.count() == 21, world
        one.drop()
