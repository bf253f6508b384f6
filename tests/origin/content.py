"""Bytes that the test and the origin can make alike.  In: a size, a seed.  Out: bytes.  Never: chance."""

from __future__ import annotations

import hashlib


def made(size: int, seed: str | int = 0) -> bytes:
    """As many bytes, always the same for one seed, and not worth compressing."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def tree_name(number: int) -> str:
    """The name of one file of a tree."""
    return f"f{number:05}.bin"


def tree_file(number: int, size: tuple[int, int], seed: str | int) -> bytes:
    """One file of a tree, its size somewhere from the first to the second bound, both included."""
    low, high = size
    spread = int.from_bytes(made(8, f"{seed}/{number}/size"), "big")
    return made(low + spread % (high - low + 1), f"{seed}/{number}")
