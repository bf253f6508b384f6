"""``geofetch sources``: where files can come from, how each source has done, and whether it answers now.

In: filters, or one unit.  Out: a table on a terminal, fields parted by TABs elsewhere, JSON with --json.  Never: a file
fetched; a query that is shown; a word to the records, unless --note asks for it.

``--json`` of ``list`` gives an object for each source

    id, path        the unit
    url             without userinfo, the values of its query masked
    origin, priority, weight, profile
    last_ok_at, last_failed_at    microseconds since 1970; null: never
    failures        how many in a row
    last_error      null, or the name of the last error
    cooldown_until  until when it is better left alone; null: it did not fail last
    expires_at      from when on it is asked only where all have expired; null: never
    etag, last_modified    what it said of the file when it last gave it; null: nothing

with ``--origins`` one for each origin and profile

    origin, profile, sources, failing, last_ok_at, last_failed_at

and that of ``test`` one for each source that was asked, and a summary

    event           "source", "summary"
    id, path, url, origin, profile    as above
    ok              whether it answers, and offers as many bytes as the record has
    status, size_bytes    what it answered; null: nothing
    elapsed_s
    error           null, or as get's and sync's (output.py)

    command         "sources test"
    ok, exit_code, asked, answered, failed, elapsed_s, signal, error
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from . import codes, options
from .named import check_repositories, unit_named
from .words import counted
from .work import Work, perform

if TYPE_CHECKING:
    from ..records import Recorder, Unit
    from ..records.units import Health
    from ..spec import Source
    from ..upkeep import Answer

__all__ = ["sources"]

#: Seconds after which it is told how many units were looked through.
EVERY_S = 5.0


@click.group(short_help="List where files come from; ask whether it answers.")
def sources() -> None:
    """List where files can come from and how each source has done; ask sources whether they answer."""


def _which(command: Any) -> Any:
    command = click.option("--unit", metavar="UNIT", help="Only sources of this unit: its path, its id or its key.")(
        command
    )
    return options.places("The folder whose records are meant.")(options.scope()(command))


@sources.command("list", short_help="List sources, and how each has done.")
@_which
@click.option("--failing", is_flag=True, help="Only sources that failed the last time.")
@click.option("--origins", is_flag=True, help="Sum them up by origin and profile.")
@options.asking("One JSON object a source, or an origin.")
def listed(**given: Any) -> int:
    """List each source: URL, priority, weight, profile, when it last served and failed, failures in a row."""
    return perform("sources list", given, _list)


@sources.command("test", short_help="Ask some sources whether they answer.")
@_which
@click.option("--per-origin", type=click.IntRange(1), default=1, show_default=True, help="Sources of each origin.")
@click.option("--note", is_flag=True, help="Note in the records how they did.")
@click.option("-j", "--jobs", type=click.IntRange(1), default=16, show_default=True, help="Asked at once.")
@click.option("--timeout", type=options.Duration(), default=10.0, help="Longest wait for an answer.  [default: 10s]")
@options.identity()
@options.asking("One JSON object a source, and last of the whole.")
def tested(**given: Any) -> int:
    """Ask a sample of sources, some of each origin, by a HEAD, or for one byte where that is refused.

    Exits with 0 if all of them answer, else with the code of what failed.  The records learn of it with --note alone.
    """
    return perform("sources test", options.told(**given), _test)


def _units(work: Work, recorder: Recorder) -> Iterator[Unit]:
    """The units that are meant; whoever waits for long is told how far it is."""
    from .mending import scope_of

    told = work.told
    check_repositories(recorder, told["repository"])
    if told["unit"] is not None:
        yield unit_named(recorder, told["unit"])
        return
    tell_at = time.monotonic() + EVERY_S
    for number, unit in enumerate(recorder.units(**scope_of(told)), 1):
        yield unit
        if time.monotonic() >= tell_at:
            tell_at = time.monotonic() + EVERY_S
            work.console.say(f"{counted(number, 'unit', 'were')} looked through")


# ------------------------------------------------------------------------------------------------------------- list

COLUMNS = ("priority", "weight", "profile", "served", "failed", "failures", "cooldown", "path", "url")
ORIGINS = ("origin", "profile", "sources", "failing", "served", "failed")


def _list(work: Work) -> int:
    from .output import put
    from .places import asked
    from .tables import show

    with asked(work.told) as recorder:
        found = _each(work, recorder)
        rows = _summed(found) if work.told["origins"] else map(_fields, found)
        if work.as_json:
            for row in rows:
                put(row)
        elif work.told["origins"]:
            show(ORIGINS, map(_origin_cells, rows), right=("sources", "failing"), long=("origin",))
        else:
            show(COLUMNS, map(_cells, rows), right=("priority", "weight", "failures"), long=("path", "url"))
    return codes.OK


Row = tuple["Unit", "Source", "Health"]


def _each(work: Work, recorder: Recorder) -> Iterator[Row]:
    for unit in _units(work, recorder):
        for source, health in zip(unit.sources, unit.health, strict=True):
            if health.failures or not work.told["failing"]:
                yield unit, source, health


def _fields(row: Row) -> dict[str, Any]:
    unit, source, health = row
    return {
        **_named(unit, source),
        "priority": source.priority,
        "weight": source.weight,
        "last_ok_at": health.last_ok_at,
        "last_failed_at": health.last_failed_at,
        "failures": health.failures,
        "last_error": health.last_error,
        "cooldown_until": health.cooldown_until,
        "expires_at": None if source.expires_at is None else round(source.expires_at * 1_000_000),
        "etag": health.etag,
        "last_modified": health.last_modified,
    }


def _named(unit: Unit, source: Source) -> dict[str, Any]:
    from ..upkeep.ask import origin_of

    return {
        "id": unit.id,
        "path": unit.path,
        "url": source.shown,
        "origin": origin_of(source),
        "profile": source.profile,
    }


def _summed(found: Iterator[Row]) -> Iterator[dict[str, Any]]:
    """A row for each origin and profile; there are few of them, however many units there are."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for row in found:
        one = _fields(row)
        known = sums.setdefault(
            (one["origin"], one["profile"] or ""),
            {"origin": one["origin"], "profile": one["profile"], "sources": 0, "failing": 0}
            | dict.fromkeys(("last_ok_at", "last_failed_at")),
        )
        known["sources"] += 1
        known["failing"] += bool(one["failures"])
        for name in ("last_ok_at", "last_failed_at"):
            if one[name] is not None:
                known[name] = max(known[name] or 0, one[name])
    yield from (sums[name] for name in sorted(sums))


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    failed = _when(one["last_failed_at"])
    return (
        str(one["priority"]),
        str(one["weight"]),
        one["profile"] or "-",
        _when(one["last_ok_at"]),
        f"{failed} ({one['last_error']})" if one["last_error"] else failed,
        str(one["failures"]),
        _when(one["cooldown_until"]),
        one["path"],
        one["url"],
    )


