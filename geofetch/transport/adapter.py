"""The adapter between requests and the shared pools: who a request is, and whether it may go now.

In: a PreparedRequest, a Profile, a Gate.  Out: requests Responses.  Never: redirects, retries, what is done with the
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FunctionType
from typing import Any
from urllib.parse import urlsplit

from requests import PreparedRequest, Response, adapters
from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidProxyURL, InvalidURL
from requests.structures import CaseInsensitiveDict
from requests.utils import get_encoding_from_headers, prepend_scheme_if_needed, select_proxy
from urllib3 import HTTPResponse
from urllib3.util import parse_url

from ..names import origin
from ..spec import Gate, Profile, Ticket
from . import pools
from .fields import merged
from .tls import context_of, trust_of

__all__ = ["FOREIGN", "Adapter", "OpenGate", "answered", "closing_on_error", "counted"]

#: Set on a PreparedRequest that goes to another origin than its Profile was made for.
FOREIGN = "geofetch_foreign"


#: What requests' adapter names, and only imports as well.
requests_own: Any = adapters

#: The answers to the call that this greenlet is in.
_answers: ContextVar[list[Response] | None] = ContextVar("geofetch_answers", default=None)


@contextmanager
def closing_on_error() -> Iterator[None]:
    """What answered meanwhile is closed if it comes to nothing: a hook that raises would leave it to its traceback."""
    answers: list[Response] = []
    token = _answers.set(answers)
    try:
        yield
    except BaseException:
        for response in answers:
            response.close()
        raise
    finally:
        _answers.reset(token)


def answered(response: Response) -> Response:
    """The response itself, noted for :func:`closing_on_error`."""
    answers = _answers.get()
    if answers is not None:
        answers.append(response)
    return response


def counted(request: PreparedRequest) -> str:
    """Host and port as caps count them, in one writing."""
    try:
        _, host, port = origin(request.url or "")
    except ValueError as exc:
        raise InvalidURL(exc, request=request) from exc
    return f"{host}:{port}"


def _checked(proxy: str) -> str:
    """A proxy's URL that can be used; what is said of one that cannot never quotes it."""
    try:
        proxy = prepend_scheme_if_needed(proxy, "http")
        host = parse_url(proxy).host
    except (ValueError, TypeError):
        host = None
    if not host:
        raise InvalidProxyURL("the proxy's URL is none, or has no host")
    return proxy


def _check_named(host: str | None, request: PreparedRequest) -> None:
    """Raises InvalidURL where no proxy can be asked for a tunnel: http.client's own word is a bare UnicodeError."""
    try:
        (host or "").encode("idna")
    except UnicodeError as exc:
        raise InvalidURL(f"no host is called {host!r}", request=request) from exc


def _encoding(headers: CaseInsensitiveDict[str]) -> str | None:
    try:
        return get_encoding_from_headers(headers)
    except AttributeError:
        # Up to 2.33.0 requests takes a charset without a value for True.
        return None


def _is_requests_own(method: Any) -> bool:
    """Whether nobody has put something else in the place of a method that is passed by here."""
    return type(method) is FunctionType and method.__globals__ is vars(adapters)


class OpenGate:
    """A gate that lets everybody through."""

    def enter(self, host: str, timeout_s: float | None = None) -> Ticket:
        return _FREE

    def narrowed(self, total: int | None = None, per_host: int | None = None) -> Gate:
        return self


class _Free:
    def leave(self) -> None:
        """Nothing was taken."""


_FREE = _Free()


class Adapter(HTTPAdapter):
    """HTTP and HTTPS over connections that everybody with the same identity shares.

    ``profile`` says who we are and whom we trust; ``gate`` who may hold a connection.  Closing the adapter closes
    nothing: the connections are not its own.
    """

    __attrs__ = [  # noqa: RUF012 - requests declares it so
        *HTTPAdapter.__attrs__,
        "profile",
    ]

    def __init__(self, profile: Profile | None = None, gate: Gate | None = None) -> None:
        self.profile = profile
        self.gate: Gate = gate or OpenGate()
        super().__init__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.gate = OpenGate()
        super().__setstate__(state)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:
        # The pools are shared (pools.py); requests' own would be one more, and never used.
        self._pool_connections, self._pool_maxsize, self._pool_block = connections, maxsize, block

    @property
    def poolmanager(self) -> Any:  # type: ignore[override]
        return pools.shared().straight()

    def close(self) -> None:
        """Nothing: what is shared is not closed by one who leaves."""

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing: the pool's SSLContext has it all, and reads no bundle again."""

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: Any, proxies: dict[str, str] | None = None, cert: Any = None
    ) -> Any:
        url = request.url or ""
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise InvalidURL(exc, request=request) from exc
        kwargs: dict[str, Any] = {}
        if parts.scheme == "https":
            kwargs = self._tls(verify, cert, getattr(request, FOREIGN, False))
        proxy = select_proxy(url, proxies) if proxies else None
        if not proxy:
            return pools.shared().pool(parts.scheme, host, port, kwargs)
        if parts.scheme == "https":
            _check_named(host, request)
        manager = self._manager(proxy, verify)
        return manager.connection_from_host(host, port, parts.scheme, pool_kwargs=kwargs)

    def request_url(self, request: PreparedRequest, proxies: dict[str, str] | None) -> str:
        """requests' own; where there is no proxy, without taking the URL apart to look for one."""
        url = request.path_url
        if proxies or url.startswith("//") or not _is_requests_own(HTTPAdapter.request_url):
            return super().request_url(request, proxies)
        return url

    def _tls(self, verify: Any, cert: Any, foreign: bool) -> dict[str, Any]:
        trust, own, ca = trust_of(self.profile, verify, cert, foreign)
        password: Any = self.profile.key_password if self.profile is not None else None
        return {"ssl_context": context_of(trust, own, ca, password), "assert_fingerprint": trust.fingerprint}

    def _manager(self, proxy: str, verify: Any) -> Any:
        proxy = _checked(proxy)
        if proxy.lower().startswith("socks"):
            return self.proxy_manager_for(proxy)
        trust = context = None
        if proxy.lower().startswith("https:"):
            # The proxy is trusted by the same CA, but it is not shown our certificate, and the pin is not its own.
            profile = Profile(ca=self.profile.ca, verify=self.profile.verify) if self.profile is not None else None
            trust, _, ca = trust_of(profile, verify)
            context = context_of(trust, None, ca)
        return pools.shared().through(proxy, self.proxy_headers(proxy), trust, context)

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """requests' own, with less around it; an answer that cannot be built is closed."""
        try:
            if isinstance(resp, HTTPResponse) and _is_requests_own(HTTPAdapter.build_response):
                return self._built(req, resp)
            return super().build_response(req, resp)
        except BaseException:
            resp.close()
            raise

    def _built(self, req: PreparedRequest, resp: Any) -> Response:
        response = Response()
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = merged(resp.headers)
        response.encoding = _encoding(response.headers)
        response.raw, response.url, response.request = resp, req.url, req  # type: ignore[assignment]
        response.connection = self
        # Where no cookie is told, without the cookie jar's look for one.
        if "set-cookie" in resp.headers or "set-cookie2" in resp.headers:
            requests_own.extract_cookies_to_jar(response.cookies, req, resp)
        return response

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        ticket = self.gate.enter(counted(request))
        try:
            response = super().send(request, *args, **kwargs)
        except BaseException:
            ticket.leave()
            raise
        conn: Any = getattr(response.raw, "_connection", None)
        if conn is None or not hasattr(conn, "ticket"):
            ticket.leave()
        else:
            conn.ticket = ticket
        return answered(response)
