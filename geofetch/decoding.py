"""A Content-Encoding undone (RFC 9110, 8.4.1), in bounded pieces.

In: chunks as they were sent.  Out: chunks as they are kept; Undecodable, Truncated.  Never: an encoding that nobody
asked to be undone (stream.py).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from .errors import Truncated, Undecodable

__all__ = ["Decoder"]

#: Bytes that decoding may give at once: a bomb is stopped by the size it may have, not by memory.
DECODED = 256 * 1024


def _inflating() -> Any:
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


class Decoder:
    """Undoes gzip and deflate (RFC 9110, 8.4.1), in bounded pieces; anything else is Undecodable."""

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise Undecodable(f"Content-Encoding {encoding!r} cannot be undone here; gzip and deflate can")
        self._encoding = encoding
        # 32: a zlib or gzip header, found by itself; "deflate" is sent without any by some servers.
        self._inflate = _inflating()
        self._begun = False

    def decoded(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        data = chunk
        while data:
            if self._inflate.eof:  # gzip may have several members (RFC 1952, 2.2)
                self._inflate = _inflating()
                self._begun = False
            try:
                out = self._inflate.decompress(data, DECODED)
            except zlib.error as exc:
                if self._encoding == "deflate" and not self._begun:
                    self._inflate, self._begun = zlib.decompressobj(-zlib.MAX_WBITS), True
                    continue
                raise Undecodable(f"not the {self._encoding} that its Content-Encoding says: {exc}") from exc
            self._begun = True
            data = self._inflate.unconsumed_tail or self._inflate.unused_data
            if out:
                yield out

    def finish(self) -> None:
        if self._begun and not self._inflate.eof:
            raise Truncated(f"the {self._encoding} encoding has no end")
