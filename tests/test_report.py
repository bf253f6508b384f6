"""What is told of a run: the numbers, the words, when, and to whom."""

from __future__ import annotations

import errno
import io
import itertools
import json
import logging
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from geofetch.errors import Cancelled, SpecError, Truncated
from geofetch.events import SPEC_FACTS, Attempt, Head, Outcome
from geofetch.hooks import NOBODY, Bound, Door
from geofetch.report import Bars, JsonLines, Log, Plain, Report, Tally, automatic
from geofetch.report.tally import bytes_text, printable, time_text
from geofetch.spec import Spec


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_report() -> Iterator[Callable[..., Report]]:
    made: list[Report] = []

    def make(*args: Any, **more: Any) -> Report:
        made.append(Report(*args, **more))
        return made[-1]

    yield make
    for report in made:
        report.close()


class Download:
    """One spec, told of in the order that the walk tells its facts."""

    def __init__(self, report: Report, path: str = "a.rpm", size: int | None = None, spec: Spec | None = None) -> None:
        self.report = report
        self.spec = spec or Spec("https://user:hunter2@h.example/x?token=hunter2", path=path, size=size)
        self.hooks = Door([report], "watch", SPEC_FACTS).bound(self.spec)
        self.attempts: list[Attempt] = []
        self.tried = NOBODY
        self.tell(self.hooks, "planned")

    @staticmethod
    def tell(hooks: Bound, fact: str, *told: Any) -> None:
        for hook in hooks[fact]:
            assert hook(*told) is None

    def start(self, length: int | None = None, encoding: str = "", source: int = 0) -> Download:
        self.attempts.append(Attempt(self.spec, self.spec.sources[source], len(self.attempts) + 1))
        self.tried = Door([self.report]).bound(self.attempts[-1])
        self.tell(self.tried, "started")
        self.tell(self.tried, "headers", Head(200, {}, length, True, encoding, self.spec.source.shown))
        return self

    def chunk(self, count: int) -> Download:
        for hook in (*self.tried["chunk"], *self.tried.offloaded):
            hook(memoryview(bytes(count)))
        return self

    def fail(self) -> Download:
        self.tell(self.tried, "failed", Truncated("cut"))
        return self

    def store(self, size: int) -> Outcome:
        for fact in ("received", "accepted"):
            self.tell(self.tried, fact)
        self.tell(self.tried, "stored", f"/srv/{self.spec.path}")
        return self.end("stored", size=size)

    def adopt(self, size: int) -> Outcome:
        tried = Door([self.report]).bound(Attempt(self.spec, None))
        for fact in ("started", "accepted"):
            self.tell(tried, fact)
        self.tell(tried, "stored", f"/srv/{self.spec.path}")
        return self.end("adopted", size=size)

    def end(self, state: Any, **more: Any) -> Outcome:
        outcome = Outcome(state, self.spec, attempts=tuple(self.attempts), **more)
        self.tell(self.hooks, "finished", outcome)
        return outcome


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_a_run_is_counted_from_its_facts(open_report: Callable[..., Report], clock: Clock) -> None:
    report = open_report(clock=clock)
    report.expect(5)
    first, second = Download(report, size=100), Download(report, size=50)
    waiting = Download(report, size=7)
    first.start(100).chunk(30).chunk(20)
    second.start(50).chunk(50)
    second.store(50)
    Download(report, size=1000).adopt(1000)
    waiting.end("cancelled", error=Cancelled("enough"))
    clock.now += 10
    now = report.tally()
    assert now.states == {"waiting": 0, "running": 1, "stored": 1, "adopted": 1, "failed": 0, "cancelled": 1}
    assert (now.planned, now.items_total, now.ended, now.there) == (4, 5, 3, 2)
    assert (now.bytes_done, now.bytes_adopted, now.bytes_wasted) == (100, 1000, 0)
    assert now.elapsed_s == 10.0
    assert now.bytes_total is None  # one more is to come, of any size
    Download(report, size=0).start(0).store(0)
    assert report.tally().bytes_total == 100 + 50 + 1000
    assert not report.tally().final


