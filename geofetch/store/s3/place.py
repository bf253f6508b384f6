"""Which bucket, and where in it.  In: a URL, perhaps an endpoint.  Out: a Place, its name in records, its keys.

    s3://bucket/prefix                       at the endpoint that is told, or at Amazon's
    s3+https://host:port/bucket/prefix       at this endpoint; so records name a place that is not Amazon's
    s3+http://host:port/bucket/prefix

Below the prefix lie the files, and .geofetch/ with what was put aside and what is on its way.  Never: I/O, a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ...errors import SpecError
from ...names import OURS, checked_path

__all__ = ["Place", "is_s3", "place_of"]

_SCHEME = re.compile(r"s3(\+https?)?://", re.IGNORECASE)
#: What Amazon takes, and the capital letters and underscores that other servers do.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")


def is_s3(text: str) -> bool:
    """Whether this is the URL of a place in an object store."""
    return _SCHEME.match(text) is not None


@dataclass(frozen=True, slots=True)
class Place:
    """A prefix in a bucket at an endpoint; None is Amazon's own."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None

    @property
    def name(self) -> str:
        """What records call it: it says where, and nothing about who asks."""
        path = quote(f"{self.bucket}/{self.prefix}".rstrip("/"))
        if self.endpoint is None:
            return f"s3://{path}"
        return f"s3+{self.endpoint}/{path}"

    def at(self, key: str) -> str:
        """The object's whole key in the bucket."""
        return f"{self.prefix}/{key}" if self.prefix else key

    def below(self, whole: str) -> str:
        """The key below the prefix of an object's whole key."""
        return whole[len(self.prefix) + 1 :] if self.prefix else whole

    def url(self, key: str) -> str:
        """Where the object is, fit to be shown."""
        return f"{self.name}/{quote(key)}"

    @property
    def passing(self) -> str:
        """What the keys of objects begin with that are on their way to a name that is not known yet."""
        return f"{OURS}/parts/"


def place_of(url: str, endpoint: str | None = None) -> Place:
    """The place that a URL names; a SpecError if it names none.  What it holds that may be secret is not repeated."""
    if not isinstance(url, str) or not is_s3(url):
        raise SpecError("an object store is named as in s3://bucket/prefix or s3+https://host/bucket/prefix")
    parts = _split(url)
    told = parts.scheme.partition("+")[2]
    if told:
        if endpoint is not None:
            raise SpecError(f"an {parts.scheme}: URL names its endpoint already; leave endpoint= out, or write s3://…")
        bucket, _, prefix = unquote(parts.path).lstrip("/").partition("/")
        endpoint = f"{told}://{parts.netloc}"
    else:
        bucket, prefix = unquote(parts.netloc), unquote(parts.path).lstrip("/")
    if not _BUCKET.fullmatch(bucket):
        raise SpecError(f"{bucket!r} is no name of a bucket; write s3://bucket/prefix")
    prefix = prefix.rstrip("/")
    return Place(bucket, checked_path(prefix, "prefix") if prefix else "", _endpoint(endpoint))


def _endpoint(endpoint: str | None) -> str | None:
    if not endpoint:
        return None
    parts = _split(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
        raise SpecError("an endpoint is a URL without a path, as in https://s3.example:8333")
    if re.fullmatch(r"s3[.-]([a-z0-9-]+\.)?amazonaws\.com(\.cn)?", parts.hostname):
        return None
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _split(url: str) -> Any:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise SpecError("the URL of an object store cannot be read: a bad host or port") from None
    if port == 0 or "@" in parts.netloc:
        raise SpecError("keys do not belong into an object store's URL: give them by the environment or a profile")
    if parts.query or parts.fragment:
        raise SpecError("an object store's URL has neither a query nor a fragment")
    return parts
