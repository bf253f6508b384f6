"""Waiting for something to become true.  In: a condition.  Out: its value.  Never: a sleep that hopes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import gevent

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 10.0, what: str = "") -> T:
    """The condition's first true value; other greenlets run meanwhile.  AssertionError when the time is over."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s} s: {what or getattr(condition, '__name__', condition)}")
        gevent.sleep(0.005)
    return found