def test_bytes_of_a_failed_try_leave_the_net_and_are_counted_apart(open_report: Callable[..., Report]) -> None:
    report = open_report()
    report.expect(2)
    download = Download(report, size=100).start(100).chunk(60)
    assert (report.tally().bytes_done, report.tally().bytes_wasted, report.tally().retries) == (60, 0, 0)
    download.fail()
    assert (report.tally().bytes_done, report.tally().bytes_wasted, report.tally().retries) == (0, 60, 0)
    download.start(100).chunk(100)
    assert (report.tally().bytes_done, report.tally().bytes_wasted, report.tally().retries) == (100, 60, 1)
    download.store(100)
    other = Download(report, size=10).start(10).chunk(4).fail()
    other.end("failed", error=Truncated("cut"))
    now = report.tally()
    assert (now.bytes_done, now.bytes_wasted, now.retries, now.failed) == (100, 64, 1, 1)
    assert now.bytes_total == 100  # nobody waits for the bytes of what failed
    assert now.running == 0


def test_the_next_source_is_counted_apart_from_the_same_one_again(open_report: Callable[..., Report]) -> None:
    report = open_report()
    spec = Spec(sources=["http://a.example/x", "http://b.example/x"], path="x", size=1)
    one, twin = Download(report, spec=spec), Download(report, spec=spec)  # the same Spec, wanted twice at once
    for download in (one, twin):
        download.start(1).fail()
    assert (report.tally().retries, report.tally().elsewhere) == (0, 0)
    for download in (one, twin):
        download.start(1, source=1).fail()
    assert (report.tally().retries, report.tally().elsewhere) == (0, 2)
    one.start(1).fail().start(1, source=1).store(1)
    assert (report.tally().retries, report.tally().elsewhere) == (2, 2)
    twin.end("failed", error=Truncated("cut"))
    Download(report, spec=spec).start(1).store(1)
    assert (report.tally().retries, report.tally().elsewhere) == (2, 2)


def test_what_was_published_and_not_recorded_is_wasted(open_report: Callable[..., Report]) -> None:
    report = open_report()
    download = Download(report, size=5).start(5).chunk(5)
    download.tell(download.tried, "stored", "/srv/a")
    download.fail().end("failed", error=Truncated("no record"))
    now = report.tally()
    assert (now.bytes_done, now.bytes_wasted, now.running, now.failed) == (0, 5, 0, 1)


def test_the_total_is_known_when_every_size_is(open_report: Callable[..., Report]) -> None:
    report = open_report()
    report.expect(2)
    told, untold = Download(report, size=100), Download(report)
    assert report.tally().bytes_total is None
    untold.start(length=40)
    assert report.tally().bytes_total == 140
    untold.fail()
    assert report.tally().bytes_total is None  # the next source may have another
    untold.start(length=40, encoding="gzip")
    assert report.tally().bytes_total is None  # 40 is what it weighs on the wire
    untold.chunk(70).store(70)
    assert report.tally().bytes_total == 170
    told.start(length=99)
    assert report.tally().bytes_total == 170  # what the spec says stands; validation judges the source


def test_a_total_that_was_told_counts_until_all_is_planned(open_report: Callable[..., Report]) -> None:
    report = open_report()
    report.expect(2, size_bytes=500)
    Download(report, size=100)
    assert (report.tally().items_total, report.tally().bytes_total) == (2, 500)
    Download(report, size=300)
    assert report.tally().bytes_total == 400
    Download(report, size=1)
    assert (report.tally().items_total, report.tally().bytes_total) == (3, 401)
    with pytest.raises(SpecError, match="fewer than 0"):
        report.expect(-1)


def test_one_spec_wanted_twice_at_once_is_two_items(open_report: Callable[..., Report]) -> None:
    report = open_report()
    spec = Spec("https://h.example/x")
    first, second = Download(report, spec=spec), Download(report, spec=spec)
    first.start(10).chunk(10)
    second.start(10).chunk(4)
    first.store(10)
    assert (report.tally().stored, report.tally().running, report.tally().bytes_done) == (1, 1, 14)
    second.chunk(6).store(10)
    now = report.tally()
    assert (now.stored, now.running, now.bytes_done, now.bytes_total) == (2, 0, 20, 20)


