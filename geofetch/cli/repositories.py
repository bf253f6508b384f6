"""``geofetch repositories``: how much is in each, what is in one, and in what two of them differ.

In: names.  Out: a table on a terminal, fields parted by TABs elsewhere, JSON with --json.  Never: a change; that is
membership.py's.

``--json`` gives an object for each repository (``list``, ``show``)

    name, units, bytes
    states          units by state, {"present": 9, "missing": 1}
    not_fetched     units that are wanted and were never stored; they are in no state, and have no bytes

and for each difference (``diff A B``)

    path
    change          "added" (B alone has it), "removed" (A alone), "changed" (another file of the same path)
    before, after   null, or what the file was and is: {"id", "size_bytes", "digests": {"sha256": "…"}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from . import codes, membership, options
from .named import check_repositories
from .work import Work, perform

if TYPE_CHECKING:
    from ..records import Recorder, Unit
    from ..records.census import RepositorySum

__all__ = ["repositories"]

COLUMNS = ("name", "units", "bytes", "wrong", "not fetched")
FIELDS = ("what", "count")
MARKS = {"added": "+", "removed": "-", "changed": "~"}


@click.group(short_help="List repositories; compare, fill and remove them.")
def repositories() -> None:
    """List repositories, show what is in one, compare two of them, put units into one, remove one.

    What a sync --mirror took off a repository keeps its record and its file, until geofetch units gc removes them.
    """


repositories.add_command(membership.add)
repositories.add_command(membership.remove)


@repositories.command("list", short_help="List repositories.")
@options.places("The folder whose records are meant.")
@options.asking("One JSON object a repository.")
def listed(**given: Any) -> int:
    """List repositories: units, bytes, how many units are not as they should be, and how many are not fetched yet.

    Piped, a line is a repository, its fields parted by TABs: name, units, bytes, wrong, not fetched.
    """
    return perform("repositories list", given, _list)


@repositories.command("show", short_help="Show how much is in a repository.")
@click.argument("name", metavar="NAME")
@options.places("The folder whose records are meant.")
@options.asking("One JSON object.")
def described(**given: Any) -> int:
    """Show how much is in one repository, and in which states.

    Its units are listed by geofetch units list --repository NAME.
    """
    return perform("repositories show", given, _show)


@repositories.command("diff", short_help="Compare two repositories.")
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@options.places("The folder whose records are meant.")
@options.asking("One JSON object a difference.")
def diff(**given: Any) -> int:
    """Compare two repositories by path and digest: what B adds (+), lacks (-) and has otherwise (~)."""
    return perform("repositories diff", given, _diff)


def _list(work: Work) -> int:
    from .output import put
    from .places import asked
    from .tables import count_text, show

    with asked(work.told) as recorder:
        sums = recorder.repository_sums()
    if work.as_json:
        for one in sums:
            put(_fields(one))
    else:
        rows = ((one.name, *map(count_text, (one.units, one.size, _wrong(one), one.not_fetched))) for one in sums)
        show(COLUMNS, rows, right=COLUMNS[1:], long=("name",))
    return codes.OK


def _show(work: Work) -> int:
    from .output import put
    from .places import asked
    from .tables import count_text, show

    name = work.told["name"]
    with asked(work.told) as recorder:
        check_repositories(recorder, name)
        found = next(one for one in recorder.repository_sums() if one.name == name)
    if work.as_json:
        put(_fields(found))
    else:
        told = {"units": found.units, "bytes": found.size, **found.states}
        if found.not_fetched:
            told["not fetched"] = found.not_fetched
        show(FIELDS, ((what, count_text(count)) for what, count in told.items()), right=("count",))
    return codes.OK


def _fields(one: RepositorySum) -> dict[str, Any]:
    return {
        "name": one.name,
        "units": one.units,
        "bytes": one.size,
        "states": dict(one.states),
        "not_fetched": one.not_fetched,
    }


def _wrong(one: RepositorySum) -> int:
    return one.units - one.not_fetched - one.states.get("present", 0)


def _diff(work: Work) -> int:
    from .output import put
    from .places import asked
    from .tables import show

    one, other = work.told["one"], work.told["other"]
    with asked(work.told) as recorder:
        check_repositories(recorder, one, other)
        changes = _changes(recorder, one, other)
        if work.as_json:
            for change in changes:
                put(change)
        else:
            show(("", "path", "before", "after"), map(_cells, changes), long=("path", "before", "after"))
    return codes.OK


def _changes(recorder: Recorder, one: str, other: str) -> Iterator[dict[str, Any]]:
    """The differences, those of one path together; in memory is only what ``one`` alone has."""
    removed: dict[str, list[Unit]] = {}
    for unit in recorder.only_in(one, other):
        removed.setdefault(unit.path, []).append(unit)
    for unit in recorder.only_in(other, one):
        before = removed.get(unit.path, [])
        same = next((each for each in before if _same(each, unit)), None)
        old = same or next(iter(before), None)
        if old is not None:
            before.remove(old)
        if same is None:
            yield _change(unit.path, old, unit)
    for path, units in removed.items():
        yield from (_change(path, unit, None) for unit in units)


def _same(old: Unit, new: Unit) -> bool:
    """Whether both are shown to be the same bytes."""
    known = old.digest_map
    common = [known[digest.algorithm] == digest for digest in new.digests if digest.algorithm in known]
    return old.size == new.size and bool(common) and all(common)


def _change(path: str, old: Unit | None, new: Unit | None) -> dict[str, Any]:
    change = "added" if old is None else "removed" if new is None else "changed"
    return {"path": path, "change": change, "before": _file(old), "after": _file(new)}


def _file(unit: Unit | None) -> dict[str, Any] | None:
    if unit is None:
        return None
    digests = {digest.algorithm: digest.hex for digest in unit.digests}
    return {"id": unit.id, "size_bytes": unit.size, "digests": digests}


def _cells(change: Mapping[str, Any]) -> tuple[str, ...]:
    return MARKS[change["change"]], change["path"], _short(change["before"]), _short(change["after"])


def _short(file: Mapping[str, Any] | None) -> str:
    if file is None:
        return "-"
    proof = next((f"{name}:{value[:16]}" for name, value in file["digests"].items()), "no digest")
    return f"{file['size_bytes']} bytes, {proof}"
