"""``python -m bench [CASE …]``.  In: arguments.  Out: tables on stdout, JSON and a plot where they are asked for.

Never: a listener that others can reach, anything left in the temporary folders, a figure from a run cut short.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .cases import CASES, MIB, Case, sized
from .origin import Authority
from .plot import drawn
from .rivals import Rival, roster
from .runner import Ground, run
from .table import case_table, heading

MEMORY = Path("/dev/shm")


def main(given: Sequence[str] | None = None) -> int:
    """Exit status 0 if every rival that is installed got its figures or was told why not; 1 if geofetch got none."""
    told = _parser().parse_args(given)
    signal.signal(signal.SIGTERM, lambda *struck: sys.exit(143))  # so that what was started is ended
    rivals = roster()
    cases = _cases(told, rivals)
    report: dict[str, Any] = {"when": time.strftime("%Y-%m-%d"), "machine": machine(), "cases": []}
    print(heading(report), flush=True)
    begun = time.monotonic()
    with _Folder(MEMORY if os.access(MEMORY, os.W_OK) else None) as memory, _Folder(told.disk) as disk:
        ground = Ground(memory, disk, _authority(cases, memory), told.nectar or "", origin=told.origin, say=_told)
        for case in cases:
            report["cases"].append(run(case, _chosen(case, told.rivals, rivals), ground))
            _told("")
            print("\n" + case_table(report["cases"][-1]), flush=True)
            _written(report, told)
    print(f"\n{time.monotonic() - begun:.0f} s in all")
    return int(any(_lost(case) for case in report["cases"]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="geofetch against its peers, on loopback.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"floor, or some of: {', '.join(CASES)} (all)")
    parser.add_argument("--rivals", type=lambda text: text.split(","), help="names, with commas between")
    parser.add_argument("--rounds", type=_count, help="timed rounds of each rival")
    parser.add_argument("--files", type=_count, help="files of each case")
    parser.add_argument("--size", type=_count, metavar="MIB", help="size of a large file")
    parser.add_argument("--full", action="store_true", help="the sizes that the figures in bench/README.rst have")
    parser.add_argument("--nectar", type=_path, metavar="PATH", help="where the real Nectar is")
    parser.add_argument("--origin", choices=("auto", "nginx", "own"), default="auto", help="who serves")
    parser.add_argument("--disk", type=Path, metavar="FOLDER", help="where files go that are to go to a disk")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round of every rival there")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the medians there")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a whole number from 1")
    return number


def _path(text: str) -> str:
    if not (Path(text) / "nectar").is_dir():
        raise argparse.ArgumentTypeError(f"no package nectar in {text}")
    return str(Path(text).resolve())


def _cases(told: argparse.Namespace, rivals: dict[str, type[Rival]]) -> list[Case]:
    names = told.cases or list(CASES)
    unknown = [name for name in names if name not in CASES and name != "floor"]
    unknown += [name for name in told.rivals or () if name not in rivals]
    if unknown:
        raise SystemExit(f"no {', '.join(unknown)}; there are the cases {', '.join(CASES)}; rivals {', '.join(rivals)}")
    size = told.size * MIB if told.size else None
    floors = replace(CASES["small"], rivals=("floor", "floor-recorded", "floor-careful"))
    found = [floors if name == "floor" else CASES[name] for name in names]
    return [sized(case, full=told.full, files=told.files, size=size, rounds=told.rounds) for case in found]


def _chosen(case: Case, asked: list[str] | None, rivals: dict[str, type[Rival]]) -> dict[str, type[Rival]]:
    """Who takes part: whom the case names, else whom the user names, else everybody.

    A user who names none but rivals of such a case narrows it; one who names others too means other cases.
    """
    if case.rivals:
        narrowed = asked if asked and set(asked) <= set(case.rivals) else case.rivals
        return {name: rivals[name] for name in case.rivals if name in narrowed}
    return {name: kind for name, kind in rivals.items() if (name in asked if asked else not kind.extra)}


def _authority(cases: list[Case], memory: Path) -> Authority | None:
    return Authority(memory) if any(case.origin.door != "http" for case in cases) else None


class _Folder:
    """A temporary folder as a Path, gone at the end."""

    def __init__(self, where: Path | None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", dir=where, ignore_cleanup_errors=True)

    def __enter__(self) -> Path:
        return Path(self._folder.__enter__())

    def __exit__(self, *failed: Any) -> None:
        self._folder.__exit__(*failed)


def _told(text: str) -> None:
    """How it goes, on a terminal alone."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _written(report: dict[str, Any], told: argparse.Namespace) -> None:
    """After each case: a run that is cut short leaves what it has."""
    if told.json:
        told.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if told.plot:
        told.plot.write_text(drawn(report), encoding="utf-8")


def _lost(case: dict[str, Any]) -> bool:
    return any(row["rival"].startswith("geofetch") and not row["cpu_us"] for row in case["rows"])


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": " ".join(f"{one:.1f}" for one in os.getloadavg()),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as told:
            return next(line.partition(":")[2].strip() for line in told if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
