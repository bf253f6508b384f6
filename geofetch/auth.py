"""What auth brings to a request, and what becomes of a challenge that it chokes on.

In: an auth of requests' kind, the hooks of a request.  Out: an auth that notes what it brings; hooks that let such a
challenge stand.  Never: which origin may see it (session.py); what a status means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import gevent.local
from requests import PreparedRequest, Response
from requests.auth import AuthBase, HTTPDigestAuth

__all__ = ["BROUGHT", "NoAuth", "Noted", "patient", "unanswered", "unshared"]

#: Where a PreparedRequest keeps what its profile's auth brought.
BROUGHT = "geofetch_brought"
#: Set on a Response over whose challenge an auth failed: how.
UNANSWERED = "geofetch_unanswered"

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


class _Answers(gevent.local.local):  # type: ignore[misc]
    """What requests' digest auth notes of a challenge, in each greenlet; this is what one has that prepared nothing."""

    last_nonce = ""
    nonce_count = 0
    chal: ClassVar[dict[str, str]] = {}  # it is replaced, never changed
    pos = None
    num_401_calls = 1


def unshared(auth: Any) -> None:
    """See to it that each greenlet answers its own challenges: requests' digest auth counts them by native thread."""
    if isinstance(auth, Noted):
        auth = auth.auth
    if isinstance(auth, HTTPDigestAuth) and not isinstance(auth._thread_local, _Answers):
        auth._thread_local = _Answers()


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
        auth = getattr(self._hook, "__self__", None)
        if isinstance(auth, HTTPDigestAuth):
            auth._thread_local.last_nonce = ""


def unanswered(response: Response) -> Exception | None:
    """How an auth failed over the challenge that a response holds."""
    return getattr(response, UNANSWERED, None)
