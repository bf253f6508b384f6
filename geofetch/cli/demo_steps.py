"""The steps of ``geofetch demo``: the main job, shown on made-up files, with no network.

In: nothing.  Out: every step as the command that a user would give, and what came of it; exit code 0 only if every step
held.  Never: a byte beyond the loopback; a folder of somebody else's removed.

What it made stays to be looked at, in a folder for temporary files, until the next demo of the same user has ended
well; --dir names another place, which is never removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import IO, Any

import click

from . import codes
from .words import counted

__all__ = ["MARK", "PREFIX", "show"]

PREFIX = "geofetch-demo-"
#: In a demo's folder: it is one, and which process makes it.
MARK = ".geofetch-demo"
#: A command that has not ended by then never will.
STEP_MOST_S = 120


class Failed(Exception):
    """A step that did not hold."""


def show(folder: str | None, files: int) -> int:
    """All steps, in a folder (None: a new temporary one), with so many files; the exit code."""
    began = monotonic()
    try:
        root = _folder(folder)
        with _origin(files) as origin:
            _steps(Stage(root, origin, files))
    except Failed as exc:
        click.echo(f"\nthe demo failed: {exc}", err=True)
        return codes.UNEXPECTED
    except KeyboardInterrupt:
        return codes.of_signal(signal.SIGINT)
    if folder is None:
        _forget_earlier(root)
    _where_to_look(root, monotonic() - began)
    return codes.OK


# ------------------------------------------------------------------------------------------------------------ the steps


class Stage:
    """What the steps share: where, from whom, how many."""

    def __init__(self, root: Path, origin: Origin, files: int) -> None:
        self.root = root
        self.store = root / "mirror"
        self.origin = origin
        self.files = files


def _steps(stage: Stage) -> None:
    from .demo_origin import name_of

    into = ["--into", str(stage.store)]
    sync = ["sync", stage.origin.url, *into, "--repository", "demo"]
    _say(f"An origin on the loopback serves {counted(stage.files, 'file')} and their SHA256SUMS; we want all of them.")
    _run([*sync, *_progress()], 0)
    _hold(_right(stage) == stage.files, "every file is there, byte by byte what the origin has")

    _say("Once more: what is there and right is not fetched again.")
    before = stage.origin.served()
    _run([*sync, *_progress()], 0)
    _hold(stage.origin.served() == before, "the origin was asked for no file")

    path = stage.store / name_of(stage.files // 2)
    _say(f"Years pass; a disk forgets one bit, in {path.name}.  Its size and its time are as they were.")
    _flip(path)
    _hold(_right(stage) == stage.files - 1, "one file is wrong now, and nothing shows it")

    _say("verify reads all of them again.")
    said = _run(["verify", *into, "--json"], codes.WRONG, catch=True)
    wrong = _wrong(said)
    _hold(wrong == [name_of(stage.files // 2)], f"it found exactly that one: {', '.join(wrong) or 'none'}")

    _say("verify --repair fetches it again from where its record says it came from, and proves it.")
    _run(["verify", "--repair", *into], 0)
    _hold(_right(stage) == stage.files, "every file is right again")
    _run(["verify", *into], 0)


def _progress() -> list[str]:
    return ["--progress", "bar" if sys.stderr.isatty() else "plain"]


def _right(stage: Stage) -> int:
    """How many files are what the origin has, read without any help of geofetch's."""
    from .demo_origin import contents, name_of

    right = 0
    for number in range(stage.files):
        path = stage.store / name_of(number)
        if path.is_file():
            right += hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(contents(number)).digest()
    return right


