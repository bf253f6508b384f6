"""The bench: every case runs, every file is accounted for, and nobody gets a figure who does not deserve it.

Nothing is timed here.  Rivals that are not installed are skipped, with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import units
from bench.__main__ import main
from bench.cases import CASES, MIB, Case, sized
from bench.content import FAULTS, Job
from bench.handle import Process
from bench.judge import Tally, judged, lying
from bench.origin import Authority, Wanted
from bench.rivals import Batch, Keeper, Rival, Settings, roster
from bench.runner import Ground, run
from bench.table import case_table

FILES = 20
#: Of these, how many a process fetches first to warm up.
WARM = 8
#: Rivals that need nothing but geofetch's own requirements.
OWN = ("floor", "floor-recorded", "geofetch", "requests", "requests-threads", "urllib3-gevent", "nectar-stand-in")
ROSTER = roster()


class Liar(Rival):
    """Delivers other bytes for one file, and says nothing."""

    note = "lies"

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        for job in batch.jobs:
            with self._opened(job) as response:
                body = response.read()
            self._kept(batch, job, body)
        return errors

    def _opened(self, job: Job) -> Any:
        from urllib.request import urlopen

        return urlopen(job.url)

    def _kept(self, batch: Batch, job: Job, body: bytes) -> None:
        wrong = job is batch.jobs[0]
        Path(batch.folder, job.name).write_bytes(body[:-1] + b"?" if wrong else body)


class Dropper(Liar):
    """Takes what comes, and drops every error."""

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        for job in batch.jobs:
            try:
                with self._opened(job) as response:
                    keeper.whole(job, response.read())
            except Exception:
                continue
        return {}


class Denier(Liar):
    """Fetches all files, and says of one that it failed."""

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        for job in batch.jobs:
            with self._opened(job) as response:
                keeper.whole(job, response.read())
        return {batch.jobs[0].name: "no luck"}


class Raiser(Rival):
    """Raises."""

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        raise RuntimeError("cannot go on")


class Dier(Rival):
    """Is gone."""

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        os._exit(3)


class Hanger(Rival):
    """Never ends, nor does the command that it started."""

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        subprocess.run(["sleep", "600.25"], check=True)
        return {}


class Absent(Rival):
    """Needs what nobody has."""

    modules = ("geofetch_no_such_module",)
    commands = ("geofetch-no-such-command",)


class Shared:
    """Two processes for all rivals of a test run, one of them patched; a bench has one a rival, for a higher price."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._processes: dict[bool, Process] = {}

    def start(self, rival: str, settings: Settings, home: Path) -> Process:
        patched = rival.endswith("-gevent")
        process = self._processes.get(patched)
        if process is None:
            process = self._processes[patched] = Process(rival, settings, self._home)
        else:
            process.open(rival, settings)
        return process

    def stop(self, process: Process) -> None:
        process.ask(10, do="close")

    def end(self) -> None:
        for process in self._processes.values():
            process.end()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    processes = Shared(tmp_path_factory.mktemp("shared"))
    yield processes
    processes.end()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), alone=True)


@pytest.fixture
def ground(tmp_path: Path, authority: Authority) -> Ground:
    """A process for each rival."""
    for name in ("memory", "disk"):
        (tmp_path / name).mkdir()
    return Ground(tmp_path / "memory", tmp_path / "disk", authority, poll_s=0.01)


@pytest.fixture
def quick(ground: Ground, shared: Shared) -> Ground:
    """The processes that tests share."""
    return replace(ground, start=shared.start, stop=shared.stop)


def smoke(case: Case) -> Case:
    """The case, small; the wait of an origin stays a wait."""
    case = sized(case, files=4 if case.large else FILES, size=2 * MIB, rounds=1)
    origin = replace(case.origin, delay_s=0.02 if case.origin.delay_s else 0.0)
    # A faulty file of each kind.
    return replace(case, fresh=True, origin=origin, faulty=len(FAULTS) / FILES if case.faulty else 0.0, limit_s=30)


def broken(kind: type[Rival]) -> Mapping[str, type[Rival]]:
    return {f"{__name__}:{kind.__name__}": kind}


