"""Stored files that are wrong, fetched again; what ``verify --repair`` and ``repair`` have in common.

In: findings, or filters for what the records call wrong.  Out: each repair as it comes, and their sum.  Never: more
than a few failures told one by one; a failure that is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import click

from .words import counted
from .work import Work

if TYPE_CHECKING:
    from ..records import Recorder
    from ..upkeep import Repair

__all__ = ["Mended", "check_place", "scope_of"]

#: Wrong files that are told one by one; the others are counted.
TOLD_MOST = 100
#: In the order in which people want to know it.
BECAME = ("repaired", "present", "quarantined", "missing", "corrupt", "unknown")
FOUND = ("corrupt", "missing", "quarantined", "unknown")


class Mended:
    """Repairs as they come, told and counted: ``by`` what was found, and by what became of it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self.by: dict[str, Counter[str]] = {}
        self.unmended = 0
        self.fetched_bytes = 0
        #: How often a source's origin served wrong bytes.
        self.liars: Counter[str] = Counter()

    @property
    def counts(self) -> Counter[str]:
        """Files by what became of them."""
        return sum(self.by.values(), Counter())

    def run(self, recorder: Recorder, stores: Mapping[str, Any], total: int | None, **wanted: Any) -> None:
        """Mend what is ``wanted`` (heal's own words for it), ``total`` files of it."""
        from ..upkeep import heal
        from .downloads import report_for, settings

        work, profiles = self._work, set[str]()
        report = report_for(work) if total != 0 else None
        if report is not None and total is not None:
            report.expect(total)
        repairs = heal(
            recorder,
            stores,
            size=work.told["jobs"],
            progress=False if report is None else report,
            decode=bool(work.told["decode"]),
            **settings(work),
            **wanted,
        )
        with report or nullcontext(), closing(repairs):  # type: ignore[type-var]
            for one in repairs:
                profiles.update(_not_given(one))
                self._tell(one)
        work.console.above = None
        told = ", ".join(f"{count} {state}" for state, count in sorted(self.counts.items()))
        work.console.say(f"to repair: {told or 'nothing'}")
        if profiles:
            named = ", ".join(sorted(profiles))
            work.console.fail(
                f"records name profiles that are not kept here ({named}); geofetch profiles add NAME keeps one,"
                " --profiles FILE names another file; or fetch such a file again by"
                " geofetch get URL --into DIR -o PATH, with --header and the like"
            )
        for origin, count in self.liars.most_common(10):
            work.console.say(f"{origin} served wrong bytes, {counted(count, 'time')}; its records say so")

    def _tell(self, one: Repair) -> None:
        from ..upkeep.ask import origin_of
        from .output import put

        work = self._work
        self.by.setdefault(one.was, Counter())[one.state] += 1
        self.unmended += not one.ok
        self.fetched_bytes += one.fetched_bytes
        for source in one.wrong_bytes_from:
            self.liars[origin_of(source)] += 1
        if not one.ok and self.unmended <= TOLD_MOST:
            work.console.fail(f"not mended: {one}")
        elif self.unmended == TOLD_MOST + 1 and not one.ok:
            work.console.fail("more are not mended; they are counted, and told one by one with --json")
        if work.as_json:
            put({"event": "repair", "ok": one.ok, **one.as_dict()})

    def table(self) -> Iterator[tuple[str, ...]]:
        """A row for each that was found: how many, and what became of them."""
        from .tables import count_text

        for found in sorted(self.by, key=lambda one: FOUND.index(one) if one in FOUND else len(FOUND)):
            became = self.by[found]
            yield (found, *(count_text(became[state]) for state in BECAME), count_text(became.total()))

    @staticmethod
    def columns() -> tuple[str, ...]:
        """The head of that table."""
        return ("found", *BECAME, "files")


def _not_given(one: Repair) -> Iterator[str]:
    """The names of the profiles without which sources of this file were not asked."""
    from ..errors import SpecError

    error: Any = one.error
    for source, each in getattr(error, "errors", ()) or ((getattr(error, "source", None), error),):
        if isinstance(each, SpecError) and source is not None and source.profile is not None:
            yield source.profile


def scope_of(told: Mapping[str, Any]) -> dict[str, Any]:
    """Which files are asked for, in the words of a Recorder."""
    return {"repository": told["repository"], "type": told["type_"], "path": told["pattern"]}


def check_place(recorder: Recorder, names: Collection[str], told: Mapping[str, Any]) -> None:
    """A usage error where these records know no file of these stores: nothing would be read, and look verified."""
    # Not by age and not by chance: a folder whose files were all read yesterday is the right one.
    asked = scope_of(told)
    if any(recorder.count(store=name, **asked) for name in names):
        return
    other = next(recorder.units(**asked), None)
    if other is None:
        if not any(recorder.count(store=name) for name in names):
            where = f" in {told['into']}" if told["into"] else ""
            raise click.UsageError(
                f"nothing was checked: these records know no file{where}; give"
                " the records that are about the files, or store some by geofetch sync"
            )
        return
    from .places import root_of

    more = " and in others" if recorder.count(store=other.store, **asked) < recorder.count(**asked) else ""
    there = root_of(other.store) or other.store or "a store without a name"
    raise click.UsageError(
        f"nothing was checked: these records know no such file in {told['into']}, but in {there}{more}; give the folder"
        " that they are about, or, for a copy of it, copy it together with its .geofetch"
        + (", and leave out --db" if told["db"] else "")
    )
