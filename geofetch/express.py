"""The express lane of a download: from a URL to a connection, by a request that is made once for its origin.

In: a Session, a URL.  Out: an Exchange, which has of a Response what a download looks at; a Response where there is
more to it; None where requests is to be asked.  Never: another request than requests would send (test_express holds
them against each other); what an answer means.

Only what needs nothing of requests' machinery comes here: no cookie, no callable auth, no hook, no proxy, no session or
adapter that somebody has put a hand on.  What a session holds is compared at each request.  What lies outside of the
process and may have a say (netrc, files of certificates) is looked at again after a second.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import requests
from requests import PreparedRequest, Request, Response
from requests.adapters import HTTPAdapter
from requests.cookies import RequestsCookieJar, extract_cookies_to_jar
from requests.utils import select_proxy

from . import lean
from .lean.environment import environment
from .session import Session
from .transport import Adapter, Exchange, composed, counted

__all__ = ["HEADERS", "asked"]

#: What a download asks for besides what its session does: the bytes as they are kept.
HEADERS = {"Accept-Encoding": "identity"}
#: Seconds for which what files say is taken for granted.
SETTLED_S = 1.0
#: Origins that one session remembers.
ORIGINS = 1024

#: What a request passes on requests' way, and this lane does not: whoever puts a hand on one of them wants to see it.
_OF_SESSION = (
    "send",
    "get_adapter",
    "prepare_request",
    "merge_environment_settings",
    "resolve_redirects",
    "get_redirect_target",
    "rebuild_auth",
)
_OF_ADAPTER = (
    "send",
    "build_response",
    "get_connection_with_tls_context",
    "request_url",
    "add_headers",
    "cert_verify",
    "build_connection_pool_key_attributes",
)
_SEAMS = lean.Seams(
    (requests.Session, " ".join(_OF_SESSION)), (HTTPAdapter, " ".join(_OF_ADAPTER)), *lean.BEHIND_TEMPLATES
)
_ours = lean.look((Session, " ".join(_OF_SESSION)), (Adapter, " ".join(_OF_ADAPTER)))
_AS_WRITTEN = _ours()


class _Way:
    """How one session asks one origin: ``pool`` is None where it has to ask by requests."""

    __slots__ = (
        "_around",
        "_said",
        "_template",
        "_until",
        "adapter",
        "after",
        "before",
        "host",
        "pool",
    )

    def __init__(self, session: Session, url: str) -> None:
        self._until = monotonic() + SETTLED_S
        self._around = environment()
        self._template = lean.Template.of(session.headers, None)
        self._said = _said(session)
        self.adapter: Any = None
        self.pool: Any = None
        self.host = ""
        self.before = self.after = b""
        # An auth that is asked for a request which is not sent would count one too many.
        if self._template is not None and self._around is not None and _knows_auth(session):
            self._prepare(session, url)

    def _prepare(self, session: Session, url: str) -> None:
        prepared = prepared_for(session, url)
        adapter = session.get_adapter(prepared.url or "")
        settings = session.merge_environment_settings(prepared.url or "", {}, True, None, None)
        if type(adapter) is not Adapter or not vars(adapter).keys().isdisjoint(_OF_ADAPTER) or not _plain(prepared):
            return
        proxies = dict(settings["proxies"])
        if select_proxy(prepared.url or "", proxies) is not None:
            return
        pool = adapter.get_connection_with_tls_context(prepared, settings["verify"], proxies, settings["cert"])
        if not pool.is_fit():
            return
        whole = composed("GET", "/", pool.host_field, prepared.headers, None)
        if whole is None:
            return
        self.before, self.after = whole[:4], whole[5:]
        self.host, self.adapter, self.pool = counted(prepared), adapter, pool

    def is_of(self, session: Session) -> bool:
        """Whether it would be made the same way now."""
        return (
            monotonic() < self._until
            and (self.pool is None or self._fits())
            and _still_says(session, self._said)
            and environment() is self._around
            and (self._template is None or self._template.is_of(session.headers))
        )

    def _fits(self) -> bool:
        return bool(self.pool.is_fit()) and vars(self.adapter).keys().isdisjoint(_OF_ADAPTER)


def prepared_for(session: Session, url: str) -> PreparedRequest:
    """The request of a download, prepared."""
    return session.prepare_request(Request("GET", url, headers=HEADERS))


def _said(session: Session) -> tuple[Any, ...]:
    """All that a session holds and a request is made of, but for its headers; a copy of what may change in place."""
    return (
        session.auth,
        dict(session.proxies),
        session.verify,
        session.cert,
        session.trust_env,
        session.profile,
        session.gate,
        [*session.adapters.items()],
    )


def _still_says(session: Session, said: tuple[Any, ...]) -> bool:
    auth, proxies, verify, cert, trust_env, profile, gate, adapters = said
    return (
        session.gate is gate
        and session.profile is profile
        and session.auth == auth
        and session.proxies == proxies
        and session.verify == verify
        and session.cert == cert
        and session.trust_env == trust_env
        and [*session.adapters.items()] == adapters
    )


def _knows_auth(session: Session) -> bool:
    return session.auth is None or type(session.auth) is tuple or session.has_settled_auth


def _plain(prepared: PreparedRequest) -> bool:
    """Whether the request is its head and nothing more."""
    return prepared.hooks == lean.NO_HOOKS and prepared.body is None and "Cookie" not in prepared.headers


def _is_untouched(session: Session) -> bool:
    """Whether nobody wants to see requests pass, or has something to add to them."""
    return (
        type(session) is Session
        and not session.params
        and session.hooks == lean.NO_HOOKS
        and type(session.cookies) is RequestsCookieJar
        and not session.cookies._cookies  # type: ignore[attr-defined]
        and vars(session).keys().isdisjoint(_OF_SESSION)
        and _ours() == _AS_WRITTEN
        and _SEAMS.untouched()
    )


def asked(session: Session, url: str, connect_s: float, read_s: float) -> Exchange | Response | None:
    """The answer to a plain GET; None where requests has to ask.  Raises what a connection and its pool raise."""
    written = lean.written(url)
    if written is None or not _is_untouched(session):
        return None
    start, target = written
    ways: dict[str, _Way] = session.ways
    way = ways.get(start)
    if way is None or not way.is_of(session):
        if len(ways) >= ORIGINS:
            ways.clear()
        way = ways[start] = _Way(session, url)
    if way.pool is None:
        return None
    payload = way.before + target.encode("ascii") + way.after
    ticket = way.adapter.gate.enter(way.host)
    try:
        exchange: Exchange = way.pool.exchanged(payload, ticket, connect_s, read_s, start + target)
    except BaseException:
        ticket.leave()
        raise
    if exchange.body is not None or exchange.is_plain():
        return exchange
    try:
        return _responded(session, way.adapter, url, exchange)
    except BaseException:
        exchange.close()
        raise


def _responded(session: Session, adapter: Adapter, url: str, exchange: Exchange) -> Response:
    """The answer as requests would have given it."""
    prepared = prepared_for(session, url)
    raw = exchange.raw(prepared.path_url)
    try:
        response = adapter.build_response(prepared, raw)
        extract_cookies_to_jar(session.cookies, prepared, raw)
    except BaseException:
        raw.close()
        raise
    return response
