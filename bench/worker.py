"""The process that one rival lives in.  In: one JSON line a command on stdin: open, fetch, close.  Out: one JSON line
an answer.  Never: anything else on that stdout, another rival, a look at what another round left.

    {"do": "open", "rival": "aiohttp", "settings": {…}}
    {"do": "fetch", "jobs": "/…/jobs.json", "base": "http://…", "first": 200, "folder": "/…", "files": 2000}
    {"do": "close"}
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import os
import resource
import sys
import time
import traceback
from typing import Any, TextIO

from .content import Job
from .rivals import Batch, Keeper, Rival, Settings, roster


def main() -> None:
    """Obey until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not stand among the answers
    _widened()
    bench = Bench()
    for line in sys.stdin:
        _say(answers, bench.obey(json.loads(line)))


def _say(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _widened() -> None:
    """As many open files as the system allows: a thousand connections are more than many shells do."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Bench:
    """One rival, and the clock that stands beside it."""

    def __init__(self) -> None:
        self._rival: Rival | None = None

    def obey(self, told: dict[str, Any]) -> dict[str, Any]:
        """The answer to one command; what it raises is the answer too."""
        try:
            if told["do"] == "open":
                self._rival = chosen(told["rival"])(Settings(**told["settings"]))
                self._rival.open()
                return {}
            assert self._rival is not None
            if told["do"] == "close":
                self._rival.close()
                return {}
            return measured(self._rival, *_batch(told))
        except Exception as exc:
            return {"broken": repr(exc), "traceback": traceback.format_exc()}


def chosen(name: str) -> type[Rival]:
    """A rival by its name, or by ``module:Class``."""
    module, separator, attribute = name.partition(":")
    if separator:
        found: type[Rival] = getattr(importlib.import_module(module), attribute)
        return found
    return roster()[name]


def _batch(told: dict[str, Any]) -> tuple[Batch, Keeper]:
    with open(told["jobs"], encoding="utf-8") as file:
        jobs = [Job(**one).at(told["base"]) for one in json.load(file)]
    return Batch(jobs[: told["first"]], told["folder"], told["files"]), Keeper(told["folder"])


def measured(rival: Rival, batch: Batch, keeper: Keeper) -> dict[str, Any]:
    """One round: wall, CPU of this process and of its children, peak memory, what went wrong."""
    gc.collect()
    gc.freeze()  # the bench's own objects, thousands of jobs among them, are no work of this rival's collector
    _forget_peak()
    before, cpu, wall = _resident_peak(), _cpu_s(), time.perf_counter()
    errors = rival.fetch(batch, keeper)
    wall, cpu = time.perf_counter() - wall, _cpu_s() - cpu
    gc.unfreeze()
    return {
        "wall_s": wall,
        "cpu_s": cpu,
        "rss_before": before,
        "rss_peak": _peak_of_children() if rival.commands else _resident_peak(),
        "errors": errors,
        "bodies": {name: hashlib.sha256(body).hexdigest() for name, body in keeper.bodies.items()},
        "told": rival.told(),
    }


def _cpu_s() -> float:
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _forget_peak() -> None:
    """Let the peak begin anew, where the system can (Linux); elsewhere it is the whole process'."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass


def _resident_peak() -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as told:
            return next(int(line.split()[1]) * 1024 for line in told if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return _ru_bytes(resource.RUSAGE_SELF)


def _peak_of_children() -> int:
    # Linux counts what the worker itself held when it started the command: some 20 MB, below which nothing is seen.
    return _ru_bytes(resource.RUSAGE_CHILDREN)


def _ru_bytes(who: int) -> int:
    most = resource.getrusage(who).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    main()
