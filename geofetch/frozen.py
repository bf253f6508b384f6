"""How a frozen object is made in a quarter of the time.

A frozen dataclass sets each of its fields by ``object.__setattr__``, which takes as long as ten assignments, and a file
makes half a dozen of such objects.  Who makes one for every file fills in an object of the same layout that can be
written yet, and gives it its class when all is said::

    made: Any = _Unfrozen()             # _Unfrozen = unfrozen(Head)
    made.status = 200                   # … and every other field: there are no defaults
    made.__class__ = Head

In: a frozen dataclass with slots.  Out: a class of its layout.  Never: a check of what it is given; who fills one in
has checked it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["unfrozen"]


def unfrozen(kind: Any) -> type[Any]:
    """A class whose objects have the same fields and can be written."""
    return type(f"Unfrozen{kind.__name__}", (), {"__slots__": kind.__slots__})
