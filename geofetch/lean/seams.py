"""Whether the functions that a shortcut passes by are still requests' own.

In: names.  Out: yes or no, asked anew for each request: who patches requests, or wraps a method, wants to see every
one.  Never: what the functions do.
"""

from __future__ import annotations

from operator import attrgetter
from types import FunctionType, MethodType
from typing import Any

__all__ = ["Seams", "is_of"]

#: Whose functions may be passed by.
OWNERS = frozenset({"requests", "urllib3", "urllib", "http", "netrc"})


def is_of(method: Any, namespace: dict[str, Any]) -> bool:
    """Whether a method is one that was written in this module: not overridden elsewhere, replaced or wrapped."""
    # By their real types: wrappers answer __class__, __func__ and __globals__ as what they wrap would.
    found = method.__func__ if type(method) is MethodType else method
    return type(found) is FunctionType and found.__globals__ is namespace


class Seams:
    """Names of modules and classes that one shortcut passes by."""

    def __init__(self, *where: tuple[Any, str]) -> None:
        self._where = [(attrgetter(*names.split()), thing) for thing, names in where]
        self._known: list[Any] | None = None

    def untouched(self) -> bool:
        """Whether all of them are what their libraries put there."""
        if self._known is None:
            return self._learn()
        return [names(thing) for names, thing in self._where] == self._known

    def _learn(self) -> bool:
        # Not when this is imported: who patched before that would be taken for requests.
        try:
            found: list[Any] = [names(thing) for names, thing in self._where]
        except AttributeError:  # a requests of another build
            return False
        if not all(_is_own(one) for some in found for one in (some if type(some) is tuple else (some,))):
            return False
        self._known = found
        return True


def _is_own(found: Any) -> bool:
    if isinstance(found, type):
        return found.__module__.partition(".")[0] in OWNERS
    return type(found) is FunctionType and found.__globals__["__name__"].partition(".")[0] in OWNERS
