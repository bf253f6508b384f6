"""What a repository is to hold, noted while it is fetched; and what it held before, taken off it.

In: every spec of a listing, as it goes by.  Out: the specs, as they came; units that are no longer in the repository.
Never: a stored file touched, a unit forgotten; a repository emptied by a listing that was cut short, or was empty.
"""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sized

from ..errors import RecordError, SpecError
from ..spec import Spec, SpecLike
from .changes import Leave
from .lane import Pending
from .many import chunks
from .units import identity, named

__all__ = ["Listing"]

#: Units that are taken off in one transaction.
AT_ONCE = 2000
#: Bytes of an identity that are remembered.  Of a million units that are not listed, one is taken for one of a million
#: that are (and stays) in one of twenty million syncs.
KEPT_BYTES = 8


class Listing:
    """What one sync lists for ``repository``: eight bytes of memory for each spec.

    Called with specs it gives them on, as a list where they are one (or anything of a known length), as an iterator
    otherwise; so it stands between a manifest and a pool::

        listing = recorder.listing("main", store.name)
        outcomes = pool.map(listing(specs))
        if all(outcome.ok for outcome in outcomes):
            listing.take_off()
    """

    def __init__(
        self,
        repository: str,
        store: str,
        members: Callable[[int], tuple[list[tuple[int, bytes]], int | None]],
        write: Callable[[Leave], Pending],
    ) -> None:
        if not isinstance(repository, str) or not repository:
            raise SpecError("a listing is one repository's: its name is wanted")
        self.repository = repository
        self._store = store
        self._members = members
        self._write = write
        self._listed = array("Q")
        self._sorted = True
        #: Inputs that are not read to their ends.
        self._open = 0

    def __len__(self) -> int:
        """How many specs were listed so far; one that was listed twice counts twice."""
        return len(self._listed)

    def __call__(self, specs: Iterable[SpecLike]) -> Iterable[Spec]:
        """The specs, each noted as it goes by."""
        if not isinstance(specs, Sized):
            self._open += 1
            return self._passed(specs)
        found = [Spec.of(one) for one in specs]
        for spec in found:
            self._note(spec)
        return found

    def _passed(self, specs: Iterable[SpecLike]) -> Iterator[Spec]:
        for one in specs:
            spec = Spec.of(one)
            self._note(spec)
            yield spec
        self._open -= 1

    def _note(self, spec: Spec) -> None:
        self._listed.append(_number(identity(*named(spec.unit, self._store, spec.path))))
        self._sorted = False

    def take_off(self) -> int:
        """Take off the repository whatever it holds that was not listed; how many units that were, once committed.

        Units and files stay: they are in no repository, or in others.  A RecordError, and nothing is changed, where not
        all of the listing was read, or where it listed nothing: that is a server's mistake more often than a wish.
        """
        if self._open:
            raise RecordError(f"the listing of {self.repository!r} was not read to its end; nothing is taken off")
        if not self._listed:
            raise RecordError(f"the listing of {self.repository!r} is empty; nothing is taken off")
        if not self._sorted:
            self._listed = array("Q", sorted(self._listed))
            self._sorted = True
        gone = 0
        for some in chunks(self._unlisted(), AT_ONCE):
            pending = [self._write(leave) for leave in some]
            gone += sum(bool(one.get()) for one in pending)
        return gone

    def _unlisted(self) -> Iterator[Leave]:
        after: int | None = 0
        now = time.time_ns() // 1000
        while after is not None:
            found, after = self._members(after)
            for _, key in found:
                if not self._has(_number(key)):
                    yield Leave(key, self.repository, now)

    def _has(self, number: int) -> bool:
        at = bisect_left(self._listed, number)
        return at < len(self._listed) and self._listed[at] == number


def _number(key: bytes) -> int:
    return int.from_bytes(key[:KEPT_BYTES], "big")