def _origin_cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    from .tables import count_text

    counts = count_text(one["sources"]), count_text(one["failing"])
    return one["origin"], one["profile"] or "-", *counts, _when(one["last_ok_at"]), _when(one["last_failed_at"])


def _when(at: int | None) -> str:
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at / 1_000_000))


# ------------------------------------------------------------------------------------------------------------- test

ANSWERS = ("answer", "bytes", "seconds", "profile", "url")


def _test(work: Work) -> int:
    from ..upkeep import ask, sample
    from .downloads import session_for
    from .kept import kept_by
    from .output import put
    from .places import asked
    from .tables import show

    told = work.told
    total = _Sum(work)
    work.summary = total.fields
    with asked(told) as recorder:
        chosen = sample(_units(work, recorder), told["per_origin"])
        session = session_for(work)
        answers = ask(
            chosen,
            session=session,
            profiles=kept_by(work),
            timeout_s=told["timeout"],
            jobs=told["jobs"],
            note=recorder if told["note"] else None,
        )
        with closing(answers):  # type: ignore[type-var]
            if work.as_json:
                for one in total.told(answers):
                    put(_answer_fields(work, one))
            else:
                # A table is as wide as its widest cell: on a terminal it comes when all have answered.
                rows = [_answer_cells(one) for one in total.told(answers)]
                show(ANSWERS, rows, right=("bytes", "seconds"), long=("url",))
    work.console.say(f"{counted(total.asked, 'source', 'were')} asked, {total.asked - total.failed:,} answered")
    return codes.of_all(total.codes)


class _Sum:
    """How many answered, and the codes of those that did not."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.asked = self.failed = 0
        self.codes: set[int] = set()

    def told(self, answers: Iterator[Answer]) -> Iterator[Answer]:
        """The answers, counted."""
        for one in answers:
            self.asked += 1
            if one.error is not None:
                self.failed += 1
                self.codes.add(codes.code_of(one.error))
                self._work.console.fail(str(one.error))
            yield one

    def fields(self, code: int) -> Mapping[str, Any]:
        """The last object of --json."""
        from .output import error_fields

        return {
            "event": "summary",
            "command": "sources test",
            "ok": code == codes.OK,
            "exit_code": code,
            "asked": self.asked,
            "answered": self.asked - self.failed,
            "failed": self.failed,
            "elapsed_s": round(self._work.elapsed_s, 3),
            "signal": self._work.signals.received,
            "error": error_fields(self._work.error, self._work.console.clean),
        }


def _answer_fields(work: Work, one: Answer) -> dict[str, Any]:
    from .output import error_fields

    return {
        "event": "source",
        **_named(one.unit, one.source),
        "ok": one.ok,
        "status": one.status,
        "size_bytes": one.size,
        "elapsed_s": round(one.elapsed_s, 3),
        "error": error_fields(one.error, work.console.clean),
    }


def _answer_cells(one: Answer) -> tuple[str, ...]:
    said = type(one.error).__name__ if one.error is not None else "ok"
    answer = said if one.status is None else f"{said} ({one.status})"
    size = "-" if one.size is None else str(one.size)
    return answer, size, f"{one.elapsed_s:.3f}", str(one.source.profile or "-"), one.source.shown
