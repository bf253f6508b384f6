"""What a run has done so far, as numbers and as a line of text.

In: counts.  Out: a frozen Tally, words for bytes and seconds, names that a terminal may be shown.  Never: a clock, a
stream.  Bytes are told in powers of ten: 1 MB is 1,000,000 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Tally", "bytes_text", "printable", "time_text"]


@dataclass(frozen=True, slots=True)
class Tally:
    """The sum of a run at one moment.

    ``planned`` items were taken from the input; each of them ends as ``stored``, ``adopted``, ``failed`` or
    ``cancelled``; ``running`` of the others are being fetched right now.  ``items_total`` is how many there will be
    (None: not told).  ``retries`` counts tries of a source that had been asked before, ``elsewhere`` those of another
    one after a source had failed: where a content source does not have a file, the next is asked.

    ``bytes_done`` are the bytes of files that are whole or under way: those of a try that failed leave it again, and
    are counted by ``bytes_wasted``.  ``bytes_adopted`` are those of files that were there already.  ``bytes_total`` is
    what ``bytes_done`` and ``bytes_adopted`` grow to: None as long as one size is unknown, or items are still to be
    planned; where ``items_total`` is None it is the total of what is planned so far, and more may come.

    ``rate_bps`` is bytes a second over the last seconds, of the whole run in the final tally (None: nothing to tell it
    by).  ``left_s`` is None where nobody knows.  ``current`` is the path that was begun last, fit for a terminal.
    """

    planned: int = 0
    running: int = 0
    stored: int = 0
    adopted: int = 0
    failed: int = 0
    cancelled: int = 0
    retries: int = 0
    elsewhere: int = 0
    items_total: int | None = None
    bytes_done: int = 0
    bytes_adopted: int = 0
    bytes_wasted: int = 0
    bytes_total: int | None = None
    rate_bps: float | None = None
    elapsed_s: float = 0.0
    left_s: float | None = None
    current: str = ""
    final: bool = False

    @property
    def there(self) -> int:
        """Items whose file is there now."""
        return self.stored + self.adopted

    @property
    def ended(self) -> int:
        """Items to which nothing more will happen."""
        return self.stored + self.adopted + self.failed + self.cancelled

    @property
    def states(self) -> Mapping[str, int]:
        """Items by state; together they are the planned ones."""
        return {
            "waiting": max(0, self.planned - self.ended - self.running),
            "running": self.running,
            "stored": self.stored,
            "adopted": self.adopted,
            "failed": self.failed,
            "cancelled": self.cancelled,
        }

    def summary(self) -> str:
        """One line: what is there, how fast, how long, what went wrong."""
        return ", ".join(part for part in (self._items(), self._bytes(), self._pace(), self.troubles()) if part)

    def _items(self) -> str:
        total = self.there if self.items_total is None else self.items_total
        noun = "file" if total == 1 else "files"
        files = f"{self.there} {noun}" if self.items_total is None else f"{self.there}/{total} {noun}"
        return (
            f"{files} ({self.adopted} {'was' if self.adopted == 1 else 'were'} there already)"
            if self.final and self.adopted
            else files
        )

    def _bytes(self) -> str:
        if self.final:
            return f"{bytes_text(self.bytes_done)} in {time_text(self.elapsed_s, fine=True)}"
        if self.items_total is None or self.bytes_total is None:
            return bytes_text(self.bytes_done)
        return f"{bytes_text(self.bytes_done + self.bytes_adopted)} of {bytes_text(self.bytes_total)}"

    def _pace(self) -> str:
        no_rate = self.rate_bps is None or (self.final and self.bytes_done == 0)
        rate = "" if no_rate else f"{bytes_text(self.rate_bps or 0)}/s"
        left = "" if self.left_s is None or self.final else f"{time_text(self.left_s)} left"
        return ", ".join(part for part in (rate, left) if part)

    def troubles(self) -> str:
        """What went wrong, in words; "" for nothing."""
        counted = (
            (self.failed, "failed"),
            (self.cancelled, "cancelled"),
            (self.retries, "retried"),
            (self.elsewhere, "asked elsewhere"),
        )
        return ", ".join(f"{count} {what}" for count, what in counted if count)


def bytes_text(count: float) -> str:
    """Bytes in a unit that leaves one to three digits before the point: ``1.2 GB``."""
    if round(count) < 1000:
        return f"{count:.0f} B"
    units = ["kB", "MB", "GB", "TB", "PB", "EB"]
    count /= 1000
    while round(count) >= 1000 and len(units) > 1:
        count /= 1000
        del units[0]
    # 9.96 would be rounded to "10.0".
    return f"{count:.1f} {units[0]}" if count < 9.95 else f"{count:.0f} {units[0]}"


def time_text(seconds: float, fine: bool = False) -> str:
    """Seconds in words: ``42 s``, ``2 min``, ``1 h 5 min``; ``fine`` tells the seconds of minutes, too."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {rest} s" if fine and rest else f"{minutes} min"
    return f"{seconds:.1f} s" if fine and seconds < 10 else f"{whole} s"


def printable(name: str) -> str:
    """The name with everything escaped that drives a terminal or misleads who reads it (controls, bidi overrides)."""
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in name)
