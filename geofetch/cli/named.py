"""What users call by name: repositories, units.

In: names, a Recorder.  Out: what goes by them.  Never: a name that nobody knows taken for an empty answer, which would
look like a good one: it is a wrong usage, and ends with 2, whichever command was given it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..records import Recorder, Unit

__all__ = ["check_repositories", "unit_named"]

#: Names that are told where another one was meant.
TOLD_MOST = 10


def check_repositories(recorder: Recorder, *names: str | None) -> None:
    """A usage error for a repository that these records do not know; None is no name."""
    asked = [name for name in names if name is not None]
    known = recorder.repositories() if asked else []
    for name in asked:
        if name not in known:
            more = f" and {len(known) - TOLD_MOST} more" if len(known) > TOLD_MOST else ""
            there = f"there are {', '.join(known[:TOLD_MOST])}{more}" if known else "there is none"
            raise click.UsageError(
                f"no repository is called {name!r} in these records; {there} (geofetch repositories list)"
            )


def unit_named(recorder: Recorder, name: str) -> Unit:
    """The unit of this path, id or key; a usage error where there is none, or where there are several."""
    from ..records.reader import SeveralUnits

    try:
        unit = recorder.unit(name)
    except SeveralUnits as exc:
        raise click.UsageError(exc.message) from exc
    if unit is None:
        raise click.UsageError(f"no unit goes by {name!r} in these records")
    return unit
