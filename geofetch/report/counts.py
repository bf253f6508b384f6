"""The counts behind a Tally: what was planned, what came, what is expected, how fast.

In: what the hooks of a Report saw.  Out: a Tally.  Never: a clock of its own (the time is passed in), a sink.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..events import Attempt, Outcome
from ..spec import Spec
from .tally import Tally, printable

__all__ = ["EARLY_S", "EVERY_S", "Item", "Pace", "Sum"]

#: The least time between two updates of a sink, and between two marks that the rate is told by.
EVERY_S = 0.1
#: A timer may fire a little early; that is no second update in the same tenth of a second.
EARLY_S = 0.005
#: The window that the rate is taken over.
WINDOW_S = 5.0


class Item:
    """One planned spec; ``expected`` is the size its file will have, as far as anybody has told."""

    __slots__ = ("asked", "expected", "planned", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.expected = spec.size
        self.planned = False
        #: The sources that were asked, by identity: the number of the first try of each.
        self.asked: dict[int, int] = {}


class Sum:
    """The counts that a Tally is made of."""

    def __init__(self) -> None:
        self.told_items: int | None = None
        self.told_bytes: int | None = None
        self._planned = 0
        self._by_state = {"stored": 0, "adopted": 0, "failed": 0, "cancelled": 0}
        self._retries = 0
        self._elsewhere = 0
        self._settled = 0
        self._adopted = 0
        self._wasted = 0
        self._expected = 0
        self._unknown = 0
        self._current = ""
        # By identity: the same Spec may be wanted twice at once, an equal one all the more.
        self._items: dict[int, list[Item]] = {}
        self._active: dict[int, Callable[[], int]] = {}

    @property
    def gross(self) -> int:
        """Every byte that came, those for nothing among them; it never falls."""
        return self._settled + self._under_way + self._wasted

    @property
    def nothing_left(self) -> bool:
        return self._planned == sum(self._by_state.values())

    @property
    def _under_way(self) -> int:
        return sum(count() for count in self._active.values())

    def plan(self, item: Item) -> None:
        item.planned = True
        self._planned += 1
        self._items.setdefault(id(item.spec), []).append(item)
        self._count(item.expected, 1)

    def _count(self, expected: int | None, sign: int) -> None:
        if expected is None:
            self._unknown += sign
        else:
            self._expected += sign * expected

    def _expect(self, item: Item, size: int | None) -> None:
        self._count(item.expected, -1)
        item.expected = size
        self._count(size, 1)

    def start(self, attempt: Attempt, count: Callable[[], int]) -> None:
        self._active[id(attempt)] = count
        self._current = attempt.spec.path
        items = self._items.get(id(attempt.spec))
        if items and attempt.source is not None:
            self._ask(items[0].asked, attempt)

    def _ask(self, asked: dict[int, int], attempt: Attempt) -> None:
        first = asked.get(id(attempt.source))
        if first is not None and first < attempt.number:  # else the same Spec is wanted twice at once
            self._retries += 1
        elif attempt.number > min(asked.values(), default=attempt.number):
            self._elsewhere += 1
        asked.setdefault(id(attempt.source), attempt.number)

    def announce(self, spec: Spec, length: int | None) -> None:
        """A size that a source told; what the spec itself told stands."""
        if spec.size is None and (items := self._items.get(id(spec))):
            self._expect(items[-1], length)

    def settle(self, attempt: Attempt, got: int) -> None:
        self._active.pop(id(attempt), None)
        self._settled += got

    def waste(self, attempt: Attempt, got: int, settled: bool) -> None:
        if settled:  # published, and then not recorded
            self._settled -= got
        self._active.pop(id(attempt), None)
        self._wasted += got
        self.announce(attempt.spec, None)

    def end(self, item: Item, outcome: Outcome) -> None:
        if not item.planned:
            self.plan(item)
        self._by_state[outcome.state] += 1
        if outcome.state == "adopted":
            self._adopted += outcome.size or 0
        # What failed takes its bytes out of the total: nobody waits for them any more.
        known = item.expected if outcome.size is None else outcome.size
        self._expect(item, (known or 0) if outcome.ok else 0)
        items = self._items[id(item.spec)]
        items.remove(item)
        if not items:
            del self._items[id(item.spec)]

    def tally(self, rate_bps: float | None, elapsed_s: float, final: bool) -> Tally:
        items_total = None if self.told_items is None else max(self.told_items, self._planned)
        done = self._settled + self._under_way
        bytes_total = self._bytes_total(items_total)
        ended = sum(self._by_state.values())
        left_s = None
        if items_total is not None and not final:
            left_bytes = None if bytes_total is None else max(0, bytes_total - done - self._adopted)
            left_s = _left_s(items_total - ended, ended, left_bytes, rate_bps, elapsed_s)
        return Tally(
            planned=self._planned,
            running=len(self._active),
            **self._by_state,
            retries=self._retries,
            elsewhere=self._elsewhere,
            items_total=items_total,
            bytes_done=done,
            bytes_adopted=self._adopted,
            bytes_wasted=self._wasted,
            bytes_total=bytes_total,
            rate_bps=rate_bps,
            elapsed_s=elapsed_s,
            left_s=left_s,
            current=printable(self._current),
            final=final,
        )

    def _bytes_total(self, items_total: int | None) -> int | None:
        if self._unknown == 0 and (items_total is None or self._planned == items_total):
            return self._expected
        return self.told_bytes


def _left_s(
    left_items: int, ended: int, left_bytes: int | None, rate_bps: float | None, elapsed_s: float
) -> float | None:
    """Seconds until the end: by bytes where their total is known, else as if items went on ending as they did."""
    if left_items == 0:
        return 0.0
    if left_bytes:
        return left_bytes / rate_bps if rate_bps else None
    return left_items * elapsed_s / ended if ended and elapsed_s else None


class Pace:
    """Bytes a second over the last seconds."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def rate(self, now_s: float, gross: int) -> float | None:
        """The rate up to now; the moment is remembered, if it is a while after the one before."""
        marks = self._marks
        if not marks or now_s - marks[-1][0] >= EVERY_S - EARLY_S:
            marks.append((now_s, gross))
        # The first mark stays the last one that is outside of the window.
        while len(marks) > 1 and marks[1][0] <= now_s - WINDOW_S:
            marks.popleft()
        then_s, before = marks[0]
        return (gross - before) / (now_s - then_s) if now_s > then_s else None
