"""Connections that yield to other greenlets, end in time, and know how often they were used.

In: a host, a request.  Out: urllib3 responses over gevent sockets.  Never: which connection serves whom (pools.py),
what an answer means.

    request   what is asked, in one piece      head    the head of the answer
    inflow    what arrived                     reply   its body          raw   both as urllib3 has them
"""

from __future__ import annotations

import errno
import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gevent
from urllib3._collections import HTTPHeaderDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError, ProxyError
from urllib3.response import HTTPResponse

from ..spec import Ticket
from . import fields, resolve
from .head import Head, head_of, unfolded
from .inflow import Inflow
from .raw import responding
from .reply import Reply
from .request import composed
from .response import Answer, Framing, plain_length, tolerated

__all__ = ["PlainConnection", "TLSConnection"]


class _Cooperative(HTTPConnection):
    """What both kinds of connection add to urllib3's: a way of their own for what is asked and answered every time.

    What is unusual goes urllib3's way: a body from a generator or a file, chunks, headers of bytes, tunnels, and
    everything while ``http.client.HTTPConnection.debuglevel`` is set, which prints what goes over the wire.
    """

    #: False: everything goes http.client's way, which is what tests hold ours against.
    fast = True

    #: What the texts of errors call it, as those of requests do.
    shown_as: str

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The right to be open; left when the connection rests or closes.
        self.ticket: Ticket | None = None
        #: The hub that made the socket; a gevent socket serves no other.
        self.hub: Any = gevent.get_hub()
        #: Requests that this socket has carried; a fresh one has carried none.
        self.served = 0
        self._answer: Answer | Reply | None = None
        self._flow: Inflow | None = None

    def _new_conn(self) -> Any:
        timeout = self.timeout if isinstance(self.timeout, int | float) else None
        try:
            sock = resolve.connect(self._dns_host, self.port, timeout, self.source_address, self.socket_options)
        except TimeoutError as exc:
            raise ConnectTimeoutError(self, f"connecting to {self.host} took over {timeout} s") from exc
        except OSError as exc:
            if exc.__class__.__name__ == "gaierror":
                raise NameResolutionError(self.host, self, exc) from exc  # type: ignore[arg-type]
            raise NewConnectionError(self, f"Failed to establish a new connection: {exc}") from exc
        sock.settimeout(timeout)
        self.served = 0
        self._answer = self._flow = None
        return sock

    def __str__(self) -> str:
        return f"{self.shown_as}(host={self.host!r}, port={self.port!r})"

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

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, Any] | None = None,
        *,
        chunked: bool = False,
        **options: Any,
    ) -> None:
        """Send a request: in one piece where it is plain, as urllib3 sends it where it is not."""
        self._answer = None
        plain = None
        if self.sock is not None and not chunked and self.ours:
            plain = composed(method, url, self._host_field(), headers or {}, body)
        if plain is not None:
            self.sock.settimeout(self.timeout)
            self._flow_of_ours().ask(plain)
            return
        if self._flow is not None:
            self._flow.begin()
        super().request(method, url, body, headers, chunked=chunked, **options)

    @property
    def ours(self) -> bool:
        """Whether answers are read our way."""
        return self.fast and not self.debuglevel

    def _host_field(self) -> str:
        host, port = (self._tunnel_host, self._tunnel_port) if self._tunnel_host else (self.host, self.port)
        if ":" in host:
            host = f"[{host}]"
        return host if port == self.default_port else f"{host}:{port}"

    def answered(self, method: str, url: str, preload: bool, decode: bool, enforce: bool) -> HTTPResponse:
        """The response to the request that was sent; as urllib3's getresponse, but it logs no URL."""
        self.sock.settimeout(self.timeout)
        shutdown = getattr(self.sock, "shutdown", None)
        if self.ours:
            reply = self._replied(method, self._flow_of_ours())
            self.served += 1
            return responding(reply, fields.told(reply.head.fields), method, url, (preload, decode, enforce), shutdown)
        answer: Any = http.client.HTTPConnection.getresponse(self)
        self.served += 1
        return HTTPResponse(
            body=answer,
            headers=HTTPHeaderDict((name, unfolded(value)) for name, value in answer.msg.items()),
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

    def asked(self, payload: bytes) -> tuple[Head, memoryview | Reply]:
        """A GET that is bytes already, sent and answered: its head, and its body whole or still to be read.

        Its caller sees to it that it ends in time.
        """
        self._answer = None
        flow, sock = self._flow, self.sock
        if flow is None:
            flow = self._flow_of_ours()
        if sock.timeout is not None:
            sock.settimeout(None)
        try:
            flow.ask(payload)
        except UNSENT:
            # As in pools.py: who answers and closes before all was read is heard; a kept connection has no answer.
            if self.served:
                raise
        head = head_of(flow)
        self.served += 1
        length = plain_length(head) if head.status == 200 else None
        if length and head.by_name.keys().isdisjoint(_TOLD_OF) and _stays_open(head) and not head.is_flawed():
            body = flow.all_of(length)
            if body is not None:
                return head, body
        return head, self._reply("GET", flow, head, length)

    def _replied(self, method: str, flow: Inflow) -> Reply:
        """The answer, read our way."""
        # What http.client would note when it reads the answer; it refuses the next request otherwise.
        self._HTTPConnection__state = "Idle"
        head = head_of(flow)
        return self._reply(method, flow, head, plain_length(head) if head.status == 200 and method == "GET" else None)

    def _reply(self, method: str, flow: Inflow, head: Head, length: int | None) -> Reply:
        if length is None:
            rules = tolerated(method, head.status, head.fields)
        else:
            rules = Framing("length", length)
        if rules.reusable and not _stays_open(head):
            rules = rules._replace(reusable=False)
        reply = self._answer = Reply(flow, method, head, rules)
        reply.plain = length is not None
        return reply

    def _flow_of_ours(self) -> Inflow:
        """What arrives at this socket."""
        if self._flow is None:
            self._flow = Inflow(self.sock)
        return self._flow

    @property
    def heard(self) -> bool:
        """Whether any byte of an answer to the last request came."""
        if self._flow is not None and self._flow.heard:
            return True
        return isinstance(self._answer, Answer) and self._answer.heard

    def is_quiet(self) -> bool:
        """Whether nothing came while it rested: no end, and no bytes that would pass for the next answer."""
        if self._flow is None:
            return bool(self.is_connected)
        return self._flow.quiet()

    def is_trustworthy(self) -> bool:
        """Whether the next request may go over this connection."""
        answer = self._answer
        if answer is None:
            return True
        if isinstance(answer, Reply):
            return answer.clean
        both = answer.chunked and answer.headers.get("content-length") is not None
        return answer.isclosed() and not answer.surplus and not both

    def rested(self) -> None:
        """Give the right to be open back."""
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            ticket.leave()

    def close(self) -> None:
        sock = self.sock
        flow, self._flow = self._flow, None
        if flow is not None:
            flow.drop()
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


#: What somebody has to look at before the body can be taken as it is.
_TOLD_OF = frozenset({"set-cookie", "content-encoding"})


def _stays_open(head: Head) -> bool:
    """Whether the server keeps the connection open behind this answer, by http.client's rules."""
    if head.status == 101:
        return False  # another protocol from here on
    told = head.by_name.get("connection", "").lower()
    if head.version == 11:
        return "close" not in told
    also = head.by_name.get("proxy-connection", "").lower()
    return "keep-alive" in told + also or bool(head.by_name.get("keep-alive"))


class PlainConnection(_Cooperative):
    """HTTP over a gevent socket."""

    shown_as = "HTTPConnection"

    def connect(self) -> None:
        with self._in_time():
            super().connect()


class TLSConnection(_Cooperative, HTTPSConnection):
    """HTTPS over a gevent socket."""

    shown_as = "HTTPSConnection"

    def connect(self) -> None:
        with self._in_time():
            HTTPSConnection.connect(self)

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
        except (http.client.HTTPException, ConnectionError) as exc:
            # So far nobody but the proxy was asked; urllib3 would let it pass for the server's answer.
            raise ProxyError("the proxy dug no tunnel", exc) from exc


#: What sending to a peer that is gone ends in. TLS has a word of its own; what the peer said before can still be read,
#: and in TLS 1.3 that is why it does not take our certificate (test_matrix_d).
UNSENT = (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError)
#: A kept connection that ends in one of these before a byte of an answer came was closed by the server meanwhile.
STALE = (http.client.RemoteDisconnected, ConnectionAbortedError, *UNSENT)


def went_stale(error: BaseException) -> bool:
    """Whether an error says that a kept connection had been closed at the other end."""
    return isinstance(error, STALE) or getattr(error, "errno", None) in (errno.EPIPE, errno.ECONNRESET)
