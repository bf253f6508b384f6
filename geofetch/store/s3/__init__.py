"""Files in a bucket of S3, or of any server that speaks it.  In: attempts and their bytes.  Out: objects.

How it works is told by its parts: place.py (which bucket), access.py (one client a thread), bucket.py (what is asked),
refusals.py (what is refused), checks.py (whether the bytes arrived), part.py and uploads.py (one file on its way),
keys.py (names), reading.py (streams).
Never: boto3 on the hub; an object under a final name that is not whole and proven.
"""

from __future__ import annotations

import errno
import importlib.util
import io
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO, Literal, TypeVar

from ... import hubs
from ...digest import Digest
from ...errors import SpecError, StoreError
from ...events import Attempt, Found, Head, Kept, Recall
from ...hubs import process
from ...names import OURS, checked_path
from ...spec import Spec
from .. import native, proof
from ..quarantine import QUARANTINE, Aside, aside_of, other_key
from ..removal import differs, replaced
from ..running import token
from .access import Access
from .awaited import Awaited, Who
from .bucket import Bucket, Seen
from .keys import ByDigest, ByPath, Keys
from .part import S3Part
from .place import is_s3, place_of
from .reading import ObjectReader, digests_of
from .uploads import sweep

__all__ = ["S3Store", "is_s3"]

log = logging.getLogger("geofetch")

T = TypeVar("T")

#: What S3 asks of all parts but the last.
PART_LEAST = 5 << 20
PART_BYTES = 8 << 20
#: Seconds after which an upload that nobody completed is a dead process's: no download takes two days.
DEAD_S = 2 * 86_400.0
#: Seconds that a signed URL can be valid: a week.
SIGNED_MOST_S = 7 * 86_400


