"""The header fields of an answer in the mappings that urllib3 and requests have for them.

In: names and values in their order.  Out: an HTTPHeaderDict; what requests makes of one.  Never: another content than
their own methods would give it.

Going through those methods, a call and more for each field, takes a tenth of a small request.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from requests.structures import CaseInsensitiveDict
from urllib3._collections import HTTPHeaderDict

__all__ = ["merged", "told"]

#: Whether a HTTPHeaderDict is inside what all of urllib3 2 has, and a CaseInsensitiveDict what all of requests 2 has.
_FITS_URLLIB3 = getattr(HTTPHeaderDict([("A", "b"), ("a", "c")]), "_container", None) == {"a": ["A", "b", "c"]}
_FITS_REQUESTS = vars(CaseInsensitiveDict({"A": "b"})) == {"_store": OrderedDict(a=("A", "b"))}


def told(fields: Iterable[tuple[str, str]]) -> HTTPHeaderDict:
    """Fields as urllib3 has them, doubled ones as often as they came."""
    found = HTTPHeaderDict()
    if not _FITS_URLLIB3:
        for name, value in fields:
            found.add(name, value)
        return found
    kept: dict[str, list[str]] = found._container  # type: ignore[assignment]
    for name, value in fields:
        key = name.lower()
        if key in kept:
            kept[key].append(value)
        else:
            kept[key] = [name, value]
    return found


def merged(fields: HTTPHeaderDict) -> CaseInsensitiveDict[str]:
    """Fields as a Response of requests has them: each name once, its values with commas between them."""
    if not (_FITS_URLLIB3 and _FITS_REQUESTS):
        return CaseInsensitiveDict(fields.itermerged())
    found: CaseInsensitiveDict[str] = CaseInsensitiveDict.__new__(CaseInsensitiveDict)
    found._store = OrderedDict(
        [
            (lowered, (name, values[0] if len(values) == 1 else ", ".join(values)))
            for lowered, (name, *values) in fields._container.items()
        ]
    )
    return found
