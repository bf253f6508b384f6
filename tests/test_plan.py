"""Which source next, what after an error, how long to wait: no clock, no network, one line a rule."""

from __future__ import annotations

import errno
import random
from collections import Counter

import pytest
import requests

from geofetch import errors
from geofetch.errors import BadStatus, DigestMismatch, FetchError, NotFound, Truncated, Unreachable
from geofetch.events import Verdict
from geofetch.plan import BACKOFF_MOST_S, RETRY_AFTER_MOST_S, Course, fresh, order, passing, verdict, wait_s
from geofetch.spec import Source

AGAIN, NEXT, STOP = Verdict


class Always:
    """Dice that always fall the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


def status(code: int) -> BadStatus:
    response = requests.Response()
    response.status_code = code
    return BadStatus(f"status {code}", response=response)


def sources(*priorities: int) -> list[Source]:
    return [Source(f"http://m{i}.example/x", priority=p) for i, p in enumerate(priorities)]


def test_lower_priority_is_tried_first() -> None:
    assert [s.priority for s in order(sources(7, 0, 3), random.Random(1))] == [0, 3, 7]


def test_within_one_priority_the_weight_decides_how_often_one_is_first() -> None:
    heavy = Source("http://heavy.example/x", weight=9)
    light = Source("http://light.example/x", weight=1)
    dice = random.Random(7)
    first = Counter(order([light, heavy], dice)[0].url for _ in range(2000))
    assert 0.87 < first[heavy.url] / 2000 < 0.93


def test_weight_zero_is_tried_last_among_its_equals() -> None:
    zero = Source("http://zero.example/x", weight=0)
    one = Source("http://one.example/x", weight=1)
    assert all(order([zero, one], random.Random(seed))[-1] == zero for seed in range(50))


def test_a_source_that_has_expired_is_left_out_while_there_is_another() -> None:
    never, later, before, now = (
        Source(f"http://{name}.example/x", expires_at=expires_at)
        for name, expires_at in (("never", None), ("later", 101), ("before", 99), ("now", 100))
    )
    assert fresh((never, later, before, now), 100.0) == [never, later]
    assert fresh((before, later), 100.0) == [later]
    assert fresh((before, now), 100.0) == (before, now)  # better late than never


def test_every_source_is_tried_once_in_an_order() -> None:
    given = sources(0, 0, 0, 1, 1)
    assert Counter(order(given, random.Random(3))) == Counter(given)


TABLE = [
    (errors.SpecError(), STOP, False),
    (errors.StoreError(), STOP, False),
    (errors.RecordError(), STOP, False),
    (errors.Cancelled(), STOP, False),
    (errors.DeadlineExceeded(), STOP, False),
    (errors.DigestMismatch(), NEXT, False),
    (errors.SizeMismatch(), NEXT, False),
    (errors.TooLarge(), NEXT, False),
    (errors.Undecodable(), NEXT, False),
    (errors.UntrustedTLS(), NEXT, False),
    (errors.Unauthorized(), NEXT, False),
    (errors.NotFound(), NEXT, False),
    (errors.RedirectLoop(), NEXT, False),
    (errors.RedirectRefused(), NEXT, False),
    (errors.BadResponse(), NEXT, False),
    (errors.RateLimited(), NEXT, True),
    (errors.Stalled(), NEXT, True),
    (errors.Unreachable(), NEXT, True),
    (errors.ProxyFailure(), NEXT, True),
    (errors.Truncated(), AGAIN, True),
    *((status(code), AGAIN, True) for code in (408, 425, 429, 500, 502, 503, 504)),
    *((status(code), NEXT, False) for code in (400, 405, 409, 451, 501)),
    (FetchError("a hook said no"), STOP, False),
]


@pytest.mark.parametrize(
    ("error", "answer", "heals"), TABLE, ids=[str(row[0]) or type(row[0]).__name__ for row in TABLE]
)
def test_what_follows_an_error(error: FetchError, answer: Verdict, heals: bool) -> None:
    assert (verdict(error), passing(error)) == (answer, heals)


def test_no_descriptors_left_is_our_fault_never_the_sources() -> None:
    assert verdict(Unreachable("too many open files", errno=errno.EMFILE)) is AGAIN


@pytest.mark.parametrize(("code", "heals"), [(407, False), (403, False), (502, True)])
def test_a_proxy_that_forbids_will_forbid_again(code: int, heals: bool) -> None:
    error = errors.ProxyFailure("no", response=status(code).response)
    assert passing(error) is heals


@pytest.mark.parametrize(
    ("retry", "cap"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, BACKOFF_MOST_S), (10_000, BACKOFF_MOST_S)]
)
def test_backoff_doubles_under_a_cap_with_full_jitter(retry: int, cap: float) -> None:
    assert wait_s(retry, Always(0.0)) == 0.0
    assert wait_s(retry, Always(0.999999)) == pytest.approx(cap, rel=1e-4)


@pytest.mark.parametrize(("told", "waits"), [(7.0, 7.0), (1e20, RETRY_AFTER_MOST_S), (0.0, 0.0), (-5.0, 0.0)])
def test_retry_after_is_obeyed_up_to_a_cap(told: float, waits: float) -> None:
    error = status(503)
    error.retry_after_s = told
    assert wait_s(1, Always(0.0), error) == waits


def course(*priorities: int, retries: int = 3) -> Course:
    return Course(sources(*priorities), retries)


def test_a_source_that_is_for_good_wrong_is_not_asked_again() -> None:
    way = course(0, 1)
    assert way.after(NotFound(), None, Always(0.5)) == 0.0
    assert way.source.url == "http://m1.example/x"
    assert way.after(DigestMismatch(), None, Always(0.5)) is None


def test_with_no_source_left_a_passing_error_means_again() -> None:
    way = course(0, retries=2)
    assert way.after(Unreachable(), None, Always(0.5)) == 0.25
    assert way.after(Unreachable(), None, Always(0.5)) == 0.5
    assert way.after(Unreachable(), None, Always(0.5)) is None


def test_a_source_that_is_cut_again_and_again_gives_way_to_the_next() -> None:
    way = course(0, 1, retries=1)
    assert way.after(Truncated(), None, Always(0.5)) == 0.25
    assert way.source.url == "http://m0.example/x"
    assert way.after(Truncated(), None, Always(0.5)) == 0.0
    assert way.source.url == "http://m1.example/x"
    assert way.after(Truncated(), None, Always(0.5)) is None


def test_retries_zero_is_no_retry() -> None:
    assert course(0, retries=0).after(Unreachable(), None, Always(0.5)) is None


def test_a_stop_asks_nobody() -> None:
    assert course(0, 1).after(errors.StoreError(), None, Always(0.5)) is None


def test_a_hook_that_mended_the_cause_is_believed_within_the_cap() -> None:
    way = course(0, retries=1)
    assert way.after(errors.Unauthorized(), AGAIN, Always(0.5)) == 0.0
    assert way.after(errors.Unauthorized(), AGAIN, Always(0.5)) is None


@pytest.mark.parametrize("seed", range(20))
def test_never_more_attempts_than_sources_and_retries(seed: int) -> None:
    dice = random.Random(seed)
    way = course(*(0 for _ in range(dice.randint(1, 4))), retries=dice.randint(0, 5))
    most = len(way.sources) + way.retries
    kinds = [Truncated, Unreachable, NotFound, DigestMismatch]
    asked = 1
    while way.after(dice.choice(kinds)(), dice.choice([None, None, AGAIN, NEXT]), dice) is not None:
        asked += 1
        assert way.source is not None
    assert asked <= most
