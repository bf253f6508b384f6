"""Records on servers: names that are long, odd or secret, what others do meanwhile, a server that goes away."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import gevent
import pytest

from geofetch.errors import RecordError, SpecError
from geofetch.events import Kept
from geofetch.records import Recorder, ledger
from geofetch.records.book import Book
from geofetch.records.changes import Mark, Note
from geofetch.records.database import located
from geofetch.spec import Source, Spec

from .support.hub_errors import HubErrors
from .support.servers import PASSWORD, QUOTED, USER, Place, Server
from .support.ticking import Ticker
from .support.waiting import until
from .test_records import STORE, attempt, only, sha256, store

ROOT = Path(__file__).parent.parent
CANARY = "canary7f3a"


@pytest.fixture
def recorder(database: Place) -> Iterator[Recorder]:
    with Recorder(database.url) as opened:
        yield opened


@pytest.fixture(params=["postgresql", "mariadb"])
def served(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty place on each server."""
    place = request.getfixturevalue(request.param).place()
    yield place
    place.drop()


def server_of(place: Place) -> Server:
    assert place.server is not None
    return place.server


# --------------------------------------------------------------------------------------------------------------- URLs


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://bob:{CANARY}@db.example/units", "postgresql://db.example/units"),
        (f"postgres://bob:{CANARY}@db.example:5433/units?sslmode=verify-full", "postgres://db.example:5433/units"),
        (f"postgresql://db.example/units?user=bob&password={CANARY}", "postgresql://db.example/units"),
        ("postgresql://one:1,two:2/units?target_session_attrs=read-write", "postgresql://one:1,two:2/units"),
        ("postgresql:///units?host=/run/postgresql", "postgresql:///units"),
        ("postgresql://[::1]:5/units", "postgresql://[::1]:5/units"),
        (f"mysql://bob:{CANARY}@db.example/units?ssl_ca=ca.pem&ssl_verify_cert=true", "mysql://db.example/units"),
        (f"mariadb://bob:{CANARY}@db.example:3307/units", "mariadb://db.example:3307/units"),
    ],
)
def test_of_a_server_its_host_and_the_databases_name_are_shown(url: str, shown: str) -> None:
    address = located(url)
    assert str(address) == shown
    assert repr(Recorder(url)) == f"Recorder({shown!r})"
    assert "bob" not in repr(address)
    assert CANARY not in repr(address)


def test_parameters_are_the_drivers_own() -> None:
    told = located(f"postgresql://a%40b:{QUOTED}@h/u?sslmode=verify-full&sslrootcert=ca.pem").told
    wanted = {"user": "a@b", "password": PASSWORD, "host": "h", "dbname": "u", "sslmode": "verify-full"}
    assert wanted.items() <= told.items()
    assert told["sslrootcert"] == "ca.pem"
    told = located("mysql://h:3/u?ssl_ca=ca.pem&ssl_verify_identity=true&connect_timeout=5").told
    assert told == {
        "host": "h",
        "port": 3,
        "dbname": "u",
        "ssl_ca": "ca.pem",
        "ssl_verify_identity": True,
        "connect_timeout": 5,
    }


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"postgresql://bob:{CANARY}@db.example", "names no database"),
        (f"postgresql://bob:{CANARY}@db.example/", "names no database"),
        (f"postgresql://bob:{CANARY}@db.example/a/b", "percent-encoded"),
        (f"postgresql://bob:{CANARY}/x@db.example/units", "percent-encoded"),
        (f"postgresql://bob:{CANARY}@db.example:port/units", "percent-encoded"),
        (f"postgresql://bob:%ff{CANARY}@db.example/units", "percent-encoded"),
        (f"postgresql://bob:{CANARY}@db.example/units?ssl=on", "'ssl' is no parameter of libpq's"),
        (f"postgresql://bob:{CANARY}@db.example/units%00", "percent-encoded"),
        (f"mysql://bob:{CANARY}@db.example/units?sslmode=require", "'sslmode' is no parameter.*ssl_ca"),
        (f"mysql://bob:{CANARY}@db.example/units?ssl_disabled=perhaps", "'ssl_disabled' is no parameter"),
        (f"mysql://bob:{CANARY}@db.example:99999/units", "percent-encoded"),
    ],
)
def test_a_bad_url_is_refused_before_anything_is_opened(url: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        Recorder(url)
    assert CANARY not in str(caught.value)
    assert "bob" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("scheme", "module", "extra"), [("postgresql", "psycopg", "postgres"), ("mysql", "pymysql", "mysql")]
)
def test_a_driver_that_is_missing_is_named_with_what_installs_it(scheme: str, module: str, extra: str) -> None:
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from geofetch.records import Recorder\n"
        "try: Recorder(sys.argv[1])\nexcept Exception as exc: print(type(exc).__name__, exc)"
    )
    told = ran(script, f"{scheme}://host/name")
    assert told.startswith("SpecError")
    assert f"pip install 'geofetch[{extra}]'" in told


