"""Named pipes where files are told, and output that cannot be written.  No command waits in a way that no signal ends;
none says nothing of what it could not write."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gevent
import pytest

import geofetch
from geofetch import pipes
from tests.support.mirrors import Mirror
from tests.support.waiting import until

BODY = b"a file"
MANIFEST = json.dumps({"source": "http://127.0.0.1:9/a", "path": "a"})
#: Each waits for who writes into the pipe.
WAITING = {
    "sync": ["sync", "{pipe}", "--into", "there"],
    "import": ["units", "import", "{pipe}", "--db", "sqlite:///a.db"],
    "profiles": ["profiles", "list", "--profiles", "{pipe}"],
    "get": ["get", "http://127.0.0.1:9/", "-o", "out", "--profiles", "{pipe}", "--profile", "corp"],
    "conf.d": ["profiles", "import", "{pipe}", "--profiles", "new.toml"],
    "header": ["get", "http://127.0.0.1:9/", "-o", "out", "-H", "@{pipe}"],
}


def _command(folder: Path, *words: str, **how: Any) -> subprocess.Popen[str]:
    told: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.Popen([sys.executable, "-m", "geofetch", *words], cwd=folder, text=True, **told)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(found := tmp_path / "pipe")
    return found


def _waits(process: subprocess.Popen[str]) -> bool:
    """Whether one of its threads is in open(), for a partner."""
    assert process.poll() is None, process.communicate()
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return any("wait_for_partner" in (one / "wchan").read_text() for one in threads)


@pytest.mark.parametrize("struck", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("what", WAITING)
def test_who_waits_for_a_writer_is_ended_by_a_signal(tmp_path: Path, pipe: Path, what: str, struck: int) -> None:
    process = _command(tmp_path, *(word.format(pipe=pipe) for word in WAITING[what]))
    try:
        until(lambda: _waits(process), what="it waits for who writes", timeout_s=60)
        process.send_signal(struck)
        assert process.wait(30) in (128 + struck, -struck)
    finally:
        process.kill()
        process.communicate()


def test_what_a_pipe_tells_is_taken(tmp_path: Path, pipe: Path, mirror: Mirror) -> None:
    with geofetch.Recorder(f"sqlite:///{tmp_path}/units.db") as recorder:
        store = geofetch.FileStore(tmp_path / "store")
        with geofetch.Pool(2, store=store, stages=[recorder], progress=False) as pool:
            assert all(one.ok for one in pool.map([mirror.serves(BODY).url]))
    exported = _command(tmp_path, "units", "export", "--db", "sqlite:///units.db")
    lines, errors = exported.communicate()
    assert (exported.returncode, lines.count("\n")) == (0, 1), errors
    process = _command(tmp_path, "units", "import", str(pipe), "--db", "sqlite:///new.db")
    pipe.write_text("\ufeff" + lines)
    assert (process.communicate(), process.returncode)[1] == 0
    with geofetch.Recorder(f"sqlite:///{tmp_path}/new.db") as recorder:
        assert recorder.count() == 1


def test_a_pipe_among_unit_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "units").mkdir()
    os.mkfifo(tmp_path / "units" / "a.json")
    process = _command(tmp_path, "units", "import", "units", "--db", "sqlite:///a.db")
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2
    assert "a.json: no file" in errors


@pytest.mark.parametrize("flag", ["--cacert", "--cert"])
def test_a_pipe_for_a_certificate_is_named(tmp_path: Path, pipe: Path, flag: str) -> None:
    process = _command(tmp_path, "get", "https://127.0.0.1:9/", "-o", "out", flag, str(pipe))
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2, errors
    assert "is no file" in errors


def test_profiles_in_a_pipe_are_not_changed(tmp_path: Path, pipe: Path) -> None:
    process = _command(tmp_path, "profiles", "add", "corp", "--origin", "https://a.example", "--profiles", str(pipe))
    pipe.write_text("")
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2, errors
    assert "is no file: it can be read, and not changed" in errors
    assert pipe.is_fifo()


def test_the_hub_goes_on_while_a_pipe_is_waited_for(pipe: Path) -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0.001)
            turns += 1

    def write() -> None:
        with pipe.open("wb") as file:
            seen = turns
            file.write(b"one\ntw")
            file.flush()
            until_turned(seen)
            file.write(b"o\n")

    def until_turned(seen: int) -> None:
        while turns < seen + 5:
            os.sched_yield()

    ticking, writer = gevent.spawn(turn), threading.Thread(target=write)
    writer.start()
    with gevent.Timeout(60):
        assert list(pipes.lines(pipe)) == [b"one\n", b"two\n"]
    writer.join()
    ticking.kill()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "words", [["units", "export"], ["units", "list"], ["units", "list", "--json"], ["verify", "--json"], ["--help"]]
)
def test_output_that_cannot_be_written_is_no_reader_that_went_away(
    tmp_path: Path, mirror: Mirror, words: list[str]
) -> None:
    (tmp_path / "list").write_text(json.dumps({"source": mirror.serves(BODY).url, "path": "a"}))
    filled = _command(tmp_path, "sync", "list", "--into", "there")
    filled.communicate(timeout=60)
    assert filled.returncode == 0
    with open("/dev/full", "w") as full:
        into = [] if words == ["--help"] else ["--into", "there"]
        process = _command(tmp_path, *words, *into, stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 12, errors
    assert "standard output cannot be written: No space left on device" in errors
    assert errors.count("No space left") == 1
