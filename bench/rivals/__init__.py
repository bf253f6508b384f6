"""The rivals: one small class each.  A module put here is found; a class with a ``name`` in it takes part."""

from .base import Batch, Keeper, Rival, Settings, WrongBytes, library, roster

__all__ = ["Batch", "Keeper", "Rival", "Settings", "WrongBytes", "library", "roster"]
