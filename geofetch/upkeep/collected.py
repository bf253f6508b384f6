"""What a gc did: frozen values, as a line of text and as plain JSON.

In: units, places, errors.  Out: Collected and Swept, and their sum, a Collection.  Never: I/O; a list that grows with
the number of files that went well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..errors import FetchError
from ..records import Unit
from ..report.tally import bytes_text, printable, time_text

__all__ = ["Became", "Collected", "Collection", "Gathering", "Swept", "What"]

What: TypeAlias = Literal["unit", "leftover", "link", "quarantined", "stray", "record"]
Became: TypeAlias = Literal["removed", "shared", "gone", "replaced", "failed", "missing"]

#: Of what went wrong, so much is listed.
LISTED = 10_000


@dataclass(frozen=True, slots=True)
class Collected:
    """One thing that a gc came to.

    ``what``: "unit", the record of one that was forgotten (``unit`` says all that it said); "leftover", a file that no
    unit is in any more; "link", to such a file; "quarantined", a file that a repair had put aside; "stray", a file that
    no record knows; "record", of a unit that was recorded while its file was removed.  ``state``: removed; shared (a
    unit is in it after all, and it stays); gone (it was not there any more); replaced (another file is there by now,
    and stays); failed (``error`` says why; the next gc tries again); missing (what a "record" now says: a repair
    fetches the file).  ``size``: its bytes.
    """

    what: What
    store: str
    key: str
    size: int | None
    state: Became
    error: FetchError | None = None
    unit: Unit | None = None

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return self.state not in ("failed", "missing")

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        unit = self.unit
        return {
            "what": self.what,
            "state": self.state,
            "store": self.store,
            "store_key": self.key,
            "size_bytes": self.size,
            "error": None if self.error is None else str(self.error),
            "unit": None
            if unit is None
            else {"id": unit.id, "type": unit.type, "key": dict(unit.key), "path": unit.path},
        }

    def __str__(self) -> str:
        why = f": {self.error}" if self.error is not None else ""
        return f"{printable(self.key)}: {self.state}{why}"


@dataclass(frozen=True, slots=True)
class Swept:
    """A store, and how many parts and uploads of dead processes were removed from it; ``able``: whether it can remove
    anything at all; ``aside``: how many files stay in its quarantine."""

    store: str
    count: int
    able: bool = True
    aside: int = 0


@dataclass(frozen=True, slots=True)
class Collection:
    """The sum of a gc; with ``dry_run`` of what it would do.

    ``units``: records that were forgotten.  ``removed``, ``shared``, ``gone``, ``replaced``, ``failed``: files and
    links, as a Collected says; of the removed ones ``strays`` are those that no record knew, ``quarantined`` those that
    a repair had put aside.  ``missing``: units that were recorded while their file was removed.  ``swept``: parts and
    uploads of dead processes.  ``aside``: files that stay in quarantine.  ``wrong``: the first 10,000 of what failed or
    is missing.  ``unable``: stores that cannot remove anything.
    """

    dry_run: bool = False
    units: int = 0
    removed: int = 0
    strays: int = 0
    quarantined: int = 0
    shared: int = 0
    gone: int = 0
    replaced: int = 0
    failed: int = 0
    missing: int = 0
    swept: int = 0
    aside: int = 0
    freed_bytes: int = 0
    wrong: tuple[Collected, ...] = ()
    unable: tuple[str, ...] = ()
    elapsed_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether all that was to go is gone, and nothing else."""
        return not (self.failed or self.missing or self.unable)

    @property
    def counts(self) -> Mapping[str, int]:
        """Files by what became of them."""
        return {name: getattr(self, name) for name in ("removed", "shared", "gone", "replaced", "failed", "missing")}

    def summary(self) -> str:
        """One line."""
        told = [f"{number:,} {state}" for state, number in self.counts.items() if number and state != "removed"]
        would, among = (" would be" if self.dry_run else ""), self._among()
        parts = [
            f"{_number(self.units, 'unit')}{would} forgotten",
            f"{_number(self.removed, 'file')}{would} removed{among}, {bytes_text(self.freed_bytes)}{would} freed",
            *told,
        ]
        if self.swept:
            parts.append(f"{self.swept:,} left by dead processes swept")
        if self.aside:
            parts.append(f"{self.aside:,} {'stays' if self.aside == 1 else 'stay'} in quarantine")
        return f"{', '.join(parts)} ({time_text(self.elapsed_s, fine=True)})"

    def _among(self) -> str:
        told = [_number(self.strays, "stray")] if self.strays else []
        told += [f"{self.quarantined:,} from quarantine"] if self.quarantined else []
        return f" ({', '.join(told)})" if told else ""

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON: the counts, and a list of what went wrong."""
        return {
            "ok": self.ok,
            "dry_run": self.dry_run,
            "units": self.units,
            **self.counts,
            "strays": self.strays,
            "quarantined": self.quarantined,
            "swept": self.swept,
            "aside": self.aside,
            "freed_bytes": self.freed_bytes,
            "unable": list(self.unable),
            "elapsed_s": round(self.elapsed_s, 3),
            "wrong": [one.as_dict() for one in self.wrong],
        }

    def __iter__(self) -> Iterator[Collected]:
        return iter(self.wrong)

    def __str__(self) -> str:
        return self.summary()


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


class Gathering:
    """A sum while it grows.  ``counts``, ``checked`` and ``read_bytes`` are in the words of those who tell progress."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.checked = 0
        self.read_bytes = 0
        self._told: Counter[str] = Counter()
        self._wrong: list[Collected] = []
        self._unable: list[str] = []

    def add(self, one: Collected | Swept) -> None:
        """One more."""
        if isinstance(one, Swept):
            self._told["swept"] += one.count
            self._told["aside"] += one.aside
            if not one.able:
                self._unable.append(one.store)
        elif one.what == "unit":
            self._told["units"] += 1
        else:
            self._add_file(one)

    def _add_file(self, one: Collected) -> None:
        self.checked += 1
        self.counts["present"] += one.ok
        self._told[one.state] += 1
        if not one.ok and len(self._wrong) < LISTED:
            self._wrong.append(one)
        if one.state == "removed":
            self._told["strays"] += one.what == "stray"
            self._told["quarantined"] += one.what == "quarantined"
            self.read_bytes += one.size or 0

    def whole(self, dry_run: bool, elapsed_s: float) -> Collection:
        """The sum as it is now."""
        files = ("removed", "strays", "quarantined", "shared", "gone", "replaced", "failed", "missing")
        names = ("units", *files, "swept", "aside")
        return Collection(
            dry_run,
            **{name: self._told[name] for name in names},
            freed_bytes=self.read_bytes,
            wrong=tuple(self._wrong),
            unable=tuple(self._unable),
            elapsed_s=elapsed_s,
        )
