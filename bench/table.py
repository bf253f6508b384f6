"""Figures as text.  In: a report as JSON has it.  Out: lines for a terminal, or for a page of reStructuredText.

Never: a figure that the JSON does not hold, a row less than it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["case_table", "heading"]

#: The columns: what stands above them, and what they show of a row.
COLUMNS = (
    "rival", "CPU µs/file", "min", "± spread", "wall s", "min", "± spread", "RSS MB", "conns", "× CPU",
)  # fmt: skip


def heading(report: dict[str, Any]) -> str:
    """What was measured, and where."""
    machine = report["machine"]
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}; "
        f"load {machine['load']} at the start; {report['when']}"
    )


def case_table(case: dict[str, Any]) -> str:
    """One case: a title, a row a rival, then what must be known of some of them."""
    best = _base(case)
    shown = [_cells(row, best) for row in case["rows"]]
    lines = [_title(case), *_aligned([COLUMNS, *shown])]
    lines += [f"  {row['rival']}: {row['note']}" for row in case["rows"] if row["note"] and row["cpu_us"]]
    lines += _more(case)
    return "\n".join(lines)


def _title(case: dict[str, Any]) -> str:
    faulty = f", {case['faulty']} of them faulty" if case["faulty"] else ""
    ideal = f", ideal {case['ideal_s']:.2f} s" if case["ideal_s"] else ""
    return (
        f"{case['name']}: {case['title']} ({case['files']:,} files, {case['bytes'] / 1e6:,.1f} MB{faulty}, "
        f"{case['connections']:,} connections; origin: {case['origin']}{ideal})"
    )


def _base(case: dict[str, Any]) -> float | None:
    """geofetch's own CPU, that others are held against: its first row with a figure."""
    for row in case["rows"]:
        if row["rival"].startswith("geofetch") and row["cpu_us"]:
            cpu: float = row["cpu_us"]["median"]
            return cpu
    return None


def _cells(row: dict[str, Any], best: float | None) -> Sequence[str]:
    if not row["cpu_us"]:
        return (row["rival"], f"{row['state']}: {row['why']}")
    cpu, wall = row["cpu_us"], row["wall_s"]
    return (
        row["rival"] + (f" {row['version']}" if row["version"] else ""),
        f"{cpu['median']:,.0f}",
        f"{cpu['min']:,.0f}",
        f"{cpu['spread']:.0%}",
        f"{wall['median']:.3f}",
        f"{wall['min']:.3f}",
        f"{wall['spread']:.0%}",
        f"{row['rss_mb']:,.0f}",
        "not counted" if row["connections"] is None else f"{row['connections_warm']:,}+{row['connections']:,}",
        f"{cpu['median'] / best:.2f}" if best else "",
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    whole = [row for row in rows if len(row) == len(COLUMNS)]
    widths = [max(len(row[column]) for row in whole) for column in range(len(COLUMNS))]
    widths[0] = max(len(row[0]) for row in rows)
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        if len(row) == len(COLUMNS):
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        else:
            cells += row[1:]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


def _more(case: dict[str, Any]) -> list[str]:
    lines = []
    for row in case["rows"]:
        said = []
        if row.get("of_ideal"):
            said.append(f"{row['of_ideal']:.2f} of the ideal")
        if row.get("kb_a_connection") is not None:
            said.append(f"{row['kb_a_connection']:,.0f} KB a connection")
        told = row.get("told") or {}
        if told.get("hub_away_s"):
            said.append(f"hub away for {told['hub_away_s'] * 1e3:.0f} ms at most")
        if told.get("last_file_s") is not None:
            said.append(f"its last file was there after {told['last_file_s']:.2f} s")
        if told.get("rss_at_points"):
            said.append("RSS MB: " + " ".join(f"{rss / 1e6:.0f}" for rss in told["rss_at_points"]))
        said += _treatment(case, row["tally"])
        if said:
            lines.append(f"  {row['rival']}: " + ", ".join(said))
    return lines


def _treatment(case: dict[str, Any], tally: dict[str, int] | None) -> list[str]:
    """How failures were told, in the case that has them."""
    if not tally or not case["faulty"]:
        return []
    said = [f"{tally[name]} {name}" for name in ("good", "reported", "taken", "dropped", "denied") if tally[name]]
    return [*said, *([f"{tally['left']} broken ones left under their names"] if tally["left"] else [])]
