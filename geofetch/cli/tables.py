"""Tables: columns and a head on a terminal, fields parted by TABs elsewhere.

In: columns, rows of text, lazily.  Out: lines on stdout.  Never: all rows in memory; a name that drives a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Literal

__all__ = ["count_text", "show"]

#: Rows of a table; a longer one is several, each with its head.
TABLE_ROWS = 500


def show(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = (), long: Collection[str] = ()
) -> None:
    """The rows under these columns; those in ``right`` hold numbers, those in ``long`` may be broken."""
    if not sys.stdout.isatty():
        from .output import put_line

        for row in rows:
            put_line("\t".join(map(_printable, row)))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    left = iter(rows)
    while part := list(islice(left, TABLE_ROWS)):
        table = Table(box=None, pad_edge=False)
        for column in columns:
            justify: Literal["left", "right"] = "right" if column in right else "left"
            table.add_column(column, justify=justify, overflow="fold", no_wrap=column not in long)
        for row in part:
            table.add_row(*(Text(_printable(cell)) for cell in row))
        console.print(table)


def count_text(number: int) -> str:
    """A number for people on a terminal, and for programs elsewhere."""
    return f"{number:,}" if sys.stdout.isatty() else str(number)


def _printable(cell: str) -> str:
    from ..report.tally import printable

    return printable(cell)