def _flip(path: Path) -> None:
    """One bit, as a disk forgets it: neither size nor time tell."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0b0000_1000]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _wrong(said: str) -> list[str]:
    """The paths that verify --json found wrong."""
    told = [json.loads(line) for line in said.splitlines()]
    return [one["path"] for one in told if one["event"] == "file" and not one["ok"]]


def _hold(held: bool, what: str) -> None:
    if not held:
        raise Failed(f"this does not hold: {what}")
    click.echo(f"  held: {what}")


def _say(text: str) -> None:
    click.echo(f"\n{text}")


def _run(arguments: Sequence[str], wanted: int, catch: bool = False) -> str:
    """A command as a user would give it, in a process of its own; what it said on stdout, if that is caught."""
    click.echo(f"  $ geofetch {shlex.join(arguments)}")
    try:
        done = subprocess.run(
            [*_python(), "geofetch", *arguments],
            stdout=subprocess.PIPE if catch else None,
            env=_environment(),
            timeout=STEP_MOST_S,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"geofetch {arguments[0]} has not ended after {STEP_MOST_S} s") from None
    if done.returncode != wanted:
        raise Failed(f"geofetch {arguments[0]} ended with {done.returncode}, not {wanted}")
    return done.stdout or ""


def _python() -> list[str]:
    # -P: the current folder may hold another geofetch, a checkout say; the one that is shown is this one.
    return [sys.executable, "-P", "-m"]


def _environment() -> dict[str, str]:
    """The environment without what sends the loopback elsewhere, or says who we are."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("GEOFETCH_")
    }
    this = str(Path(__file__).resolve().parents[2])
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, (this, kept.get("PYTHONPATH"))))}


# ----------------------------------------------------------------------------------------------------------- the origin


class Origin:
    """The origin's process: its manifest's URL, and how often it was asked for a file."""

    def __init__(self, asked: IO[str], answers: IO[str]) -> None:
        self._asked, self._answers = asked, answers
        self.url = f"http://127.0.0.1:{self._answer()['port']}/SHA256SUMS"

    def served(self) -> int:
        self._asked.write("how many?\n")
        self._asked.flush()
        return int(self._answer()["served"])

    def _answer(self) -> dict[str, Any]:
        line = self._answers.readline()
        if not line:
            raise Failed("the origin did not start")
        found: dict[str, Any] = json.loads(line)
        return found


@contextmanager
def _origin(files: int) -> Iterator[Origin]:
    process = subprocess.Popen(
        [*_python(), "geofetch.cli.demo_origin", str(files)],
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Origin(process.stdin, process.stdout)
        finally:
            process.kill()


# ----------------------------------------------------------------------------------------------------------- the folder


def _folder(given: str | None) -> Path:
    if given is None:
        root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getuid()}-"))
        (root / MARK).write_text(f"{os.getpid()}\n")
        return root
    root = Path(given).absolute()
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise click.UsageError(f"--dir {given}: the folder is not empty")
    return root


def _forget_earlier(root: Path) -> None:
    """Remove what earlier demos of this user left, and no demo is at work in."""
    for earlier in root.parent.glob(f"{PREFIX}{os.getuid()}-*"):
        if earlier == root or earlier.is_symlink() or earlier.stat().st_uid != os.getuid():
            continue
        try:
            at_work = int((earlier / MARK).read_text())
        except (OSError, ValueError):
            continue
        if not _lives(at_work):
            shutil.rmtree(earlier, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _where_to_look(root: Path, seconds: float) -> None:
    into = f"--into {shlex.quote(str(root / 'mirror'))}"
    click.echo(
        f"\nEvery step held, in {seconds:.1f} s.  What it made is there to be looked at:\n\n"
        f"  geofetch units list {into} --limit 5\n"
        f"  geofetch units show 1 {into}\n"
        f"  geofetch verify {into}\n\n"
        f"The files are in {root / 'mirror'}, their records in {root / 'mirror' / '.geofetch' / 'units.db'}.\n"
        f"The next demo removes that folder; so does  rm -r {shlex.quote(str(root))}"
        if root.name.startswith(PREFIX)
        else f"\nEvery step held, in {seconds:.1f} s.  Look at it:  geofetch units list {into} --limit 5"
    )
