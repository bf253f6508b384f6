"""``geofetch repair``: what the records call wrong, fetched again; nothing that is right is read.

In: which files.  Out: a table of files by what was found and what became of them; exit code 11 if anything stays wrong.
Never: a file deleted, or replaced by anything but proven bytes.

``--json`` gives an object for each file, as that of ``verify --repair`` (verify.py), and, last, one for the whole

    event           "summary"
    command         "repair"
    ok, exit_code
    tried, repaired, present, missing, corrupt, quarantined, unknown    files, by what became of them
    found           the same by what was found, {"corrupt": {"repaired": 70, "quarantined": 5}, …}
    unchecked, unreached    as verify's: files that were to be mended, in stores that could not be reached
    passed_over     units in other stores than the one that --into names
    fetched_bytes, elapsed_s
    wrong_bytes_from    how often an origin served something else than the file, {"http://…": 3}
    signal, error   as get's and sync's (output.py)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from . import codes, options
from .away import Away
from .mending import BECAME, Mended, check_place, scope_of
from .named import check_repositories
from .work import Work, perform

__all__ = ["repair"]

WRONG = ("missing", "corrupt", "quarantined")


@click.command(short_help="Fetch again what a verify found wrong.")
@options.places("The folder that is meant.")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(WRONG), help="Only files in this state.  [default: all three]"
)
@click.option("--on-demand", is_flag=True, help="Fetch what is wanted on demand, too, though nobody has asked for it.")
@options.scope()
@options.download()
@options.identity()
@click.option("--durable", is_flag=True, help="A repair that is reported outlives a cut of power.")
@options.progress()
@options.json_flag("Tell of each file on stdout, in JSON, and last of the whole.")
@options.verbosity()
def repair(**given: Any) -> int:
    """Fetch again what the records call missing, corrupt or quarantined, from any source that they know.

    Nothing that is right is read: geofetch verify finds what is wrong, this mends it; and it fetches what geofetch sync
    --later has put off.  What comes is proven, and replaces what is there in one step; a corrupt file that no source
    has is put aside, never deleted.  Exits with 0 if all of it is there now, or nothing was wrong; with 11 if anything
    stays wrong.  Where --into names none, a store that cannot be reached is told and left out, which is 12.

    Piped, a line is what was found, its fields parted by TABs: found, repaired, present, quarantined, missing, corrupt,
    unknown, files.
    """
    return perform("repair", options.told(**given), _repair)


def _repair(work: Work) -> int:
    from ..upkeep.mend import DUE, DUE_ON_DEMAND
    from .places import asked, names_of
    from .tables import show

    told = work.told
    total = _Sum(work)
    work.summary = total.fields
    with asked(told) as recorder:
        check_repositories(recorder, told["repository"])
        names = names_of(recorder, told)
        check_place(recorder, names, told)
        asked_for = {**scope_of(told), "state": told["states"] or WRONG}
        due = {**asked_for, "due": DUE_ON_DEMAND if told["on_demand"] else DUE}
        stores = total.away.others(recorder, names, **due)
        try:
            mine = sum(recorder.count(store=name, **due) for name in stores)
            total.passed_over = recorder.count(**due) - mine if told["into"] else 0
            total.mended.run(recorder, stores, mine, on_demand=told["on_demand"], **asked_for)
        finally:
            for store in stores.values():
                store.close()
    if total.mended.by and not work.as_json and not work.console.quiet:
        show(Mended.columns(), total.mended.table(), right=(*BECAME, "files"))
    return total.away.code(codes.OK if total.mended.unmended == 0 else codes.WRONG)


class _Sum:
    """What became of how many."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.mended = Mended(work)
        self.passed_over = 0
        self.away = Away(work)

    def fields(self, code: int) -> Mapping[str, Any]:
        """The last object of --json."""
        from .output import error_fields

        counts = self.mended.counts
        return {
            "event": "summary",
            "command": "repair",
            "ok": code == codes.OK,
            "exit_code": code,
            "tried": counts.total(),
            **{state: counts[state] for state in BECAME},
            "found": {found: dict(became) for found, became in self.mended.by.items()},
            **self.away.fields(),
            "passed_over": self.passed_over,
            "fetched_bytes": self.mended.fetched_bytes,
            "elapsed_s": round(self._work.elapsed_s, 3),
            "wrong_bytes_from": dict(self.mended.liars),
            "signal": self._work.signals.received,
            "error": error_fields(self._work.error, self._work.console.clean),
        }
