"""Rounds into figures.  In: what a rival's rounds said.  Out: one row, as JSON and the table have it.

Never: a figure for a rival that broke or whose counts differ from what is true; a mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from .cases import Case
from .rivals import Rival

__all__ = ["row"]


def row(
    case: Case, name: str, kind: type[Rival], state: str, why: str, rounds: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """One rival in one case."""
    found: dict[str, Any] = {
        "rival": name,
        "version": kind.version() if state != "not installed" else "",
        "state": state,
        "why": why,
        "note": kind.note,
        "cpu_us": None,
        "wall_s": None,
        "rss_mb": None,
        "connections": None,
        "tally": rounds[-1]["tally"] if rounds else None,
        "errors": rounds[-1]["errors"] if rounds else {},
        "rounds": list(rounds),
    }
    lies = [one["lie"] for one in rounds if one["lie"]]
    if state == "measured" and lies:
        found["state"], found["why"] = "counts differ", lies[0]
    elif state == "measured" and rounds:
        found |= _figures(case, kind, rounds)
    return found


def _figures(case: Case, kind: type[Rival], rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    wall = spread([one["wall_s"] for one in rounds])
    opened = [one["connections"] for one in rounds]
    return {
        "cpu_us": spread([one["cpu_s"] / case.files * 1e6 for one in rounds]),
        "wall_s": wall,
        "rss_mb": max(one["rss_peak"] for one in rounds) / 1e6,
        "kb_a_connection": None if case.connections < 100 or kind.commands else _grown_kb(case, rounds),
        "connections": None if None in opened else max(opened),
        "of_ideal": case.ideal_s / wall["median"] if case.ideal_s else None,
        "told": rounds[-1]["told"],
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median, and the spread: how far apart the extremes are, in medians."""
    middle = median(values)
    return {"min": min(values), "median": middle, "spread": (max(values) - min(values)) / middle if middle else 0.0}


def _grown_kb(case: Case, rounds: Sequence[dict[str, Any]]) -> float:
    """What the process grew by in a round, for each connection; the least of the rounds, as others only add."""
    grown: int = min(one["rss_peak"] - one["rss_before"] for one in rounds)
    return grown / case.connections / 1e3
