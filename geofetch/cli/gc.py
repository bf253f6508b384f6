"""``geofetch units gc``: what no repository holds any more, removed after a grace time.

In: which stores, how long the grace time is.  Out: a table of what went, by what it was; exit code 12 if a file could
not be removed.  Never: a unit that never was in a repository; a file that no record knows, unless --strays says so.

``--json`` gives an object for each unit that is forgotten, and for each file that is removed, or is not

    event           "collected"
    what            unit; leftover (a file that no unit is in any more); link (to such a file); quarantined (a file
                    that a repair had put aside); stray (a file that no record knows); record (of a unit that was
                    recorded while its file was removed)
    state           removed; shared (another unit is in it, and it stays); gone (it was not there any more);
                    replaced (another file is there by now, and stays); failed; missing (what such a record now says)
    store, store_key, size_bytes
    unit            null, or {"id", "type", "key", "path"}
    error           null, or why not

and, last, one for the whole

    event           "summary"
    command         "units gc"
    ok, exit_code
    dry_run         true: all this would be done, and nothing was
    units           records that were forgotten
    removed, shared, gone, replaced, failed, missing    files, by what became of them
    strays          of the removed ones, those that no record knew
    quarantined     of the removed ones, those that a repair had put aside
    aside           files that stay in quarantine
    swept           parts and uploads that dead processes had left
    unable          stores that cannot remove anything
    freed_bytes, elapsed_s
    signal, error   as get's and sync's (output.py)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .work import Work, perform

if TYPE_CHECKING:
    from ..records import Recorder
    from ..upkeep import Collected

__all__ = ["gc"]

#: Files that are told one by one where something went wrong; the others are counted.
TOLD_MOST = 100
WHATS = ("unit", "leftover", "link", "quarantined", "stray", "record")
BECAME = ("removed", "shared", "gone", "replaced", "failed", "missing")


@click.command("gc", short_help="Remove what no repository holds any more.")
@options.places("The folder that is meant.")
@click.option(
    "--grace",
    type=options.Duration(zero=True, bare=False),
    default="7d",
    show_default=True,
    help="Only what has been in no repository for so long: 30s, 5m, 12h, 7d, 2w.",
)
@click.option("--dry-run", is_flag=True, help="Tell what would be removed, and remove nothing.")
@click.option("--strays", is_flag=True, help="Also files in the folder that no record knows: look at --dry-run first.")
@click.option("--threads", type=click.IntRange(1, 512), default=8, show_default=True, help="Removals at once.")
@click.option("--durable", is_flag=True, help="A record that is forgotten stays so after a cut of power.")
@options.progress()
@options.json_flag("Tell of each unit and file on stdout, in JSON, and last of the whole.")
@options.verbosity()
def gc(**given: Any) -> int:
    """Forget units that were in a repository and are in none since longer than the grace time, and remove their files.

    A file goes when no unit is in it any more.  So do files that no unit is in since as long (an older version in a
    store by digest), what a repair put aside as long ago and nobody needs any more, and what dead processes left.
    Units that never were in a repository stay.  Interrupted at any moment, even by a crash, it leaves nothing that the
    next one does not go on with.

    Piped, a line is a kind of thing, its fields parted by TABs: what, removed, shared, gone, replaced, failed, missing,
    bytes.
    """
    return perform("units gc", options.told(**given), _gc)


def _gc(work: Work) -> int:
    from .places import asked, stores_of
    from .tables import show

    told = work.told
    total = _Sum(work)
    work.summary = total.fields
    with asked(told) as recorder:
        stores = stores_of(recorder, told)
        _check_strays(recorder, stores, told)
        try:
            total.run(recorder, stores)
        finally:
            for store in stores.values():
                store.close()
    if total.by and not work.as_json and not work.console.quiet:
        show(("what", *BECAME, "bytes"), total.table(), right=(*BECAME, "bytes"))
    work.console.say(total.whole().summary())
    for name in total.whole().unable:
        work.console.fail(f"{name}: this store cannot remove what it keeps; its units and files are left")
    return total.code()


def _check_strays(recorder: Recorder, stores: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """A usage error where records of another place would make strays of all that is there: its name was mistyped."""
    if told["strays"] and told["db"] and not any(recorder.count(store=name) for name in stores):
        raise click.UsageError(
            f"these records know no file of {told['into'] or 'any store'}: all of it would be strays;"
            " give the records that are about the files"
        )


class _Sum:
    """What was removed, told as it comes."""

    def __init__(self, work: Work) -> None:
        from ..upkeep.collected import Gathering

        self._work = work
        self._found = Gathering()
        self._unmended = 0
        self._codes: set[int] = set()
        #: Things by what they are, and by what became of them.
        self.by: dict[str, Counter[str]] = {}
        self._bytes: Counter[str] = Counter()

    def run(self, recorder: Recorder, stores: Mapping[str, Any]) -> None:
        """All of it."""
        from ..upkeep import Swept, collect
        from ..upkeep.telling import Telling
        from .downloads import sink_for

        told = self._work.told
        asked = collect(
            recorder,
            stores,
            grace_s=told["grace"],
            strays=told["strays"],
            dry_run=told["dry_run"],
            jobs=told["threads"],
        )
        with Telling(_without_end(sink_for(self._work)), self._found, self._found, None), closing(asked) as each:
            for one in each:
                self._found.add(one)
                if not isinstance(one, Swept):
                    self._tell(one)
        self._work.console.above = None

    def _tell(self, one: Collected) -> None:
        from .output import put

        work = self._work
        self.by.setdefault(one.what, Counter())[one.state] += 1
        if one.what != "unit" and one.state == "removed":
            self._bytes[one.what] += one.size or 0
        if not one.ok:
            self._unmended += 1
            self._codes.add(codes.WRONG if one.error is None or one.state == "missing" else codes.code_of(one.error))
            if self._unmended <= TOLD_MOST:
                work.console.fail(str(one))
        if work.as_json:
            put({"event": "collected", **one.as_dict()})

    def code(self) -> int:
        """What the command ends with."""
        return codes.of_all({*self._codes, *([codes.CAUSES["StoreError"]] if self.whole().unable else [])})

    def whole(self) -> Any:
        """The sum as it is now."""
        return self._found.whole(bool(self._work.told["dry_run"]), self._work.elapsed_s)

    def table(self) -> Iterator[tuple[str, ...]]:
        """A row for each kind of thing: how many, and what became of them."""
        from .tables import count_text

        for what in WHATS:
            became = self.by.get(what)
            if became is not None:
                counts = (count_text(became[state]) for state in BECAME)
                yield (what, *counts, count_text(self._bytes[what]))

    def fields(self, code: int) -> Mapping[str, Any]:
        """The last object of --json."""
        from .output import error_fields

        counts = {name: value for name, value in self.whole().as_dict().items() if name not in ("ok", "wrong")}
        return {
            "event": "summary",
            "command": "units gc",
            "ok": code == codes.OK,
            "exit_code": code,
            **counts,
            "signal": self._work.signals.received,
            "error": error_fields(self._work.error, self._work.console.clean),
        }


def _without_end(sink: Any) -> Any:
    """The sink; a plain one is not told of the end, since the sum says more."""
    from ..report import Plain

    return sink if not isinstance(sink, Plain) else lambda tally: None if tally.final else sink(tally)