def ran(script: str, *told: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *told], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("said", ["password", "nobody", "database", "tls"])
def test_a_server_that_refuses_is_named_at_once_and_no_secret(
    served: Place, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    user, _, rest = served.url.partition("://")[2].partition(":")
    scheme, where = served.url.partition("://")[0], rest.partition("@")[2]
    url = {
        "password": f"{scheme}://{user}:{CANARY}@{where}",
        "nobody": f"{scheme}://nobody{CANARY}:{CANARY}@{where}",
        "database": served.url.replace("/postgres?", "/absent?") if "/postgres?" in served.url else f"{served.url}9",
        "tls": f"{served.url}&sslmode=require" if scheme == "postgresql" else f"{served.url}?ssl_ca=/absent.pem",
    }[said]
    began = time.monotonic()
    with caplog.at_level(0), Recorder(url) as recorder, pytest.raises(RecordError, match=r"127\.0\.0\.1") as caught:
        recorder.count()
    assert time.monotonic() - began < 15
    for text in (str(caught.value), caplog.text):
        assert CANARY not in text
        assert PASSWORD not in text
        assert QUOTED not in text
    assert f'"{USER}"' not in str(caught.value)
    gc.collect()


# -------------------------------------------------------------------------------------------------------------- names


def test_long_names_are_kept_and_found(recorder: Recorder) -> None:
    url, path = "http://a.example/" + "u" * 8000, "p/" + "/".join(["d" * 250] * 16)
    for end in ("1", "2"):
        spec = Spec(sources=[f"{url}{end}", f"{url}{end}b"], path=path + end, digests=sha256(b"the file"))
        store(recorder, spec)
        fail_over(recorder, spec)
    found = recorder.unit(path + "1")
    assert found is not None
    assert [source.url for source in found.sources] == [f"{url}1", f"{url}1b"]
    assert [health.failures for health in found.health] == [0, 1]
    assert [unit.path for unit in recorder.units(path=path + "2")] == [path + "2"]
    assert recorder.recall(STORE, path + "2") is not None
    assert recorder.recall(STORE, path) is None


def fail_over(recorder: Recorder, spec: Spec) -> None:
    recorder._write(Note(spec, spec.sources[1], "Stalled", 5, STORE)).get()


def test_names_that_look_alike_are_not_one(recorder: Recorder) -> None:
    names = ["a", "A", "a ", "ä", "a\u0308", "a%", "a_", "a\\", "a'", 'a"', "a\n", "ａ", "\U0001f600", "%s", "$1"]
    gevent.joinall(
        [
            gevent.spawn(store, recorder, Spec(f"http://a.example/{n}", path=name, repository=name))
            for n, name in enumerate(names)
            if name != "a\n"
        ],
        raise_error=True,
    )
    names.remove("a\n")
    assert recorder.repositories() == sorted(names)
    for name in names:
        assert [unit.path for unit in recorder.units(repository=name)] == [name]
        assert [unit.path for unit in recorder.units(path=name)] == [name]
        found = recorder.unit(name)
        assert found is not None
        assert found.path == name
        assert recorder.recall(STORE, name) is not None
    assert recorder.recall(STORE, "B") is None


@pytest.mark.parametrize("bad", ["bad\udcff", "worse\ud800"])
def test_a_name_that_is_no_text_is_refused_alone_and_by_its_name(
    recorder: Recorder, bad: str, green_errors_are_fatal: HubErrors
) -> None:
    good = [Spec(f"http://a.example/{n}") for n in range(6)]
    tasks = [gevent.spawn(store, recorder, spec) for spec in good]
    named = Kept(STORE, bad, 8, 1, 7)
    tasks.insert(3, gevent.spawn(store, recorder, Spec("http://a.example/x"), kept=named))
    gevent.joinall(tasks)
    green_errors_are_fatal.expected("RecordError")
    (failed,) = [task.exception for task in tasks if task.exception]
    assert isinstance(failed, RecordError)
    assert f"the key in its store {bad!r} cannot be recorded" in str(failed)
    assert "another path" in str(failed)
    assert recorder.count() == 6
    found = [gevent.spawn(recorder.recall, STORE, key) for key in (bad, "0")]
    gevent.joinall(found, raise_error=True)
    assert [one.value is None for one in found] == [True, False]


def test_postgresql_has_no_nul(postgresql: Server, green_errors_are_fatal: HubErrors) -> None:
    with Recorder(postgresql.place().url) as recorder:
        named = Kept(STORE, "a\0b", 8, 1, 7)
        with pytest.raises(RecordError, match=r"the key in its store 'a\\x00b' cannot be recorded, PostgreSQL's text"):
            store(recorder, Spec("http://a.example/a"), kept=named)
        store(recorder, Spec("http://a.example/b"))
        assert recorder.recall(STORE, "a\0b") is None
        assert only(recorder).path == "b"


def test_a_repository_whose_name_no_index_takes_is_refused_alone(
    served: Place, green_errors_are_fatal: HubErrors
) -> None:
    name = "".join(Random(1).choices("abcdefghijklmnop0123456789", k=9000))
    with Recorder(served.url) as recorder:
        tasks = [
            gevent.spawn(recorder.bind(attempt(Spec(f"http://a.example/{n}", repository=told)))["stored"], "")
            for n, told in enumerate(["main", name, "main"])
        ]
        gevent.joinall(tasks)
        assert [type(task.exception) for task in tasks] == [type(None), RecordError, type(None)]
        green_errors_are_fatal.expected("RecordError")
        assert recorder.repositories() == ["main"]
        assert recorder.count() == 2


# ----------------------------------------------------------------------------------------------------------- begun once


def test_somebody_elses_tables_are_left_alone(served: Place) -> None:
    served.rows("CREATE TABLE cookies (name INTEGER)")
    with Recorder(served.url) as recorder, pytest.raises(RecordError, match=r"something else: it holds cookies"):
        recorder.count()


def test_what_was_made_half_is_made_whole(mariadb: Server) -> None:
    # Each statement about a table commits by itself there.
    place = mariadb.place()
    place.rows("CREATE TABLE geofetch_schema (version INTEGER NOT NULL PRIMARY KEY, applied_at_us BIGINT NOT NULL)")
    place.rows("CREATE TABLE units (id BIGINT)")
    with Recorder(place.url) as recorder:
        store(recorder, Spec("http://a.example/a"))
        assert recorder.count() == 1


def test_a_newer_schema_is_refused(served: Place) -> None:
    with Recorder(served.url) as recorder:
        store(recorder, Spec("http://a.example/a"))
    served.rows("INSERT INTO geofetch_schema VALUES (99, 0)")
    if served.kind == "mariadb":
        served.rows("COMMIT")
    with Recorder(served.url) as recorder, pytest.raises(RecordError, match="newer geofetch: its schema is 99"):
        recorder.count()


def test_durable_is_refused_where_the_server_does_not_sync(postgresql: Server) -> None:
    place = postgresql.place()
    with Recorder(place.url, durable=True) as recorder, pytest.raises(RecordError, match="fsync turned off"):
        store(recorder, Spec("http://a.example/a"))


# ------------------------------------------------------------------------------------------------------- the same twice


def test_news_that_is_told_twice_is_told_once(recorder: Recorder) -> None:
    spec = Spec("http://a.example/a", digests=sha256(b"the file"))
    store(recorder, spec)
    before = only(recorder)
    note = Note(spec, spec.source, "Stalled", 77, STORE)
    mark = Mark(before, "present", "moved", Kept(STORE, "elsewhere", 8, 5, 9), (), 78)
    for _ in range(2):
        recorder._write(note).get()
        assert recorder._write(mark).get() is True
    after = only(recorder)
    assert after.health[0].failures == 1
    assert (after.store_key, after.scrubbed_at, after.scrub_result) == ("elsewhere", 78, "moved")
    later = Mark(before, "missing", None, None, (), 79)
    assert recorder._write(later).get() is False  # it is about the file that was there before


def test_a_book_is_not_asked_for_what_a_mark_is_not_about() -> None:
    mark = Mark(None, "missing", None, None, (), 1)  # type: ignore[arg-type]
    mark.identity = b"nobody"
    mark.unit = None  # type: ignore[assignment]
    assert mark.apply(Book()) is False


# --------------------------------------------------------------------------------------------------- a server goes away


CUT = {
    "postgresql": "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'records'",
    "mariadb": "SELECT id FROM information_schema.processlist WHERE user = 'records'",
}


def cut(place: Place) -> int:
    """End all connections of the records; how many there were."""
    server = server_of(place)
    found = server.ask(CUT[place.kind])
    if place.kind == "mariadb":
        for (number,) in found:
            server.ask(f"KILL {number}")
    return len(found)


def test_a_connection_that_is_cut_is_made_anew(served: Place) -> None:
    with Recorder(served.url) as recorder:
        store(recorder, Spec("http://a.example/a"))
        assert cut(served) == 1
        store(recorder, Spec("http://a.example/b"))
        assert cut(served) == 1
        assert recorder.count() == 2
        assert cut(served) == 1
        assert recorder.recall(STORE, "a") is not None
        assert recorder.commits == 2


HOLD = {
    "postgresql": "SELECT pg_advisory_xact_lock(1734700902, hashtext(current_schema()))",
    "mariadb": "SELECT version FROM geofetch_schema ORDER BY version LIMIT 1 FOR UPDATE",
}


@pytest.mark.parametrize("is_cut", [False, True], ids=["waited", "cut"])
def test_who_writes_waits_for_another_process_and_the_hub_does_not(served: Place, ticker: Ticker, is_cut: bool) -> None:
    with Recorder(served.url) as recorder:
        store(recorder, Spec("http://a.example/before"))
        with holding(served):
            task = gevent.spawn(store, recorder, Spec("http://a.example/a"))
            until(lambda: waiting(served), what="it waits for the lock")
            with ticker:
                gevent.sleep(0.5)
            assert not task.ready()
            if is_cut:
                assert cut(served) >= 1  # the one that waits: nobody knows what became of its batch
                until(lambda: waiting(served), what="it waits anew")
        task.get(timeout=20)
        assert ticker.worst_s < 0.1
        assert recorder.count() == 2
    assert served.rows("SELECT count(*) FROM sources") == [(2,)]


class holding:
    """Somebody else is in the middle of writing."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def __enter__(self) -> None:
        server = server_of(self.place)
        if self.place.kind == "postgresql":
            import psycopg

            self.other: Any = psycopg.connect(
                host="127.0.0.1", port=server.port, dbname="postgres", user="postgres", password="administrator",
                options=f"-csearch_path={self.place.name}",
            )  # fmt: skip
        else:
            import pymysql

            self.other = pymysql.connect(
                unix_socket=f"{server.folder}/socket", user="root", database=self.place.name, autocommit=False
            )
        self.other.cursor().execute(HOLD[self.place.kind])

    def __exit__(self, *failed: Any) -> None:
        self.other.rollback()
        self.other.close()


def waiting(place: Place) -> bool:
    """Whether a connection of the records waits for a lock."""
    if place.kind == "postgresql":
        asked = "SELECT 1 FROM pg_stat_activity WHERE usename = 'records' AND wait_event_type = 'Lock'"
    else:
        # Not innodb_trx: who asks it ten times a second is told the same each time.
        asked = (
            "SELECT 1 FROM information_schema.processlist WHERE user = 'records' AND command = 'Query' AND time_ms > 50"
        )
    return bool(server_of(place).ask(asked))


@pytest.mark.parametrize("how", [None, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_restarts_is_waited_for(served: Place, ticker: Ticker, how: signal.Signals | None) -> None:
    server = server_of(served)
    with Recorder(served.url) as recorder:
        store(recorder, Spec("http://a.example/before"))
        server.stop(how)
        with ticker:
            tasks = [gevent.spawn(store, recorder, Spec(f"http://a.example/{n}")) for n in range(40)]
            asked = gevent.spawn(recorder.recall, STORE, "before")
            gevent.sleep(0.5)
            assert not any(task.ready() for task in (*tasks, asked))
        assert ticker.worst_s < 0.1
        server.start()
        gevent.joinall([*tasks, asked], raise_error=True, timeout=60)
        assert asked.value is not None
        assert recorder.count() == 41
    gc.collect()


def test_a_server_that_stays_away_is_an_error_within_the_limit(
    served: Place, monkeypatch: pytest.MonkeyPatch, green_errors_are_fatal: HubErrors
) -> None:
    monkeypatch.setattr(ledger, "PATIENCE_S", 0.5)
    server = server_of(served)
    with Recorder(served.url) as recorder:
        store(recorder, Spec("http://a.example/before"))
        server.stop()
        try:
            tasks = [gevent.spawn(store, recorder, Spec(f"http://a.example/{n}")) for n in range(5)]
            tasks.append(gevent.spawn(recorder.count))
            gevent.joinall(tasks, timeout=30)
            assert {type(task.exception) for task in tasks} == {RecordError}
            green_errors_are_fatal.expected("RecordError")
            assert all("127.0.0.1" in str(task.exception) for task in tasks)
            with Recorder(served.url) as other, pytest.raises(RecordError):
                other.count()  # it never was there: nobody waits
        finally:
            server.start()
        assert recorder.count() == 1
        store(recorder, Spec("http://a.example/after"))
    gc.collect()


# ------------------------------------------------------------------------------------------------------- many processes


WRITE = """
import sys
import gevent
from geofetch.records import Recorder
from geofetch.spec import Spec, Source
from tests.test_records import sha256, store
url, me, first, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
recorder = Recorder(url)
recorder.count()
print("ready", flush=True)
sys.stdin.readline()
numbers = iter(range(first, first + count))
def work():
    for number in numbers:
        source = Source(f"http://{me}.example/{number}")
        store(recorder, Spec(source, path=f"{number}", digests=sha256(b"the file"), repository=me))
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
gevent.joinall([gevent.spawn(work) for _ in range(64)], raise_error=True)
recorder.close()
"""


class Writers:
    """Processes that record, each its own range of numbers; ``said``: what each was told is stored."""

    def __init__(self, url: str, ranges: Sequence[tuple[int, int]]) -> None:
        command = [sys.executable, "-W", "ignore", "-c", WRITE, url]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.processes = [
            subprocess.Popen([*command, f"w{me}", str(first), str(count)], cwd=ROOT, text=True, **pipes)
            for me, (first, count) in enumerate(ranges)
        ]
        self.said: list[set[int]] = [set() for _ in ranges]
        for process in self.processes:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
        for process in self.processes:
            process.stdin.write("go\n")
            process.stdin.flush()

    def read(self, me: int, count: int) -> None:
        """Wait until this one was told of so many more."""
        for _ in range(count):
            line = self.processes[me].stdout.readline()
            assert line, self.processes[me].stderr.read()
            self.said[me].add(int(line))

    def finish(self) -> list[tuple[int, str]]:
        """How each ended, and what it said to that."""
        ends = []
        for me, process in enumerate(self.processes):
            out = process.stdout.read()
            whole = out[: out.rfind("\n") + 1]
            self.said[me].update(map(int, whole.split()))
            with process:
                ends.append((process.wait(90), process.stderr.read()))
        return ends


def test_four_processes_one_killed_and_a_restart_leave_one_row_a_unit(served: Place) -> None:
    ranges = [(number * 500, 2000) for number in range(4)]
    writers = Writers(served.url, ranges)
    for me in range(4):
        writers.read(me, 100)
    writers.processes[3].kill()
    writers.read(0, 200)
    server_of(served).stop()
    server_of(served).start()
    ends = writers.finish()
    assert ends == [(0, "")] * 3 + [(-signal.SIGKILL, "")]
    for me, (first, count) in enumerate(ranges[:3]):
        assert writers.said[me] == set(range(first, first + count))
    with Recorder(served.url) as recorder:
        units = {int(unit.path): unit for unit in recorder.units()}
        assert recorder.count() == len(units)
    assert served.rows("SELECT count(*) FROM (SELECT DISTINCT identity FROM units) AS found") == [(len(units),)]
    for me, said in enumerate(writers.said):
        for number in said:
            assert f"w{me}" in units[number].repositories  # nothing is told that is not there, nothing is lost
            assert f"http://w{me}.example/{number}" in {source.url for source in units[number].sources}
    assert set(units) >= set(range(3000))
    assert all(len(unit.sources) == len(unit.repositories) for unit in units.values())
    assert "deadlock" not in server_of(served).log().lower()


def test_what_two_processes_add_to_one_unit_at_once_is_all_there(database: Place) -> None:
    writers = Writers(database.url, [(0, 60)] * 3)
    assert writers.finish() == [(0, "")] * 3
    with Recorder(database.url) as recorder:
        units = list(recorder.units())
    assert len(units) == 60
    assert {unit.repositories for unit in units} == {("w0", "w1", "w2")}
    assert {len(unit.sources) for unit in units} == {3}


STOPPED = """
import sys
from geofetch.records.database import kind, mysql, postgresql
postgresql.IDLE_S = mysql.IDLE_S = 1
from geofetch.records.ledger import Ledger
from geofetch.records.database import kind_of, located
ledger = Ledger(located(sys.argv[1]))
database = ledger._open(False)
with kind_of(database).writing(database):
    print("writing", flush=True)
    sys.stdin.readline()
"""


def test_a_process_that_stands_still_keeps_nobody_waiting(served: Place) -> None:
    with Recorder(served.url) as recorder:
        recorder.count()
        with subprocess.Popen(
            [sys.executable, "-c", STOPPED, served.url],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == b"writing\n"
            process.send_signal(signal.SIGSTOP)
            try:
                with gevent.Timeout(25):
                    store(recorder, Spec("http://a.example/a"))
            finally:
                process.kill()
        assert recorder.count() == 1


# --------------------------------------------------------------------------------------------------------------- worlds


WORLD = """
import sys
world, url = sys.argv[1:]
if world == "process":
    from gevent import monkey
    monkey.patch_all()
import geofetch, gevent, requests, time
from geofetch.records import Recorder
import psycopg, pymysql
if world == "requests":
    geofetch.patch_requests()
if world == "late":
    import warnings
    warnings.simplefilter("ignore")
    geofetch.patch_all()
from tests.test_records import sha256, store
from geofetch.spec import Spec
gaps = []
def tick():
    while True:
        began = time.perf_counter()
        gevent.sleep(0.01)
        gaps.append(time.perf_counter() - began)
with Recorder(url) as recorder:
    recorder.count()
    ticking = gevent.spawn(tick)
    wait = "SELECT pg_sleep(1)" if url.startswith("postgresql") else "SELECT SLEEP(1)"
    slow = recorder._lane.ask("answer", lambda database: database.execute_sql(wait).fetchall())
    slow.get()
    assert len(gaps) > 20, len(gaps)
    tasks = [gevent.spawn(store, recorder, Spec(f"http://a.example/{n}", digests=sha256(b"x"))) for n in range(300)]
    gevent.joinall(tasks, raise_error=True)
    assert recorder.count() == 300
    ticking.kill()
print("done")
"""


@pytest.mark.parametrize("world", ["nothing", "requests", "process", "late"])
def test_the_hub_is_free_in_every_world(served: Place, world: str) -> None:
    assert ran(WORLD, world, served.url) == "done\n"


def test_a_source_with_two_profiles_is_two(recorder: Recorder) -> None:
    told = [Source("http://a.example/a", profile="one"), Source("http://a.example/a", profile="two")]
    store(recorder, Spec(sources=told, path="a"))
    assert only(recorder).sources == tuple(told)
