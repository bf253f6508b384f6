"""The connections of the whole process: shared by all who have the same identity, by nobody else.

In: scheme, host, port, Trust, proxy.  Out: urllib3 pools that hand out connections.  Never: requests, redirects, caps
(a Gate is asked by the adapter).

A connection belongs to the hub (the native thread) that made it, and to the process: pools are kept by hub, and a
forked child begins with none.
"""

from __future__ import annotations

import os
import queue
import re
from http.client import HTTPException
from typing import Any
from weakref import WeakValueDictionary

import gevent
from urllib3 import PoolManager, ProxyManager
from urllib3.connection import BaseSSLError, _wrap_proxy_error
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError, ProtocolError, ProxyError, ReadTimeoutError, SSLError
from urllib3.exceptions import TimeoutError as LateError
from urllib3.util import Retry, Timeout
from urllib3.util.ssl_match_hostname import CertificateError
from urllib3.util.url import _encode_target
from urllib3.util.util import to_str

from ..hubs import ended, own, process
from ..names import shown
from ..spec import Ticket
from ..within import within
from .connection import UNSENT, PlainConnection, TLSConnection, went_stale
from .exchange import Exchange
from .head import Head
from .rest import Idle, Rest

__all__ = ["Shared", "shared"]

#: Origins whose pools one hub keeps; far more than connections, so that a pool never goes before its connections do.
ORIGINS = 10_000

#: Methods that may be sent a second time (RFC 9110, 9.2.2).
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})

#: What requests says to urlopen, beside method and URL.
LEAN = {"body", "headers", "redirect", "assert_same_host", "preload_content", "decode_content", "retries", "timeout"}
LEAN |= {"chunked"}
#: A target in which urllib3 finds nothing to encode.
_CLEAN = re.compile(r"/[-A-Za-z0-9._~!$&'()*+,;=:@/]*")
#: What urllib3 counts as a failure of the connection.
_PASSING = (LateError, HTTPException, OSError, ProtocolError, BaseSSLError, SSLError, CertificateError, ProxyError)


