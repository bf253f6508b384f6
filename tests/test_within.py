"""Many waits of one length under one timer: each ends at its own time, and none keeps a loop alive."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent.event import Event

from geofetch.within import within


class Late(Exception):
    """What is raised when the time is over."""


def waits(seconds: float, for_s: float) -> float:
    """How long a wait took that was to take ``for_s`` and might take ``seconds``."""
    began = time.monotonic()
    with within(seconds, Late):
        gevent.sleep(for_s)
    return time.monotonic() - began


def test_what_takes_too_long_is_ended_and_nothing_else() -> None:
    with pytest.raises(Late) as caught:
        waits(0.05, 60)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert waits(0.5, 0.001) < 0.4


def test_each_is_ended_at_its_own_time() -> None:
    ended: list[int] = []

    def wait(number: int) -> None:
        gevent.sleep(number * 0.02)
        with pytest.raises(Late):
            waits(0.3, 60)
        ended.append(number)

    gevent.joinall([gevent.spawn(wait, number) for number in reversed(range(6))], raise_error=True)
    assert ended == [*range(6)]


def test_who_waits_again_when_struck_puts_off_nobody_else() -> None:
    first_again, began = Event(), time.monotonic()

    def first() -> None:
        with pytest.raises(Late):
            waits(1.0, 60)
        first_again.set()
        waits(1.0, 0.001)

    def second() -> float:
        gevent.sleep(0.1)
        with pytest.raises(Late):
            waits(1.0, 60)
        return time.monotonic() - began

    again = gevent.spawn(first)
    assert gevent.spawn(second).get() < 1.9  # 1.1, and 2.0 where the first one's new wait counted for all
    again.get()


def test_somebody_elses_timeout_passes_through() -> None:
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.02) as theirs:
        waits(60, 60)
    assert caught.value is theirs


def test_a_loop_with_nothing_else_to_do_ends() -> None:
    with pytest.raises(Late):
        waits(0.02, 60)
    waits(60, 0.001)
    began = time.monotonic()
    gevent.wait(timeout=30)
    assert time.monotonic() - began < 10
