"""What proves a file: a Digest, from any usual writing of it.

In: text, mappings, lists of them.  Out: algorithm and value, parsed and checked.  Never: a digest compared as text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from .errors import SpecError
from .frozen import unfrozen

__all__ = ["Digest", "DigestLike", "algorithm", "digests", "hasher"]

#: Bytes that a value has at least: SHAKE's and shortened BLAKE2's could be one byte, which would "prove" anything.
SHORTEST = 16

DigestLike: TypeAlias = "str | Digest | Mapping[str, str | bytes] | Iterable[str | Digest]"


@dataclass(frozen=True, slots=True)
class Digest:
    """An algorithm (hashlib's name; ``blake2b-256`` for a shortened BLAKE2) and the value in bytes."""

    algorithm: str
    value: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithm", algorithm(self.algorithm))
        want = _size(self.algorithm)
        if want and len(self.value) != want:
            raise SpecError(f"bad {self.algorithm} digest: {len(self.value)} bytes, it has {want}")
        if len(self.value) < SHORTEST:
            raise SpecError(
                f"bad {self.algorithm} digest: {len(self.value)} bytes prove too little, {SHORTEST} at least"
            )

    @classmethod
    def made(cls, algorithm: str, value: bytes) -> Digest:
        """Of what is sure: a canonical name, and as many bytes as that has."""
        made: Any = _Unfrozen()
        made.algorithm = algorithm
        made.value = value
        made.__class__ = cls
        return made  # type: ignore[no-any-return]

    @classmethod
    def parse(cls, text: str) -> Digest:
        """From ``sha256:<hex>``, ``sha256=<hex>`` or Subresource Integrity's ``sha256-<base64>`` (W3C SRI, 3.5)."""
        named, separator, value = _split(text)
        if not separator:
            raise SpecError(f"bad digest {text!r}: write ALGORITHM:HEX, as in sha256:9f86d0…")
        return cls.of(named, value)

    @classmethod
    def of(cls, named: str, value: str | bytes) -> Digest:
        """From a name and a value in raw bytes, hex or base64."""
        named = algorithm(named)
        if not isinstance(value, str | bytes):
            raise SpecError(f"a {named} digest is text or bytes, not {type(value).__name__}")
        if not isinstance(value, bytes):
            value = _decoded(named, value)
        # As long as the algorithm has them, which is long enough: there is nothing more to be looked at.
        return cls.made(named, value) if len(value) == _size(named) >= SHORTEST else cls(named, value)

    @property
    def hex(self) -> str:
        return self.value.hex()

    def new(self) -> Any:
        """A fresh hashlib object of this algorithm."""
        return hasher(self.algorithm)

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


_Unfrozen = unfrozen(Digest)


def _split(text: str) -> tuple[str, str, str]:
    for separator in ":=":
        if separator in text.rstrip("="):
            return text.partition(separator)
    # SRI: a name holds hyphens too ("sha3-256-…"), base64 never does.
    return text.rpartition("-")


_SHORT_BLAKE2 = re.compile(r"(blake2[bs])-(\d+)")


def algorithm(named: str) -> str:
    """The canonical name of an algorithm, from any usual writing of it: ``SHA-256``, ``sha3-256``, ``BLAKE2b``."""
    try:
        return _ALGORITHMS[named]
    except (KeyError, TypeError):
        pass
    if not isinstance(named, str):
        raise SpecError(f"a digest's algorithm is a name, not {type(named).__name__}")
    found = _known(named.strip().lower())
    if found is None:
        raise SpecError(f"unknown digest algorithm {named!r}; known here: {', '.join(sorted(_usable()))}")
    _ALGORITHMS[named] = found
    return found


_ALGORITHMS: dict[str, str] = {"sha256": "sha256", "sha512": "sha512", "sha1": "sha1", "md5": "md5"}


def _known(named: str) -> str | None:
    usable = _usable()
    for guess in (named, named.replace("-", "_"), named.replace("-", "").replace("_", ""), named.replace("/", "_")):
        if guess in usable:
            return guess
    short = _SHORT_BLAKE2.fullmatch(named.replace("_", "-"))
    if short:
        family, bits = short[1], int(short[2])
        full = 512 if family == "blake2b" else 256
        if bits == full:
            return family
        if bits % 8 == 0 and 0 < bits < full:
            return f"{family}-{bits}"
    return None


def _usable() -> set[str]:
    return set(map(str.lower, hashlib.algorithms_available))


def hasher(named: str) -> Any:
    """A fresh hashlib object for a canonical name; SHAKE's has no length of its own."""
    return _untouched(named).copy()


@cache
def _untouched(named: str) -> Any:
    # Copied, since that takes half of what a constructor of its own takes, and a fourth of hashlib.new.
    try:
        short = _SHORT_BLAKE2.fullmatch(named)
        if short:
            return getattr(hashlib, short[1])(digest_size=int(short[2]) // 8)
        return hashlib.new(named, usedforsecurity=False)
    except ValueError as exc:  # listed by OpenSSL, switched off by its policy
        raise SpecError(f"digest algorithm {named!r} is not usable here: {exc}") from exc


@cache
def _size(named: str) -> int:
    found: int = hasher(named).digest_size
    return found


def _decoded(named: str, text: str) -> bytes:
    text = text.strip()
    size = _size(named)
    try:
        if len(text) == 2 * size or (not size and re.fullmatch(r"(?:[0-9a-fA-F]{2})+", text)):
            return bytes.fromhex(text)
        if len(text) == len(base64.b64encode(bytes(size))) or not size:
            return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise SpecError(f"bad {named} digest {text!r}: neither hex nor base64") from None
    raise SpecError(f"bad {named} digest {text!r}: {2 * size} hex digits are wanted, {len(text)} were given")


def digests(wanted: DigestLike | None) -> tuple[Digest, ...]:
    """Digests in any usual writing, one an algorithm; two values for one algorithm are a SpecError."""
    if wanted is None:
        return ()
    if type(wanted) is str and len(wanted) == 7 + 64 and wanted.startswith("sha256:"):
        # As it is written nearly always.
        try:
            return (Digest.made("sha256", binascii.unhexlify(wanted[7:])),)
        except ValueError:
            pass  # what it is instead is found out below
    elif type(wanted) is list and len(wanted) == 1 and type(wanted[0]) is Digest:
        return (wanted[0],)
    found = tuple(_each(wanted))
    by_name: dict[str, Digest] = {}
    for digest in found:
        if by_name.setdefault(digest.algorithm, digest) != digest:
            raise SpecError(f"two different {digest.algorithm} digests for one file")
    return tuple(by_name.values())


def _each(wanted: DigestLike) -> Iterable[Digest]:
    if isinstance(wanted, Digest):
        yield wanted
    elif isinstance(wanted, str):
        # SRI allows several in one text, white space between them.
        yield from map(Digest.parse, wanted.split())
    elif isinstance(wanted, Mapping):
        for named, value in wanted.items():
            yield Digest.of(named, value)
    elif isinstance(wanted, Iterable) and not isinstance(wanted, bytes):
        for one in wanted:
            yield from _each(one)
    else:
        raise SpecError(f"digests are text, a mapping or a list of them, not {type(wanted).__name__}")
