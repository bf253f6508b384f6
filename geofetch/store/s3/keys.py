"""Which key a file gets.  In: a Spec, its digests.  Out: a key, below the place's prefix.

:class:`ByPath` puts it where the spec says; the one that is stored last stays, whole.  :class:`ByDigest` puts it under
its SHA-256, once however many specs want these bytes; the records alone know their paths.  Never: I/O.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Protocol

from ...digest import Digest
from ...errors import StoreError
from ...spec import Spec

__all__ = ["ByDigest", "ByPath", "Keys"]


class Keys(Protocol):
    """How an S3Store names its objects."""

    address: str | None
    #: What all keys begin with.
    within: str

    def begin(self, spec: Spec) -> str:
        """Where an upload begins: its final key if that is known by now."""

    def final(self, spec: Spec, digests: Mapping[str, Digest]) -> str:
        """Where it ends; a StoreError if it cannot."""

    def find(self, spec: Spec) -> str | None:
        """The key that this spec's file has if it is here; None if there is no telling."""

    def claimed(self, key: str) -> Mapping[str, Digest]:
        """The digests that a key claims by itself."""


class ByPath:
    address: str | None = None
    within = ""

    def begin(self, spec: Spec) -> str:
        return spec.path

    def final(self, spec: Spec, digests: Mapping[str, Digest]) -> str:
        return spec.path

    def find(self, spec: Spec) -> str | None:
        return spec.path

    def claimed(self, key: str) -> Mapping[str, Digest]:
        return {}


class Passing(Protocol):
    """What knows where that lies which has no key yet."""

    @property
    def passing(self) -> str: ...


class ByDigest:
    address: str | None = "sha256"
    within = "sha256/"
    _KEY = re.compile(r"sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})")

    def __init__(self, place: Passing) -> None:
        self._place = place

    def begin(self, spec: Spec) -> str:
        return self.find(spec) or self._place.passing + secrets.token_hex(16)

    def final(self, spec: Spec, digests: Mapping[str, Digest]) -> str:
        digest = digests.get("sha256")
        if digest is None:
            raise StoreError(f"this store files by {self.address}, and nobody computed that of {spec.path!r}")
        return _key(digest)

    def find(self, spec: Spec) -> str | None:
        return next((_key(digest) for digest in spec.digests if digest.algorithm == self.address), None)

    def claimed(self, key: str) -> Mapping[str, Digest]:
        known = self._KEY.fullmatch(key)
        return {"sha256": Digest("sha256", bytes.fromhex(known[2]))} if known else {}


def _key(digest: Digest) -> str:
    return f"{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"
