"""What upkeep found, and what it did: frozen values, as a line of text and as plain JSON.

In: units, states, errors.  Out: Finding and Findings, Repair and Repaired.  Never: I/O; a list that grows with the
number of files that are right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeAlias, get_args

from ..errors import FetchError
from ..events import Kept
from ..records import Unit
from ..report.tally import bytes_text, printable, time_text
from ..spec import Source

__all__ = ["Finding", "Findings", "Found", "Gathered", "Mended", "Repair", "Repaired"]

#: What a look at a stored file ends in; unknown: it could not be looked at, and the records were told nothing.
Found: TypeAlias = Literal["present", "missing", "corrupt", "quarantined", "unknown"]
#: What became of a file that was wrong; present: it was right after all.
Mended: TypeAlias = Literal["repaired", "present", "missing", "corrupt", "quarantined", "unknown"]

#: Of what is wrong, so many are listed; the records know them all.
LISTED = 10_000


def _named(unit: Unit) -> dict[str, Any]:
    return {
        "id": unit.id,
        "type": unit.type,
        "key": dict(unit.key),
        "path": unit.path,
        "store": unit.store,
        "store_key": unit.store_key,
        "size_bytes": unit.size,
    }


@dataclass(frozen=True, slots=True)
class Finding:
    """One stored file, held against its record.

    ``unit``: the record, with its state and place as they are now.  ``state``: present (proven), missing, corrupt,
    quarantined (put aside by an earlier repair, and not there since), or unknown: it could not be read for a reason
    that says nothing about its bytes (``error``: no permission, say), and the record is as it was.  ``was``: what the
    record said before.  ``why``: what proved it, or what is wrong.  ``read_bytes``: of the file.  ``seen``: what the
    store said of the file.
    """

    unit: Unit
    state: Found
    was: str
    why: str
    read_bytes: int = 0
    error: FetchError | None = None
    seen: Kept | None = None

    @property
    def ok(self) -> bool:
        """Whether the file is there, proven."""
        return self.state == "present"

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**_named(self.unit), "state": self.state, "was": self.was, "why": self.why}

    def __str__(self) -> str:
        return f"{printable(self.unit.path)}: {self.state}: {self.why}"


@dataclass(frozen=True, slots=True)
class Findings:
    """The sum of a verify: how many files are in which state, and what is wrong.

    ``wrong``: every Finding but those of present files, the first 10,000 of them; ``unlisted``: how many more there are
    (the records know them).  ``passed_over``: units in other stores than those that were given.  ``not_fetched``: units
    that are wanted and were never stored: nothing is wrong with them.  ``began_at``: seconds since 1970.
    """

    present: int = 0
    missing: int = 0
    corrupt: int = 0
    quarantined: int = 0
    unknown: int = 0
    passed_over: int = 0
    not_fetched: int = 0
    wrong: tuple[Finding, ...] = ()
    unlisted: int = 0
    read_bytes: int = 0
    began_at: float = 0.0
    elapsed_s: float = 0.0

    @property
    def counts(self) -> Mapping[str, int]:
        """Files by state."""
        return {state: getattr(self, state) for state in get_args(Found)}

    @property
    def checked(self) -> int:
        """How many files were looked at."""
        return sum(self.counts.values())

    @property
    def ok(self) -> bool:
        """Whether every file that was looked at is present."""
        return self.checked == self.present

    def summary(self) -> str:
        """One line."""
        read = f"{bytes_text(self.read_bytes)} read in {time_text(self.elapsed_s, fine=True)}"
        later = f"; {self.not_fetched:,} not fetched yet" if self.not_fetched else ""
        return f"{_summed(self.checked, 'checked', self.counts, self.passed_over)}{later} ({read})"

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON: the counts, and a list of what is wrong."""
        return {
            "ok": self.ok,
            "checked": self.checked,
            **self.counts,
            "passed_over": self.passed_over,
            "not_fetched": self.not_fetched,
            "read_bytes": self.read_bytes,
            "elapsed_s": round(self.elapsed_s, 3),
            "wrong": [one.as_dict() for one in self.wrong],
            "unlisted": self.unlisted,
        }

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.wrong)

    def __str__(self) -> str:
        return self.summary()


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of one file that was wrong.

    ``state``: repaired (fetched again, proven, in its place), present (it was right after all), quarantined (no source
    had it; the wrong file lies at ``aside`` now), missing (no source had it), corrupt (it could not be replaced, for a
    reason that is no source's or because a source was not asked, and is where it was), unknown (it could not be read).
    ``was``: what was found, or what the records said.  ``unit``: the record, with its state and place as they are now.
    ``source``: where it was fetched from.  ``error``: why it is not repaired.  ``wrong_bytes_from``: sources that
    served something else than the file.
    """

    unit: Unit
    state: Mended
    was: str
    error: FetchError | None = None
    source: Source | None = None
    aside: Any = None
    fetched_bytes: int = 0
    wrong_bytes_from: tuple[Source, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the file is there now, proven."""
        return self.state in ("repaired", "present")

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            **_named(self.unit),
            "state": self.state,
            "was": self.was,
            "error": None if self.error is None else str(self.error),
            "source": None if self.source is None else self.source.shown,
            "aside": None if self.aside is None else str(self.aside),
            "wrong_bytes_from": [source.shown for source in self.wrong_bytes_from],
        }

    def __str__(self) -> str:
        why = f": {self.error}" if self.error is not None else ""
        return f"{printable(self.unit.path)}: {self.state}{why}"


