"""Whether the server has the bytes that were sent.  In: bytes, its answer.  Out: what to send, or a StoreError.

Content-MD5 is known by every server, x-amz-checksum-sha256 by most; both are sent.  Of what comes back the checksum
counts, else the ETag where it is an MD5 (it is none where the server encrypts by keys of its own).
Never: I/O.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...digest import Digest
from ...errors import SpecError, StoreError

__all__ = ["Sums", "confirm", "digests_told", "etag_of", "number_of", "sums_of", "sums_of_parts", "told"]

#: The metadata of ours: digests as in "sha256:9f86… md5:098f…".
TOLD = "geofetch-digests"
#: Letters of one digest there: an object has 2 KB of metadata, and SHAKE has values of any length.
TOLD_MOST = 150
_MD5 = re.compile(r"[0-9a-f]{32}(-\d+)?")


@dataclass(frozen=True, slots=True)
class Sums:
    """The MD5 and the SHA-256 of an object, or of its parts' ones; ``parts`` is how many, 0 for a whole object."""

    md5: bytes
    sha256: bytes
    parts: int = 0

    @property
    def sent(self) -> dict[str, str]:
        """What a request says of its body."""
        return {"ContentMD5": b64encode(self.md5).decode(), "ChecksumSHA256": b64encode(self.sha256).decode()}

    @property
    def etag(self) -> str:
        return self.md5.hex() + self._suffix

    @property
    def checksum(self) -> str:
        return b64encode(self.sha256).decode() + self._suffix

    @property
    def _suffix(self) -> str:
        return f"-{self.parts}" if self.parts else ""


def sums_of(view: bytes | bytearray) -> Sums:
    """Those of these bytes."""
    return Sums(hashlib.md5(view, usedforsecurity=False).digest(), hashlib.sha256(view).digest())


def sums_of_parts(parts: Iterable[Sums]) -> Sums:
    """Those of an object made of these parts, as S3 makes them."""
    all_of_them = list(parts)
    md5 = hashlib.md5(b"".join(one.md5 for one in all_of_them), usedforsecurity=False)
    sha256 = hashlib.sha256(b"".join(one.sha256 for one in all_of_them))
    return Sums(md5.digest(), sha256.digest(), len(all_of_them))


def confirm(answer: Mapping[str, Any], sums: Sums, what: str) -> None:
    """Raise a StoreError if the answer to an upload tells of other bytes than these."""
    said, meant = answer.get("ChecksumSHA256"), sums.checksum
    if said is None or (sums.parts and "-" not in said):
        said, meant = etag_of(answer), sums.etag
        encrypted = answer.get("SSECustomerAlgorithm") or answer.get("ServerSideEncryption") not in (None, "AES256")
        if encrypted or not _MD5.fullmatch(said) or bool(sums.parts) != ("-" in said):
            return  # no checksum of the bytes: the size has to do
    if said != meant:
        raise StoreError(f"{what}: the server has other bytes than were sent; nothing of it is kept, store it again")


def etag_of(answer: Mapping[str, Any]) -> str:
    """The ETag, without its quotes."""
    return str(answer.get("ETag") or "").strip('"')


def number_of(etag: str) -> int:
    """A number that stands for an ETag where a record has an inode: this very object, and no later one of its key."""
    return int.from_bytes(hashlib.sha256(etag.encode()).digest()[:8]) >> 1


def told(digests: Iterable[Digest]) -> dict[str, str]:
    """The metadata that tell an object's digests."""
    said = sorted(text for text in map(str, digests) if len(text) <= TOLD_MOST)
    return {TOLD: " ".join(said)}


def digests_told(head: Mapping[str, Any]) -> dict[str, Digest]:
    """The digests that an object's head tells: the server's own checksum, and what was noted when it was stored."""
    found: dict[str, Digest] = {}
    for text in (head.get("Metadata") or {}).get(TOLD, "").split():
        try:
            digest = Digest.parse(text)
        except SpecError:
            continue  # an algorithm that this Python does not have
        found[digest.algorithm] = digest
    checksum = head.get("ChecksumSHA256")
    if checksum and "-" not in checksum and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
        found["sha256"] = Digest("sha256", b64decode(checksum))
    return found
