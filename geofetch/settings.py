"""What a Pool may be told: numbers, times and inputs, checked before anything begins.

In: what callers wrote.  Out: values that can be used; a SpecError that names the setting and what it takes.  Never: a
default that is not said here or in Patience.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from .errors import SpecError
from .spec import Spec
from .stream import Patience

__all__ = ["Timeout", "check_many", "counted", "patience", "seconds"]

#: The greatest size and number of retries that can be meant.
MOST = 1_000_000

Timeout: TypeAlias = "float | tuple[float | None, float | None] | None"


def check_many(specs: Any) -> None:
    """Nothing, if these are specs to be iterated over."""
    if isinstance(specs, str | Spec | Mapping) or not isinstance(specs, Iterable):
        one = "one spec" if isinstance(specs, str | Spec | Mapping) else type(specs).__name__
        raise SpecError(f"specs is an iterable of specs, not {one}; for one there is spawn(spec), or map([spec])")


def counted(value: int, name: str, least: int) -> int:
    """The whole number itself, from ``least``."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MOST:
        raise SpecError(f"{name} is a whole number from {least} to {MOST}, not {value!r}")
    return value


def seconds(value: float | None, name: str) -> float | None:
    """The seconds as a float; None for no end."""
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool) or not value > 0):
        raise SpecError(f"{name} is a number of seconds above 0, not {value!r}")
    return None if value is None or math.isinf(value) else float(value)


def patience(timeout: Timeout, low_speed: tuple[float, float] | None) -> Patience:
    """How long a source is waited for, from what users write."""
    found = Patience()
    if isinstance(timeout, tuple) and len(timeout) != 2:
        raise SpecError("timeout is seconds, or a pair of seconds for connecting and reading")
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    if connect is not None:
        found = replace(found, connect_s=seconds(connect, "timeout") or 86_400.0)
    if read is not None:
        found = replace(found, read_s=seconds(read, "timeout") or 86_400.0)
    if low_speed is not None:
        rate, during_s = _rate(low_speed)
        found = replace(found, low_speed_bps=rate, low_speed_s=seconds(during_s, "low_speed") or math.inf)
    return found


def _rate(low_speed: Any) -> tuple[float, float]:
    if isinstance(low_speed, tuple | list) and len(low_speed) == 2:
        rate, during_s = low_speed
        if isinstance(rate, int | float) and not isinstance(rate, bool) and math.isfinite(rate) and rate >= 0:
            return float(rate), during_s
    raise SpecError(f"low_speed is bytes a second and for how many seconds, as in (1000, 60), not {low_speed!r}")