class S3Store:
    """A prefix in a bucket: ``S3Store("s3://bucket/prefix")``, at Amazon's or at any ``endpoint``.

    ``layout="path"``: an object lies at PREFIX/spec.path.  ``layout="digest"``: its bytes lie at
    PREFIX/sha256/ab/<hex>, the same bytes once, never overwritten; the records alone know their paths.

    Credentials, region and profile are found where boto3 finds them; ``aws_access_key_id``, ``aws_secret_access_key``
    and ``aws_session_token`` say otherwise, and are never shown.  ``options`` go to boto3's client (``verify``,
    ``config``), ``extra`` to every object that is written (``ServerSideEncryption``, ``StorageClass``).

    A file of up to ``part_bytes`` waits in memory and is stored by one request, a larger one is sent in such parts: so
    much memory a download.  What the server or the network refuses for the moment is asked again for ``patience_s``.

    What the server says is stored is stored for good; with ``durable=True`` its record outlives a cut of power, too.

    A key is the object's below the prefix; ``name`` is the URL, with the endpoint if it is not Amazon's.
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        layout: Literal["path", "digest"] = "path",
        durable: bool = False,
        part_bytes: int = PART_BYTES,
        patience_s: float = 30.0,
        addressing: Literal["path", "virtual"] | None = None,
        options: Mapping[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        keys = _keys(aws_access_key_id, aws_secret_access_key, aws_session_token)
        place = place_of(url, endpoint)
        if endpoint is None and url.lower().startswith("s3://"):  # s3+https: says where
            place = place_of(url, os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"))
        if layout not in ("path", "digest"):
            raise SpecError(f"layout is 'path' or 'digest', not {layout!r}")
        if part_bytes < PART_LEAST:
            raise SpecError(f"part_bytes is {PART_LEAST} or more: S3 takes no smaller parts")
        if importlib.util.find_spec("boto3") is None:
            raise SpecError("an object store needs boto3: pip install 'geofetch[s3]'")
        self._layout: Keys = ByDigest(place) if layout == "digest" else ByPath()
        self._access = partial(Access, place.endpoint, region, profile, keys, addressing, dict(options or {}))
        self._bucket = Bucket(place, self._access(), patience_s, extra or {})
        self._part_bytes = part_bytes
        self._fit_in: int | None = None
        self._swept = False
        self.name = place.name
        self.address = self._layout.address
        self.durable = durable

    def ready(self) -> None:
        if self._fit_in == process():
            return
        _apart(self._bucket.look)
        self._fit_in = process()
        if not self._swept:
            self._swept = True
            self._sweep_once()

    def have(self, spec: Spec, recall: Recall | None, reread: bool = False) -> Found | None:
        key = self._layout.find(spec)
        if key is None or (spec.size is None and not spec.digests):
            return None
        seen = _apart(self._bucket.head, key)
        if seen is None:
            return None
        kept = seen.kept(self.name, key)

        def read(lengths: Mapping[str, int]) -> Mapping[str, Digest] | None:
            return _apart(digests_of, self._bucket, key, seen, lengths)

        known = {**seen.digests, **proof.remembered(kept, recall)}
        found = proof.held(spec, seen.size, known, reread, read, self._layout.claimed(key))
        if found is None:
            return None
        return Found(self._bucket.place.url(key), seen.size, found.digests, found.verified, kept)

    def begin(self, attempt: Attempt, head: Head) -> S3Part:
        return S3Part(self._bucket, self._layout, attempt.spec, self._part_bytes)

    def open(self, key: str) -> BinaryIO:
        """A stream of it; a read on the hub waits as a greenlet, one on a native thread blocks.

        It gives the bytes of one object: a StoreError (errno ESTALE) where that is replaced before it is read.
        """
        seen = self._there(key)
        piece = partial(_apart, self._bucket.piece, key, seen.etag)
        # Pieces are large already: the buffer is for those who read by lines.
        return io.BufferedReader(ObjectReader(seen.size, piece))

    def stat(self, key: str) -> Kept | None:
        seen = _apart(self._bucket.head, checked_path(key, "key"))
        return None if seen is None else seen.kept(self.name, key)

    def quarantine(self, key: str, seen: Kept | None = None) -> str:
        """Copy it to PREFIX/.geofetch/quarantine/<key>, with ``.<token>`` where that is taken, then remove it."""
        there = self._there(key)
        if seen is not None and there.kept(self.name, key) != seen:
            raise self._overtaken(key)
        return _ended(self._moved, key, there)

    def remove(self, kept: Kept) -> bool:
        return _ended(self._removed, kept, checked_path(kept.key, "key"))

    def asides(self) -> Iterator[Aside]:
        page: str | None = None
        while True:
            found, page = _apart(self._bucket.page, QUARANTINE, None, page)
            for key, at in found:
                seen = _apart(self._bucket.head, key)
                one = None if seen is None else aside_of(seen.kept(self.name, key), int(at.timestamp() * 10**6) * 1000)
                if one is not None:
                    yield one
            if page is None:
                return

    def remove_aside(self, kept: Kept) -> bool:
        return _ended(self._removed, kept, QUARANTINE + checked_path(kept.key.removeprefix(QUARANTINE), "key"))

    def sweep(self, older_than_s: float) -> int:
        """:meth:`abort_incomplete_uploads` of what is so old, or two days old."""
        return self.abort_incomplete_uploads(min(older_than_s, DEAD_S))

    def keys(self, after: str | None = None) -> Iterator[str]:
        """Every key, in the server's order; ``after`` goes on behind a key that an earlier listing gave."""
        page_after, page = after, None
        while True:
            found, page = _apart(self._bucket.page, self._layout.within, page_after, page)
            yield from (key for key, _ in found if _is_key(key))
            if page is None:
                return

    def url_for(self, key: str, expires_s: int = 3600) -> str:
        """A URL that anybody can fetch this key by, for so many seconds: it is signed, and as secret as a password."""
        if not 1 <= expires_s <= SIGNED_MOST_S:
            raise SpecError(f"expires_s is between 1 and {SIGNED_MOST_S}, a week, not {expires_s!r}")
        return _finished(self._bucket.presigned, checked_path(key, "key"), int(expires_s))

    def abort_incomplete_uploads(self, older_than_s: float = DEAD_S) -> int:
        """Remove what dead processes left: uploads below this prefix that were begun so long ago; how many there were.

        An upload that is under way for longer is aborted, too, whoever sends it.
        """
        return _ended(sweep, self._bucket, older_than_s)

    def close(self) -> None:
        """Each native thread lets go of its connection when it next asks an object store."""
        self._bucket.access.over = True
        self._bucket.access = self._access()
        self._fit_in = None

    def _there(self, key: str) -> Seen:
        seen = _apart(self._bucket.head, checked_path(key, "key"))
        if seen is None:
            raise StoreError(f"nothing is stored at {self._bucket.place.url(key)}", errno=errno.ENOENT)
        return seen

    def _moved(self, key: str, seen: Seen, awaited: Who = None) -> str:
        aside = QUARANTINE + key
        if self._bucket.head(aside, awaited) is not None:
            aside = QUARANTINE + other_key(key, token())
        self._bucket.copy(key, aside, seen, who=awaited)
        now = self._bucket.head(key, awaited)  # another writer's, perhaps, since a large one takes long to copy
        if now is not None and now.etag != seen.etag:
            raise self._overtaken(key)
        self._bucket.remove(key, seen.etag, awaited)
        return self._bucket.place.url(aside)

    def _overtaken(self, key: str) -> StoreError:
        where = self._bucket.place.url(key)
        return StoreError(f"{where}: it was replaced while it was to be put aside", errno=errno.ESTALE)

    def _removed(self, kept: Kept, key: str, awaited: Who = None) -> bool:
        seen = self._bucket.head(key, awaited)
        if seen is None:
            return False
        if differs(kept, seen.kept(self.name, key)):
            raise replaced(self._bucket.place.url(key))
        self._bucket.remove(key, seen.etag, awaited)
        return True

    def _sweep_once(self) -> None:
        try:
            count = self.abort_incomplete_uploads(DEAD_S)
        except StoreError as exc:  # these credentials may not list uploads: others see to it
            log.info("what dead processes left in %s is not swept: %s", self.name, exc)
            return
        if count:
            log.info("%d uploads that nobody completed were removed from %s", count, self.name)

    def __repr__(self) -> str:
        return f"S3Store({self.name!r})"