def test_nothing_is_kept_of_what_is_over(open_report: Callable[..., Report]) -> None:
    report = open_report()
    for number in range(50):
        Download(report).start(3).chunk(3).fail().start(3).chunk(3).store(3)
        Download(report, size=number).end("cancelled", error=Cancelled("enough"))
    assert report._sum._items == {}
    assert report._sum._active == {}


def test_the_rate_is_that_of_the_last_seconds_and_never_negative(
    open_report: Callable[..., Report], clock: Clock
) -> None:
    report = open_report(clock=clock)
    report.expect(1)
    download = Download(report, size=10_000).start(10_000)
    assert report.tally().rate_bps is None
    for _ in range(10):
        clock.now += 1
        download.chunk(100)
        assert report.tally().rate_bps == pytest.approx(100)
    assert report.tally().left_s == pytest.approx(90)
    for _ in range(5):
        clock.now += 1
        download.chunk(1000)
        report.tally()
    assert report.tally().rate_bps == pytest.approx(1000)
    assert report.tally().left_s == pytest.approx(4)
    download.fail()
    assert report.tally().rate_bps == pytest.approx(1000)
    for _ in range(6):
        clock.now += 1
        report.tally()
    assert report.tally().rate_bps == 0
    assert report.tally().left_s is None


def test_where_no_size_is_known_the_time_left_is_told_by_items(
    open_report: Callable[..., Report], clock: Clock
) -> None:
    report = open_report(clock=clock)
    report.expect(10)
    clock.now += 5
    Download(report).start().chunk(5).store(5)
    assert report.tally().left_s is None
    clock.now += 10
    Download(report).start().chunk(5).store(5)
    assert (report.tally().bytes_total, report.tally().left_s) == (None, pytest.approx(8 * 10 / 2))
    assert Report().tally().left_s is None


# --- when ------------------------------------------------------------------------------------------------------------


