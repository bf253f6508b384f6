"""Whether the functions that a shortcut passes by are still requests' own.

In: names.  Out: yes or no, asked anew for each request: who patches requests, or wraps a method, wants to see every
one.  Never: what the functions do.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

__all__ = ["Seams", "is_of", "look"]

#: Whose functions may be passed by.
OWNERS = frozenset({"requests", "urllib3", "urllib", "http", "netrc"})


def is_of(method: Any, namespace: dict[str, Any]) -> bool:
    """Whether a method is one that was written in this module: not overridden elsewhere, replaced or wrapped."""
    # By their real types: wrappers answer __class__, __func__ and __globals__ as what they wrap would.
    found = method.__func__ if type(method) is MethodType else method
    return type(found) is FunctionType and found.__globals__ is namespace


def look(*where: tuple[Any, str]) -> Callable[[], tuple[Any, ...]]:
    """What finds all that stands under names of modules and classes now, in one call."""
    things = {f"_{at}": thing for at, (thing, _) in enumerate(where)}
    paths = [f"_{at}.{name}" for at, (_, names) in enumerate(where) for name in names.split()]
    return partial(attrgetter(*paths), SimpleNamespace(**things))


class Seams:
    """Names of modules and classes that one shortcut passes by; two of them at least."""

    def __init__(self, *where: tuple[Any, str]) -> None:
        self._look = look(*where)
        self._known: tuple[Any, ...] | None = None

    def untouched(self) -> bool:
        """Whether all of them are what their libraries put there."""
        return self._look() == self._known if self._known is not None else self._learn()

    def _learn(self) -> bool:
        # Not when this is imported: who patched before that would be taken for requests.
        try:
            found = self._look()
        except AttributeError:  # a requests of another build
            return False
        if not all(map(_is_own, found)):
            return False
        self._known = found
        return True


def _is_own(found: Any) -> bool:
    if isinstance(found, type):
        return found.__module__.partition(".")[0] in OWNERS
    return type(found) is FunctionType and found.__globals__["__name__"].partition(".")[0] in OWNERS
