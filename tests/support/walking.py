"""Pools for tests.  In: what a test wants.  Out: Pools that show nothing and wait little.  Never: another engine."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from geofetch import limits, plan
from geofetch.lane import Lane
from geofetch.pool import Pool
from geofetch.store import MemoryStore, native
from geofetch.transport import pools as connections

from .leftovers import Leftovers
from .process import ROOT
from .waiting import until

#: The fixtures; a test file imports them all, and the functions by name.
__all__ = ["quick", "spotless", "warm"]


def pooled(size: int = 4, **how: Any) -> Pool:
    """A Pool over a MemoryStore, unless another one is told; it shows no progress."""
    return Pool(size, **{"store": MemoryStore(), "progress": False, **how})


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries wait some milliseconds, not seconds."""
    monkeypatch.setattr(plan, "BACKOFF_S", 0.004)


@pytest.fixture
def warm() -> None:
    """What a process makes once and keeps is there: the native threads, and what they wake the hub with."""
    gevent.get_hub().threadpool.apply(int)
    lane = Lane([len])
    lane.put(b"x" * (2 << 20))
    lane.finish()
    for kind in (native.READ, native.SYNC):
        native.call(int, kind=kind)


@pytest.fixture
def spotless(warm: None, no_leftovers: Leftovers) -> Iterator[Leftovers]:
    """After the test: no descriptor, greenlet, part or slot more than before; kept connections do not count."""
    assert limits.process.used == 0
    no_leftovers.first(lambda: connections.shared().close())
    yield no_leftovers
    until(lambda: limits.process.used == 0, 2, "every slot given back")
    assert limits.process.used_by == {}


def in_subprocess(code: str, timeout_s: float = 60, **names: Any) -> str:
    """What this code prints in a new interpreter; ``names`` are plain values that it finds."""
    given = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    program = f"import gevent, geofetch\n{given}{textwrap.dedent(code)}"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr, done.stderr
    return done.stdout
