"""A row of the fault matrix: how an answer ends, what follows, what reached the part, what became of the connection.

In: what a server sends, and a Row.  Out: an AssertionError unless all of it is so.  Never: a second try; what would
follow is asked of the plan.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any, Literal

from geofetch import plan
from geofetch.errors import FetchError, SourceError
from geofetch.events import Outcome, Verdict
from geofetch.spec import Profile, Spec
from tests.origin.scenes import Scene

from .keeping import Keeping
from .mirrors import Mirror
from .walking import pooled

__all__ = ["AGAIN", "ANY", "HONEST", "NEXT", "STOP", "Row", "held", "judged"]

AGAIN, NEXT, STOP = Verdict
HONEST = b"an honest file"
THEIRS = "theirs"


class _Any:
    """Some of the body, from its first byte on: how much is a matter of speed."""

    def __repr__(self) -> str:
        return "ANY"


ANY: Any = _Any()


@dataclass(frozen=True)
class Row:
    """What a server sends, and what becomes of it.

    ``error`` and ``verdict``: what the download ends with and what the plan makes of that, None where it is stored;
    ``heals``: whether time may heal it.  ``part``: the bytes that had reached the part by ``failed`` (or when it was
    published), None where none was begun, ANY for a beginning of ``body`` of whatever length.

    ``then``: what became of the connection.  "used": the next file came over it.  "dropped": it was closed by us, while
    the server would have gone on.  "ended": the server ended it.
    """

    sends: Scene
    error: type[FetchError] | None
    verdict: Verdict | None
    heals: bool
    part: Any
    then: Literal["used", "dropped", "ended"]
    spec: dict[str, Any] = field(default_factory=dict)
    pool: dict[str, Any] = field(default_factory=dict)
    tls: bool = False
    verified: str = "framing"
    body: bytes = b""


def judged(error: BaseException, row: Any) -> None:
    """The error is of exactly the row's class, and the plan makes of it what the row says."""
    assert type(error) is row.error, repr(error)
    assert (plan.verdict(error), plan.passing(error)) == (row.verdict, row.heals)


def held(row: Row, mirror: Mirror, theirs: Profile) -> Outcome:
    """One download by the row, and one more from the same server."""
    file, store, profiles = mirror.plays([row.sends]), Keeping(), {THEIRS: theirs}
    how = {"retries": 0, "timeout": 10, "store": store, "profiles": profiles, **row.pool}
    with pooled(2, **how) as pool:
        (outcome,) = pool.map([Spec(file.url, profile=THEIRS, **row.spec)])
    if row.error is None:
        assert (outcome.state, outcome.error, outcome.verified) == ("stored", None, row.verified), outcome
    else:
        assert (outcome.state, outcome.location) == ("failed", None), outcome
        assert outcome.error is not None
        judged(outcome.error, row)
        assert outcome.error.source == (file.source if isinstance(outcome.error, SourceError) else None)
        assert type(pickle.loads(pickle.dumps(outcome.error))) is row.error
    _reached(row, outcome, store.of(file.url))
    assert len(outcome.attempts) == file.hits == 1
    _connected(row, mirror, profiles)
    return outcome


def _reached(row: Row, outcome: Outcome, part: bytes | None) -> None:
    if row.part is not ANY:
        assert part == row.part
    else:
        assert part is not None
        assert row.body.startswith(part[: len(row.body)])
        assert outcome.fetched >= len(part)
    if outcome.ok:
        assert outcome.location == part


def _connected(row: Row, mirror: Mirror, profiles: Any) -> None:
    if row.then != "used":
        mirror.left()
    if row.then == "dropped":
        # Whoever plays an end closes the connection all the same: it would prove nothing.
        assert row.sends.then in ("keep", "hang")
        assert row.sends.cut is None
        assert row.sends.reset is None
    honest = mirror.serves(HONEST)
    # Connections belong to nobody's pool; the row's own may have no patience.
    with pooled(2, retries=0, timeout=10, store=Keeping(), profiles=profiles) as pool:
        (after,) = pool.map([Spec(honest.url, profile=THEIRS)])
    assert after.location == HONEST
    assert [one.number for one in honest.connections] == [1 if row.then == "used" else 2]
