"""``geofetch verify``: stored files read again and held against their records; what is wrong fetched again, if asked.

In: which files.  Out: exit code 11 if anything is wrong, with --repair: if anything could not be mended.  Never: a file
deleted, or replaced by anything but proven bytes.

``--json`` gives an object for each file that is wrong, with --repair another one for what became of it

    event           "file", "repair"
    id, type, key, path, store, store_key, size_bytes   the unit, as its record has it
    ok              whether the file is there now, proven
    state           "file": missing, corrupt, quarantined (put aside earlier), unknown (it could not be read);
                    "repair": also repaired, present (it was right after all)
    was             what the record said before; "repair": what was found
    why             "file": what is wrong
    source, error, aside    "repair": where from; why not; where the wrong file was put
    wrong_bytes_from        "repair": sources that served something else than the file

and, last, one for the whole

    event           "summary"
    command         "verify"
    ok, exit_code
    checked, present, missing, corrupt, quarantined, unknown, passed_over    files, as they were found
    not_fetched     units that are wanted and were never stored; nothing is wrong with them
    unchecked       files in stores that could not be reached, where --into names none
    unreached       a list of those stores, {"store", "files", "error"}; there are none: []
    resumed         whether it went on with a verify that was ended; the counts are those of the whole
    read_bytes, elapsed_s    of this run
    repair          null, or files by what became of them: {"repaired", "present", "missing", …}
    signal, error   as get's and sync's (output.py)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .away import Away
from .interrupted import Note
from .mending import TOLD_MOST, Mended, check_place, scope_of
from .named import check_repositories
from .words import one_or
from .work import Work, perform

if TYPE_CHECKING:
    from ..records import Recorder
    from ..upkeep import Findings

__all__ = ["verify"]


@click.command(short_help="Read again what is stored; mend what is wrong.")
@options.places("The folder that is meant.")
@click.option("--repair", is_flag=True, help="Fetch again what is wrong, from where its record says it came from.")
@options.scope()
@click.option(
    "--older-than", type=options.Duration(bare=False), help="Only files not verified for so long: 12h, 30d, 8w."
)
@click.option("--sample", type=options.Share(), help="So many of them by chance, or that share, as in 5%.")
@click.option("--resume", is_flag=True, help="Go on with a verify of the same flags that was ended, if there is one.")
@click.option("--rate", type=options.Rate(), help="Read no more bytes a second than this, as in 200M.")
@click.option("--threads", type=click.IntRange(1, 512), help="Files read at once.  [default: one a processor]")
@options.download()
@options.identity()
@click.option("--durable", is_flag=True, help="A repair that is reported outlives a cut of power.")
@options.progress()
@options.json_flag("Tell of each file that is wrong on stdout, in JSON, and last of the whole.")
@options.verbosity()
def verify(**given: Any) -> int:
    """Read again what is stored, hold it against the records, and note in them what is missing or corrupt.

    Exits with 11 if anything is wrong, and with 2 if the records know no such file in the folder that is meant.  Where
    --into names none, a store that cannot be reached is told and left out, which is 12.  With
    --repair what is wrong is fetched again, proven, and replaced in one step; what no source has is put aside, never
    deleted.  It then exits with 0 if all was mended, else with 11.

    One that was ended, by Ctrl-C or by a crash, is gone on with by --resume: no file is read twice, and what it tells
    at the end is told of the whole.
    """
    if given["resume"] and given["sample"] is not None:
        raise click.UsageError("--resume goes on with a verify of all that fits; leave out --sample")
    return perform("verify", options.told(**given), _verify)


class _Sum:
    """What was found, and what became of it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.findings: Findings | None = None
        self.resumed = False
        self.away = Away(work)
        self.mended: Mended | None = None

    def fields(self, code: int) -> Mapping[str, Any]:
        """The last object of --json."""
        from .output import error_fields

        found = self.findings.as_dict() if self.findings is not None else {}
        counts = {name: value for name, value in found.items() if name not in ("ok", "wrong", "unlisted", "elapsed_s")}
        return {
            "event": "summary",
            "command": "verify",
            "ok": code == codes.OK,
            "exit_code": code,
            **counts,
            **self.away.fields(),
            "resumed": self.resumed,
            "elapsed_s": round(self._work.elapsed_s, 3),
            "repair": None if self.mended is None else dict(self.mended.counts),
            "signal": self._work.signals.received,
            "error": error_fields(self._work.error, self._work.console.clean),
        }