class Told(list[Tally]):
    """A sink that remembers, and that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.came = Event()

    def __call__(self, tally: Tally) -> None:
        self.append(tally)
        self.came.set()

    def wait(self) -> None:
        self.came.clear()
        assert self.came.wait(20)


def test_the_sink_is_told_ten_times_a_second_at_the_most(open_report: Callable[..., Report]) -> None:
    told = Told()
    report = open_report(told, every_s=0.001)
    download = Download(report, size=1).start(1)
    while len(told) < 4:
        told.wait()
    moments = [tally.elapsed_s for tally in told]
    assert all(later - sooner >= 0.09 for sooner, later in itertools.pairwise(moments))
    download.chunk(1).store(1)


def test_while_the_clock_stands_still_only_the_first_and_the_last_are_told(
    open_report: Callable[..., Report], clock: Clock
) -> None:
    told = Told()
    report = open_report(told, clock=clock)
    Download(report, size=1).start(1)
    told.wait()
    gevent.sleep(0.35)
    report.close()
    assert [tally.final for tally in told] == [False, True]


@pytest.mark.parametrize("state", ["stored", "failed", "cancelled"])
def test_the_last_tally_comes_once_and_is_marked_final(open_report: Callable[..., Report], state: str) -> None:
    told = Told()
    report = open_report(told)
    download = Download(report, size=1).start(1).chunk(1)
    if state == "stored":
        download.store(1)
    else:
        download.fail().end(state, error=Truncated("cut"))
    report.close()
    report.close()
    assert [tally.final for tally in told] == [True]
    assert report.tally() == told[0]
    assert told[0].states == {**dict.fromkeys(told[0].states, 0), state: 1}


def test_a_run_of_nothing_ends_with_a_tally_too() -> None:
    told = Told()
    with Report(told):
        pass
    assert [(tally.final, tally.planned, tally.elapsed_s) for tally in told] == [(True, 0, 0.0)]


def test_one_greenlet_lives_from_the_first_planned_spec_to_the_close() -> None:
    told = Told()
    report = Report(told)
    assert report._ticker is None
    download = Download(report, size=1)
    ticker = report._ticker
    assert ticker is not None
    Download(report, size=1)
    assert report._ticker is ticker
    download.start(1)
    told.wait()
    report.close()
    assert ticker.dead


def test_it_sleeps_while_nothing_is_to_be_done_and_wakes_for_more(open_report: Callable[..., Report]) -> None:
    told = Told()
    report = open_report(told)
    Download(report, size=1).start(1).chunk(1).store(1)
    told.wait()
    gevent.sleep(0.35)
    assert len(told) == 1
    Download(report, size=1).start(1)
    told.wait()
    assert told[-1].running == 1


@pytest.mark.parametrize("error", [BrokenPipeError(errno.EPIPE, "gone"), ValueError("I/O operation on closed file")])
def test_a_sink_that_raises_is_dropped_and_logged_once(
    open_report: Callable[..., Report], caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    calls: list[Tally] = []

    def broken(tally: Tally) -> None:
        calls.append(tally)
        raise error

    report = open_report(broken)
    download = Download(report, size=2).start(2).chunk(1)
    report._ticker.join(20)
    assert report._ticker.dead
    download.chunk(1).store(2)
    report.close()
    assert len(calls) == 1
    assert report.sink is None
    assert [record.message for record in caplog.records] == ["progress is not shown any more: its sink failed"]
    assert report.tally().stored == 1


def test_a_sink_in_the_middle_of_an_update_gets_the_last_one_after_it() -> None:
    order: list[str] = []
    entered, leave = Event(), Event()

    def slow(tally: Tally) -> None:
        order.append(f"in {tally.final}")
        entered.set()
        if not tally.final:
            leave.wait()
        order.append(f"out {tally.final}")

    report = Report(slow)
    Download(report, size=1).start(1)
    assert entered.wait(20)
    closing = gevent.spawn(report.close)
    gevent.sleep(0)
    leave.set()
    closing.get(timeout=20)
    assert order == ["in False", "out False", "in True", "out True"]


def test_what_users_write_for_progress_becomes_a_report() -> None:
    mine = Report()
    assert Report.of(mine) is mine
    assert Report.of(None) is None
    assert Report.of(False) is None
    told = Told()
    made = Report.of(told)
    assert made is not None
    made.close()
    assert len(told) == 1
    with pytest.raises(SpecError, match="cannot be called"):
        Report.of("bars")  # type: ignore[arg-type]


# --- words -----------------------------------------------------------------------------------------------------------


def test_the_summary_says_what_the_numbers_say() -> None:
    assert (
        Tally(
            planned=160,
            running=32,
            stored=110,
            adopted=10,
            failed=3,
            retries=1,
            elsewhere=2,
            items_total=500,
            bytes_done=1_150_000_000,
            bytes_adopted=50_000_000,
            bytes_total=4_000_000_000,
            rate_bps=25_000_000.0,
            left_s=118.0,
        ).summary()
        == "120/500 files, 1.2 GB of 4.0 GB, 25 MB/s, 1 min left, 3 failed, 1 retried, 2 asked elsewhere"
    )
    assert Tally(planned=3, stored=2, bytes_done=7, bytes_total=9).summary() == "2 files, 7 B"
    assert (
        Tally(
            stored=3, adopted=2, cancelled=1, items_total=6, bytes_done=1234, elapsed_s=160, rate_bps=8.0, final=True
        ).summary()
        == "5/6 files (2 were there already), 1.2 kB in 2 min 40 s, 8 B/s, 1 cancelled"
    )
    assert Tally(adopted=1, items_total=1, rate_bps=0.0, final=True).summary() == (
        "1/1 file (1 was there already), 0 B in 0.0 s"
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_960, "10 kB"),
        (999_499, "999 kB"),
        (999_501, "1.0 MB"),
        (25_000_000, "25 MB"),
        (4_000_000_000, "4.0 GB"),
        (2**72, "4722 EB"),
    ],
)
def test_bytes_in_words(count: float, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "coarse", "fine"),
    [
        (0, "0 s", "0.0 s"),
        (0.44, "0 s", "0.4 s"),
        (42.4, "42 s", "42 s"),
        (59.6, "1 min", "1 min"),
        (160, "2 min", "2 min 40 s"),
        (3900, "1 h 5 min", "1 h 5 min"),
        (97_200, "1 d 3 h", "1 d 3 h"),
    ],
)
def test_time_in_words(seconds: float, coarse: str, fine: str) -> None:
    assert (time_text(seconds), time_text(seconds, fine=True)) == (coarse, fine)


def test_a_name_does_not_drive_the_terminal(open_report: Callable[..., Report]) -> None:
    assert printable("\x1b[2J\u202egpj.exe\u2066\u200b\x9b\udcff") == (
        "\\x1b[2J\\u202egpj.exe\\u2066\\u200b\\x9b\\udcff"
    )
    assert printable("ünï_1%3a2 (x).deb") == "ünï_1%3a2 (x).deb"
    report = open_report()
    Download(report, path="pool/\u202egpj.deb").start()
    assert report.tally().current == "pool/\\u202egpj.deb"


# --- sinks -----------------------------------------------------------------------------------------------------------


def at(elapsed_s: float, **more: Any) -> Tally:
    return Tally(planned=3, running=1, stored=1, items_total=4, bytes_done=5, elapsed_s=elapsed_s, **more)


def test_plain_lines_come_every_ten_seconds_and_at_the_end() -> None:
    stream = io.StringIO()
    sink = Plain(stream)
    for tenth in range(250):
        sink(at(tenth / 10))
    assert stream.getvalue() == "geofetch: 1/4 files, 5 B\n" * 2
    sink(at(25.0, final=True))
    assert stream.getvalue().splitlines()[2:] == ["geofetch: 1/4 files, 5 B in 25 s"]


def test_json_lines_carry_every_number_with_its_unit() -> None:
    stream = io.StringIO()
    sink = JsonLines(stream)
    for tenth in range(12):
        sink(at(tenth / 10))
    sink(at(1.23456, bytes_total=7, rate_bps=2.5, left_s=0.8, retries=2, elsewhere=1, final=True))
    first, last = map(json.loads, stream.getvalue().splitlines())
    assert (first["elapsed_s"], first["final"], first["left_s"], first["rate_bps"]) == (1.0, False, None, None)
    assert last == {
        "event": "progress",
        "schema": 1,
        "planned": 3,
        "waiting": 1,
        "running": 1,
        "stored": 1,
        "adopted": 0,
        "failed": 0,
        "cancelled": 0,
        "items_total": 4,
        "retries": 2,
        "elsewhere": 1,
        "bytes_done": 5,
        "bytes_adopted": 0,
        "bytes_wasted": 0,
        "bytes_total": 7,
        "rate_bps": 2.5,
        "elapsed_s": 1.235,
        "left_s": 0.8,
        "final": True,
    }
    assert set(last) <= set(re.findall(r"``(\w+)``", JsonLines.__doc__ or ""))


def test_the_log_gets_a_line_and_the_numbers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "geofetch.progress")
    sink = Log()
    sink(at(9.9))
    sink(at(10))
    sink(at(11, final=True))
    assert [(record.name, record.message) for record in caplog.records] == [
        ("geofetch.progress", "1/4 files, 5 B"),
        ("geofetch.progress", "1/4 files, 5 B in 11 s"),
    ]
    assert caplog.records[1].tally == at(11, final=True)  # type: ignore[attr-defined]


def test_a_stream_that_takes_nothing_is_not_waited_for() -> None:
    receiving, sending = os.pipe()
    try:
        os.set_blocking(sending, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(sending, bytes(65536))
        os.set_blocking(sending, True)
        with open(sending, "w", closefd=False) as stream:
            for sink in (Plain(stream), JsonLines(stream)):
                with gevent.Timeout(20):
                    sink(at(100))
        os.read(receiving, 1 << 20)
        with open(sending, "w", closefd=False) as stream:
            Plain(stream)(at(100))
        assert os.read(receiving, 100) == b"geofetch: 1/4 files, 5 B\n"
    finally:
        os.close(receiving)
        os.close(sending)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Callable[[], str]]]:
    """A stream on a real pseudo-terminal, and what has come out at its other end."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    mine, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:

        def shown() -> str:
            # What was written comes out in order, and when it likes: a mark says where it ends.
            stream.write("<mark>")
            stream.flush()
            drawn = b""
            while not drawn.endswith(b"<mark>"):
                drawn += os.read(mine, 1 << 16)
            return drawn.decode().removesuffix("<mark>")

        yield stream, shown
    os.close(mine)


