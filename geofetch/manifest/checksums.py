"""Checksum files, as sha256sum, b2sum, cksum, the BSDs' sha256 and OpenSSL write them.

    9f86d081…0a08  name              GNU: text
    9f86d081…0a08 *name              GNU: binary, which is the same file here
    \\9f86d081…0a08  a\\nb             GNU: a leading backslash, and \\\\, \\n and \\r in the name stand for one letter
    SHA256 (name) = 9f86d081…0a08    BSD; hex or base64
    SHA2-256(name)= 9f86d081…0a08    OpenSSL
    SIZE (name) = 4                  BSD's distinfo: the size in bytes
    # name: 4 bytes                  Fedora's CHECKSUM: the same
    9f86d081…0a08                    alone in NAME.sha256: the digest of NAME

Blank lines and lines that begin with ``#`` are comments; one that tells the size of the very next file is taken at its
word.  Lines about one file that follow each other are one Spec with several digests.  A clear-signed file (Fedora's
CHECKSUM) is read inside its armor, **and its signature is not checked**.

The algorithm of GNU lines is the one the caller gives, else the one the manifest's own name tells (``SHA512SUMS``,
``B2SUMS``, ``a.iso.sha256``), else that of the SHA and MD5 family whose digests are that long.

Sources: GNU coreutils manual, "cksum output modes" and "md5sum invocation" (the escapes); md5(1) of FreeBSD and OpenBSD
(the tagged form, ``-r`` with one space, base64 of ``-b``).

In: lines.  Out: Specs.  Never: whether a signature is right.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import SpecError
from ..spec import Digest, Spec, algorithm, digests, hasher
from .lines import Lines, excerpt
from .place import Place

__all__ = ["Checksums"]

_TAGGED = re.compile(r"(\\?)([A-Za-z][A-Za-z0-9/_-]*) ?\((.*)\) ?= (\S+)(?: bytes)?\s*")
_PLAIN = re.compile(r"(\\?)([0-9A-Fa-f]{32,})(?:  | \*| (?![ *])|\t)(.+)")
_ALONE = re.compile(r"([0-9A-Fa-f]{32,})\s*")
_SIZE_NOTE = re.compile(r"#\s*(.+): ([0-9]{1,19}) bytes\s*")

#: Hex digits of a digest whose algorithm nothing tells.
BY_LENGTH = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}


class Checksums:
    """The reader of checksum files."""

    name = "checksums"
    about = "SHA256SUMS and the like: GNU or BSD form, any algorithm, clear-signed too (the signature is not checked)"

    def sniff(self, head: Sequence[str], name: str) -> bool:
        if not head:
            return _told_by(name) is not None or re.search(r"(?i)checksums?|sums([._-]|$)", name) is not None
        return any(form.fullmatch(head[0]) for form in (_TAGGED, _PLAIN, _ALONE))

    def read(self, lines: Lines, place: Place) -> Iterator[Spec]:
        told = _given(place.algorithm) or _told_by(place.file_name)
        pending: _Entry | None = None
        note: tuple[str, int] | None = None
        for line in lines:
            if line.startswith("#"):
                noted = _SIZE_NOTE.fullmatch(line)
                note = (noted[1], int(noted[2])) if noted else note
                continue
            if not line.strip():
                continue
            name, digest, size = _parsed(line, told, place)
            if size is None and note is not None and note[0] == name:
                size = note[1]
            note = None
            if pending is None or pending.name != name:
                if pending is not None:
                    yield pending.spec(lines, place)
                pending = _Entry(name, lines.number)
            lines.at = lines.number
            pending.add(digest, size)
        if pending is not None:
            yield pending.spec(lines, place)


@dataclass(slots=True)
class _Entry:
    """What the lines about one file say together."""

    name: str
    line: int
    digests: list[Digest] = field(default_factory=list)
    size: int | None = None

    def add(self, digest: Digest | None, size: int | None) -> None:
        if digest is not None:
            self.digests.append(digest)
            if len(self.digests) > 1:
                digests(self.digests)  # two values of one algorithm are an error, at the line of the second
        if size is not None:
            if self.size not in (None, size):
                raise SpecError(f"{self.name!r} has {self.size} bytes by line {self.line}, and {size} here")
            self.size = size

    def spec(self, lines: Lines, place: Place) -> Spec:
        lines.at = self.line
        if not self.digests:
            raise SpecError(f"{self.name!r} has a size here, and no digest beside it")
        return place.file(self.name, size=self.size, digests=self.digests)


def _parsed(line: str, told: str | None, place: Place) -> tuple[str, Digest | None, int | None]:
    tagged = _TAGGED.fullmatch(line)
    if tagged:
        escaped, label, name, value = tagged.groups()
        name = _unescaped(name) if escaped else name
        if label.upper() == "SIZE":
            return name, None, _size(value)
        # OpenSSL 3 calls the SHA-2 family SHA2-256 and so on.
        return name, Digest.of(re.sub(r"(?i)^sha2-", "sha", label), value), None
    plain = _PLAIN.fullmatch(line)
    if plain:
        escaped, value, name = plain.groups()
        if name == "-":
            raise SpecError("the digest of standard input, which '-' names: write the file's name in its place")
        return (_unescaped(name) if escaped else name), _digest(value, told), None
    alone = _ALONE.fullmatch(line)
    if alone:
        return _own_name(place), _digest(alone[1], told), None
    raise SpecError(f"{excerpt(line)} is no line of a checksum file: 'HEX  NAME' or 'SHA256 (NAME) = HEX' is wanted")


def _size(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", value):
        raise SpecError(f"bad size {excerpt(value)}: a whole number of bytes is wanted")
    return int(value)


_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


def _unescaped(name: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if found[0] not in _ESCAPES:
            raise SpecError(f"unknown escape {found[0]!r} in {excerpt(name)}: there are \\\\, \\n and \\r")
        return _ESCAPES[found[0]]

    return re.sub(r"\\.?", plain, name)


def _digest(value: str, told: str | None) -> Digest:
    named = told or BY_LENGTH.get(len(value))
    if named is None:
        known = ", ".join(f"{name} has {length}" for length, name in BY_LENGTH.items())
        raise SpecError(
            f"no telling which algorithm has {len(value)} hex digits ({known}); name it, or use the BSD form"
        )
    # b2sum -l writes shorter digests into a file of the same name.
    if named in ("blake2b", "blake2s") and len(value) < 2 * hasher(named).digest_size:
        named = f"{named}-{4 * len(value)}"
    return Digest.of(named, value)


def _own_name(place: Place) -> str:
    name, _, ending = _stem(place.file_name).rpartition(".")
    if not name or _told_by(f".{ending}") is None:
        raise SpecError("a digest without a file name, in a manifest whose own name (as in a.iso.sha256) tells none")
    return name


def _given(named: str | None) -> str | None:
    return None if named is None else algorithm(named)


# How names tell their algorithm: SHA256SUMS, sha256sum.txt, a.iso.sha256, tool_1.0_SHA256SUMS, checksums_sha512.txt.
_ALIASES = {"b2": "blake2b", "rmd160": "ripemd160", "shake128": "shake_128", "shake256": "shake_256"}
_KNOWN = "|".join(
    sorted(
        (re.escape(one).replace("_", "[-_]?") for one in {*map(str.lower, hashlib.algorithms_available), *_ALIASES}),
        key=len,
    )[::-1]
)
_SUMS = r"[._-]?(?:check)?sums?"
_BY_NAME = re.compile(rf"(?:^|[._-])({_KNOWN}|blake2[bs]-[0-9]+)(?:{_SUMS})?$|^({_KNOWN}){_SUMS}(?:[._-]|$)")


def _told_by(name: str) -> str | None:
    """The algorithm that a manifest's own name tells."""
    found = _BY_NAME.search(_stem(name).lower())
    if found is None:
        return None
    token = found[1] or found[2]
    return algorithm(_ALIASES.get(token, token))


def _stem(name: str) -> str:
    return re.sub(r"(?i)(\.(txt|gz|asc|gpg|sig|sign))+$", "", name)
