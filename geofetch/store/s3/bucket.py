"""The objects of one place, asked for one by one.  In: keys, bytes.  Out: what the server says.

Everything here blocks, and runs on native threads.  What may pass (a server that starts again, one that is busy) is
asked again until ``patience_s`` is over, or nobody waits any more.  Never: the hub; a name of its own making; two
threads with one client.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from ...digest import Digest
from ...errors import StoreError
from ...events import Kept
from ..removal import replaced
from .access import Access, client, line
from .awaited import Who
from .checks import Sums, confirm, digests_told, etag_of, number_of
from .place import Place
from .refusals import GONE, UNMET, Refused, code_of, passing, refused

__all__ = ["NEW", "Bucket", "Seen"]

#: The condition of an upload that may replace nothing.
NEW = "*"
#: What a server answers that does not know conditions.
UNKNOWN = frozenset({"NotImplemented", "501", "InvalidArgument", "InvalidRequest", "MethodNotAllowed"})
#: Seconds between two tries, doubled each time; nobody sleeps longer than a nap without looking who still waits.
WAIT_S = 0.2
WAIT_MOST_S = 3.0
NAP_S = 0.1
#: Bytes that one copy inside the server may have; larger ones are copied in parts.
COPY_MOST = 5 << 30
#: Keys of one page of a listing: the most that S3 gives.
PAGE = 1000


@dataclass(frozen=True, slots=True)
class Seen:
    """An object, as its head tells."""

    size: int
    mtime_ns: int | None
    etag: str
    digests: Mapping[str, Digest] = field(default_factory=dict)

    def kept(self, store: str, key: str) -> Kept:
        """How records know it; where they have an inode stands a number for its ETag."""
        return Kept(store, key, self.size, self.mtime_ns, number_of(self.etag))


class Bucket:
    """A place, and how it is asked.  Keys are those below its prefix."""

    def __init__(self, place: Place, access: Access, patience_s: float, extra: Mapping[str, Any]) -> None:
        self.place = place
        self.access = access
        self.patience_s = patience_s
        #: What users say of every object that is written: encryption, storage class.
        self.extra = dict(extra)
        #: Whether the server knows If-None-Match and If-Match for uploads; True until it says otherwise.
        self.conditional = True
        #: The same of removals.
        self.conditional_remove = True
        self._there = False

    def ask(
        self, operation: str, doing: str, awaited: Who = None, patience_s: float | None = None, **named: Any
    ) -> dict[str, Any]:
        """The answer to one operation of boto3's client; a Refused if there is none to be had."""
        until, wait_s = monotonic() + (self.patience_s if patience_s is None else patience_s), WAIT_S
        while True:
            try:
                asked = getattr(client(self.access), operation)
                with nullcontext() if awaited is None else awaited.asking(line(), doing):
                    answer: dict[str, Any] = asked(Bucket=self.place.bucket, **named)
                    if "Body" in answer:
                        answer["Body"] = answer["Body"].read()
                return answer
            except Exception as exc:
                if not type(exc).__module__.startswith(("botocore", "boto3", "s3transfer")):
                    raise
                if not passing(exc) or monotonic() + wait_s > until:
                    raise refused(exc, doing) from exc
            _nap(wait_s * random.uniform(0.8, 1.2), awaited, doing)
            wait_s = min(2 * wait_s, WAIT_MOST_S)

    def look(self, awaited: Who = None) -> None:
        """Nothing, if the bucket is there and may be listed."""
        # A listing, not a HEAD: an answer without a body cannot say what is wrong.
        doing = f"looking into {self.place.name}"
        self.ask("list_objects_v2", doing, awaited, MaxKeys=1, Prefix=self.place.at(""))
        self._there = True

    def head(self, key: str, awaited: Who = None) -> Seen | None:
        """The object, or None if there is none."""
        try:
            answer = self.ask(
                "head_object", f"looking at {self._shown(key)}", awaited, Key=self.place.at(key), ChecksumMode="ENABLED"
            )
        except Refused as exc:
            if exc.code not in GONE:
                raise
            if not self._there:  # a bucket that is not there must not become ten thousand missing files
                self.look(awaited)
            return None
        return seen_of(answer)

    def piece(self, key: str, etag: str, start: int, count: int, awaited: Who = None) -> bytes:
        """These bytes of an object that is still the one with this ETag; a StoreError (ESTALE) if it is not."""
        what = f"reading {self._shown(key)}"
        span = f"bytes={start}-{start + count - 1}"
        try:
            answer = self.ask("get_object", what, awaited, Key=self.place.at(key), Range=span, IfMatch=f'"{etag}"')
        except Refused as exc:
            if exc.code not in UNMET:
                raise
            raise StoreError(f"{what}: it was replaced while it was read", errno=errno.ESTALE) from exc
        found: bytes = answer["Body"]
        if etag_of(answer) != etag:
            raise StoreError(f"{what}: it was replaced while it was read", errno=errno.ESTALE)
        if len(found) != count:
            raise StoreError(f"{what}: {len(found)} bytes came, {count} were asked for", errno=errno.EIO)
        return found

    def put(
        self,
        key: str,
        body: bytearray,
        sums: Sums,
        named: Mapping[str, str],
        condition: str | None,
        who: Who,
    ) -> str:
        """Store these bytes in one go; their ETag."""
        doing = f"storing {self._shown(key)}"
        asked = {**self.extra, **sums.sent, "Metadata": dict(named), **self.conditions(condition)}
        try:
            answer = self.ask("put_object", doing, who, Key=self.place.at(key), Body=body, **asked)
        except Refused as exc:
            self.heard(exc, condition)
            raise
        self.confirmed(key, answer, sums, doing, who)
        return etag_of(answer)

    def confirmed(self, key: str, answer: Mapping[str, Any], sums: Sums, doing: str, who: Who) -> None:
        """Nothing, if the answer to an upload tells of these bytes; else the object is taken away again."""
        try:
            confirm(answer, sums, doing)
        except StoreError:
            last = None if who is None else who.finishing
            seen = self.head(key, last)
            if seen is not None and seen.etag == etag_of(answer):
                self.delete(key, last)
            raise

    def conditions(self, condition: str | None) -> dict[str, str]:
        """How a request says that it replaces nothing (NEW), or only what has this ETag."""
        if condition is None or not self.conditional:
            return {}
        return {"IfNoneMatch": "*"} if condition == NEW else {"IfMatch": f'"{condition}"'}

    def heard(self, exc: Refused, condition: str | None) -> None:
        """Note that the server refused a condition because it does not know any."""
        if self.conditional and condition is not None and exc.code in UNKNOWN:
            self.conditional = False

    def copy(
        self, source: str, target: str, seen: Seen, named: Mapping[str, str] | None = None, who: Who = None
    ) -> None:
        """Copy an object within the server, if it is still the one that was seen; ``named`` replaces its metadata."""
        doing = f"copying {self._shown(source)} to {self._shown(target)}"
        more = dict(self.extra)
        if named is not None:
            more |= {"Metadata": dict(named), "MetadataDirective": "REPLACE"}
        origin = {"Bucket": self.place.bucket, "Key": self.place.at(source)}
        if seen.size <= COPY_MOST:
            more |= {"CopySourceIfMatch": f'"{seen.etag}"', "CopySource": origin}
            self.ask("copy_object", doing, who, Key=self.place.at(target), **more)
            return
        from boto3.s3.transfer import TransferConfig, create_transfer_manager

        try:
            with create_transfer_manager(client(self.access), TransferConfig(use_threads=False)) as manager:
                manager.copy(origin, self.place.bucket, self.place.at(target), extra_args=more).result()
        except Exception as exc:
            raise refused(exc, doing) from exc

    def delete(self, key: str, who: Who = None) -> None:
        self.ask("delete_object", f"removing {self._shown(key)}", who, Key=self.place.at(key))

    def remove(self, key: str, etag: str, who: Who = None) -> None:
        """Remove an object if it still is the one with this ETag, where the server knows such a condition; a StoreError
        (ESTALE) if it is not."""
        doing = f"removing {self._shown(key)}"
        try:
            named: dict[str, Any] = {"IfMatch": f'"{etag}"'} if self.conditional_remove else {}
            self.ask("delete_object", doing, who, Key=self.place.at(key), **named)
        except Refused as exc:
            if exc.code in UNMET:
                raise replaced(self._shown(key)) from exc
            if not self.conditional_remove or exc.code not in UNKNOWN:
                raise
            self.conditional_remove = False
            self.delete(key, who)

    def page(
        self, within: str, after: str | None, token: str | None, awaited: Who = None
    ) -> tuple[list[tuple[str, Any]], str | None]:
        """Some keys below a part of the place, each with the time of its object, and what to go on with."""
        named: dict[str, Any] = {"Prefix": self.place.at(within), "MaxKeys": PAGE}
        if token is not None:
            named["ContinuationToken"] = token
        elif after is not None:
            named["StartAfter"] = self.place.at(after)
        answer = self.ask("list_objects_v2", f"listing {self.place.name}", awaited, **named)
        found = [(self.place.below(one["Key"]), one["LastModified"]) for one in answer.get("Contents", ())]
        return found, answer.get("NextContinuationToken") if answer.get("IsTruncated") else None

    def presigned(self, key: str, expires_s: int) -> str:
        try:
            named = {"Bucket": self.place.bucket, "Key": self.place.at(key)}
            url: str = client(self.access).generate_presigned_url("get_object", Params=named, ExpiresIn=expires_s)
        except Exception as exc:
            if code_of(exc) or type(exc).__module__.startswith("botocore"):
                raise refused(exc, f"signing a URL of {self._shown(key)}") from exc
            raise
        return url

    def _shown(self, key: str) -> str:
        return self.place.url(key)


def seen_of(answer: Mapping[str, Any]) -> Seen:
    """What the answer to a HEAD tells of an object."""
    modified = answer.get("LastModified")
    mtime_ns = None if modified is None else int(modified.timestamp()) * 10**9
    return Seen(int(answer["ContentLength"]), mtime_ns, etag_of(answer), digests_told(answer))


def _nap(seconds: float, awaited: Who, doing: str) -> None:
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0:
        if awaited is not None:
            awaited.look(doing)
        time.sleep(min(left, NAP_S))
