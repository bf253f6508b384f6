"""What can go wrong, as a tree that is also requests' own tree.

    FetchError (requests.RequestException)
      SpecError (+ ValueError)                            what was asked for cannot be: refused before any I/O
      SourceError                                         this source failed; another may do
        Unreachable (+ ConnectionError)                   no connection, or it broke before an answer
        UntrustedTLS (+ SSLError)                         who answers is not who was meant
        Stalled (+ Timeout, ConnectionError)              too slow: connecting, answering or sending
        Truncated (+ ChunkedEncodingError)                the body ended before its end
        Undecodable (+ ContentDecodingError)              the body was encoded in a way that was not asked for
        BadResponse (+ ConnectionError)                   an answer that is no valid HTTP, or not to this question
        RedirectLoop (+ TooManyRedirects)                 more hops than allowed
        RedirectRefused (+ InvalidURL)                    a hop to where a download does not go
        ProxyFailure (+ ProxyError)                       the proxy said no, or nothing
        BadStatus (+ HTTPError)                           an error status
          Unauthorized                                    401, 403
          NotFound                                        404, 410
          RateLimited                                     429, 503 with Retry-After
        IntegrityError                                    the bytes are not the ones that were wanted
          SizeMismatch                                    fewer or other than the size that was told
            TooLarge                                      more than the size that was told
          DigestMismatch                                  the right number of wrong bytes
    StoreError                                          the file could not be put, read or replaced; .errno kept
    RecordError                                         the record could not be written or read
    SourcesExhausted                                    every (source, error), in order; the last one is its cause
    Cancelled                                           someone asked for it
    DeadlineExceeded (+ Timeout)                        the time that was given is over

(StoreError and those below it stand under FetchError as well.)  Comes in: words, and what they are about.  Goes out: an
exception that pickles, copies and names source and reason.  Never: a secret in a message, a socket kept alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from requests import exceptions as requests_errors

if TYPE_CHECKING:
    from requests import Response

    from .spec import Source, Spec

__all__ = [
    "BadResponse",
    "BadStatus",
    "Cancelled",
    "DeadlineExceeded",
    "DigestMismatch",
    "FetchError",
    "IntegrityError",
    "NotFound",
    "ProxyFailure",
    "RateLimited",
    "RecordError",
    "RedirectLoop",
    "RedirectRefused",
    "SizeMismatch",
    "SourceError",
    "SourcesExhausted",
    "SpecError",
    "Stalled",
    "StoreError",
    "TooLarge",
    "Truncated",
    "Unauthorized",
    "Undecodable",
    "Unreachable",
    "UntrustedTLS",
]


class FetchError(requests_errors.RequestException):
    """Something that geofetch was asked to fetch, and could not.

    ``source`` says which of the places failed (None where no single one did), ``spec`` what was wanted, ``attempts``
    the tries that were made (see :class:`geofetch.Attempt`), ``response`` the answer, closed and with at most 64 KiB of
    its body.  ``errno`` holds the system's number where the system refused.
    """

    def __init__(
        self,
        message: str = "",
        *,
        spec: Spec | None = None,
        source: Source | None = None,
        response: Response | None = None,
        errno: int | None = None,
    ) -> None:
        super().__init__(message, response=response)
        self.message = message
        self.spec = spec
        self.source = source
        self.attempts: Sequence[Any] = ()
        self.outcomes: Sequence[Any] = ()
        if errno is not None:
            self.errno = errno

    @property
    def url(self) -> str | None:
        """The URL that failed, fit to be shown: without userinfo, its query values masked."""
        source = self.source or (self.spec.source if self.spec is not None else None)
        return source.shown if source is not None else None

    def __str__(self) -> str:
        about = self.url
        if about is None or about in self.message:
            return self.message
        return f"{about}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    # OSError's own __reduce__ keeps args alone: source, spec and errno would be lost between processes.
    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.message, self.errno), self.__dict__.copy()


def _rebuilt(kind: type[FetchError], message: str, errno: int | None) -> FetchError:
    return kind(message, errno=errno)


class SpecError(FetchError, ValueError):
    """What was asked for cannot be: said before any I/O."""


class SourceError(FetchError):
    """This source failed; another one may do."""


class Unreachable(SourceError, requests_errors.ConnectionError):
    """No connection to the source, or it broke before an answer came."""


class UntrustedTLS(SourceError, requests_errors.SSLError):
    """TLS failed: who answers cannot be shown to be who was meant."""


class Stalled(SourceError, requests_errors.Timeout, requests_errors.ConnectionError):
    """Too slow: in connecting, in answering, or in sending the body."""


class Truncated(SourceError, requests_errors.ChunkedEncodingError):
    """The body ended before its end."""


class Undecodable(SourceError, requests_errors.ContentDecodingError):
    """The body came encoded although none was asked for, or does not decode."""


class BadResponse(SourceError, requests_errors.ConnectionError):
    """The answer is no valid HTTP, or not one to the question that was asked."""


class RedirectLoop(SourceError, requests_errors.TooManyRedirects):
    """More redirects than a download follows."""


class RedirectRefused(SourceError, requests_errors.InvalidURL):
    """A redirect to a place where a download does not go."""


class ProxyFailure(SourceError, requests_errors.ProxyError):
    """The proxy refused, or did not answer."""


class BadStatus(SourceError, requests_errors.HTTPError):
    """The source answered with a status that is no success; ``status`` and ``retry_after_s`` tell more."""

    @property
    def status(self) -> int | None:
        return None if self.response is None else self.response.status_code

    #: Seconds that the source asked to be left alone, by Retry-After (RFC 9110, 10.2.3); None: not told.
    retry_after_s: float | None = None


class Unauthorized(BadStatus):
    """401 or 403: the source wants other credentials."""


class NotFound(BadStatus):
    """404 or 410: the source does not have it."""


class RateLimited(BadStatus):
    """429, or 503 with a Retry-After: the source wants to be asked later."""


class IntegrityError(SourceError):
    """The bytes that came are not the ones that were wanted."""


class SizeMismatch(IntegrityError):
    """Another number of bytes than was told."""


class TooLarge(SizeMismatch):
    """More bytes than were told; the rest was not read."""


class DigestMismatch(IntegrityError):
    """The bytes do not have the digest that was told."""


class StoreError(FetchError):
    """The store could not put, read or replace a file; ``errno`` is the system's."""


class RecordError(FetchError):
    """The record of a unit could not be written or read."""


class SourcesExhausted(FetchError):
    """Every source failed; ``errors`` holds each (source, error) in the order they were tried."""

    errors: Sequence[tuple[Source | None, BaseException]] = ()


class Cancelled(FetchError):
    """Someone asked for it: a cancel, a signal, the end of a pool."""


class DeadlineExceeded(FetchError, requests_errors.Timeout):
    """The time that was given for it is over."""
