"""Units that are looked at together: small files share one trip to a native thread, and one commit.

In: units, lazily.  Out: lists of them, each of one store.  Never: a large file that waits for
small ones, or they for it.

A trip to a thread and back costs as much as three files of 4 KiB.  The first batches hold one file each and later ones
more, so that a few files are spread over all threads all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..records import Unit

__all__ = ["batches"]

#: Files of a batch at most; more of them save nothing.
MOST = 128
#: Bytes of a batch, and of a file in it, at most.
MOST_BYTES = 1 << 20
SMALL_BYTES = 1 << 17


def batches(units: Iterable[Unit], jobs: int) -> Iterator[list[Unit]]:
    """The units in batches for so many threads."""
    batch: list[Unit] = []
    given = total = 0
    for unit in units:
        size = unit.size or 0
        if size > SMALL_BYTES:
            yield [unit]
            continue
        if batch and (batch[0].store != unit.store or total + size > MOST_BYTES):
            yield batch
            batch, total, given = [], 0, given + 1
        batch.append(unit)
        total += size
        if len(batch) >= min(MOST, 1 << min(given // jobs, 16)):
            yield batch
            batch, total, given = [], 0, given + 1
    if batch:
        yield batch
