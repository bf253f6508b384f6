"""What is left over.  In: a folder to look into.  Out: descriptors, greenlets and part files that are new.

Never: patience beyond two seconds and some turns of the hub; whoever is still ending then has not ended.
"""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gevent


class Leftovers:
    """A count at the beginning, held against one at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first: list[Callable[[], object]] = []
        self._before = self._counted()

    def first(self, call: Callable[[], object]) -> None:
        """Call this before looking: what lets go of things that may be kept on purpose, such as idle connections."""
        self._first.append(call)

    def check(self) -> None:
        """AssertionError that names what is left over."""
        for call in self._first:
            call()
        end, turns = time.monotonic() + 2, 0
        # A look may take long where there are many objects: time alone would give those who are ending no turn at all.
        while (more := self._more()) and (time.monotonic() < end or turns < 10):
            # A greenlet that was killed, a socket whose close is scheduled: they need a turn of the hub to end.
            gevent.sleep(0.01)
            turns += 1
        assert not more, "left over: " + "; ".join(more)

    def _more(self) -> list[str]:
        return [f"{number} x {what}" for what, number in (self._counted() - self._before).items()]

    def _counted(self) -> Counter[str]:
        gc.collect()
        parts = (str(path.relative_to(self._folder)) for path in self._folder.rglob(".part-*"))
        return Counter([*map(str, descriptors().values()), *greenlets(), *parts])


def descriptors() -> dict[int, str]:
    """This process's open descriptors, and what each one is; sockets and pipes by their kind alone."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listed this folder
            continue
        found[int(name)] = target.partition(":[")[0]
    return found


def greenlets() -> list[str]:
    """Every greenlet of gevent's that has not ended, by its repr without addresses."""
    # isinstance would ask proxies for their class, and wake what they stand for.
    living = [one for one in gc.get_objects() if issubclass(type(one), gevent.Greenlet) and not one.dead]
    return [f"greenlet {getattr(one._run, '__qualname__', one.name)}" for one in living]