def _apart(work: Callable[..., T], *args: Any) -> T:
    """The result of what blocks: on a native thread of ours, unless this is one.  It stops once nobody waits for it."""
    if hubs.native():
        return work(*args)
    awaited = Awaited()
    try:
        return native.call(partial(work, awaited=awaited), *args, kind=native.OBJECTS)
    except BaseException:
        awaited.give_up()
        raise


def _finished(work: Callable[..., T], *args: Any) -> T:
    """As ``_apart``, but nobody leaves before it is over."""
    return work(*args) if hubs.native() else native.settle(work, *args, kind=native.OBJECTS)


def _ended(work: Callable[..., T], *args: Any) -> T:
    """As ``_finished``, but whoever is killed has it given up, and waits for that alone."""
    if hubs.native():
        return work(*args)
    awaited = Awaited()
    try:
        asked = partial(work, awaited=awaited)
        return native.settle(asked, *args, kind=native.OBJECTS, killed=awaited.give_up)
    finally:
        awaited.over()


def _keys(access: str | None, secret: str | None, session: str | None) -> dict[str, str]:
    if (access is None) != (secret is None) or (session is not None and access is None):
        raise SpecError("an access key and its secret key are given together, and a session token with them")
    named = {"aws_access_key_id": access, "aws_secret_access_key": secret, "aws_session_token": session}
    return {name: value for name, value in named.items() if value is not None}


def _is_key(key: str) -> bool:
    if key.split("/", 1)[0] == OURS:
        return False
    try:
        checked_path(key)
    except SpecError:  # somebody else's: a folder's mark, say
        return False
    return True