def only(report: dict[str, Any]) -> dict[str, Any]:
    (found,) = report["rows"]
    return dict(found)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_case_runs_and_every_file_is_accounted_for(case: Case, quick: Ground) -> None:
    case = smoke(case)
    report = run(case, {name: ROSTER[name] for name in case.rivals or OWN}, quick)
    assert [row["rival"] for row in report["rows"]] == list(case.rivals or OWN)
    for row in report["rows"]:
        if row["rival"] == "requests" and not case.serial:
            assert row["state"] == "left out"
        elif row["rival"] == "nectar-stand-in" and case.faulty:
            assert row["state"] == "counts differ"
            assert row["why"] == "1 wrong files taken for good"
        else:
            assert (row["state"], row["why"]) == ("measured", "")
            bad = len(FAULTS) if case.faulty else 0
            assert row["tally"]["good"] == case.files - bad
            assert row["tally"]["reported"] == bad
    assert list(quick.memory.iterdir()) == []
    assert list(quick.disk.iterdir()) == []


@pytest.mark.parametrize("door", ["http", "https", "https_new"])
def test_our_own_origin_serves_and_counts_connections(door: str, quick: Ground) -> None:
    case = replace(smoke(CASES["small"]), origin=Wanted(door), connections=4)
    row = only(run(case, {"geofetch": ROSTER["geofetch"]}, replace(quick, origin="own")))
    assert row["state"] == "measured"
    opened = row["connections_warm"] + row["connections"]
    assert opened == WARM + FILES if door == "https_new" else 1 <= opened <= 4


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_nginx_counts_connections(quick: Ground) -> None:
    case = replace(smoke(CASES["small"]), connections=1)
    rivals = {name: ROSTER[name] for name in ("requests", "nectar-stand-in")}
    report = run(case, rivals, replace(quick, origin="nginx"))
    assert report["origin"].startswith("nginx ")
    opened = {row["rival"]: row["connections_warm"] + row["connections"] for row in report["rows"]}
    assert opened == {"requests": 1, "nectar-stand-in": WARM + FILES}


def test_a_flood_says_its_memory_at_ten_points(quick: Ground) -> None:
    row = only(run(smoke(CASES["flood"]), {"geofetch-flood": ROSTER["geofetch-flood"]}, quick))
    assert len(row["told"]["rss_at_points"]) == 10


def test_units_in_a_database_are_counted_and_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    units.main(["--units", "300", "--real", "60", "--folder", str(tmp_path)])
    said = capsys.readouterr().out
    for figure in ("recorded", "size of the database", "units show, the command", "a listing: 60 units"):
        assert figure in said
    nothing = re.findall(r"sync with nothing to do, the command +([^,]+), ([^,]+), (.+) s", said)
    assert len(nothing) == 1
    assert all(float(seconds) > 0 for seconds in nothing[0])
    assert list(tmp_path.iterdir()) == []


def test_rounds_are_interleaved_and_each_rival_has_a_process_of_its_own(ground: Ground) -> None:
    heard: list[str] = []
    begun: list[str] = []

    def start(rival: str, settings: Settings, home: Path) -> Process:
        begun.append(rival)
        return Process(rival, settings, home)

    case = sized(CASES["small"], files=4, rounds=2)
    names = ("requests", "nectar-stand-in")
    run(case, {name: ROSTER[name] for name in names}, replace(ground, start=start, say=heard.append))
    assert begun == list(names)
    assert [text.rpartition(" ")[2] for text in heard] == [*names, *names]


@pytest.mark.parametrize(
    ("kind", "case", "why", "tally"),
    [
        pytest.param(Liar, "small", "1 wrong files taken for good", {"good": 19, "taken": 1}, id="wrong-bytes"),
        pytest.param(Dropper, "failures", "5 missing without an error", {"good": 15, "dropped": 5}, id="dropped"),
        pytest.param(Denier, "small", "1 good files reported as failed", {"good": 19, "denied": 1}, id="denied"),
    ],
)
def test_a_rival_whose_counts_differ_is_shown_so_and_gets_no_figure(
    kind: type[Rival], case: str, why: str, tally: dict[str, int], quick: Ground
) -> None:
    report = run(smoke(CASES[case]), broken(kind), quick)
    row = only(report)
    assert (row["state"], row["why"]) == ("counts differ", why)
    assert {name: row["tally"][name] for name in ("good", *list(tally)[1:])} == tally
    assert (row["cpu_us"], row["wall_s"], row["connections"]) == (None, None, None)
    assert f"{row['rival']}  counts differ: {why}" in case_table(report)


def test_a_rival_that_raises_is_shown_so(quick: Ground) -> None:
    row = only(run(smoke(CASES["small"]), broken(Raiser), quick))
    assert (row["state"], row["why"]) == ("broken", "RuntimeError('cannot go on')")
    assert row["cpu_us"] is None


def test_a_rival_that_dies_is_shown_so(ground: Ground) -> None:
    row = only(run(smoke(CASES["small"]), broken(Dier), ground))
    assert (row["state"], row["why"]) == ("broken", "died with 3: not a word")


