"""Are these the right bytes: their number, their digests, and what the server itself says of them.

In: a head, chunks, the end.  Out: a refusal (SizeMismatch, TooLarge, DigestMismatch, Undecodable), or the digests and
what proved the file, written on the attempt.  Never: a file, a socket.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .errors import DigestMismatch, SizeMismatch, SpecError, TooLarge, Undecodable
from .events import Attempt, Head, Listener
from .spec import Digest, algorithm, hasher

__all__ = ["Proving", "announced"]


class Proving:
    """Size and digests: those of the spec, and the digests of the server's own header; ``always`` are computed besides.

    One stage for both: a fact costs a small file one call for each stage that hears it.
    """

    offload = True

    def __init__(self, always: Iterable[str] = ()) -> None:
        self._always = tuple(algorithm(named) for named in always)

    def bind(self, attempt: Attempt) -> Listener | None:
        return None if attempt.source is None else _Bytes(attempt, self._always)


class _Bytes(Listener):
    """The bytes of one attempt, counted and hashed on their way."""

    __slots__ = ("_attempt", "_running", "_seen", "_told", "_want")

    def __init__(self, attempt: Attempt, always: Iterable[str]) -> None:
        self._attempt = attempt
        self._want = attempt.spec.size
        self._seen = 0
        self._told: Sequence[Digest] = ()
        self._running: dict[str, Any] = {}
        for digest in attempt.spec.digests:
            self._running[digest.algorithm] = hasher(digest.algorithm)
        for named in always:
            if named not in self._running:
                self._running[named] = hasher(named)

    def on_headers(self, head: Head) -> None:
        # Neither the length nor the digests of an encoded body are the file's; such a body is judged when it is whole.
        if head.encoding:
            return
        if self._want is not None and head.length is not None and head.length != self._want:
            kind = TooLarge if head.length > self._want else SizeMismatch
            raise _refusal(self._attempt, kind, f"{head.length} bytes announced, {self._want} wanted")
        self._told = announced(head.headers)
        for digest in self._told:
            if digest.algorithm not in self._running:
                self._running[digest.algorithm] = hasher(digest.algorithm)

    def on_chunk(self, view: memoryview) -> None:
        self._seen += len(view)
        if self._want is not None and self._seen > self._want:
            raise _refusal(self._attempt, TooLarge, f"more than the {self._want} bytes wanted")
        for hash_ in self._running.values():
            hash_.update(view)

    def on_received(self) -> None:
        attempt, wanted = self._attempt, self._attempt.spec.digests
        if self._want is not None:
            if self._seen != self._want:
                raise _refusal(attempt, SizeMismatch, f"{self._seen} bytes, {self._want} wanted")
            attempt.verified = "size"
        found_all = attempt.digests
        for named, hash_ in self._running.items():
            value = hash_.digest() if hash_.digest_size else _shaken(hash_, named, wanted)
            found_all[named] = Digest.made(named, value)
        for digest in (*wanted, *self._told):
            found = found_all[digest.algorithm]
            if found.value != digest.value:
                whose = "wanted" if digest in wanted else "announced by the server"
                raise _refusal(attempt, DigestMismatch, f"{found} came, {digest.algorithm}:{digest.hex} was {whose}")
        if wanted:
            attempt.verified = "digest"


def _shaken(hash_: Any, named: str, wanted: Iterable[Digest]) -> bytes:
    # SHAKE gives as many bytes as one asks for.
    return bytes(hash_.digest(next(len(digest.value) for digest in wanted if digest.algorithm == named)))


def _refusal(attempt: Attempt, kind: type[SizeMismatch] | type[DigestMismatch], text: str) -> Exception:
    encoding = attempt.head.encoding if attempt.head is not None else ""
    if encoding:
        # Not the wrong file, but the right one in a form that nobody asked for.
        return Undecodable(
            f"sent with Content-Encoding {encoding!r} although identity was asked for; decode=True undoes it ({text})",
            spec=attempt.spec,
            source=attempt.source,
        )
    return kind(text, spec=attempt.spec, source=attempt.source)


#: RFC 9530, 5: the registered algorithms that still hold; 'md5' and 'sha' count as damage checks only, and do so here.
_FIELD_NAMES = {"sha-256": "sha256", "sha-512": "sha512", "md5": "md5", "sha": "sha1"}
_MEMBER = re.compile(r"\s*([a-z0-9*.-]+)\s*=\s*:([A-Za-z0-9+/=]*):\s*(?:;[^,]*)?$")


def announced(headers: Mapping[str, str]) -> list[Digest]:
    """The digests that a server says its content has: Repr-Digest and Content-Digest (RFC 9530), Digest (RFC 3230),
    Content-MD5 (RFC 1864).  What cannot be read is passed over: it proves nothing either way.
    """
    names = " ".join(headers).lower()
    if "digest" not in names and "content-md5" not in names:  # hardly any server sends one
        return []
    found: dict[str, Digest] = {}
    for field in ("repr-digest", "content-digest"):
        for member in _members(headers.get(field)):
            match = _MEMBER.fullmatch(member.strip())
            if match:
                _add(found, match[1], match[2])
    for member in _members(headers.get("digest")):
        named, _, value = member.strip().partition("=")
        _add(found, named.lower(), value)
    _add(found, "md5", (headers.get("content-md5") or "").strip())
    return list(found.values())


def _members(told: str | None) -> list[str]:
    return told.split(",") if told else []


def _add(found: dict[str, Digest], named: str, text: str) -> None:
    if named in _FIELD_NAMES and text:
        try:
            digest = Digest(_FIELD_NAMES[named], base64.b64decode(text, validate=True))
        except (SpecError, ValueError, binascii.Error):
            return
        found.setdefault(digest.algorithm, digest)