@dataclass(frozen=True, slots=True)
class Repaired:
    """The sum of a repair: what became of how many files, and those that are still wrong.

    ``wrong``: every Repair of a file that is not there now, the first 10,000 of them; ``unlisted``: how many more.
    ``passed_over``: units in other stores than those that were given.
    """

    repaired: int = 0
    present: int = 0
    missing: int = 0
    corrupt: int = 0
    quarantined: int = 0
    unknown: int = 0
    passed_over: int = 0
    wrong: tuple[Repair, ...] = ()
    unlisted: int = 0
    fetched_bytes: int = 0
    elapsed_s: float = 0.0

    @property
    def counts(self) -> Mapping[str, int]:
        """Files by what became of them."""
        return {state: getattr(self, state) for state in get_args(Mended)}

    @property
    def tried(self) -> int:
        """How many files were to be repaired."""
        return sum(self.counts.values())

    @property
    def ok(self) -> bool:
        """Whether all of them are there now, proven."""
        return self.tried == self.repaired + self.present

    def summary(self) -> str:
        """One line."""
        return _summed(self.tried, "to repair", self.counts, self.passed_over)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON: the counts, and a list of what is still wrong."""
        return {
            "ok": self.ok,
            "tried": self.tried,
            **self.counts,
            "passed_over": self.passed_over,
            "fetched_bytes": self.fetched_bytes,
            "elapsed_s": round(self.elapsed_s, 3),
            "wrong": [one.as_dict() for one in self.wrong],
            "unlisted": self.unlisted,
        }

    def __iter__(self) -> Iterator[Repair]:
        return iter(self.wrong)

    def __str__(self) -> str:
        return self.summary()


def _summed(total: int, what: str, counts: Mapping[str, int], passed_over: int) -> str:
    told = [f"{number:,} {state}" for state, number in counts.items() if number]
    files = f"{total:,} {'file' if total == 1 else 'files'} {what}"
    text = f"{files}: {', '.join(told)}" if told else files
    return f"{text}; {passed_over:,} in other stores passed over" if passed_over else text


class Gathered:
    """A sum while it grows: counts by state, and the list of what is wrong, as far as it is kept."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[Any] = []

    @property
    def checked(self) -> int:
        """How many there are by now."""
        return sum(self.counts.values())

    def add(self, one: Finding | Repair) -> None:
        """One more."""
        self.counts[one.state] += 1
        if not one.ok and len(self.wrong) < LISTED:
            self.wrong.append(one)

    def told(self, rights: Iterable[str]) -> dict[str, Any]:
        """What both sums have in common, by the names of their fields."""
        wrong = self.checked - sum(self.counts[state] for state in rights)
        return {**self.counts, "wrong": tuple(islice(self.wrong, LISTED)), "unlisted": wrong - len(self.wrong)}
