"""Stores that cannot be reached, where a command is about all that the records know.

In: a Recorder, the names of stores.  Out: those that answer; of each of the others one line, its files counted.
Never: the rest of them given up for one whose disk, server or credentials are away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import codes
from .words import counted
from .work import Work

if TYPE_CHECKING:
    from ..records import Recorder
    from ..store import Store

__all__ = ["Away"]


class Away:
    """The stores that could not be reached, and how many files of each were asked for."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._each: list[dict[str, Any]] = []

    @property
    def files(self) -> int:
        """How many files nobody could look at."""
        return sum(one["files"] for one in self._each)

    def others(self, recorder: Recorder, names: Iterable[str], **wanted: Any) -> dict[str, Store]:
        """The stores that answer, by name; ``wanted`` says which units are asked for.

        The one that --into names is all that is meant: an error of it ends the command.
        """
        from ..errors import FetchError, RecordError
        from .places import store_of

        stores: dict[str, Store] = {}
        try:
            for name in names:
                try:
                    stores[name] = store_of(name, recorder, self._work.told)
                except RecordError:
                    raise
                except FetchError as exc:
                    if self._work.told["into"]:
                        raise
                    self._note(name, recorder.count(store=name, **wanted), exc)
        except BaseException:
            for store in stores.values():
                store.close()
            raise
        return stores

    def _note(self, name: str, files: int, error: Exception) -> None:
        from .output import error_fields

        console = self._work.console
        self._each.append({"store": name, "files": files, "error": error_fields(error, console.clean)})
        console.fail(f"{error} ({name} is left out, {counted(files, 'file')})")

    def code(self, code: int) -> int:
        """What the command ends with that would end with ``code``."""
        return codes.of_all([code, *([codes.CAUSES["StoreError"]] if self._each else [])])

    def fields(self) -> Mapping[str, Any]:
        """What the last object of --json says of them."""
        return {"unchecked": self.files, "unreached": self._each}

    def summary(self) -> str:
        """What follows a sum in words; nothing where all were reached."""
        return f"; {self.files:,} not checked, in stores that could not be reached" if self._each else ""
