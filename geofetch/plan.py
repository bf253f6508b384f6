"""Which source next, what to do after an error, how long to wait.

In: Sources, errors, counts.  Out: an order, a Verdict, seconds.  Never: sockets, files, greenlets, clocks, dice of its
own (time and chance are passed in).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .errors import (
    BadResponse,
    BadStatus,
    Cancelled,
    DeadlineExceeded,
    FetchError,
    IntegrityError,
    NotFound,
    ProxyFailure,
    RateLimited,
    RecordError,
    RedirectLoop,
    RedirectRefused,
    SpecError,
    Stalled,
    StoreError,
    Truncated,
    Unauthorized,
    Undecodable,
    Unreachable,
    UntrustedTLS,
)
from .events import Verdict
from .spec import Source

__all__ = ["Course", "Dice", "fresh", "order", "passing", "verdict", "wait_s"]

AGAIN, NEXT, STOP = Verdict

#: What follows an error: the first row whose class fits.  "passing" marks an error that time may heal: where no source
#: is left, NEXT then means AGAIN.
VERDICTS: tuple[tuple[type[BaseException], Verdict, bool], ...] = (
    (SpecError, STOP, False),
    (StoreError, STOP, False),
    (RecordError, STOP, False),
    (Cancelled, STOP, False),
    (DeadlineExceeded, STOP, False),
    (IntegrityError, NEXT, False),
    (Undecodable, NEXT, False),
    (UntrustedTLS, NEXT, False),
    (RedirectLoop, NEXT, False),
    (RedirectRefused, NEXT, False),
    (RateLimited, NEXT, True),
    (Unauthorized, NEXT, False),
    (NotFound, NEXT, False),
    (Stalled, NEXT, True),
    (Unreachable, NEXT, True),
    (ProxyFailure, NEXT, True),
    (Truncated, AGAIN, True),
    (BadResponse, NEXT, False),
)

#: Statuses that time may heal (RFC 9110, 15; 425: RFC 8470; 429: RFC 6585; 520 to 524: what CDNs say of an origin).
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
#: A proxy that says so will say so again.
PROXY_FINAL = frozenset({403, 407})
#: Our own fault, not the source's: another source would not help, time does.
OUR_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

BACKOFF_S = 0.5
BACKOFF_MOST_S = 30.0
RETRY_AFTER_MOST_S = 300.0


class Dice(Protocol):
    """Chance: random.Random is one."""

    def random(self) -> float:
        """A number from 0 up to, not including, 1."""


def fresh(sources: Sequence[Source], now: float) -> Sequence[Source]:
    """Those that have not expired at this time (seconds since 1970); all of them where all have."""
    found = [source for source in sources if source.expires_at is None or now < source.expires_at]
    return found or sources


def order(sources: Iterable[Source], dice: Dice) -> list[Source]:
    """Sources in the order to try: lowest priority first, by weight within one priority (RFC 2782)."""
    left = list(sources)
    if len(left) == 1:
        return left
    left.sort(key=lambda source: source.priority)
    found: list[Source] = []
    while left:
        equals = [source for source in left if source.priority == left[0].priority]
        chosen = _weighted(equals, dice)
        left.remove(chosen)
        found.append(chosen)
    return found


def _weighted(equals: list[Source], dice: Dice) -> Source:
    total = sum(source.weight for source in equals)
    if total == 0:
        return equals[0]
    mark = dice.random() * total
    for source in equals:
        mark -= source.weight
        if mark < 0:
            return source
    return equals[-1]


def verdict(error: BaseException) -> Verdict:
    """What an error asks for, whatever was tried before."""
    return _judged(error)[0]


def passing(error: BaseException) -> bool:
    """Whether time may heal it."""
    return _judged(error)[1]


def _judged(error: BaseException) -> tuple[Verdict, bool]:
    if isinstance(error, Unreachable) and error.errno in OUR_FAULT:
        return AGAIN, True
    if isinstance(error, ProxyFailure):
        status = None if error.response is None else error.response.status_code
        return NEXT, status not in PROXY_FINAL
    for kind, answer, heals in VERDICTS:
        if isinstance(error, kind):
            return answer, heals
    if isinstance(error, BadStatus):
        heals = error.status in PASSING_STATUS
        return (AGAIN if heals else NEXT), heals
    return STOP, False


def wait_s(retry: int, dice: Dice, error: BaseException | None = None) -> float:
    """Seconds to wait before the retry of this number (from 1): full jitter under a doubling cap, or Retry-After.

    Full jitter: any time up to the cap is as likely, so that clients which failed together do not come back together.
    """
    told = getattr(error, "retry_after_s", None)
    jitter: float = dice.random() * min(BACKOFF_MOST_S, BACKOFF_S * 2.0 ** min(retry - 1, 16))
    if told is not None:
        # Never before the time the server named; the jitter on top keeps a whole pool from knocking at once.
        return min(max(0.0, float(told)), RETRY_AFTER_MOST_S) + min(jitter, 1.0)
    return jitter


@dataclass(slots=True)
class Course:
    """The way through the sources of one spec: ``source`` is the one to ask now, None when there is nobody left.

    A retry asks a source that was asked before; there are ``retries`` of them for a spec.  A source that failed for
    good is not asked again.  At most ``len(sources) + retries`` attempts, whatever hooks answer.
    """

    sources: list[Source]
    retries: int
    at: int = 0
    used: int = 0
    asked: int = 1
    _most: int = 0

    def __post_init__(self) -> None:
        self._most = len(self.sources) + self.retries

    @property
    def source(self) -> Source:
        return self.sources[self.at]

    def after(self, error: FetchError, answer: Verdict | None, dice: Dice) -> float | None:
        """Move on after an error; the seconds to wait before ``source`` is asked, or None: nobody is to be asked.

        ``answer`` is what a hook said that mended the cause; it takes the place of the table's verdict.
        """
        judged, heals = _judged(error)
        step = answer or judged
        if step is STOP or self.asked >= self._most:
            return None
        if step is AGAIN and (answer or self.used < self.retries):
            return self._again(error, dice, mended=answer is not None)
        if not heals and answer is None:
            del self.sources[self.at]
            self.at -= 1
        if self.at + 1 < len(self.sources):
            self.at += 1
            self.asked += 1
            return 0.0
        if not self.sources or self.used >= self.retries:
            return None
        self.at = 0
        return self._again(error, dice, mended=False)

    def _again(self, error: FetchError, dice: Dice, mended: bool) -> float:
        self.used += 1
        self.asked += 1
        return 0.0 if mended else wait_s(self.used, dice, error)
