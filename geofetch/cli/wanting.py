"""Specs that are recorded and not fetched: ``sync --later``, ``--policy on_demand`` and ``streamed``.

In: specs, a Recorder, the name of a store.  Out: an exit code; what became of each with --json, their sum otherwise.
Never: a source asked, a file touched; more than a batch in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from . import codes
from .output import put
from .words import counted, one_or

if TYPE_CHECKING:
    from ..records import Recorder
    from ..spec import Spec
    from .downloads import Told

__all__ = ["want", "wanted_now"]

#: Specs that are recorded together; signals are heard after each such batch.
BATCH = 500


def want(told: Told, specs: Iterable[Spec], recorder: Recorder, store: str) -> int:
    """Record them all; the code of the whole."""
    from ..errors import FetchError

    work = told.work
    policy, owed = work.told["policy"] or "immediate", bool(work.told["later"])
    told.wanted = counts = Counter(wanted=0, present=0, differs=0)
    code: int = codes.OK
    left, stop = iter(specs), False

    def cancel() -> None:
        nonlocal stop
        stop = True

    with work.signals.cancelling(cancel):
        try:
            while not stop and (batch := list(islice(left, BATCH))):
                for spec, state in _recorded(recorder, batch, store, policy, owed):
                    counts[state] += 1
                    if work.as_json:
                        put(_fields(spec, state, policy, owed))
        except FetchError as exc:  # a line of the manifest, or the records
            code = work.stopped(exc)
    _say(told, policy, owed)
    return code


def _recorded(recorder: Recorder, specs: list[Spec], store: str, policy: Any, owed: bool) -> Iterator[tuple[Spec, str]]:
    asked = [recorder.want(spec, store, policy=policy, pending=owed) for spec in specs]
    return ((spec, one.get()) for spec, one in zip(specs, asked, strict=True))


def _fields(spec: Spec, state: str, policy: str, owed: bool) -> dict[str, Any]:
    return {
        "event": "wanted",
        "path": spec.path,
        "state": state,
        "ok": state == "present",
        "policy": policy,
        "pending": "fetch" if owed and state == "wanted" else None,
        "repository": spec.repository,
    }


def _say(told: Told, policy: str, owed: bool) -> None:
    counts = told.wanted or Counter()
    how = "to be fetched by geofetch repair" if owed else f"recorded as {policy}, and not fetched"
    wanted, present, differs = (counts[state] for state in ("wanted", "present", "differs"))
    there = f"{present:,} {one_or(present, 'are')} stored already"
    told.work.console.say(f"{counted(wanted, 'file', 'are')} {how}; {there}")
    if differs:
        told.work.console.say(
            f"{counted(differs, 'file', 'are')} stored in another version than is listed, and left as before:"
            f" geofetch sync --policy immediate fetches {'it' if differs == 1 else 'them'}"
        )


def wanted_now(specs: Iterable[Spec], recorder: Recorder, store: str) -> Iterable[Spec]:
    """The specs, each recorded as immediate before it is fetched, whatever it was; a list where they are one."""
    each = _wanted_now(specs, recorder, store)
    return list(each) if isinstance(specs, list) else each


def _wanted_now(specs: Iterable[Spec], recorder: Recorder, store: str) -> Iterator[Spec]:
    left = iter(specs)
    while batch := list(islice(left, BATCH)):
        for spec, _ in _recorded(recorder, batch, store, "immediate", False):
            yield spec
