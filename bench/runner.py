"""Rounds of one case, interleaved between its rivals.  In: a Case, who takes part.  Out: its report, as JSON has it.

A round of one rival: the folder made, the origin's connections counted, the batch fetched and timed in the rival's
process, every file verified here, the folder gone.  Never: a timed round without a warm-up before it in its process, a
file that is not verified, a rival left out without a word.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import content, judge, origin
from .cases import Case
from .figures import row
from .handle import Broken, Process
from .rivals import Rival, Settings

__all__ = ["Ground", "run"]

#: Files of a warm-up: at least, for each connection, and where each round has a process of its own.
WARM, WARM_EACH, WARM_FRESH = 64, 4, 8


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a run works: ``memory`` and ``disk`` are folders of its own.  ``start`` gives a rival's process, ``stop``
    takes it back; ``say`` hears how it goes."""

    memory: Path
    disk: Path
    authority: origin.Authority | None
    nectar: str = ""
    poll_s: float = 1.0
    origin: str = "auto"
    start: Callable[[str, Settings, Path], Process] = Process
    stop: Callable[[Process], None] = Process.end
    say: Callable[[str], None] = lambda text: None


@dataclass(slots=True)
class Entry:
    """One rival in one case: its process while it has one, its rounds, what ended it early."""

    name: str
    kind: type[Rival]
    state: str = "measured"
    why: str = ""
    process: Process | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    warm_connections: int | None = None


def run(case: Case, rivals: Mapping[str, type[Rival]], ground: Ground) -> dict[str, Any]:
    """The report of one case; ``rivals`` by name, in the order of the table."""
    entries = [_entered(name, kind, case, ground) for name, kind in rivals.items()]
    files, home = ground.memory / f"{case.name}.files", ground.memory / f"{case.name}.home"
    files.mkdir()
    home.mkdir()
    try:
        jobs = _jobs(case, files)
        (home / "jobs.json").write_text(json.dumps([job.told() for job in jobs]), encoding="utf-8")
        with _served(case, files, home, ground) as server:
            Rounds(case, jobs, server, home, ground).all(entries)
            kind = server.kind if server else "none"
    finally:
        shutil.rmtree(files)
        shutil.rmtree(home)
    return _report(case, jobs, kind, entries)


def _entered(name: str, kind: type[Rival], case: Case, ground: Ground) -> Entry:
    entry = Entry(name, kind)
    lacking = kind.missing(Settings(case.connections, nectar=ground.nectar))
    if lacking:
        entry.state, entry.why = "not installed", lacking
    elif kind.serial and not case.serial:
        entry.state = "left out"
        entry.why = f"one at a time, it would wait {case.files * case.origin.delay_s:,.0f} s"
    return entry


def _jobs(case: Case, folder: Path) -> list[content.Job]:
    if case.flood:
        return content.small(folder, 1, case.sizes)
    if case.large:
        return content.large(folder, case.files, case.sizes[1])
    return content.small(folder, case.files, case.sizes, round(case.files * case.faulty))


@contextmanager
def _served(case: Case, files: Path, home: Path, ground: Ground) -> Iterator[origin.Origin | None]:
    if case.flood:
        yield None
        return
    authority = ground.authority if case.origin.door != "http" else None
    server = origin.started(files, home, case.origin, authority, ground.origin)
    try:
        yield server
    finally:
        server.end()


