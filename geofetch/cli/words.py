"""Counts in sentences: one unit, two units.

In: numbers, nouns.  Out: words.  Never: a column of a table (tables.py).
"""

from __future__ import annotations

__all__ = ["counted", "one_or"]

OF_ONE = {"are": "is", "were": "was"}


def counted(count: int, noun: str, verb: str = "") -> str:
    """So many of them, and with a verb what they do: "1 unit was", "2 units were"."""
    text = f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
    return f"{text} {one_or(count, verb)}" if verb else text


def one_or(count: int, verb: str) -> str:
    """The verb of so many, "are" or "were"; of one, "is" or "was"."""
    return OF_ONE[verb] if count == 1 else verb
