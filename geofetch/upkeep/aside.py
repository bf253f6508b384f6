"""Which files in quarantine may go.  In: Asides, what the records say of the places they came from.  Out: some of them.

One may go when it was put aside before the grace time, and nobody needs it any more: each unit in its old place is
present, and its file there is the one of its record; or there is no unit any more.  Records that have never heard of
the store say nothing by that.

Never: the only copy of a unit that is missing, corrupt or quarantined; a file removed here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from ..errors import StoreError
from ..events import Kept
from ..records.clearing import At
from ..store import Aside, Quarantining
from ..store.removal import differs

__all__ = ["Asides", "over"]

log = logging.getLogger("geofetch")


class Asides:
    """The quarantine of a store, as a store that files are removed from."""

    def __init__(self, store: Quarantining) -> None:
        self._store = store

    def remove(self, kept: Kept) -> bool:
        return self._store.remove_aside(kept)


def over(
    each: Sequence[Aside],
    store: Any,
    known: Callable[[Collection[str]], Mapping[str, Sequence[At]]],
    before: float,
    heard: bool,
) -> list[Aside]:
    """Those that may go.  ``known``: what units say whose places these keys are; ``before``: in seconds since 1970;
    ``heard``: whether no unit means that it was forgotten."""
    old = [one for one in each if one.keys and one.since_ns is not None and one.since_ns <= before * 1e9]
    units = known({key for one in old for key in one.keys})
    return [one for one in old if _spared(one, store, units, heard)]


def _spared(one: Aside, store: Any, units: Mapping[str, Sequence[At]], heard: bool) -> bool:
    told = {key: units[key] for key in one.keys if key in units}
    if not told:
        return heard
    if any(unit.state != "present" for some in told.values() for unit in some):
        return False
    return all(_there(store, key, [unit.kept for unit in some]) for key, some in told.items())


def _there(store: Any, key: str, kepts: Sequence[Kept]) -> bool:
    try:
        seen = store.stat(key)
    except (StoreError, OSError) as exc:  # nobody knows: it stays
        log.warning("%s could not be looked at: %s", key, exc)
        return False
    return seen is not None and any(not differs(kept, seen) for kept in kepts)
