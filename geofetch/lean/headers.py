"""The headers of a session, checked once, and a request's own put on them.

In: what a session and a call say of headers.  Out: the headers of the PreparedRequest.  Never: a header that requests
refuses; what it would complain about is left to it.
"""

from __future__ import annotations

from collections import OrderedDict
from operator import is_
from typing import Any

from requests import models, sessions
from requests.exceptions import InvalidHeader
from requests.structures import CaseInsensitiveDict
from requests.utils import check_header_validity

from .seams import Seams

__all__ = ["BEHIND_TEMPLATES", "Template"]

#: What of requests' a template stands for.
BEHIND_TEMPLATES = (
    (models, "CaseInsensitiveDict check_header_validity to_native_string"),
    (models.PreparedRequest, "prepare_headers"),
    (sessions, "CaseInsensitiveDict merge_setting"),
    (CaseInsensitiveDict, "__init__ __setitem__ __delitem__"),
)
_SEAMS = Seams(*BEHIND_TEMPLATES)

#: Whether requests keeps headers the way that is made use of here.
FITS = vars(CaseInsensitiveDict({"A": "1"})) == {"_store": OrderedDict(a=("A", "1"))}


class Template:
    """Headers that every request of a session begins with."""

    __slots__ = ("_said", "_store")

    def __init__(self, store: OrderedDict[str, tuple[str, Any]]) -> None:
        self._said = [*store.values()]
        self._store = store.copy()

    @classmethod
    def of(cls, headers: Any, before: Template | None) -> Template | None:
        """Of these headers, which is ``before`` if that is still so; None where requests must merge them."""
        if not (FITS and type(headers) is CaseInsensitiveDict and _SEAMS.untouched()):
            return None
        if before is not None and before.is_of(headers):
            return before
        store = headers._store
        return cls(store) if all(map(_may_be_sent, store.values())) else None

    def is_of(self, headers: Any) -> bool:
        """Whether these headers are still those that it was made of."""
        if type(headers) is not CaseInsensitiveDict:
            return False
        # Every change of a header makes a new pair, and a pair never changes.
        store = headers._store
        return len(store) == len(self._said) and all(map(is_, store.values(), self._said))

    def headers(self, given: Any) -> CaseInsensitiveDict[Any] | None:
        """Those of a request that says these: a new mapping; None where requests must merge them."""
        store = self._store.copy()
        if type(given) is dict:
            pairs: Any = given.items()
        elif type(given) is CaseInsensitiveDict:
            pairs = given._store.values()
        else:
            return None
        for pair in pairs:
            name, value = pair
            if type(name) is not str or not (value is None or _may_be_sent(pair)):
                return None
            store[name.lower()] = pair
        if pairs:
            # None takes a header away, unless one that follows brings it back, to its old place.
            for lowered in [lowered for lowered, (_, value) in store.items() if value is None]:
                del store[lowered]
        found: CaseInsensitiveDict[Any] = CaseInsensitiveDict.__new__(CaseInsensitiveDict)
        found._store = store
        return found


def _may_be_sent(pair: tuple[Any, Any]) -> bool:
    """Whether requests takes this header as it stands."""
    if type(pair[0]) is not str:
        return False
    try:
        check_header_validity(pair)
    except InvalidHeader:
        return False
    return True
