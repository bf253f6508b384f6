"""The lines of a manifest, whatever it came in: a stream, a list of lines, gzip, a PGP clear-signed text.

In: bytes (or text), in blocks or lines.  Out: one line of text after the other, with its number; never more of the
manifest in memory than a line of it.  Never: what a line means.

Text is UTF-8; a byte that is not becomes a lone surrogate, which no path and no URL gets past.  A BOM, CR LF and a
missing last newline are taken as they are meant.  Of a clear-signed text (RFC 9580, 7) only what the signature covers
is read: armor becomes blank lines, so that numbers stay true, and text beside the signed one, or a signed text without
its end, is an error.  **The signature itself is not checked**: whoever needs that runs gpg first.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from ..errors import SpecError

__all__ = ["Lines", "Readable", "excerpt", "split"]

#: What a manifest may come in: bytes, an open file, or lines.
Readable: TypeAlias = "bytes | io.IOBase | Iterable[bytes] | Iterable[str] | Any"

#: Bytes read at once, and the most that a line is cut into while nobody has asked for it whole.
PIECE_BYTES = 64 * 1024
#: The longest line; a name, a digest and a size are far below, a disk image taken for a manifest is not.
LINE_BYTES = 1024 * 1024
#: How far the first lines are looked for that tell the format.
HEAD_BYTES = 1024 * 1024

GZIP_MAGIC = b"\x1f\x8b"
_BOM = codecs.BOM_UTF8


class Lines:
    """Lines without their ends, blank ones too.

    ``number`` is the line handed out last, ``at`` the one that errors are about.  A reader that looks ahead sets ``at``
    back to the line it speaks of.
    """

    def __init__(self, source: Readable) -> None:
        self.number = 0
        self.at = 0
        self._pieces = _pieces(_plain(_blocks(source)))
        self._ahead: deque[bytes] = deque()
        self._armor = _Armor()
        self._head: list[str] = []
        self._lookout = _Armor()
        self._looked = 0
        self._sighted = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._whole()
        if not line:
            self._armor.end()
            raise StopIteration
        return self._armor.inside(_text(line))

    def _whole(self) -> bytes:
        piece = self._take()
        if piece.endswith(b"\n") and len(piece) <= LINE_BYTES:  # nearly always
            self.number += 1
            self.at = self.number
            return piece
        parts: list[bytes] = []
        size = 0
        while piece:
            if not parts:
                self.number += 1
                self.at = self.number
            parts.append(piece)
            size += len(piece)
            if size > LINE_BYTES:
                raise SpecError(f"the line is longer than {LINE_BYTES} bytes: is this a manifest at all?")
            if piece.endswith(b"\n"):
                break
            piece = self._take()
        return b"".join(parts)

    def _take(self) -> bytes:
        return self._ahead.popleft() if self._ahead else next(self._pieces, b"")

    def pieces(self) -> Iterator[str]:
        """The rest as text, by line or part of one; for readers that do not go by lines and count them themselves."""
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        while piece := self._take():
            yield decoder.decode(piece)
        yield decoder.decode(b"", final=True)

    def head(self, most: int) -> list[str]:
        """The first lines that are neither blank nor comments, long ones cut; they are still to be read.

        Asked for more of them, it looks further; asked before the reading only.
        """
        while len(self._head) < most:
            piece = next(self._pieces, b"")
            if not piece or (self._head and self._looked > HEAD_BYTES):
                break
            self._ahead.append(piece)
            self._look(piece)
        self.at = self.number
        return self._head[:most]

    def _look(self, piece: bytes) -> None:
        if self._looked == 0 or self._ahead[-2].endswith(b"\n"):
            self._sighted += 1
            self.at = self._sighted
            text = self._lookout.inside(_text(piece))
            if text.strip() and not text.startswith("#"):
                self._head.append(text)
        self._looked += len(piece)
        if self._looked > HEAD_BYTES and not self._head:
            raise SpecError("nothing but comments up to here; is this a manifest at all?")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _pieces(blocks: Iterator[bytes]) -> Iterator[bytes]:
    # A piece is a line with its newline, or PIECE_BYTES and more of one; joining leaves at most two blocks in memory.
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            yield line + b"\n"
        if len(rest) >= PIECE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def _plain(blocks: Iterator[bytes]) -> Iterator[bytes]:
    # The first bytes tell the wrapping; a pipe may give them one at a time.
    start = b""
    for block in blocks:
        start += block
        if len(start) >= len(_BOM):
            break
    if start.startswith(GZIP_MAGIC):
        yield from _unzipped(_again(start, blocks))
        return
    yield from _unmarked(_again(start, blocks))


def _unmarked(blocks: Iterator[bytes]) -> Iterator[bytes]:
    start = next(blocks, b"")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise SpecError("the manifest is UTF-16; save it as UTF-8")
    yield start.removeprefix(_BOM)
    yield from blocks


def _unzipped(blocks: Iterator[bytes]) -> Iterator[bytes]:
    stream = gzip.GzipFile(fileobj=io.BufferedReader(_Blocks(blocks), PIECE_BYTES))
    try:
        yield from _unmarked(_plain_reads(stream.read1))
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise SpecError(f"the compressed manifest is cut or damaged ({exc}); fetch it again") from exc


def _again(start: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield start
    yield from rest


class _Blocks(io.RawIOBase):
    """Blocks as the raw stream that gzip wants."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = block
        given, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def _blocks(source: Readable) -> Iterator[bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        return iter((bytes(source),))
    if isinstance(source, str | os.PathLike):
        raise SpecError("a manifest is an open file or its lines, not text or a path; use open(path, 'rb')")
    read = getattr(source, "read1", None) or getattr(source, "read", None)
    return _plain_reads(read) if callable(read) else _lines(source)


def _plain_reads(read: Callable[[int], bytes | str]) -> Iterator[bytes]:
    while block := read(PIECE_BYTES):
        yield _bytes(block)


def _lines(source: Iterable[Any]) -> Iterator[bytes]:
    zipped = False
    for count, one in enumerate(source):
        line = _bytes(one)
        zipped = zipped or (count == 0 and line.startswith(GZIP_MAGIC))
        if not zipped and b"\n" in line[:-1]:
            raise SpecError("an iterable gives one line at a time; give blocks of bytes through manifest.split()")
        yield line if zipped or line.endswith(b"\n") else line + b"\n"


def _bytes(given: Any) -> bytes:
    if isinstance(given, str):
        return given.encode("utf-8", "surrogateescape")
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    raise SpecError(f"a manifest is read as bytes, not {type(given).__name__}")


def split(blocks: Iterable[bytes]) -> io.BufferedReader:
    """Blocks of bytes, as a download gives them, as the stream that ``read`` takes."""
    return io.BufferedReader(_Blocks(iter(blocks)), PIECE_BYTES)


class _Armor:
    """What of each line a clear-signed text says; a plain text says all of it."""

    def __init__(self) -> None:
        self._where = "plain"
        self._said = False

    def inside(self, line: str) -> str:
        return _ARMOR[self._where](self, line)

    def end(self) -> None:
        if self._where not in ("plain", "over"):
            raise SpecError("the signed text ends without its signature: the manifest is cut; fetch it again")

    def _plain(self, line: str) -> str:
        if line.rstrip() == "-----BEGIN PGP SIGNED MESSAGE-----":
            if self._said:
                raise SpecError("lines stand before the signed text, where no signature covers them")
            self._where = "headers"
            return ""
        self._said = self._said or bool(line.strip())
        return line

    def _headers(self, line: str) -> str:
        if not line.strip():
            self._where = "text"
        elif not re.match(r"[A-Za-z-]+: ", line):
            raise SpecError("a PGP header (as in 'Hash: SHA256') or a blank line is missing before the signed text")
        return ""

    def _text(self, line: str) -> str:
        if line.rstrip() == "-----BEGIN PGP SIGNATURE-----":
            self._where = "signature"
            return ""
        if line.startswith("-") and not line.startswith("- "):
            raise SpecError("a line of the signed text begins with an unescaped '-'")
        return line.removeprefix("- ")

    def _signature(self, line: str) -> str:
        if line.rstrip() == "-----END PGP SIGNATURE-----":
            self._where = "over"
        return ""

    def _over(self, line: str) -> str:
        if line.strip():
            raise SpecError("lines stand behind the signed text, where no signature covers them")
        return ""


_ARMOR: dict[str, Callable[[_Armor, str], str]] = {
    "plain": _Armor._plain,
    "headers": _Armor._headers,
    "text": _Armor._text,
    "signature": _Armor._signature,
    "over": _Armor._over,
}


def excerpt(line: str) -> str:
    """A line as an error may quote it: short, nothing unprintable, no userinfo and no query of a URL."""
    if "://" in line:
        told, query, _ = line.partition("?")
        line = re.sub(r"//[^/]*@", "//", told) + ("?***" if query else "")
    return repr(line if len(line) <= 80 else line[:77] + "…")
