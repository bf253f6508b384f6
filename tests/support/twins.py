"""The same call on requests.Session and on geofetch.Session.  In: a call.  Out: what it gave, fit to be compared.

What differs by nature is made alike: ports, boundaries, nonces, the time.  Never: a difference that a user could see.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import requests

from geofetch.session import Session
from tests.origin.wire import Request

from .mirrors import Mirror, Origins

Call = Callable[[requests.Session, Origins], Any]


def told(call: Call, session: requests.Session, origins: Origins) -> list[Any]:
    """What the call gave or raised, and every request that its mirrors saw."""
    opened = len(origins._open)
    try:
        given = _plain(call(session, origins))
    except requests.RequestException as exc:
        given = ["raised", _kind(exc), exc.response is None, exc.request is None]
    except (ValueError, TypeError) as exc:
        given = ["raised", _kind(exc)]
    asked = [_asked(one) for port in origins._open[opened:] if isinstance(port, Mirror) for one in port.requests]
    return [given, asked]


def both(call: Call, origins: Origins) -> tuple[list[Any], list[Any]]:
    """As requests has it, and as geofetch has it."""
    with requests.Session() as theirs, Session() as ours:
        return told(call, theirs, origins), told(call, ours, origins)


def _kind(exc: BaseException) -> str:
    return f"{type(exc).__module__}.{type(exc).__qualname__}"


def _plain(value: Any) -> Any:
    if isinstance(value, requests.Response):
        return _response(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in sorted(value.items())}
    if isinstance(value, requests.cookies.RequestsCookieJar):
        return sorted((cookie.name, cookie.value, cookie.domain, cookie.path) for cookie in value)
    return _words(value) if isinstance(value, str) else value


def _response(response: requests.Response) -> dict[str, Any]:
    assert isinstance(response.elapsed, timedelta)
    assert response.elapsed >= timedelta(0)
    return {
        "status": (response.status_code, response.reason, response.ok),
        "url": _words(response.url),
        "headers": [(name, _words(value)) for name, value in response.headers.items()],
        "content": response.content,
        "text": response.text,
        "encodings": (response.encoding, response.apparent_encoding),
        "history": [_response(one) for one in response.history],
        "cookies": _plain(response.cookies),
        "redirects": (response.is_redirect, response.is_permanent_redirect),
        "links": response.links,
        "next": None if response.next is None else (response.next.method, _words(response.next.url or "")),
        "asked": (response.request.method, _words(response.request.url or "")),
        "raw": (
            response.raw.status,
            response.raw.reason,
            response.raw.version,
            _words(str(dict(response.raw.headers))),
        ),
    }


def _asked(request: Request) -> tuple[Any, ...]:
    headers = [(name, _words(value)) for name, value in request.headers]
    return request.method, _words(request.target), headers, _words(request.body.decode("latin-1"))


def _words(text: str) -> str:
    text = re.sub(r"(127\.0\.0\.1|localhost):\d+(/\d+/)?", r"\1:PORT/N/", text)
    text = re.sub(r"^/\d+/|uri=\"/\d+/", "/N/", text)
    text = re.sub(r"(cnonce|response)=\"[0-9a-f]+\"", r"\1=…", text)
    return re.sub(r"\b[0-9a-f]{32}\b", "BOUNDARY", text)
