"""Which source is asked next, how often, and when; and what is told when none gave the file."""

from __future__ import annotations

import email.utils
import gc
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest

import geofetch
from geofetch import limits, pipeline
from geofetch.errors import (
    BadStatus,
    DigestMismatch,
    NotFound,
    RateLimited,
    SizeMismatch,
    SourcesExhausted,
    SpecError,
    StoreError,
    Truncated,
    Unreachable,
)
from geofetch.events import Attempt
from geofetch.spec import Source, Spec
from tests.origin.content import made
from tests.origin.scenes import Scene
from tests.support.diary import Diary, sha256
from tests.support.leftovers import Leftovers
from tests.support.mirrors import Mirror, Origins
from tests.support.waiting import until
from tests.support.walking import *  # noqa: F403 - the fixtures of these tests
from tests.support.walking import pooled

BODY = made(2_000, "sources")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited before each retry; nobody waits in truth."""
    found: list[float] = []

    def pause(seconds: float) -> None:
        found.append(seconds)
        gevent.sleep(0)

    monkeypatch.setattr(pipeline, "pause", pause)
    return found


def test_sources_are_asked_by_priority(mirror: Mirror) -> None:
    missing = [mirror.serves(status=404) for _ in range(5)]
    priorities = (3, 1, 2, 0, 4)
    spec = Spec(sources=[Source(one.url, n) for one, n in zip(missing, priorities, strict=True)])
    with pooled() as pool:
        (outcome,) = pool.map([spec])
    assert [attempt.source.priority for attempt in outcome.attempts if attempt.source] == [0, 1, 2, 3, 4]
    assert [attempt.number for attempt in outcome.attempts] == [1, 2, 3, 4, 5]


def test_a_source_that_has_expired_is_asked_where_all_have_and_the_log_says_so(
    mirror: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    expired, good = mirror.serves(b"old"), mirror.serves(BODY)
    sources = [Source(expired.url, expires_at=time.time() - 1), Source(good.url, 5, expires_at=time.time() + 600)]
    with pooled() as pool:
        (outcome,) = pool.map([Spec(sources=sources)])
        assert (outcome.source, expired.hits) == (sources[1], 0)
        assert "expired" not in caplog.text
        (outcome,) = pool.map([Spec(sources=sources[:1])])
    assert (outcome.ok, expired.hits) == (True, 1)
    assert "all of its sources have expired" in caplog.text


def test_within_a_priority_the_weight_is_the_share(mirror: Mirror) -> None:
    heavy, light, never = (mirror.serves(BODY) for _ in range(3))
    sources = [Source(heavy.url, 0, 9), Source(light.url, 0, 1), Source(never.url, 1, 100)]
    with pooled(8) as pool:
        outcomes = pool.map([Spec(sources=sources, path=f"f{n}") for n in range(300)])
    found = Counter(outcome.source.url for outcome in outcomes if outcome.source)
    assert set(found) == {heavy.url, light.url}
    assert 6 < found[light.url] < 75, "30 are expected; so far off it comes once in ten million runs"


def test_with_one_source_its_own_error_is_raised_and_with_several_all_of_them(mirror: Mirror) -> None:
    missing, liar = mirror.serves(status=404), mirror.serves(b"not it")
    with pytest.raises(NotFound):
        geofetch.fetch(missing.url)
    with pytest.raises(SourcesExhausted, match="all 2 sources failed; the last one: ") as caught:
        geofetch.fetch(sources=[Source(missing.url, 0), Source(liar.url, 1)], digests=sha256(BODY))
    error = caught.value
    assert [(source, type(why)) for source, why in error.errors] == [(missing, NotFound), (liar, DigestMismatch)]
    assert error.__cause__ is error.errors[-1][1]
    assert [type(attempt.error) for attempt in error.attempts] == [NotFound, DigestMismatch]
    assert not isinstance(error, NotFound)


def test_what_no_other_source_can_mend_asks_no_other_source(mirror: Mirror, tmp_path: Path) -> None:
    first, second = mirror.serves(BODY), mirror.serves(BODY)
    (tmp_path / "file").mkdir()
    spec = Spec(sources=[Source(first.url, 0), Source(second.url, 1)])
    with pooled(store=tmp_path) as pool:
        (outcome,) = pool.map([spec])
    assert type(outcome.error) is StoreError
    assert second.hits == 0


@pytest.mark.parametrize(
    ("scenes", "kinds"),
    [
        pytest.param([Scene(body=BODY, cut=10)], [Truncated], id="cut"),
        pytest.param([Scene(body=BODY, reset=10)], [Truncated], id="reset"),
        pytest.param([Scene(reset="head")], [Unreachable], id="reset-at-once"),
        *(pytest.param([Scene(status=n)], [BadStatus], id=str(n)) for n in (408, 425, 500, 502, 503, 504)),
        pytest.param([Scene(status=429)], [RateLimited], id="429"),
        pytest.param([Scene(status=500), Scene(body=BODY, cut=0)], [BadStatus, Truncated], id="one-after-the-other"),
    ],
)
def test_what_time_may_heal_is_asked_again(
    mirror: Mirror, spotless: Leftovers, waits: list[float], scenes: list[Scene], kinds: list[type]
) -> None:
    source = mirror.plays([*scenes, Scene(body=BODY)])
    with pooled(retries=2) as pool:
        (outcome,) = pool.map([Spec(source.url, digests=sha256(BODY))])
    assert outcome.state == "stored"
    assert [type(attempt.error) for attempt in outcome.attempts] == [*kinds, type(None)]
    assert len(waits) == len(kinds)
    assert all(0 <= wait < 1 for wait in waits)


@pytest.mark.parametrize(
    "scene",
    [Scene(status=404), Scene(status=401), Scene(status=501), Scene(status=204), Scene(body=b"not it", announce=None)],
    ids=["404", "401", "501", "204", "wrong-bytes"],
)
def test_what_time_does_not_heal_is_asked_once(mirror: Mirror, waits: list[float], scene: Scene) -> None:
    source = mirror.plays([scene])
    with pooled(retries=5) as pool:
        (outcome,) = pool.map([Spec(source.url, digests=sha256(BODY))])
    assert (outcome.state, source.hits, waits) == ("failed", 1, [])


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_retries_are_told_and_kept(mirror: Mirror, waits: list[float], retries: int) -> None:
    source = mirror.serves(status=503)
    with pooled(retries=retries) as pool:
        (outcome,) = pool.map([source.url])
    assert source.hits == len(outcome.attempts) == 1 + retries
    assert len(waits) == retries


def test_zero_retries_still_ask_every_source(mirror: Mirror) -> None:
    down = [mirror.serves(status=503) for _ in range(3)]
    with pooled(retries=0) as pool:
        (outcome,) = pool.map([Spec(sources=[one.url for one in down])])
    assert sorted(one.hits for one in down) == [1, 1, 1]
    assert isinstance(outcome.error, SourcesExhausted)


def test_a_source_that_is_down_is_asked_again_when_all_were_and_one_that_lied_is_not(
    mirror: Mirror, waits: list[float]
) -> None:
    limited = mirror.plays([Scene(status=429), Scene(status=429), Scene(body=BODY)])
    liar = mirror.serves(b"not it")
    with pooled() as pool:
        (outcome,) = pool.map([Spec(sources=[Source(limited.url, 0), Source(liar.url, 1)], digests=sha256(BODY))])
    assert [attempt.source for attempt in outcome.attempts] == [limited, liar, limited, limited]
    assert (outcome.state, liar.hits) == ("stored", 1)
    assert len(waits) == 2, "the next source is asked at once, the same one after a while"


def test_a_refused_source_costs_the_next_one_nothing(mirror: Mirror, origins: Origins, waits: list[float]) -> None:
    dead, good = origins.refusing(), mirror.serves(BODY)
    with pooled() as pool:
        (outcome,) = pool.map([Spec(sources=[Source(dead.source.url, 0), Source(good.url, 1)])])
    assert [type(attempt.error) for attempt in outcome.attempts] == [Unreachable, type(None)]
    assert waits == []


# ---------------------------------------------------------------------------------------------------------- Retry-After


@pytest.mark.parametrize(
    ("told", "least", "most"),
    [
        pytest.param(7, 7, 8, id="seconds"),
        pytest.param(0, 0, 1, id="zero"),
        pytest.param(10**20, 300, 301, id="past-the-cap"),
        pytest.param("soon", 0, 0.01, id="garbage"),
        pytest.param(-5, 0, 0.01, id="negative"),
        pytest.param("Fri, 31 Dec 1999 23:59:59 GMT", 0, 1, id="a-date-gone-by"),
    ],
)
def test_retry_after_is_obeyed_within_a_cap(
    mirror: Mirror, waits: list[float], told: Any, least: float, most: float
) -> None:
    source = mirror.plays([Scene(status=429, retry_after=told), Scene(body=BODY)])
    with pooled() as pool:
        (outcome,) = pool.map([source.url])
    assert outcome.ok
    (wait,) = waits
    assert least <= wait <= most


def test_retry_after_may_be_a_date(mirror: Mirror, waits: list[float]) -> None:
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    source = mirror.plays([Scene(status=503, retry_after=date), Scene(body=BODY)])
    with pooled() as pool:
        pool.map([source.url])[0].raise_for_error()
    (wait,) = waits
    assert 50 < wait < 62


def test_no_slot_is_held_while_waiting_to_retry(mirror: Mirror, spotless: Leftovers) -> None:
    limited, good = mirror.serves(status=429, retry_after=100), mirror.serves(BODY)
    failed = gevent.event.Event()
    with pooled(1, per_host=1, hooks={"failed": lambda *_: failed.set()}) as pool:
        waiting = pool.spawn(limited.url)
        failed.wait(10)
        assert pool.spawn(good.url).get(timeout=10).ok
        assert not waiting.done
        assert limits.process.used == 0
        waiting.cancel()
        assert waiting.get(timeout=10).state == "cancelled"
    assert limited.hits == 1


def test_a_deadline_ends_a_wait_for_a_retry(mirror: Mirror, spotless: Leftovers) -> None:
    source = mirror.serves(status=429, retry_after=100)
    with pooled(deadline=0.2) as pool:
        (outcome,) = pool.map([source.url])
    assert outcome.state == "failed"
    assert type(outcome.error).__name__ == "DeadlineExceeded"
    # How far it came is told along: the one attempt failed for its own reason.
    assert [type(attempt.error) for attempt in outcome.attempts] == [RateLimited]


def test_what_failed_before_leaves_nothing_in_what_comes_after(mirror: Mirror, spotless: Leftovers) -> None:
    longer = mirror.plays([Scene(body=BODY * 2, cut=len(BODY) + 100), Scene(body=BODY)])
    with pooled() as pool:
        (outcome,) = pool.map([longer.url])
        assert pool.store[outcome.location] == BODY
    assert outcome.size == len(BODY)


def test_every_attempt_is_its_own(mirror: Mirror) -> None:
    lies, good = mirror.serves(b"12345"), mirror.serves(BODY)
    diary = Diary()
    with pooled(stages=[diary]) as pool:
        (outcome,) = pool.map([Spec(sources=[Source(lies.url, 0), Source(good.url, 1)], size=len(BODY))])
    first, second = outcome.attempts
    assert (first.number, first.source, type(first.error)) == (1, lies, SizeMismatch)
    assert first.head is not None
    assert (first.head.length, first.received_bytes, first.location) == (5, 0, None)
    assert (second.number, second.source, second.error) == (2, good, None)
    assert isinstance(second, Attempt)
    assert second.location == outcome.location


def test_numbers_that_make_no_sense_are_refused_at_once() -> None:
    for wrong in ({"retries": -1}, {"retries": True}, {"size": 0}, {"deadline": 0}, {"deadline": -1}, {"timeout": 0}):
        with pytest.raises(SpecError):
            pooled(**wrong)
    for wrong in ({"on_error": "ignore"}, {"per_host": 0}, {"session": object()}, {"low_speed": (1, 0)}):
        with pytest.raises(SpecError):
            pooled(**wrong)


class Noting:
    """Refuses what has come, and knows whether anybody still holds it."""

    def __init__(self) -> None:
        self.views: list[weakref.ref[memoryview]] = []

    def bind(self, attempt: Attempt) -> Mapping[str, Any]:
        def on_chunk(view: memoryview) -> None:
            self.views.append(weakref.ref(view))

        def on_received() -> None:
            raise LookupError("no")

        return {"chunk": on_chunk, "received": on_received}


@pytest.mark.parametrize("how", ["cut", "refused", "cancelled"])
def test_an_outcome_that_failed_keeps_no_bytes_alive(mirror: Mirror, how: str) -> None:
    """What is kept of a thousand failures is what they say, not what was under way."""
    noting = Noting()
    source = mirror.serves(BODY, **{"cut": {"cut": 500}, "refused": {}, "cancelled": {"stall": 500}}[how])
    with pooled(retries=0, stages=[noting]) as pool:
        job = pool.spawn(source.url)
        if how == "cancelled":
            until(lambda: noting.views, what="a chunk")
            job.cancel()
        outcome = job.get(timeout=10)
    assert not outcome.ok
    gc.collect()
    assert [view() for view in noting.views] == [None]
