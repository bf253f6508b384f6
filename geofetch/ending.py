"""How a walk ended: whatever was raised as an error about its spec, and the one Outcome.

In: what ended it, the attempts.  Out: a FetchError that can be kept, an Outcome.  Never: who is told.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from traceback import clear_frames
from typing import Any

from . import kills, plan
from .errors import Cancelled, FetchError, SourcesExhausted
from .events import Attempt, Outcome, Verdict
from .frozen import unfrozen
from .spec import Spec

__all__ = ["as_error", "final", "let_go", "outcome_of", "told_already"]

log = logging.getLogger("geofetch")


def as_error(exc: BaseException, spec: Spec) -> FetchError:
    """Whatever ended a walk, as a FetchError about this spec; its cause is kept."""
    if isinstance(exc, FetchError):
        error = exc
    elif isinstance(exc, Exception):
        # Not the network's fault, nor a hook's: ours. It must not look like a bad mirror, nor be lost.
        log.error("a bug ended the download of %s", spec.source.shown, exc_info=exc)
        error = FetchError(f"internal error: {type(exc).__name__}: {exc}")
        error.__cause__ = exc
    elif isinstance(exc, kills.Expired):
        error = exc.error
    elif isinstance(exc, kills.KILLS):
        error = Cancelled("cancelled")
        error.__cause__ = exc
    else:
        error = FetchError(f"interrupted by {type(exc).__name__}")
        error.__cause__ = exc
    if error.spec is None:
        error.spec = spec
    return error


def told_already(exc: BaseException, attempts: Sequence[Attempt]) -> FetchError | None:
    """The error that the last attempt made of it, if it did: one kill is one error."""
    error = attempts[-1].error if attempts else None
    return error if error is not None and error.__cause__ is exc else None


def let_go(error: FetchError) -> FetchError:
    """The error without what its tracebacks hold (chunks, responses): it lives as long as its Outcome does."""
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and one not in seen:
            seen.append(one)
            clear_frames(one.__traceback__)
            left += [one.__cause__, one.__context__]
    return error


def final(spec: Spec, attempts: Sequence[Attempt], last: FetchError) -> FetchError:
    if len(spec.sources) == 1 or plan.verdict(last) is Verdict.STOP:
        return last
    error = SourcesExhausted(f"all {len(spec.sources)} sources failed; the last one: {last}", spec=spec)
    error.errors = tuple((attempt.source, attempt.error) for attempt in attempts if attempt.error is not None)
    error.__cause__ = last
    return error


_Unfrozen = unfrozen(Outcome)


def outcome_of(
    spec: Spec, tried: Sequence[Attempt], ended: Attempt | None, error: FetchError | None, elapsed_s: float
) -> Outcome:
    attempts = tuple(tried)
    fetched = 0
    for attempt in attempts:  # nearly always one, for which a generator costs more than it sums
        fetched += attempt.received_bytes
    if ended is not None:
        outcome: Any = _Unfrozen()
        outcome.state = "adopted" if ended.source is None else "stored"
        outcome.spec = spec
        outcome.source = ended.source
        outcome.location = ended.location
        outcome.size = ended.size
        outcome.digests = ended.digests
        outcome.verified = ended.verified
        outcome.fetched = fetched
        outcome.error = None
        outcome.attempts = attempts
        outcome.elapsed_s = elapsed_s
        outcome.__class__ = Outcome
        return outcome  # type: ignore[no-any-return]
    assert error is not None
    error.attempts = attempts
    last = attempts[-1] if attempts else None
    return Outcome(
        state="cancelled" if isinstance(error, Cancelled) else "failed",
        spec=spec,
        source=last.source if last is not None else None,
        # A file that has its name keeps it, whatever failed after that.
        location=last.location if last is not None else None,
        size=last.size if last is not None else None,
        digests=last.digests if last is not None else {},
        verified=last.verified if last is not None else "nothing",
        fetched=fetched,
        error=error,
        attempts=attempts,
        elapsed_s=elapsed_s,
    )
