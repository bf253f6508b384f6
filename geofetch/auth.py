"""What auth brings to a request, which challenge a digest auth begins with, and what becomes of one that it chokes on.

In: an auth of requests' kind, the hooks of a request.  Out: an auth that notes what it brings; hooks that let such a
challenge stand.  Never: which origin may see it (session.py); what a status means to a download.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import gevent.local
from requests import PreparedRequest, Response
from requests.auth import AuthBase, HTTPDigestAuth

__all__ = ["BROUGHT", "NoAuth", "Noted", "let_in", "patient", "unanswered", "unshared"]

#: Where a PreparedRequest keeps what its profile's auth brought.
BROUGHT = "geofetch_brought"
#: Set on a Response over whose challenge an auth failed: how.
UNANSWERED = "geofetch_unanswered"
#: Nonces of one auth whose uses are counted on; of those that were not used for longest nobody knows any more.
NONCES = 256
#: Origins whose challenges one auth remembers.
ORIGINS = 1024

Hook = Callable[..., Any]


class NoAuth(AuthBase):
    """Auth that is settled: it adds nothing, and keeps netrc from adding something."""

    def __call__(self, prepared: PreparedRequest) -> PreparedRequest:
        return prepared


class Noted(AuthBase):
    """A profile's auth, which notes what it brings: headers of its own, hooks that answer a challenge.

    The note lies among the request's hooks, since copies of a request share those and nothing else.
    """

    def __init__(self, auth: Any) -> None:
        self.auth = auth

    def __call__(self, prepared: PreparedRequest) -> PreparedRequest:
        headers, before = dict(prepared.headers), list(prepared.hooks["response"])
        given: PreparedRequest = self.auth(prepared)
        hooks: dict[str, Any] = given.hooks
        names = [name for name, value in given.headers.items() if headers.get(name) != value]
        hooks[BROUGHT] = names, [hook for hook in _each(hooks) if hook not in before]
        return given


def unshared(auth: Any, url: Any = None) -> None:
    """See to it that this greenlet answers its own challenges, and begins with the one of this URL's origin that was
    answered last.

    requests' digest auth knows challenges, and counts them, by native thread.
    """
    if isinstance(auth, Noted):
        auth = auth.auth
    if isinstance(auth, HTTPDigestAuth):
        if not isinstance(auth._thread_local, _Answers):
            auth._thread_local = _Answers(_Everyones())
        if url is not None:
            auth._thread_local.begin(_origin(url))


def let_in(hooks: dict[str, Any], response: Response) -> None:
    """Where this greenlet's answer to a challenge was taken, the others begin with that challenge from now on."""
    for hook in _each(hooks):
        auth = _auth_of(hook)
        if isinstance(auth, HTTPDigestAuth) and isinstance(auth._thread_local, _Answers) and response.status_code < 400:
            auth._thread_local.let_in(_origin(response.request.url))


def _origin(url: Any) -> str:
    """Where a URL leads, for who tells one challenge from another."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
    except ValueError:  # requests says what is wrong with it
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


class _Everyones:
    """What the greenlets of one digest auth share."""

    __slots__ = ("taken", "uses")

    def __init__(self) -> None:
        #: By origin, the challenge whose answer was taken last; it is replaced, never changed.
        self.taken: dict[str, dict[str, str]] = {}
        #: What counts the uses of a nonce: a server that checks takes each number once (RFC 7616, 3.4).
        self.uses = lru_cache(NONCES)(_counter)


def _counter(nonce: str) -> Iterator[int]:
    return count(1)


_NO_CHALLENGE: dict[str, str] = {}


class _Answers(gevent.local.local):  # type: ignore[misc]
    """What requests' digest auth notes of a challenge, in each greenlet.

    A challenge is the others' once its answer was taken, and not as soon as it was sent: theirs might arrive first,
    and a server that wants the uses of a nonce in their order would refuse ours, which requests does not repeat.
    """

    def __init__(self, everyones: _Everyones) -> None:
        """Once in each greenlet, also in one that prepared nothing and is to answer."""
        self.everyones = everyones
        self.init = True  # else requests makes all of these empty
        self.last_nonce = ""
        self.chal = _NO_CHALLENGE
        self.pos = None
        self.num_401_calls = 1
        self.use = 0

    @property
    def nonce_count(self) -> int:
        """Which use of its nonce the last answer was."""
        return self.use

    @nonce_count.setter
    def nonce_count(self, told: int) -> None:
        # Set for each answer, to what it would be if nobody else had used the nonce.
        self.use = next(self.everyones.uses(self.chal.get("nonce", "")))

    def begin(self, origin: str) -> None:
        self.chal = self.everyones.taken.get(origin, _NO_CHALLENGE)
        self.last_nonce = self.chal.get("nonce", "")

    def let_in(self, origin: str) -> None:
        if self.last_nonce and self.last_nonce == self.chal.get("nonce"):
            taken = self.everyones.taken
            if len(taken) >= ORIGINS:
                taken.clear()
            taken[origin] = self.chal


def patient(hooks: dict[str, Any], sessions_own: dict[str, Any] | None) -> dict[str, Any]:
    """A request's hooks; those that an auth brought, not its session, let a challenge stand that they choke on."""
    others = _each(sessions_own or {})
    return {**hooks, "response": [hook if hook in others else _Patient(hook) for hook in _each(hooks)]}


def _each(hooks: dict[str, Any]) -> tuple[Hook, ...]:
    # As requests' dispatch_hook takes them: several, one, or none.
    told = hooks.get("response") or ()
    return (told,) if callable(told) else tuple(told)


class _Patient:
    def __init__(self, hook: Hook) -> None:
        self._hook = hook

    # An auth may take its hook back (deregister_hook), which looks for it by these.
    def __eq__(self, other: object) -> bool:
        return bool(self._hook == (other._hook if isinstance(other, _Patient) else other))

    def __hash__(self) -> int:
        return hash(self._hook)

    def __call__(self, response: Response, **how: Any) -> Any:
        try:
            return self._hook(response, **how)
        except (OSError, UnicodeError):
            raise  # the answer to the challenge could not be sent
        except Exception as exc:
            if not 400 <= response.status_code < 500:
                raise
            setattr(response, UNANSWERED, exc)
            self._forget()
            return None

    def _forget(self) -> None:
        # requests begins the next request with what it noted of the last challenge, and would fail over it once more.
        auth = _auth_of(self)
        if isinstance(auth, HTTPDigestAuth):
            auth._thread_local.last_nonce = ""


def _auth_of(hook: Hook) -> Any:
    return getattr(hook._hook if isinstance(hook, _Patient) else hook, "__self__", None)


def unanswered(response: Response) -> Exception | None:
    """How an auth failed over the challenge that a response holds."""
    return getattr(response, UNANSWERED, None)
