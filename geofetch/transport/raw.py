"""``Response.raw`` of requests: urllib3's response over a Reply of ours.

In: a Reply.  Out: urllib3.HTTPResponse in all that it promises; bytes as they arrive, decoded if that is wanted.
Never: a socket.  What of a body arrived before an error is given out first.

urllib3's own way to a byte leads through http.client, a context manager and two buffers; where nothing is to be decoded
none of them is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from inspect import signature
from typing import Any

from urllib3._collections import HTTPHeaderDict
from urllib3.exceptions import IncompleteRead, ResponseNotChunked
from urllib3.response import HTTPResponse

from .buffers import Room
from .reply import Reply

__all__ = ["Raw", "responding"]


class Raw(HTTPResponse):
    """A urllib3 response whose body comes from a Reply."""

    _fp: Any
    #: Older releases have none of their own.
    _uncached_read_occurred = False
    #: Whether reading it failed.
    _broke = False

    def _raw_read(self, amt: int | None = None, *, read1: bool = False) -> bytes:
        reply: Reply | None = self._fp
        if reply is None:
            return None  # type: ignore[return-value]  # as urllib3's
        if amt is None and reply.closed:
            return b""
        try:
            if read1:
                data = reply.read1() if amt is None else reply.read1(amt)
            else:
                data = reply.read(amt)
            self._took(len(data), whole=(not data and amt != 0) or (amt is None and not read1))
        except BaseException as exc:
            self._broke = True
            with self._error_catcher():
                raise exc
        return data

    def _took(self, count: int, whole: bool) -> None:
        """So many bytes were read; ``whole``: and no more are to come."""
        self._fp_bytes_read += count
        if self.length_remaining is not None:
            self.length_remaining -= count
        if whole:
            self._fp.close()
            if self.length_remaining and self.enforce_content_length:
                raise IncompleteRead(self._fp_bytes_read, self.length_remaining)
        if self._connection is not None and self._fp.closed:
            self.release_conn()

    def read(self, amt: int | None = None, decode_content: bool | None = None, cache_content: bool = False) -> bytes:
        """urllib3's; where nothing is to be decoded, without its buffer."""
        self._init_decoder()
        if self._broke and amt is None and decode_content is False and self.get_redirect_location():
            return self._given_up()
        if self._decoder is not None:
            return super().read(amt, decode_content, cache_content)
        if amt is not None and amt < 0:
            amt = None
        data = self._raw_read(amt)
        if amt is None and cache_content and not self._uncached_read_occurred:
            self._body = data
        else:
            self._uncached_read_occurred = True
        return data

    def _given_up(self) -> bytes:
        # requests reads on so that the connection is free, and follows a redirect whatever its body was; but urllib3
        # tells of what was decoded before it broke, or of a second cut, by errors that requests lets pass.
        self.close()
        self._decoded_buffer = type(self._decoded_buffer)()
        return b""

    def _decode(self, *args: Any, **kwargs: Any) -> bytes:
        try:
            return super()._decode(*args, **kwargs)
        except BaseException:
            self._broke = True
            raise

    def read1(self, amt: int | None = None, decode_content: bool | None = None) -> bytes:
        """urllib3's; where nothing is to be decoded, without its buffer."""
        self._init_decoder()
        wanted = self.decode_content if decode_content is None else decode_content
        if self._decoder is not None and (wanted or self._has_decoded_content):
            return super().read1(amt, decode_content)
        self._uncached_read_occurred = True
        return self._raw_read(None if amt is not None and amt < 0 else amt, read1=True)

    def readinto1(self, buffer: Any) -> int:
        """What has arrived of the body as it was sent, nothing decoded, written to a buffer of the caller's; 0 at the
        end.  Straight from the socket where nothing was read ahead.
        """
        self._uncached_read_occurred = True
        reply: Reply = self._fp
        try:
            with memoryview(buffer) as view:
                count = reply.into(view)
            self._took(count, whole=not count and len(buffer) > 0)
        except BaseException as exc:
            with self._error_catcher():
                raise exc
        return count

    def fill(self, room: Room) -> int:
        """As ``readinto1``, into buffers of ``room``'s."""
        self._uncached_read_occurred = True
        try:
            count: int = self._fp.fill(room)
            self._took(count, whole=not count)
        except BaseException as exc:
            with self._error_catcher():
                raise exc
        return count

    def supports_chunked_reads(self) -> bool:
        return isinstance(self._fp, Reply)

    def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Generator[bytes]:
        """urllib3's: chunk by chunk, each in pieces of ``amt`` bytes at most."""
        self._init_decoder()
        if not self.chunked:
            raise ResponseNotChunked("Response is not chunked. Header 'transfer-encoding: chunked' is missing.")
        if amt == 0:
            return
        most = None if amt is not None and amt < 0 else amt
        while True:
            if self._decoder is not None and getattr(self._decoder, "has_unconsumed_tail", False):
                data = b""
            else:
                data = self._chunk(most)
                if not data:
                    break
            data = self._decode(data, decode_content, False, *((most,) if _BOUNDED else ()))
            if data:
                yield data
        if decode_content and (data := self._flush_decoder()):
            yield data

    def _chunk(self, most: int | None) -> bytes:
        self._uncached_read_occurred = True
        try:
            data: bytes = self._fp.chunk(most)
            self._took(len(data), whole=not data)
        except BaseException as exc:
            with self._error_catcher():
                raise exc
        return data


