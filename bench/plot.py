"""Figures as a picture.  In: a report as JSON has it.  Out: an SVG of horizontal bars, readable on light and on dark.

Never: a library, a script, a font that must be fetched, a bar for what has no figure.
"""

from __future__ import annotations

from typing import Any
from xml.sax.saxutils import escape

__all__ = ["drawn"]

WIDTH, LABEL, BAR, LINE, GAP = 760, 180, 420, 18, 34

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600; font-size: 14px }
  .quiet { fill: #59636e } .bar { fill: #8c959f } .ours { fill: #1f6feb } .floor { fill: #bf8700 }
  .ground { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9198a1 } .bar { fill: #656d76 } .ours { fill: #4493f8 }
    .floor { fill: #d29922 } .ground { fill: #0d1117 }
  }
"""


def drawn(report: dict[str, Any]) -> str:
    """All cases below one another: CPU a file, or wall where a file is large or the origin waits."""
    parts: list[str] = []
    top = 10
    for case in report["cases"]:
        piece, height = _case(case, top)
        parts += piece
        top += height + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f'role="img" aria-label="What a file costs each client">\n<style>{STYLE}</style>\n'
        f'<rect class="ground" width="{WIDTH}" height="{top}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _case(case: dict[str, Any], top: int) -> tuple[list[str], int]:
    of_wall = bool(case["ideal_s"]) or case["name"] == "large"
    unit = "s, wall" if of_wall else "µs of CPU a file"
    title = f"{case['title']}: {case['files']:,} files, {unit} (median, less is better)"
    parts = [_text(10, top + 14, title, "title")]
    most = max((_value(row, of_wall) for row in case["rows"] if row["cpu_us"]), default=1.0)
    y = top + 24
    for row in sorted(case["rows"], key=lambda row: _value(row, of_wall) if row["cpu_us"] else float("inf")):
        parts += _bar(row, y, of_wall, most)
        y += LINE
    return parts, y - top


def _value(row: dict[str, Any], of_wall: bool) -> float:
    value: float = row["wall_s" if of_wall else "cpu_us"]["median"]
    return value


def _bar(row: dict[str, Any], y: int, of_wall: bool, most: float) -> list[str]:
    label = _text(LABEL - 8, y + 12, row["rival"], "", 'text-anchor="end"')
    if not row["cpu_us"]:
        said = f"{row['state']}: {row['why']}"
        return [label, _text(LABEL, y + 12, said if len(said) < 90 else said[:88] + "…", "quiet")]
    value = _value(row, of_wall)
    width = max(1.0, value / most * BAR)
    kind = "floor" if row["rival"].startswith("floor") else "ours" if row["rival"].startswith("geofetch") else "bar"
    shown = f"{value:,.2f}" if of_wall else f"{value:,.0f}"
    return [
        label,
        f'<rect class="{kind}" x="{LABEL}" y="{y + 2}" width="{width:.1f}" height="{LINE - 5}" rx="2"/>',
        _text(LABEL + width + 6, y + 12, shown, "quiet"),
    ]


def _text(x: float, y: float, said: str, kind: str, more: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y}"{named} {more}>{escape(said)}</text>'
