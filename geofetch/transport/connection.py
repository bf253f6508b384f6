"""Connections that yield to other greenlets, end in time, and know how often they were used.

In: a host, a request.  Out: urllib3 responses over gevent sockets.  Never: which connection serves whom (pools.py),
what an answer means.
"""

from __future__ import annotations

import errno
import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from urllib3._collections import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ProxyError
from urllib3.response import HTTPResponse

from ..spec import Ticket
from . import resolve
from .response import Answer

__all__ = ["PlainConnection", "TLSConnection"]


class _Cooperative(HTTPConnection):
    """What both kinds of connection add to urllib3's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The right to be open; left when the connection rests or closes.
        self.ticket: Ticket | None = None
        #: The hub that made the socket; a gevent socket serves no other.
        self.hub: Any = gevent.get_hub()
        #: Requests that this socket has carried; a fresh one has carried none.
        self.served = 0
        self._answer: Answer | None = None

    def _new_conn(self) -> Any:
        timeout = self.timeout if isinstance(self.timeout, int | float) else None
        try:
            sock = resolve.connect(self._dns_host, self.port, timeout, self.source_address, self.socket_options)
        except TimeoutError as exc:
            raise ConnectTimeoutError(self, f"connecting to {self.host} took over {timeout} s") from exc
        except OSError as exc:
            if exc.__class__.__name__ == "gaierror":
                raise NameResolutionError(self.host, self, exc) from exc  # type: ignore[arg-type]
            raise NewConnectionError(self, f"no connection to {self.host}: {exc}") from exc
        sock.settimeout(timeout)
        self.served = 0
        self._answer = None
        return sock

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        # The connect timeout covers name, addresses, the proxy's CONNECT and the TLS handshake together: a socket's own
        # timeout is one recv's, and a handshake dripped byte by byte outlives it.
        if not isinstance(self.timeout, int | float):
            yield
            return
        late = ConnectTimeoutError(self, f"connecting to {self.host} took over {self.timeout} s")
        with gevent.Timeout(self.timeout, late):
            yield

    def response_class(self, *args: Any, **kwargs: Any) -> Answer:  # type: ignore[override]
        """The answer that http.client begins to read; it is known here even where reading it fails."""
        self._answer = Answer(*args, **kwargs)
        return self._answer

    def request(self, *args: Any, **kwargs: Any) -> None:
        """urllib3's own."""
        self._answer = None
        super().request(*args, **kwargs)

    def answered(self, method: str, url: str, preload: bool, decode: bool, enforce: bool) -> HTTPResponse:
        """The response to the request that was sent; as urllib3's getresponse, but it logs no URL."""
        self.sock.settimeout(self.timeout)
        shutdown = getattr(self.sock, "shutdown", None)
        answer: Any = http.client.HTTPConnection.getresponse(self)
        self.served += 1
        return HTTPResponse(
            body=answer,
            headers=HTTPHeaderDict((name, _clean(value)) for name, value in answer.msg.items()),
            status=answer.status,
            version=answer.version,
            version_string="HTTP/1.0" if answer.version == 10 else "HTTP/1.1",
            reason=answer.reason,
            preload_content=preload,
            decode_content=decode,
            original_response=answer,
            enforce_content_length=enforce,
            request_method=method,
            request_url=url,
            sock_shutdown=shutdown,
        )

    @property
    def heard(self) -> bool:
        """Whether any byte of an answer to the last request came."""
        return self._answer is not None and self._answer.heard

    @property
    def trustworthy(self) -> bool:
        """Whether the next request may go over this connection."""
        answer = self._answer
        if answer is None:
            return True
        both = answer.chunked and answer.headers.get("content-length") is not None
        return answer.isclosed() and not answer.surplus and not both

    def rested(self) -> None:
        """Give the right to be open back."""
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            ticket.leave()

    def close(self) -> None:
        sock = self.sock
        try:
            super().close()
        except ValueError:
            # The thread that made it has ended, and its hub's loop with it: gevent has nothing left to tell.
            _drop(sock)
        finally:
            self.rested()

    def abandon(self) -> None:
        """Close the descriptor and no more: the thread that made it has ended."""
        sock, self.sock = self.sock, None
        if sock is not None:
            _drop(sock)


def _drop(sock: Any) -> None:
    """Close the descriptor, and tell no loop: the one that it belongs to is gone."""
    while not hasattr(sock, "_sock") and hasattr(sock, "socket"):  # TLS in TLS wraps the socket once more
        sock = sock.socket
    getattr(sock, "_sock", sock).close()


def _clean(value: str) -> str:
    # RFC 9112, 5.2: an obsolete line folding, with the white space around it, counts as a space.
    return " ".join(part.strip(" \t") for part in value.split("\r\n")) if "\r\n" in value else value


class PlainConnection(_Cooperative):
    """HTTP over a gevent socket."""

    def connect(self) -> None:
        with self._in_time():
            super().connect()


class TLSConnection(_Cooperative, HTTPSConnection):
    """HTTPS over a gevent socket."""

    def connect(self) -> None:
        with self._in_time():
            HTTPSConnection.connect(self)

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (http.client.HTTPException, ConnectionError) as exc:
            # So far nobody but the proxy was asked; urllib3 would let it pass for the server's answer.
            raise ProxyError("the proxy dug no tunnel", exc) from exc


#: A kept connection that ends in one of these before a byte of an answer came was closed by the server meanwhile.
STALE = (http.client.RemoteDisconnected, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


def went_stale(error: BaseException) -> bool:
    """Whether an error says that a kept connection had been closed at the other end."""
    return isinstance(error, STALE) or getattr(error, "errno", None) in (errno.EPIPE, errno.ECONNRESET)