def _verify(work: Work) -> int:
    from .places import asked, names_of

    told = work.told
    total = _Sum(work)
    work.summary = total.fields
    with asked(told) as recorder:
        check_repositories(recorder, told["repository"])
        names = names_of(recorder, told)
        check_place(recorder, names, told)
        stores = total.away.others(recorder, names, **_counted(told))
        try:
            found = total.findings = _found(total, work, recorder, stores)
            _tell(work, found, total.away)
            if found.ok or not told["repair"]:
                return total.away.code(codes.OK if found.ok else codes.WRONG)
            mended = total.mended = Mended(work)
            mended.run(recorder, stores, found.checked - found.present, findings=found)
        finally:
            for store in stores.values():
                store.close()
    return total.away.code(codes.OK if mended.unmended == 0 else codes.WRONG)


def _counted(told: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, in the words of a count."""
    before = None if told["older_than"] is None else time.time() - told["older_than"]
    return {**scope_of(told), "fetched": True, "scrubbed_before": before}


def _found(total: _Sum, work: Work, recorder: Recorder, stores: Mapping[str, Any]) -> Findings:
    from ..upkeep import verify as read_again
    from .downloads import sink_for

    told = work.told
    note, began_at = _noted(work)
    total.resumed = began_at is not None
    found = read_again(
        recorder,
        stores,
        **scope_of(told),
        older_than_s=told["older_than"],
        sample=told["sample"],
        began_at=began_at,
        jobs=told["threads"],
        rate_bps=told["rate"],
        progress=_without_end(sink_for(work)),
    )
    work.console.above = None
    if note is not None:
        note.remove()
    # Without --into no others are left than those that could not be reached.
    return found if told["into"] else replace(found, passed_over=0)


def _noted(work: Work) -> tuple[Note | None, float | None]:
    """The note of this verify, and when it began if it is gone on with.  A sample needs none."""
    from .places import recorder_url

    told = work.told
    url = recorder_url(told)
    if url is None or told["sample"] is not None:
        return None, None
    note = Note(url, {**scope_of(told), "older_than_s": told["older_than"], "into": bool(told["into"])})
    began_at = note.began_at() if told["resume"] else None
    if began_at is not None and began_at <= time.time():
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(began_at))
        work.console.say(f"going on with the verify of {when}")
        return note, began_at
    if told["resume"]:
        work.console.say("no verify of these flags was ended before its end; all is read")
    try:
        note.write(time.time())
    except OSError as exc:
        work.console.say(f"this verify cannot be gone on with if it is ended: {exc}")
    return note, None


def _without_end(sink: Any) -> Any:
    """The sink; a plain one is not told of the end, since the findings say more."""
    from ..report import Plain

    return sink if not isinstance(sink, Plain) else lambda tally: None if tally.final else sink(tally)


def _tell(work: Work, found: Findings, away: Away) -> None:
    from .output import put

    for number, one in enumerate(found):
        if number < TOLD_MOST:
            work.console.fail(str(one))
        if work.as_json:
            put({"event": "file", "ok": False, **one.as_dict()})
    more = len(found.wrong) + found.unlisted - TOLD_MOST
    if more > 0:
        work.console.fail(f"{more:,} more {one_or(more, 'are')} wrong; geofetch units list --state tells them")
    work.console.say(found.summary() + away.summary())
