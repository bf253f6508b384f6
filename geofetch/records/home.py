"""The folder that a database lies in, and moves with.

In: store names, Kepts and Units as the world says them.  Out: the same as the database keeps them, and back.
Never: the disk.

A database at ``ROOT/.geofetch/units.db`` belongs to the files below ROOT.  Whoever moves, copies or links ROOT takes
both along; so there the store at ROOT is kept as ``.``, and called by whatever ROOT is now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from ..events import Kept
from ..names import OURS, store_name
from .units import FILE, Unit

__all__ = ["HERE", "Home"]

HERE = "."


class Home:
    """What the store around a database is called, outside and in it; ``path`` is the database's, if it has one."""

    def __init__(self, path: str | None) -> None:
        folder = os.path.dirname(path) if path is not None else ""
        self._name = store_name(os.path.dirname(folder)) if os.path.basename(folder) == OURS else None

    def kept_name(self, store: str) -> str:
        """A store's name as the database keeps it."""
        return HERE if store == self._name else store

    def known_name(self, store: str) -> str:
        """A store's name as it is now."""
        return self._name if store == HERE and self._name is not None else store

    def kept(self, kept: Kept) -> Kept:
        """A place as the database keeps it."""
        if kept.store != self._name:
            return kept
        return Kept.made(HERE, kept.key, kept.size, kept.mtime_ns, kept.inode)

    def kept_unit(self, unit: Unit) -> Unit:
        """A unit as the database keeps it."""
        return replace(unit, store=self.kept_name(unit.store), key=self._key(unit.type, unit.key, self.kept_name))

    def known_unit(self, unit: Unit) -> Unit:
        """A unit as it is now."""
        if unit.store != HERE:
            return unit
        return replace(unit, store=self.known_name(HERE), key=self._key(unit.type, unit.key, self.known_name))

    def kept_ident(self, ident: Any) -> Any:
        """What a unit is asked for by, as the database knows it; a key may come as JSON text."""
        if isinstance(ident, str) and ident.startswith("{"):
            with suppress(ValueError, RecursionError):
                return self.kept_ident(json.loads(ident))
        if isinstance(ident, Mapping) and "store" in ident and ident.get("type", FILE) == FILE:
            return {**ident, "store": self.kept_name(str(ident["store"]))}
        return ident

    @staticmethod
    def _key(kind: str, key: Mapping[str, Any], name: Any) -> Mapping[str, Any]:
        return {**key, "store": name(key["store"])} if kind == FILE and "store" in key else key