def test_bars_are_drawn_on_a_terminal_once_a_run_lasts(terminal: tuple[Any, Callable[[], str]]) -> None:
    stream, shown = terminal
    sink = Bars(stream)
    sink(at(0.4))
    assert shown() == ""
    before = sys.stdout, sys.stderr, threading.enumerate()
    sink(at(0.6, bytes_total=10, rate_bps=3.0, left_s=2.0, failed=1, retries=2, current="pool/[bold]a.deb"))
    drawn = shown()
    assert "1/4, 1 failed, 2 retried" in drawn
    assert "5 B of 10 B, 3 B/s, 2 s left" in drawn
    assert "pool/[bold]a.deb" in drawn
    assert "\x1b[?25l" in drawn
    assert (sys.stdout, sys.stderr, threading.enumerate()) == before
    sink.say("hello \x1b]0;title\x07")
    assert "hello" in shown()
    sink(at(0.9, bytes_total=10, rate_bps=3.0, current="pool/a.deb", final=True))
    last = shown()
    assert "5 B of 10 B, 3 B/s, in 0.9 s" in last
    assert "pool/a.deb" not in last
    assert last.endswith("\x1b[?25h")


def test_bars_of_a_short_run_are_never_drawn(terminal: tuple[Any, Callable[[], str]]) -> None:
    stream, shown = terminal
    sink = Bars(stream)
    sink(at(0.3))
    sink(at(0.4, final=True))
    assert shown() == ""