class Rounds:
    """The rounds of one case over one origin."""

    def __init__(
        self, case: Case, jobs: list[content.Job], server: origin.Origin | None, home: Path, ground: Ground
    ) -> None:
        self._case = case
        self._jobs = jobs
        self._server = server
        self._home = home
        self._ground = ground
        self._base = server.base(case.origin.door) if server else f"file://{ground.memory}/{case.name}.files"

    def all(self, entries: list[Entry]) -> None:
        """A warm-up of each, then the timed rounds, each rival once a round."""
        try:
            for number in range(self._case.rounds):
                for entry in entries:
                    if entry.state == "measured":
                        self._ground.say(f"{self._case.name}: round {number + 1} of {self._case.rounds}, {entry.name}")
                        self._guarded(entry)
        finally:
            for entry in entries:
                self._stopped(entry)

    def _guarded(self, entry: Entry) -> None:
        try:
            self._one(entry)
        except Broken as exc:
            entry.state, entry.why = "broken", str(exc)
        if self._case.fresh or entry.state == "broken":
            self._stopped(entry)

    def _one(self, entry: Entry) -> None:
        if entry.process is None:
            home = self._home / entry.name.replace(":", "-")
            home.mkdir(exist_ok=True)
            entry.process = self._ground.start(entry.name, self._settings(), home)
            entry.warm_connections = self._fetched(entry, self._warm())["connections"]
        entry.rounds.append(self._fetched(entry, len(self._jobs)))

    def _stopped(self, entry: Entry) -> None:
        if entry.process is not None:
            process, entry.process = entry.process, None
            self._ground.stop(process)

    def _settings(self) -> Settings:
        authority = self._ground.authority
        return Settings(
            connections=self._case.connections,
            base=self._base,
            ca=str(authority.bundle) if authority and self._base.startswith("https") else "",
            poll_s=self._ground.poll_s,
            nectar=self._ground.nectar,
        )

    def _warm(self) -> int:
        """How many files a warm-up fetches: enough to open all connections, no large ones, none that wait long."""
        if self._case.large:
            return 1
        if self._case.fresh:
            return min(len(self._jobs), WARM_FRESH)
        return min(len(self._jobs), max(WARM, WARM_EACH * self._case.connections))

    def _fetched(self, entry: Entry, first: int) -> dict[str, Any]:
        """One batch, fetched and judged."""
        assert entry.process is not None
        place = self._ground.disk if self._case.place == "disk" else self._ground.memory
        folder = place / f"{self._case.name}-{entry.name.replace(':', '-')}"
        stored = self._case.place in ("memory", "disk")
        folder.mkdir()
        try:
            before = self._connections()
            told = entry.process.ask(
                self._case.limit_s,
                do="fetch",
                jobs=str(self._home / "jobs.json"),
                base=self._base,
                first=first,
                folder=str(folder) if stored else "",
                files=self._case.files,
            )
            told["connections"] = _between(before, self._connections())
            return self._judged(told, first, folder if stored else None)
        finally:
            _swept(folder)

    def _connections(self) -> int | None:
        return self._server.connections() if self._server else None

    def _judged(self, told: dict[str, Any], first: int, folder: Path | None) -> dict[str, Any]:
        errors, bodies = told.pop("errors"), told.pop("bodies")
        if self._case.flood:
            tally = judge.Tally(good=told["told"]["ended"] - len(errors), reported=len(errors))
            lie = "" if tally.good == self._case.files else f"{tally.good} of {self._case.files} specs stored"
        else:
            jobs = self._jobs[:first]
            tally = judge.judged(jobs, judge.in_folder(folder) if folder else lambda job: bodies.get(job.name), errors)
            lie = judge.lying(jobs, tally)
        return told | {"tally": tally.told(), "lie": lie, "errors": dict(list(errors.items())[:5])}


def _between(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _swept(folder: Path) -> None:
    """The folder, and what a rival put beside it under its name."""
    shutil.rmtree(folder, ignore_errors=True)
    for beside in folder.parent.glob(f"{folder.name}.*"):
        beside.unlink()


def _row(case: Case, entry: Entry) -> dict[str, Any]:
    found = row(case, entry.name, entry.kind, entry.state, entry.why, entry.rounds)
    return found | {"connections_warm": entry.warm_connections}


def _report(case: Case, jobs: list[content.Job], kind: str, entries: list[Entry]) -> dict[str, Any]:
    return {
        "name": case.name,
        "title": case.title,
        "files": case.files,
        "bytes": sum(job.size for job in jobs),
        "faulty": sum(bool(job.fault) for job in jobs),
        "connections": case.connections,
        "latency_s": case.origin.delay_s,
        "ideal_s": case.ideal_s,
        "origin": kind,
        "rows": [_row(case, entry) for entry in entries],
    }