class _SharedPool(HTTPConnectionPool):
    """A urllib3 pool that never throws a good connection away, and never keeps a doubtful one."""

    QueueCls: Any = Idle
    rest: Rest

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # urllib3's finalizer holds the queue that it saw, and with a connection its socket, its hub and this pool.
        self.pool: Any = Idle()
        self._hub, self._process = gevent.get_hub(), process()

    def __str__(self) -> str:
        # The texts of urllib3's errors begin with it, and their readers know requests' own.
        return f"{str(self.scheme).upper()}ConnectionPool(host={self.host!r}, port={self.port!r})"

    def _get_conn(self, timeout: float | None = None) -> Any:
        while True:
            try:
                conn = self.pool.get(block=False)
            except (queue.Empty, AttributeError):
                return self._new_conn()
            rested = self.rest.leave(conn)
            if rested and conn.hub is gevent.get_hub() and conn.is_quiet():
                return conn
            conn.close()

    def _put_conn(self, conn: Any) -> None:
        if conn is None:
            return
        conn.rested()
        if self.pool is None or conn.sock is None or not conn.is_trustworthy() or conn.hub is not gevent.get_hub():
            conn.close()
            return
        self.pool.put(conn)
        self.rest.enter(conn)

    def urlopen(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        try:
            if not args and kwargs.keys() == LEAN and self._is_lean(url, kwargs):
                return self._opened(method, url, **kwargs)
            return super().urlopen(method, url, *args, **kwargs)
        except MaxRetryError as exc:
            reason = exc.reason
        # Its text holds the whole URL, and with it whatever secret the query holds: it goes on not even as a context.
        raise MaxRetryError(self, shown(url), reason) from reason

    def _is_lean(self, url: str, said: dict[str, Any]) -> bool:
        """Whether a request is asked once, whatever comes, and nobody but the server is asked: requests' own calls."""
        if self.proxy or said["redirect"] or said["assert_same_host"] or said["preload_content"]:
            return False
        retries, body = said["retries"], said["body"]
        once = type(retries) is Retry and retries.total == 0 and not retries.status_forcelist
        return once and (body is None or type(body) is bytes) and url.startswith("/")

    def _opened(self, method: str, url: str, body: Any, headers: Any, retries: Any, **options: Any) -> Any:
        """What urllib3's urlopen comes to, without proxies, redirects, retries and bodies that are rewound."""
        if not _CLEAN.fullmatch(url):
            url = to_str(_encode_target(url))
        timeout, chunked, decode = options["timeout"], options["chunked"], options["decode_content"]
        conn = self._get_conn()
        try:
            return self._make_request(
                conn, method, url, body, headers, retries, timeout, chunked, conn, False, decode, True
            )
        except _PASSING as exc:
            conn.close()
            error: Exception = SSLError(exc) if isinstance(exc, BaseSSLError | CertificateError) else exc
            if isinstance(error, OSError | HTTPException):
                error = ProtocolError("Connection aborted.", error)
            retries.increment(method, url, error=error, _pool=self, _stacktrace=exc.__traceback__)
            raise
        except BaseException:
            conn.close()
            raise

    def is_fit(self) -> bool:
        """Whether it is open and this hub's, leads straight to the origin, and nobody wants to see what is said."""
        kind: Any = self.ConnectionCls
        here = self._hub is gevent.get_hub() and self._process == process()
        return here and self.pool is not None and self.proxy is None and kind.fast and not kind.debuglevel

    @property
    def host_field(self) -> str:
        """What a request says of its host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == self.ConnectionCls.default_port else f"{host}:{self.port}"

    def exchanged(self, payload: bytes, ticket: Ticket, connect_s: float, read_s: float, url: str) -> Exchange:
        """A GET that is bytes already, sent and answered; once more where a kept connection had been closed meanwhile.

        ``connect_s`` is for connecting, ``read_s`` for the whole head of the answer.  ``ticket`` is left when the
        connection rests or closes.  Raises as urllib3 does, but for retries; LateHead where the head does not come.
        """
        conn = self._get_conn()
        try:
            conn.ticket = ticket
            try:
                head, answer = self._replied(conn, payload, connect_s, read_s)
            except Exception as exc:
                if not (conn.served and went_stale(exc) and not conn.heard):
                    raise
                conn.ticket = None
                conn.close()
                conn.ticket = ticket
                head, answer = self._replied(conn, payload, connect_s, read_s)
            if type(answer) is memoryview:
                self._put_conn(conn)
                return Exchange(url, head, answer)
            return Exchange(url, head, None, answer, self, conn)
        except BaseException:
            conn.close()
            raise

    def _replied(self, conn: Any, payload: bytes, connect_s: float, read_s: float) -> tuple[Head, Any]:
        self.num_requests += 1
        if conn.sock is None:
            conn.timeout = connect_s
            self._connected(conn)
        with within(read_s, _late):
            found: tuple[Head, Any] = conn.asked(payload)
        return found

    def _make_request(
        self,
        conn: Any,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        timeout: Any = None,
        chunked: bool = False,
        response_conn: Any = None,
        preload_content: bool = True,
        decode_content: bool = True,
        enforce_content_length: bool = True,
    ) -> Any:
        self.num_requests += 1
        patience = timeout if isinstance(timeout, Timeout) else self._get_timeout(timeout)
        again = conn.served > 0 and not conn.is_closed and method in IDEMPOTENT and isinstance(body, bytes | str | None)
        tunnelled = conn.proxy_is_tunneling
        options = (preload_content, decode_content, enforce_content_length)
        try:
            response = self._asked(conn, method, url, body, headers, chunked, patience, options)
        except Exception as exc:
            if not (again and went_stale(exc) and not conn.heard):
                raise
            # The server closed a kept connection just as it was used: no byte of an answer came, so one more try on a
            # new connection asks nothing twice.
            conn.close()
            if tunnelled:  # close() forgot the tunnel, and without it the request would go to the proxy itself
                self._prepare_proxy(conn)
            response = self._asked(conn, method, url, body, headers, chunked, patience, options)
        response.retries = retries
        response._connection = response_conn
        response._pool = self
        return response

    def _asked(
        self,
        conn: Any,
        method: str,
        url: str,
        body: Any,
        headers: Any,
        chunked: bool,
        patience: Timeout,
        options: tuple[bool, bool, bool],
    ) -> Any:
        if patience.total is not None:  # else no clock runs
            patience = patience.clone()
            patience.start_connect()
        conn.timeout = Timeout.resolve_default_timeout(patience.connect_timeout)
        if conn.sock is None or self.scheme != "http":
            self._connected(conn)
        preload, decode, enforce = options
        try:
            conn.request(method, url, body=body, headers=headers, chunked=chunked)
        except UNSENT:
            # A server may answer, and close, before it has read the whole request: the answer counts. On a kept
            # connection there is none.
            if conn.served and not body:
                raise
        read_s = patience.read_timeout
        if conn.is_closed:
            raise ConnectionResetError("the connection closed while the request was sent")
        conn.timeout = Timeout.resolve_default_timeout(read_s)
        try:
            return conn.answered(method, url, preload, decode, enforce)
        except TimeoutError as exc:
            raise ReadTimeoutError(self, shown(url), f"no answer within {read_s} s") from exc

    def _connected(self, conn: Any) -> None:
        """Connect before the request, so that what fails here fails as the proxy's error where it is the proxy's."""
        try:
            self._validate_conn(conn)
        except Exception as exc:
            raised: Exception = SSLError(exc) if isinstance(exc, BaseSSLError | CertificateError) else exc
            if conn.proxy and not conn.has_connected_to_proxy:
                raised = _wrap_proxy_error(raised, conn.proxy.scheme)
            if raised is exc:  # an exception that is its own cause sends whoever follows causes round and round
                raise
            raise raised from exc


class PlainPool(_SharedPool):
    """Connections to one http origin, or to a proxy that forwards."""

    ConnectionCls: Any = PlainConnection

    def _validate_conn(self, conn: Any) -> None:
        if conn.is_closed:
            conn.connect()


class TLSPool(_SharedPool, HTTPSConnectionPool):
    """Connections to one https origin under one Trust."""

    ConnectionCls: Any = TLSConnection


class LateHead(TimeoutError):
    """The head of an answer did not come in time."""


def _late(seconds: float) -> LateHead:
    return LateHead(f"no complete head within {seconds:g} s")


class Shared:
    """The pools of one hub: straight to origins, and through each proxy."""

    def __init__(self) -> None:
        self.rest = Rest()
        self._hub = gevent.get_hub()
        self._managers: dict[Any, PoolManager] = {None: self._ours(PoolManager(ORIGINS))}
        self._found: dict[Any, Any] = {}

    def _ours(self, manager: Any) -> Any:
        pool_classes = {"http": PlainPool, "https": TLSPool}
        manager.pool_classes_by_scheme = {
            scheme: type(kind.__name__, (kind,), {"rest": self.rest}) for scheme, kind in pool_classes.items()
        }
        return manager

    def straight(self) -> PoolManager:
        """The pools that go to origins themselves."""
        return self._managers[None]

    def pool(self, scheme: str, host: str | None, port: int | None, tls: dict[str, Any]) -> Any:
        """The pool that goes straight to an origin; urllib3 makes its key anew for each request."""
        key = scheme, host, port, *tls.values()
        found = self._found.get(key)
        if found is None or found.pool is None:
            if len(self._found) >= ORIGINS:
                self._found.clear()
            found = self._found[key] = self.straight().connection_from_host(host, port, scheme, pool_kwargs=tls)
        return found

    def through(self, proxy: str, headers: dict[str, str], trust: Any, context: Any) -> PoolManager:
        """The pools that go through a proxy; its credentials and its TLS are part of their identity."""
        key = proxy, tuple(sorted(headers.items())), trust
        found = self._managers.get(key)
        if found is None:
            manager = ProxyManager(proxy, num_pools=ORIGINS, proxy_headers=headers, proxy_ssl_context=context)
            found = self._managers[key] = self._ours(manager)
        return found

    def connections(self) -> int:
        """Connections at rest now, over all pools."""
        return len(self.rest)

    def close(self) -> None:
        """Close every connection at rest."""
        self._found.clear()
        for conn in self.rest.taken():
            conn.close()
        for manager in self._managers.values():
            manager.clear()

    @property
    def ended(self) -> bool:
        """Whether nobody can use these any more: their thread is over."""
        return ended(self._hub)

    def abandon(self) -> None:
        """Close what rests here, from another thread."""
        self._found.clear()
        for conn in self.rest.taken():
            conn.abandon()
        for manager in self._managers.values():
            manager.clear()


#: The pools of all hubs, as long as those live.
_everyones: WeakValueDictionary[int, Shared] = WeakValueDictionary()


def _forked() -> None:
    """In a child: what rests is the parent's.  Its copies are closed here, before a garbage collector complains."""
    for reference in _everyones.valuerefs():
        found = reference()
        if found is not None:
            for conn in found.rest.taken():  # and no more: another thread may have held urllib3's locks
                conn.abandon()


os.register_at_fork(after_in_child=_forked)


def shared() -> Shared:
    """The pools of this hub in this process: a forked child begins with none, its parent's sockets stay there."""
    return own("pools", _new)


def _new() -> Shared:
    # A thread ends without a word, and a gevent socket keeps its hub as the hub keeps us: no garbage collector sees
    # through that. Whoever begins closes what those left who ended.
    for reference in _everyones.valuerefs():
        other = reference()
        if other is not None and other.ended:
            other.abandon()
            _everyones.pop(id(other), None)
    found = Shared()
    _everyones[id(found)] = found
    return found
