"""``geofetch units``: what is remembered, listed, shown, exported and imported.

In: filters, an id, unit files.  Out: a table on a terminal, fields parted by TABs elsewhere, JSON with --json; unit
files.  Never: a stored file itself; a query of a URL, but in exports, which repair needs whole.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .gc import gc
from .named import check_repositories, unit_named
from .words import counted
from .work import Work, perform

if TYPE_CHECKING:
    from ..records import Recorder, Unit

__all__ = ["units"]

#: States of a unit that lies where it says.
THERE = ("present", "corrupt")
STATES = ("present", "missing", "corrupt", "quarantined")
POLICIES = ("immediate", "on_demand", "streamed")
#: Rows of a table; a longer one is several, each with its head.
TABLE_ROWS = 500
#: Units that are committed together when they are imported.
BATCH = 500

COLUMNS = ("id", "state", "bytes", "path", "source")


@click.group(short_help="List, show, export and import what is remembered; remove what is over.")
def units() -> None:
    """List, show, export and import what is remembered of stored files; remove what no repository holds any more."""


units.add_command(gc)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only units in this state."),
        click.option("--type", "type_", metavar="TYPE", help="Only units of this type, as rpm."),
        click.option("--repository", metavar="NAME", help="Only units of this repository."),
        click.option("--path", "pattern", metavar="PATTERN", help="Only units of this path; * stands for anything."),
        click.option("--policy", type=click.Choice(POLICIES), help="Only units that are fetched then."),
        click.option("--pending", is_flag=True, help="Only units whose file is owed: geofetch repair fetches it."),
    ):
        command = option(command)
    return options.places("The folder whose records are meant.")(command)


@units.command("list", short_help="List units.")
@_filters
@click.option("-n", "--limit", type=click.IntRange(0, sys.maxsize), metavar="N", help="No more than so many.")
@options.asking("One JSON object a unit, as export writes it, with its id and the values of queries masked.")
def listed(**given: Any) -> int:
    """List what is remembered: a table on a terminal, fields parted by TABs elsewhere."""
    return perform("units list", given, lambda work: _list(work, _chosen(work)))


@units.command("show", short_help="Show all that is known of a unit.")
@click.argument("unit", metavar="UNIT")
@options.places("The folder whose records are meant.")
@options.asking("In one line.")
def show(**given: Any) -> int:
    """Show all that is known of one unit, by its path, its id or its key in JSON.

    shared_with is how many other units lie in the same stored file.
    """
    return perform("units show", given, _show)


@units.command("export", short_help="Write units as JSON documents.")
@_filters
@click.option("--to", "folder", metavar="FOLDER", type=click.Path(file_okay=False), help="One file a unit, in here.")
@options.verbosity()
def export(**given: Any) -> int:
    """Write units as JSON documents: one file a unit into a folder, or one line a unit on stdout."""
    return perform("units export", given, _export)


@units.command("import", short_help="Remember units from unit files.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@options.places("The folder whose records are meant.")
@options.verbosity()
def imported(**given: Any) -> int:
    """Remember units from unit files, folders of them, or JSON lines (- is stdin), in place of what was known of each.

    The stored files are not looked at: geofetch verify does that.
    """
    return perform("units import", given, _import)


def _wanted(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "repository": told["repository"],
        "type": told["type_"],
        "state": told["states"] or None,
        "path": told["pattern"],
        "policy": told["policy"],
        "pending": told["pending"] or None,
    }


def _chosen(work: Work) -> Callable[[Recorder], Iterator[Unit]]:
    return lambda recorder: islice(recorder.units(**_wanted(work.told)), work.told.get("limit"))


def _list(work: Work, chosen: Callable[[Recorder], Iterator[Unit]]) -> int:
    from .output import put, put_line
    from .places import asked

    with asked(work.told) as recorder:
        check_repositories(recorder, work.told["repository"])
        found = chosen(recorder)
        if work.as_json:
            for unit in found:
                put({"id": unit.id, **_shown(unit)})
        elif sys.stdout.isatty():
            _tables(found)
        else:
            for unit in found:
                put_line("\t".join(_cells(unit)))
    return codes.OK


def _cells(unit: Unit) -> tuple[str, ...]:
    from ..report.tally import printable

    source = unit.sources[0].shown if unit.sources else "-"
    size = "-" if unit.size is None else str(unit.size)
    return str(unit.id), unit.state, size, printable(unit.path), printable(source)


def _tables(found: Iterator[Unit]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(markup=False, highlight=False)
    while rows := list(islice(found, TABLE_ROWS)):
        table = Table(*COLUMNS, box=None, pad_edge=False)
        table.columns[2].justify = "right"
        for unit in rows:
            table.add_row(*map(Text, _cells(unit)))
        console.print(table)


def _shown(unit: Unit) -> dict[str, Any]:
    """The document of a unit as it may be shown: what a query says is masked."""
    from ..records import unit_files

    document = unit_files.dump(unit)
    for told, source in zip(document["sources"], unit.sources, strict=True):
        told["url"] = source.shown
    return document


def _show(work: Work) -> int:
    from .output import put_line
    from .places import asked

    with asked(work.told) as recorder:
        unit = unit_named(recorder, work.told["unit"])
        shared = recorder.references(unit.store, [unit.store_key]).get(unit.store_key, 0)
        others = max(0, shared - (unit.state in THERE))
        fields = {"id": unit.id, **_shown(unit), "shared_with": others}
        put_line(json.dumps(fields, indent=None if work.as_json else 2))
        if others and not work.as_json:
            work.console.say(f"its file is shared with {counted(others, 'other unit')}")
    return codes.OK


def _export(work: Work) -> int:
    from ..records import unit_files
    from .output import put
    from .places import asked

    with asked(work.told) as recorder:
        check_repositories(recorder, work.told["repository"])
        found = recorder.units(**_wanted(work.told))
        if work.told["folder"] is None:
            for unit in found:
                put(unit_files.dump(unit))
        else:
            count = unit_files.write(found, work.told["folder"])
            work.console.say(f"{counted(count, 'unit file', 'are')} in {work.told['folder']}")
    return codes.OK


def _import(work: Work) -> int:
    from ..errors import FetchError
    from .places import recorder_url, recording

    if recorder_url(work.told) is None:
        raise click.UsageError("where are the records? give --into DIR, or --db URL")
    found: Counter[str] = Counter()
    with recording(work.told) as recorder:
        assert recorder is not None
        try:
            _put(recorder, _units_in(work.told["files"]), found)
        except FetchError as exc:
            work.console.fail(f"{exc} ({counted(found.total(), 'unit', 'were')} imported before)")
            return codes.code_of(exc)
    parts = ", ".join(f"{found[what]:,} {what}" for what in ("new", "replaced", "known") if found[what])
    work.console.say(f"{counted(found.total(), 'unit', 'were')} imported" + (f": {parts}" if parts else ""))
    return codes.OK


def _units_in(files: Iterable[str]) -> Iterator[Unit]:
    from ..errors import FetchError
    from ..records import unit_files

    for name in files:
        if name == "-":
            yield from unit_files.read_lines(sys.stdin)
            continue
        try:
            yield from unit_files.read(name)
        except FetchError:  # every one is an OSError, too
            raise
        except OSError as exc:
            raise click.UsageError(f"{name!r} cannot be read: {exc.strerror}") from exc


def _put(recorder: Recorder, units: Iterator[Unit], found: Counter[str]) -> None:
    while batch := list(islice(units, BATCH)):
        found.update([pending.get() for pending in [recorder.put_unit(unit) for unit in batch]])