def test_no_color_is_honoured(terminal: tuple[Any, Callable[[], str]], monkeypatch: pytest.MonkeyPatch) -> None:
    stream, shown = terminal
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-9][;m]|\x1b\[38;")
    sink = Bars(stream)
    sink(at(1.0, bytes_total=10))
    sink(at(1.1, bytes_total=10, final=True))
    assert coloured.search(shown())
    monkeypatch.setenv("NO_COLOR", "1")
    sink = Bars(stream)
    sink(at(1.0, bytes_total=10))
    sink(at(1.1, bytes_total=10, final=True))
    drawn = shown()
    assert "1/4" in drawn
    assert not coloured.search(drawn)


def test_the_sink_that_fits_is_chosen(terminal: tuple[Any, Callable[[], str]], monkeypatch: pytest.MonkeyPatch) -> None:
    stream, _ = terminal
    assert isinstance(automatic(stream), Bars)
    assert isinstance(automatic(io.StringIO()), Log)
    assert isinstance(automatic(io.StringIO(), command=True), Plain)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(automatic(stream, command=True), Plain)
    closed = io.StringIO()
    closed.close()
    assert isinstance(automatic(closed), Log)
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(automatic(command=True), Log)


def test_importing_it_loads_no_rich_and_starts_nothing() -> None:
    code = "import sys, geofetch.report; sys.exit('rich' in sys.modules or 'gevent.monkey' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_secret_is_told(open_report: Callable[..., Report]) -> None:
    stream = io.StringIO()
    told = Told()
    for sink in (Plain(stream), JsonLines(stream), told):
        report = open_report(sink)
        Download(report).start(1).chunk(1).fail().end("failed", error=Truncated("cut"))
        stream.write(repr(report))
        report.close()
    assert "failed" in stream.getvalue()
    assert "hunter2" not in stream.getvalue() + repr(told)
