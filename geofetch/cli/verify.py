"""``geofetch verify``: stored files read again and held against their records; what is wrong fetched again, if asked.

In: which files.  Out: exit code 11 if anything is wrong, with --repair: if anything could not be mended.  Never: a file
deleted, or replaced by anything but proven bytes.

``--json`` gives an object for each file that is wrong, with --repair another one for what became of it

    event           "file", "repair"
    id, type, key, path, store, store_key, size_bytes   the unit, as its record has it
    ok              whether the file is there now, proven
    state           "file": missing, corrupt, quarantined (put aside earlier), unknown (it could not be read);
                    "repair": also repaired, present (it was right after all)
    was, why        "file": what the record said before, and what is wrong
    source, error, aside    "repair": where from; why not; where the wrong file was put

and, last, one for the whole

    event           "summary"
    command         "verify"
    ok, exit_code
    checked, present, missing, corrupt, quarantined, unknown, passed_over    files, as they were found
    read_bytes, elapsed_s
    repair          null, or files by what became of them: {"repaired", "present", "missing", …}
    signal, error   as get's and sync's (output.py)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .work import Work, perform

if TYPE_CHECKING:
    from ..records import Recorder
    from ..upkeep import Findings, Repair

__all__ = ["verify"]

#: Wrong files that are told one by one; the others are counted.
TOLD_MOST = 100


@click.command(short_help="Read again what is stored; mend what is wrong.")
@options.places("The folder that is meant.")
@click.option("--repair", is_flag=True, help="Fetch again what is wrong, from where its record says it came from.")
@click.option("--repository", metavar="NAME", help="Only files of this repository.")
@click.option("--type", "type_", metavar="TYPE", help="Only files of units of this type.")
@click.option("--path", "pattern", metavar="PATTERN", help="Only files of this path; * stands for anything.")
@click.option("--older-than", type=options.Duration(), help="Only files not verified for so long, as in 30d.")
@click.option("--sample", type=options.Share(), help="So many of them by chance, or that share, as in 5%.")
@options.download()
@options.identity()
@click.option("--durable", is_flag=True, help="A repair that is reported outlives a cut of power.")
@options.progress()
@options.json_flag("Tell of each file that is wrong on stdout, in JSON, and last of the whole.")
@options.verbosity()
def verify(**given: Any) -> int:
    """Read again what is stored, hold it against the records, and note in them what is missing or corrupt.

    Exits with 11 if anything is wrong, and with 2 if the records know no such file in the folder that is meant.  With
    --repair what is wrong is fetched again, proven, and replaced in one step; what no source has is put aside, never
    deleted.  It then exits with 0 if all was mended, else with 11.
    """
    return perform("verify", options.told(**given), _verify)


class _Sum:
    """What was found, and what became of it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.findings: Findings | None = None
        self.repairs: Counter[str] | None = None
        self.unmended = 0

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
            "elapsed_s": round(self._work.elapsed_s, 3),
            "repair": None if self.repairs is None else dict(self.repairs),
            "signal": self._work.signals.received,
            "error": error_fields(self._work.error, self._work.console.clean),
        }


def _verify(work: Work) -> int:
    from .places import asked, stores_of

    told = work.told
    total = _Sum(work)
    work.summary = total.fields
    with asked(told) as recorder:
        if told["repository"] is not None and told["repository"] not in recorder.repositories():
            raise click.UsageError(f"no repository is called {told['repository']!r} in these records")
        stores = stores_of(recorder, told)
        _check_place(recorder, stores, told)
        try:
            found = total.findings = _found(work, recorder, stores)
            _tell(work, found)
            if found.ok or not told["repair"]:
                return codes.OK if found.ok else codes.WRONG
            _repair(work, recorder, stores, total)
        finally:
            for store in stores.values():
                store.close()
    return codes.OK if total.unmended == 0 else codes.WRONG


def _check_place(recorder: Recorder, stores: Mapping[str, Any], told: Mapping[str, Any]) -> None:
    """A usage error where these records know other folders alone: nothing would be read, and it would look verified."""
    # Not by age and not by chance: a folder whose files were all read yesterday is the right one.
    asked = {"repository": told["repository"], "type": told["type_"], "path": told["pattern"]}
    if any(recorder.count(store=name, **asked) for name in stores):
        return
    other = next(recorder.units(**asked), None)
    if other is None:
        return
    from .places import root_of

    more = " and in others" if recorder.count(store=other.store, **asked) < recorder.count(**asked) else ""
    there = root_of(other.store) or other.store or "a store without a name"
    raise click.UsageError(
        f"nothing was checked: these records know no such file in {told['into']}, but in {there}{more}; give the folder"
        " that they are about, or, for a copy of it, copy it together with its .geofetch"
        + (", and leave out --db" if told["db"] else "")
    )


def _found(work: Work, recorder: Recorder, stores: Mapping[str, Any]) -> Findings:
    from ..upkeep import verify as read_again
    from .downloads import sink_for

    told = work.told
    found = read_again(
        recorder,
        stores,
        repository=told["repository"],
        type=told["type_"],
        path=told["pattern"],
        older_than_s=told["older_than"],
        sample=told["sample"],
        progress=_without_end(sink_for(work)),
    )
    work.console.above = None
    return found


def _without_end(sink: Any) -> Any:
    """The sink; a plain one is not told of the end, since the findings say more."""
    from ..report import Plain

    return sink if not isinstance(sink, Plain) else lambda tally: None if tally.final else sink(tally)


def _tell(work: Work, found: Findings) -> None:
    from .output import put

    for number, one in enumerate(found):
        if number < TOLD_MOST:
            work.console.fail(str(one))
        if work.as_json:
            put({"event": "file", "ok": False, **one.as_dict()})
    more = len(found.wrong) + found.unlisted - TOLD_MOST
    if more > 0:
        work.console.fail(f"{more} more are wrong; geofetch units list --state tells them")
    work.console.say(found.summary())


def _repair(work: Work, recorder: Recorder, stores: Mapping[str, Any], total: _Sum) -> None:
    from ..upkeep import heal
    from .downloads import report_for, settings
    from .output import put

    report = report_for(work)
    repairs = heal(
        recorder,
        stores,
        findings=total.findings,
        size=work.told["jobs"],
        progress=False if report is None else report,
        decode=bool(work.told["decode"]),
        **settings(work),
    )
    counts = total.repairs = Counter()
    profiles: set[str] = set()
    with report or nullcontext(), closing(repairs):  # type: ignore[type-var]
        for one in repairs:
            counts[one.state] += 1
            total.unmended += not one.ok
            profiles.update(_not_given(one))
            if not one.ok and total.unmended <= TOLD_MOST:
                work.console.fail(f"not mended: {one}")
            if work.as_json:
                put({"event": "repair", "ok": one.ok, **one.as_dict()})
    work.console.above = None
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    work.console.say(f"to repair: {told or 'nothing'}")
    if profiles:
        named = ", ".join(sorted(profiles))
        work.console.fail(
            f"records name profiles that are not kept here ({named}); geofetch profiles add NAME keeps one, --profiles"
            " FILE names another file; or fetch such a file again by geofetch get URL --into DIR -o PATH, with --header"
            " and the like"
        )


def _not_given(one: Repair) -> Iterator[str]:
    """The names of the profiles without which sources of this file were not asked."""
    from ..errors import SpecError

    error: Any = one.error
    for source, each in getattr(error, "errors", ()) or ((getattr(error, "source", None), error),):
        if isinstance(each, SpecError) and source is not None and source.profile is not None:
            yield source.profile