def test_a_rival_that_hangs_is_ended_with_what_it_started(ground: Ground) -> None:
    row = only(run(replace(smoke(CASES["small"]), limit_s=1.0), broken(Hanger), ground))
    assert (row["state"], row["why"]) == ("broken", "not done after 1 s")
    until = time.monotonic() + 10  # the system takes its time to end what was killed
    while (left := sleeping()) and time.monotonic() < until:
        time.sleep(0.01)
    assert left == []


def sleeping() -> list[str]:
    listed = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if line.endswith("sleep 600.25") and not line.startswith("Z")]


def test_what_is_not_installed_is_listed(quick: Ground) -> None:
    report = run(smoke(CASES["small"]), {**broken(Absent), "nectar": ROSTER["nectar"]}, quick)
    absent, nectar = report["rows"]
    assert absent["state"] == nectar["state"] == "not installed"
    assert absent["why"] == "geofetch_no_such_module, geofetch-no-such-command"
    assert "--nectar PATH" in case_table(report)


@pytest.mark.parametrize("name", [name for name, kind in ROSTER.items() if name not in OWN and not kind.extra])
def test_a_rival_that_is_installed_tells_good_from_bad(name: str, ground: Ground, quick: Ground) -> None:
    lacking = ROSTER[name].missing(Settings(1))
    if lacking:
        pytest.skip(f"not installed: {lacking}")
    # grequests patches half of its process, and Twisted's reactor runs once in one.
    apart = name in ("grequests", "treq")
    case = replace(smoke(CASES["failures"]), connections=4)
    row = only(run(case, {name: ROSTER[name]}, ground if apart else quick))
    checks = "checks no digest" not in ROSTER[name].note
    assert row["tally"]["good"] == FILES - len(FAULTS)
    assert row["state"] == "measured" if checks else row["why"].endswith("wrong files taken for good")


def job(name: str, fault: str = "") -> Job:
    return Job(name, f"/{name}", 1, f"sha256 of {name}", fault)


def test_every_file_of_a_round_is_in_exactly_one_count() -> None:
    jobs = [job("good"), job("bad", "404"), job("left", "reset"), job("lie"), job("gone"), job("denied")]
    there = {"good": "sha256 of good", "left": "half", "lie": "other", "denied": "sha256 of denied"}
    tally = judged(jobs, lambda one: there.get(one.name), dict.fromkeys(["bad", "left", "denied"], "an error"))
    assert tally == Tally(good=1, reported=2, taken=1, dropped=1, denied=1, left=1, bytes=1)


@pytest.mark.parametrize(
    ("tally", "why"),
    [
        pytest.param(Tally(good=2, reported=1), "", id="as-it-should-be"),
        pytest.param(Tally(good=1, reported=2), "1 files failed that need not", id="failed-for-nothing"),
        pytest.param(Tally(good=3), "3 of 2 files", id="a-good-end-that-cannot-be"),
    ],
)
def test_counts_that_differ_are_put_into_words(tally: Tally, why: str) -> None:
    assert lying([job("a"), job("b"), job("c", "404")], tally) == why


def test_the_table_the_json_and_the_plot_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {"json": tmp_path / "out.json", "plot": tmp_path / "out.svg"}
    given = ["small", "--files=8", "--rounds=2", "--rivals=requests,nectar", f"--disk={tmp_path}"]
    assert main([*given, *(f"--{name}={file}" for name, file in wanted.items())]) == 0
    shown = capsys.readouterr().out
    (case,) = json.loads(wanted["json"].read_text())["cases"]
    measured, absent = case["rows"] if case["rows"][0]["rival"] == "requests" else reversed(case["rows"])
    line = next(line for line in shown.splitlines() if line.startswith("  requests "))
    cells = re.split(r"\s{2,}", line.strip())
    assert cells[0] == f"requests {measured['version']}"
    assert cells[1:3] == [f"{measured['cpu_us'][name]:,.0f}" for name in ("median", "min")]
    assert cells[4:6] == [f"{measured['wall_s'][name]:.3f}" for name in ("median", "min")]
    assert len(measured["rounds"]) == 2
    assert f"not installed: {absent['why']}" in shown
    texts = [text.text for text in ElementTree.parse(wanted["plot"]).iter("{http://www.w3.org/2000/svg}text")]
    assert f"{measured['cpu_us']['median']:,.0f}" in texts
    assert f"not installed: {absent['why']}" in texts


@pytest.mark.parametrize("given", [["smal"], ["--rivals=gofetch"], ["small", "--rounds=0"], ["--nectar=/nowhere"]])
def test_what_is_asked_for_wrongly_is_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(given)
    assert refused.value.code not in (0, None)
