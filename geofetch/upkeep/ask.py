"""Whether sources answer, without fetching their files.

In: units, and which of their sources.  Out: an Answer each, as they come.  Never: a body that is read; a word to the
records, unless it is asked for.

A HEAD costs least.  Where it is refused, one byte is asked for: some servers and most signed URLs allow nothing but
GET.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import gevent
from requests import Response

from ..errors import (
    BadStatus,
    FetchError,
    NotFound,
    RateLimited,
    SizeMismatch,
    SourceError,
    Stalled,
    Unauthorized,
)
from ..records import Recorder, Unit
from ..redirects import followed, requested
from ..session import Session
from ..spec import Profile, Source
from ..stream import Patience
from ..translate import translated
from .abreast import abreast
from .inspector import counted
from .respec import no_profile

__all__ = ["Answer", "ask", "origin_of", "sample"]

Asked = tuple[Unit, Source]

STATUSES: Mapping[int, type[BadStatus]] = {
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    410: NotFound,
    429: RateLimited,
}
#: Seconds that one source has for its answer.
ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a source answered when it was asked for a unit's file.

    ``status``: of HTTP; None where there was none.  ``size``: the bytes it says the file has; None: it does not say.
    ``error``: why it cannot serve the file now.
    """

    unit: Unit
    source: Source
    status: int | None = None
    size: int | None = None
    elapsed_s: float = 0.0
    error: FetchError | None = None

    @property
    def ok(self) -> bool:
        """Whether the source answers, and says nothing that is against the record."""
        return self.error is None


def sample(units: Iterable[Unit], per_origin: int = 1) -> list[Asked]:
    """So many sources of each origin and profile, by chance, each as likely; in the order of the origins."""
    counted(per_origin, "per_origin")
    chosen: dict[tuple[str, str], list[Asked]] = {}
    seen: dict[tuple[str, str], int] = {}
    for unit in units:
        for source in unit.sources:
            name = (origin_of(source), str(source.profile or ""))
            seen[name] = number = seen.get(name, 0) + 1
            some = chosen.setdefault(name, [])
            if len(some) < per_origin:
                some.append((unit, source))
            elif (at := random.randrange(number)) < per_origin:
                some[at] = unit, source
    return [one for name in sorted(chosen) for one in chosen[name]]


def origin_of(source: Source) -> str:
    """Whom a source asks, as a text."""
    scheme, host, port = source.origin
    if not host:
        return f"{scheme}:"
    usual = {"http": 80, "https": 443}.get(scheme) == port
    named = f"[{host}]" if ":" in host else host
    return f"{scheme}://{named}" if usual else f"{scheme}://{named}:{port}"


def ask(
    asked: Iterable[Asked],
    *,
    session: Session | None = None,
    profiles: Mapping[str, Profile] | None = None,
    timeout_s: float = ANSWER_S,
    jobs: int = 16,
    note: Recorder | None = None,
) -> Iterator[Answer]:
    """Whether each of these sources answers, as the answers come; up to ``jobs`` are asked at once.

    ``profiles``: Profiles by the names that the records have; a source whose profile is not given is not asked, and its
    error says so.  ``note``: the Recorder that is told how they did; nothing is recorded without it.
    """
    asker = _Asker(session or Session(), dict(profiles or {}), timeout_s, note)
    with closing(abreast(asker.answer, asked, counted(jobs))) as answers:
        yield from answers


class _Asker:
    """What asks: a Session for each profile."""

    def __init__(
        self, session: Session, profiles: Mapping[str, Profile], timeout_s: float, note: Recorder | None
    ) -> None:
        self._session = session
        self._profiles = profiles
        self._sessions: dict[Any, Session] = {None: session}
        self._bare: Session | None = None
        self._timeout_s = timeout_s
        self._note = note

    def answer(self, asked: Asked) -> Answer:
        unit, source = asked
        began = time.monotonic()
        status: int | None = None
        size: int | None = None
        error: FetchError | None
        try:
            status, size = self._asked(source)
            error = _against(unit, source, size)
        except FetchError as exc:
            status, error = getattr(exc, "status", None), exc
        if self._note is not None and (error is None or isinstance(error, SourceError)):
            self._note.note(unit, source, error).get()
        return Answer(unit, source, status, size, time.monotonic() - began, error)

    def _asked(self, source: Source) -> tuple[int, int | None]:
        session = self._session_of(source)
        try:
            with gevent.Timeout(self._timeout_s, Stalled(f"no answer within {self._timeout_s:g} s", source=source)):
                return _answered(session, source, Patience(self._timeout_s, self._timeout_s))
        except Exception as exc:
            error = translated(exc, source)
            if error is exc:
                raise
            raise error from exc

    def _session_of(self, source: Source) -> Session:
        name = source.profile
        if name is None and not self._is_for(source):
            # As a download: the session's profile is bound to others, and this one is asked without it.
            self._bare = self._bare or self._session.bare()
            return self._bare
        if name not in self._sessions:
            profile = self._profiles.get(name) if isinstance(name, str) else name
            if profile is None:
                raise no_profile(source)
            self._sessions[name] = self._session.with_profile(profile)
        return self._sessions[name]

    def _is_for(self, source: Source) -> bool:
        profile = self._session.profile
        return profile is None or profile.origins is None or profile.allows(source.origin)


#: What is asked for: the file as it is kept; of its bytes one, where there is no asking for none.
PLAIN = {"Accept-Encoding": "identity"}
ONE_BYTE = {**PLAIN, "Range": "bytes=0-0"}


def _answered(session: Session, source: Source, patience: Patience) -> tuple[int, int | None]:
    with _followed(session, source, patience, "HEAD", PLAIN) as answer:
        if answer.status_code < 400:
            return answer.status_code, _length(answer)
    # The one with the body is who decides: a server may know no HEAD, and a signature may be for GET alone.
    with _followed(session, source, patience, "GET", ONE_BYTE) as response:
        status = response.status_code
        if status < 400 or status == 416:  # an empty file has no first byte
            return status, _length(response)
        kind = STATUSES.get(status, BadStatus)
        error = kind(f"status {status}", source=source)
    response._content = b""
    error.response = response
    raise error


def _followed(
    session: Session, source: Source, patience: Patience, method: str, headers: Mapping[str, str]
) -> closing[Response]:
    # As a download follows redirects: requests would read the body of each, though it have no end.
    found = followed(session, source, patience, ask=partial(requested, method=method, headers=headers))
    return closing(cast("Response", found))


def _length(response: Response) -> int | None:
    """The bytes of the whole file, as far as the answer tells."""
    ranged = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", response.headers.get("Content-Range", "").strip(), re.ASCII)
    if ranged is not None:
        return int(ranged[1])
    told = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    whole = response.status_code == 200 and not encoded and re.fullmatch(r"\d{1,18}", told, re.ASCII) is not None
    return int(told) if whole else None


def _against(unit: Unit, source: Source, size: int | None) -> FetchError | None:
    if size is None or unit.size is None or size == unit.size:
        return None
    return SizeMismatch(f"it offers {size} bytes, {unit.size} are recorded", source=source)
