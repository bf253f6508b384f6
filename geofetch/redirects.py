"""Who answers in the end: a source asked, and followed through its redirects.

In: a Session, a Source, patience; how to ask, where it is not for the file.  Out: the answer that leads nowhere else,
unread; an error for a redirect that no download takes.  Never: the body of a redirect, which may have no end (requests
reads it whole); what a profile brings told to another origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urljoin

from requests import PreparedRequest, Request, Response
from requests.exceptions import InvalidHeader, InvalidURL

from . import auth, express
from .errors import BadResponse, RedirectLoop, RedirectRefused, SpecError, Stalled, Unreachable
from .names import checked_url, origin, shown
from .session import OWN_REDIRECTS, Session
from .spec import Source
from .translate import printable
from .transport import Exchange
from .within import within

if TYPE_CHECKING:
    from .stream import Patience

__all__ = ["asked", "followed", "host_of", "requested"]

REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: Asks one URL; what answers, whatever it says.
Ask: TypeAlias = "Callable[[Session, str, Patience], Response | Exchange]"


def asked(session: Session, url: str, patience: Patience) -> Response | Exchange:
    """The answer to a download's request."""
    # The slot is held already, so nothing in here waits for anybody but the source.
    try:
        found = express.asked(session, url, patience.connect_s, patience.read_s)
        request = express.prepared_for(session, url) if found is None else None
    except (InvalidHeader, UnicodeEncodeError):
        raise _unwritable() from None
    if request is not None:
        found = _sent(session, request, url, patience)
    assert found is not None
    return found


def requested(session: Session, url: str, patience: Patience, method: str, headers: Mapping[str, str]) -> Response:
    """The answer to another request than a download's; unread, and to be closed."""
    try:
        request = session.prepare_request(Request(method, url, headers={**headers}))
    except (InvalidHeader, UnicodeEncodeError):
        raise _unwritable() from None
    return _sent(session, request, url, patience)


def _unwritable() -> SpecError:
    # Without its cause: it quotes the header, or the password, that cannot be written.
    return SpecError("a header or the auth of the session cannot be written in HTTP's Latin-1")


def followed(
    session: Session,
    source: Source,
    patience: Patience,
    moved: Callable[[str], None] | None = None,
    ask: Ask = asked,
) -> Response | Exchange:
    """The answer of a source, or of whoever it redirects to; ``moved`` is told the host of each that is asked then."""
    url, asking = source.url, session
    for _ in range(session.max_redirects + 1):
        try:
            response = ask(asking, url, patience)
            if isinstance(response, Exchange):
                return response
        except InvalidURL as exc:
            if url == source.url:
                raise
            raise RedirectRefused(f"redirected to {shown(url)}: no host has such a name") from exc
        try:
            target = _target(response, url)
        except BaseException:
            response.close()
            raise
        if target is None:
            return response
        # Closed, not drained: its body may have no end.
        response.close()
        if asking is session and origin(target) != source.origin:
            asking = session.bare()
        if moved is not None:
            moved(host_of(origin(target)))
        url = target
    raise RedirectLoop(f"more than {session.max_redirects} redirects", source=source)


def host_of(origin: tuple[str, str, int]) -> str:
    """Host and port as caps count them."""
    return f"{origin[1]}:{origin[2]}"


def _sent(session: Session, request: PreparedRequest, url: str, patience: Patience) -> Response:
    setattr(request, OWN_REDIRECTS, True)
    request.hooks = auth.patient(request.hooks, session.hooks)
    settings = session.merge_environment_settings(request.url or url, {}, True, None, None)
    times = (patience.connect_s, patience.read_s)
    # A timeout of requests is one recv's: a head dripped byte by byte outlives it.
    with within(sum(times), _late):
        return session.send(request, allow_redirects=False, timeout=times, **settings)


def _late(seconds: float) -> Stalled:
    return Stalled(f"no complete head within {seconds:g} s")


def _target(response: Response, url: str) -> str | None:
    raw: Any = response.raw
    if getattr(getattr(raw, "_original_response", None), "cut", False):
        # requests takes what came of it for the whole: an empty file, a Location without its end.
        raise Unreachable("the connection ended within the head of the answer")
    if response.status_code not in REDIRECTS:
        return None
    told = set(raw.headers.getlist("location"))
    if len(told) != 1 or not next(iter(told)).strip():
        raise BadResponse(f"status {response.status_code} with {'no' if not told else 'an unclear'} Location")
    location = told.pop().strip()
    with suppress(UnicodeError):
        # Headers are read as Latin-1, URLs in the wild are UTF-8.
        location = location.encode("latin-1").decode()
    try:
        target = checked_url(urljoin(url, location))
    except (SpecError, ValueError):
        # Without its cause: it quotes what it could not read, and that may be userinfo.
        raise RedirectRefused(f"redirected to {printable(shown(location))}: not a place to download from") from None
    if not target.startswith(("http://", "https://")):
        raise RedirectRefused(f"redirected to {shown(target)}: only http and https are followed")
    if url.startswith("https:") and target.startswith("http:"):
        raise RedirectRefused(f"redirected from https to {shown(target)}: what TLS protected would travel open")
    return target
