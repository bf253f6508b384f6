"""``geofetch repositories add`` and ``remove``: what is stored already, put into a repository; a repository, removed.

In: a name, paths, another repository.  Out: how many units that were.  Never: a file touched, a source asked; a unit's
record removed (units gc does that).

``--json`` gives one object

    repository
    chosen          add: units that were chosen
    added           add: of these, those that were not in it before
    taken_off       remove: units that were in it
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .words import counted
from .work import Work, perform

if TYPE_CHECKING:
    from ..records import Recorder, Unit

__all__ = ["add", "remove"]


@click.command("add", short_help="Put what is stored into a repository.")
@click.argument("name", metavar="NAME")
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--from", "origin", metavar="REPO", help="Units of this repository: all, or those of these paths.")
@options.places("The folder whose records are meant.")
@options.asking("One JSON object.")
def add(**given: Any) -> int:
    """Put units that the records know into a repository, which need not be there yet.

    PATH is the path of a file; * stands for anything.  Nothing is fetched, and nothing else of a unit changes; those
    that are in the repository already stay as they are.  Where a PATH finds no unit, nothing is added.
    """
    if not given["paths"] and given["origin"] is None:
        raise click.UsageError("what is to be added? give paths, or --from REPO")
    return perform("repositories add", given, _add)


@click.command("remove", short_help="Take all units off a repository, and forget its name.")
@click.argument("name", metavar="NAME")
@options.places("The folder whose records are meant.")
@options.asking("One JSON object.")
def remove(**given: Any) -> int:
    """Take all units off a repository, and forget its name.

    Their files and records stay, until geofetch units gc removes those that are in no other repository.  Within its
    grace time a sync, or geofetch repositories add, puts them back.
    """
    return perform("repositories remove", given, _remove)


def _add(work: Work) -> int:
    from .output import put
    from .places import asked

    told = work.told
    name, origin = told["name"], told["origin"]
    with asked(told) as recorder:
        if origin is not None and origin not in recorder.repositories():
            return _unknown(work, origin)
        for path in told["paths"]:
            if next(recorder.units(path=path, repository=origin), None) is None:
                of = "" if origin is None else f" of {origin!r}"
                work.console.fail(f"no unit{of} has the path {path!r}: nothing is added")
                return codes.CAUSES["NotFound"]
        chosen = _Counted(recorder, told["paths"] or (None,), origin)
        added = recorder.associate(chosen, name)
    if work.as_json:
        put({"repository": name, "chosen": chosen.count, "added": added})
    known = counted(chosen.count - added, "other", "were")
    work.console.say(f"{counted(added, 'unit', 'were')} added to {name!r}; {known} in it already")
    return codes.OK


class _Counted:
    """The units that are chosen, counted as they go by."""

    def __init__(self, recorder: Recorder, paths: tuple[str | None, ...], origin: str | None) -> None:
        self._recorder = recorder
        self._paths = paths
        self._origin = origin
        self.count = 0

    def __iter__(self) -> Iterator[Unit]:
        for path in self._paths:
            for unit in self._recorder.units(path=path, repository=self._origin):
                self.count += 1
                yield unit


def _remove(work: Work) -> int:
    from .output import put
    from .places import asked

    name = work.told["name"]
    with asked(work.told) as recorder:
        if name not in recorder.repositories():
            return _unknown(work, name)
        taken_off = recorder.remove_repository(name)
    if work.as_json:
        put({"repository": name, "taken_off": taken_off})
    gone = counted(taken_off, "unit", "were")
    work.console.say(f"{gone} taken off {name!r}, which is no more; the files stay for units gc")
    return codes.OK


def _unknown(work: Work, name: str) -> int:
    work.console.fail(f"no repository is called {name!r} in these records")
    return codes.CAUSES["NotFound"]
