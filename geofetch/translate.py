"""What requests, urllib3, http.client, ssl and the system say, in our words.

In: whatever a request or the reading of its body raised.  Out: the SourceError that it means, its cause kept.  Never:
an error swallowed; a TypeError made into "a bad mirror".
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator
from typing import Any, Protocol

from requests import Response
from requests import exceptions as asked
from urllib3 import exceptions as pooled
from urllib3.util.ssl_match_hostname import CertificateError

from .errors import (
    BadResponse,
    FetchError,
    ProxyFailure,
    SpecError,
    Stalled,
    Truncated,
    Undecodable,
    Unreachable,
    UntrustedTLS,
)
from .names import shown
from .spec import Source

__all__ = ["printable", "translated"]

#: Read from the top: the first row of which anything in the chain of causes is an instance says what it was.
BEFORE_AN_ANSWER: tuple[tuple[tuple[type[BaseException], ...], type[FetchError], str], ...] = (
    ((asked.ProxyError, pooled.ProxyError), ProxyFailure, "the proxy failed"),
    ((ssl.SSLCertVerificationError, CertificateError), UntrustedTLS, "the certificate is not to be trusted"),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), Unreachable, "the connection broke during the TLS handshake"),
    ((pooled.NewConnectionError,), Unreachable, "no connection"),
    ((asked.Timeout, pooled.TimeoutError, TimeoutError), Stalled, "no answer in time"),
    ((ssl.SSLError, pooled.SSLError, asked.SSLError), UntrustedTLS, "no TLS connection"),
    ((http.client.RemoteDisconnected,), Unreachable, "the connection was closed without an answer"),
    ((http.client.HTTPException, asked.InvalidHeader, pooled.InvalidHeader), BadResponse, "no valid HTTP answer"),
    ((asked.InvalidProxyURL, pooled.ProxySchemeUnknown), SpecError, "bad proxy URL"),
    ((asked.InvalidURL, asked.MissingSchema, asked.InvalidSchema, pooled.LocationParseError), SpecError, "bad URL"),
    ((OSError, pooled.HTTPError), Unreachable, "the connection failed"),
)

IN_THE_BODY: tuple[tuple[tuple[type[BaseException], ...], type[FetchError], str], ...] = (
    ((asked.Timeout, pooled.TimeoutError, TimeoutError), Stalled, "the body stopped coming"),
    ((asked.ContentDecodingError, pooled.DecodeError), Undecodable, "the body does not decode"),
    ((ValueError, http.client.LineTooLong), BadResponse, "the body is not framed as its head says"),
    ((http.client.IncompleteRead, OSError, pooled.HTTPError, http.client.HTTPException), Truncated, "the body was cut"),
)


class _Progress(Protocol):
    def so_far(self) -> str: ...


def translated(exc: Exception, source: Source, body: _Progress | None = None) -> Exception:
    """One of ours for a failure, about this source; what is ours already, or a bug of ours, as it is."""
    if isinstance(exc, FetchError):
        if exc.source is None:
            exc.source = source
    elif isinstance(exc, FAILURES) and (body is not None or _is_of_the_network(exc)):
        error = _ours(exc, source, body)
        error.__cause__ = _light(exc)
        return error
    return exc


#: What a request, or the reading of its body, may raise.
FAILURES = (OSError, http.client.HTTPException, pooled.HTTPError, ValueError)


def _is_of_the_network(exc: BaseException) -> bool:
    return not isinstance(exc, ValueError) or isinstance(exc, OSError) or _known(exc)


def _known(exc: BaseException) -> bool:
    # Values that requests and urllib3 let through as plain ValueErrors while they talk to a source.
    return isinstance(exc, UnicodeError | pooled.HTTPError)


def _ours(exc: BaseException, source: Source, body: _Progress | None) -> FetchError:
    chain = list(_chain(exc))
    for kinds, ours, text in BEFORE_AN_ANSWER if body is None else IN_THE_BODY:
        found = next((one for one in chain if isinstance(one, kinds) and not _cut_short(one)), None)
        if found is not None:
            return _built(ours, text, chain, source, body)
    return _built(Unreachable, "the request failed", chain, source, body)


def _cut_short(exc: BaseException) -> bool:
    # http.client says with one ValueError that a chunk's size is no number and that the connection ended where a size
    # was due. The second one is a body that was cut, and the same source may well send it whole (test_walk_faults).
    return isinstance(exc, ValueError) and not isinstance(exc, OSError) and str(exc).endswith("base 16: b''")


def _built(
    ours: type[FetchError], text: str, chain: list[BaseException], source: Source, body: _Progress | None
) -> FetchError:
    reason = _reason(chain)
    more = f" ({body.so_far()})" if body is not None else ""
    errno = next((one.errno for one in chain if isinstance(one, OSError) and one.errno is not None), None)
    error = ours(f"{text}{more}: {reason}" if reason else f"{text}{more}", source=source, errno=errno)
    if ours is ProxyFailure:
        error.response = _proxy_response(reason)
    return error


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception and all it was made from: causes, contexts, and what requests and urllib3 wrap in arguments."""
    seen: set[int] = set()
    left: list[Any] = [exc]
    while left:
        one = left.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]


def _reason(chain: list[BaseException]) -> str:
    """The innermost words that say something; the wrappers around them repeat the URL."""
    for one in reversed(chain):
        if any(isinstance(part, BaseException) for part in (*one.args, getattr(one, "reason", None))):
            continue  # a wrapper: its words are those of what it wraps, and the URL
        words = one.strerror if isinstance(one, OSError) and one.strerror else str(one)
        if words and not isinstance(one, KeyError):
            words = printable(re.sub(r"^.*(object )?at 0x[0-9a-f]+>: |^\w+\(host=[^)]*\): ", "", str(words)))
            words = re.sub(r"(?<![a-z])[a-z]+://[^\s'\"]+", lambda found: shown(found[0]), words)
            return words if len(words) < 300 else words[:300] + "…"
    return ""


def _masked(words: str) -> str:
    """Words of urllib3's, without what the URL in them may hold."""
    return re.sub(r"(with url: )(\S+)", lambda found: found[1] + shown(found[2]), words)


def printable(words: str) -> str:
    """Words of a server as a terminal may see them: without control characters, which could drive it."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in words)


def _proxy_response(reason: str) -> Response | None:
    found = re.search(r"Tunnel connection failed: (\d{3})", reason)
    if found is None:
        return None
    response = Response()
    response.status_code = int(found[1])
    response._content = b""
    response._content_consumed = True
    return response


def _light(exc: BaseException) -> BaseException:
    # A kept traceback keeps its frames, and they keep sockets and bodies for as long as an Outcome lives.
    for one in _chain(exc):
        one.__traceback__ = None
        one.args = tuple(_masked(part) if isinstance(part, str) else part for part in one.args)
        for name in ("request", "_conn", "_pool", "pool"):
            if vars(one).get(name) is not None:
                vars(one)[name] = None
    return exc