def responding(
    reply: Reply,
    fields: HTTPHeaderDict,
    method: str,
    url: str,
    options: tuple[bool, bool, bool],
    shutdown: Callable[[int], None] | None,
) -> Raw:
    """The response of a reply; ``options`` are whether to preload, to decode, to enforce the length."""
    preload, decode, enforce = options
    head = reply.head
    told: dict[str, Any] = {
        "headers": fields,
        "status": head.status,
        "version": head.version,
        "version_string": "HTTP/1.0" if head.version == 10 else "HTTP/1.1",
        "reason": head.reason,
        "decode_content": decode,
        "enforce_content_length": enforce,
    }
    if preload or reply.length is None or not _COPIED or len(fields.getlist("content-length")) > 1:
        return Raw(
            body=reply,  # type: ignore[arg-type]
            preload_content=preload,
            original_response=reply,  # type: ignore[arg-type]
            request_method=method,
            request_url=url,
            sock_shutdown=shutdown,
            **told,
        )
    return _copied(reply, url, shutdown, told)


def _copied(reply: Reply, url: str, shutdown: Callable[[int], None] | None, told: dict[str, Any]) -> Raw:
    # Two constructors, each of which looks three headers up, cost as much as reading the head.
    found = Raw.__new__(Raw)
    found.__dict__.update(_COPIED, **told)
    found._fp = found._original_response = reply  # type: ignore[assignment]
    found._request_url, found._sock_shutdown, found.length_remaining = url, shutdown, reply.length
    found._decoded_buffer = type(_COPIED["_decoded_buffer"])()
    return found


#: Whether this urllib3 decodes a bounded piece at a time.
_BOUNDED = "max_length" in signature(HTTPResponse._decode).parameters


def _template() -> dict[str, Any]:
    """What urllib3's constructors give a response with a length; nothing if this urllib3 has what we do not know."""
    made = vars(Raw(preload_content=False, original_response=None))
    known = {"headers", "status", "version", "version_string", "reason", "decode_content", "enforce_content_length"}
    known |= {"_fp", "_original_response", "_request_url", "_sock_shutdown", "length_remaining", "_decoded_buffer"}
    plain = all(value is None or value in (False, 0, True) for name, value in made.items() if name not in known)
    return made if plain and known <= made.keys() else {}


#: Attributes of a new response.
_COPIED = _template()
