"""Objects that are sent in parts, and those that nobody completed.  In: a bucket, parts.  Out: an ETag.

Parts of an upload that is neither completed nor aborted are kept, unseen, and paid for: whoever begins one ends it, and
what a killed process left is swept by age.  Everything here blocks, for native threads.
Never: an upload of another prefix.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from ...errors import Cancelled, StoreError
from .awaited import Awaited, Who
from .bucket import Bucket
from .checks import Sums, confirm, etag_of, sums_of, sums_of_parts
from .refusals import GONE, Refused

__all__ = ["Upload", "sweep"]

log = logging.getLogger("geofetch")

#: Seconds that an abort may take: somebody waits to be ended; what is left is swept later.
ABORT_S = 0.6
#: Parts of one size; each thousand is twice as large as the one before: ten thousand are the most that S3 takes.
STEP = 1000


@dataclass(eq=False, slots=True)
class Upload:
    """One object under way in parts."""

    bucket: Bucket
    key: str
    id: str
    parts: list[Sums] = field(default_factory=list)
    size: int = 0
    _told: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def begun(cls, bucket: Bucket, key: str, named: Mapping[str, str], who: Awaited) -> Upload:
        """A new one: nothing is to be seen under the key."""
        asked: dict[str, Any] = {**bucket.extra, "ChecksumAlgorithm": "SHA256", "Metadata": dict(named)}
        doing = f"beginning an upload to {bucket.place.url(key)}"
        answer = bucket.ask("create_multipart_upload", doing, who, Key=bucket.place.at(key), **asked)
        return cls(bucket, key, answer["UploadId"])

    def send(self, body: bytearray, who: Awaited) -> None:
        """The next part."""
        number, sums = len(self.parts) + 1, sums_of(body)
        doing = f"storing part {number} of {self.bucket.place.url(self.key)}"
        answer = self._ask("upload_part", doing, who, PartNumber=number, Body=body, **sums.sent)
        confirm(answer, sums, doing)
        told = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumSHA256" in answer:
            told["ChecksumSHA256"] = answer["ChecksumSHA256"]
        self._told.append(told)
        self.parts.append(sums)
        self.size += len(body)

    def complete(self, condition: str | None, who: Awaited) -> str:
        """Make it the object of its key, at once and whole; its ETag."""
        doing, sums = f"completing {self.bucket.place.url(self.key)}", sums_of_parts(self.parts)
        named = {"MultipartUpload": {"Parts": self._told}, **self.bucket.conditions(condition)}
        try:
            answer = self._ask("complete_multipart_upload", doing, who, **named)
        except Refused as exc:
            self.bucket.heard(exc, condition)
            # Asked twice, because the first answer was lost: then it is there.
            seen = self.bucket.head(self.key, who.finishing) if exc.code == "NoSuchUpload" else None
            if seen is None or seen.etag != sums.etag:
                raise
            return seen.etag
        self.bucket.confirmed(self.key, answer, sums, doing, who)
        return etag_of(answer)

    def abort(self, who: Who) -> None:
        """Leave no part of it; what the server refuses now is swept by age."""
        try:
            self._ask("abort_multipart_upload", "aborting an upload", who, patience_s=ABORT_S)
        except (Refused, Cancelled) as exc:
            if getattr(exc, "code", None) != "NoSuchUpload":
                log.warning("parts of %s are left, until they are swept: %s", self.bucket.place.url(self.key), exc)

    def _ask(self, operation: str, doing: str, who: Who, **named: Any) -> dict[str, Any]:
        return self.bucket.ask(operation, doing, who, Key=self.bucket.place.at(self.key), UploadId=self.id, **named)


def part_bytes(least: int, number: int) -> int:
    """How large a part is; equal sizes, as some servers want them, up to a thousand of them."""
    return int(least << ((number - 1) // STEP))


def sweep(bucket: Bucket, older_than_s: float, awaited: Who = None) -> int:
    """Abort what was begun so long ago, and remove objects that never got their name; how many there were."""
    place, count = bucket.place, 0
    for page, now in _uploads(bucket, awaited):
        for one in page:
            if now - one["Initiated"] >= timedelta(seconds=older_than_s):
                Upload(bucket, place.below(one["Key"]), one["UploadId"]).abort(awaited)
                count += 1
    token = None
    while True:
        found, token = bucket.page(place.passing, None, token, awaited)
        for key, modified in found:
            if datetime.now(UTC) - modified >= timedelta(seconds=older_than_s):
                bucket.delete(key, awaited)
                count += 1
        if token is None:
            return count


def _uploads(bucket: Bucket, awaited: Who) -> Iterator[tuple[list[dict[str, Any]], datetime]]:
    """Uploads under way below the prefix, page by page, and the server's own time."""
    named: dict[str, Any] = {}
    while True:
        try:
            doing = f"listing uploads to {bucket.place.name}"
            answer = bucket.ask("list_multipart_uploads", doing, awaited, Prefix=bucket.place.at(""), **named)
        except Refused as exc:
            if exc.code in GONE:
                raise StoreError(str(exc)) from exc
            raise
        yield answer.get("Uploads", []), _now(answer)
        if not answer.get("IsTruncated"):
            return
        named = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}


def _now(answer: Mapping[str, Any]) -> datetime:
    told = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    try:
        return parsedate_to_datetime(told) if told else datetime.now(UTC)
    except ValueError:
        return datetime.now(UTC)
