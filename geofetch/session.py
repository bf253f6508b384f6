"""``requests.Session`` as it is known, over shared cooperative connections; and requests' functions over it.

In: requests' own arguments, a Profile.  Out: requests' own Responses.  Never: stores, records, retries of its own.

By requests' rules, but for four: a redirect to anything but http(s) raises; what a Profile brings (headers, auth,
client certificate) never crosses an origin; what the session says of trust is stronger than the environment;
``close()`` closes nothing that others share.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urljoin

import requests
import requests.sessions
from requests import PreparedRequest, Request, Response, adapters
from requests.exceptions import InvalidHeader
from requests.utils import DEFAULT_CA_BUNDLE_PATH, check_header_validity

from . import lean
from .auth import BROUGHT, NoAuth, Noted, let_in, unshared
from .errors import RedirectRefused, SpecError
from .names import origin
from .spec import Gate, Profile
from .transport import FOREIGN, Adapter, FileAdapter, OpenGate, closing_on_error, keep
from .unlock import unlocked

__all__ = ["Session", "delete", "get", "head", "options", "patch", "post", "put", "request", "use_gate"]

#: Set on a PreparedRequest whose redirects stream.py follows itself.
OWN_REDIRECTS = "geofetch_own_redirects"

#: requests' own, which name what they only import as well.
sessions: Any = requests.sessions

_gate: Gate = OpenGate()


def use_gate(gate: Gate, most: int) -> None:
    """The gate of every Session made from now on: the top wires the process' limits here.  ``most``: what may rest."""
    global _gate
    _gate = gate
    keep(most)


class Session(requests.Session):
    """A requests.Session whose calls yield to other greenlets, and whose connections are shared.

    ``profile``: who we are and whom we trust (:class:`geofetch.Profile`); its secrets are looked for now, and a
    SpecError says which one cannot be had.  ``max_connections`` and ``per_host`` narrow
    what ``geofetch.configure()`` allows for the process, for this session alone.
    """

    __attrs__ = [  # noqa: RUF012 - requests declares it so
        *requests.Session.__attrs__,
        "profile",
        "caps",
    ]

    _template: lean.Template | None = None

    def __init__(
        self,
        profile: Profile | None = None,
        *,
        max_connections: int | None = None,
        per_host: int | None = None,
        gate: Gate | None = None,
    ) -> None:
        super().__init__()
        if profile is not None and not isinstance(profile, Profile):
            raise SpecError(f"profile is a geofetch.Profile, not {type(profile).__name__}")
        if profile is not None:
            profile = unlocked(profile)
        self.profile = profile
        #: How downloads ask the origins that they have asked before (express.py).
        self.ways: dict[str, Any] = {}
        self.caps = (max_connections, per_host)
        self.gate = self._narrowed(gate or _gate)
        adapter = Adapter(profile, self.gate)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self.mount("file:", FileAdapter())
        self._put_on(profile)

    def _narrowed(self, gate: Gate) -> Gate:
        return gate if self.caps == (None, None) else gate.narrowed(*self.caps)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.ways = {}
        self.gate = self._narrowed(_gate)
        for adapter in self.adapters.values():
            if isinstance(adapter, Adapter):
                adapter.gate = self.gate

    def _put_on(self, profile: Profile | None) -> None:
        if profile is None:
            return
        for header in profile.header_map.items():
            _check_header(*header)
        self.headers.update(profile.header_map)
        if profile.auth is not None:
            self.auth = Noted(profile.auth) if callable(profile.auth) else profile.auth
        elif "Authorization" in self.headers:
            self.auth = NoAuth()
        if profile.proxies is not None:
            self.proxies = profile.proxy_map or {}
        if profile.query is not None:
            self.params = profile.query_map

    def check_allowed(self, url: str) -> None:
        """SpecError where the profile is not for this URL's origin."""
        if self.profile is not None and self.profile.origins is not None:
            asked = origin(url)
            if not self.profile.allows(asked):
                named = f"the profile {self.profile.name!r}" if self.profile.name is not None else "this profile"
                raise SpecError(
                    f"{named} is for {', '.join(self.profile.origins) or 'no origin'} alone, and not for"
                    f" {asked[0]}://{asked[1]}:{asked[2]}; nothing was sent"
                )

    @property
    def calls_nobody(self) -> bool:
        """Whether its requests run nothing but our code and requests': no callable auth, no hook, no adapter of
        somebody's."""
        ours = self.auth is None or type(self.auth) is tuple or self.has_settled_auth
        return ours and self.hooks == lean.NO_HOOKS and _KNOWN.issuperset(map(type, self.adapters.values()))

    @property
    def has_settled_auth(self) -> bool:
        """Whether its auth adds nothing to a request, and keeps netrc from adding something."""
        return type(self.auth) is NoAuth

    def prepare_request(self, request: Request) -> PreparedRequest:
        """requests' own; what session and environment say is not worked out anew for each request."""
        auth: Any = self.auth if request.auth is None else request.auth
        if callable(auth):
            unshared(auth, request.url)
        above, found = super().prepare_request, None
        if lean.is_of(above, REQUESTS):
            self._template = lean.Template.of(self.headers, self._template)
            found = lean.prepared(self, self._template, request)
        return above(request) if found is None else found

    def merge_environment_settings(self, url: str, proxies: Any, stream: Any, verify: Any, cert: Any) -> dict[str, Any]:
        """requests' own, except that the environment counts only where the profile and the session leave it open."""
        told = dict(proxies or {})
        above, settings = super().merge_environment_settings, None
        if lean.is_of(above, REQUESTS):
            settings = lean.settings(self, url, dict(told), stream, verify, cert)
        if settings is None:
            settings = above(url, dict(told), stream, verify, cert)
        profile = self.profile
        if verify is None or verify is True:
            if profile is not None and profile.ca is not None:
                settings["verify"] = True
            elif profile is not None and profile.verify is not None:
                # requests says None where nothing is said: True is a caller who wants proof after all.
                settings["verify"] = True if profile.verify else DEFAULT_CA_BUNDLE_PATH if verify else False
            elif verify is None and self.verify is not True:
                settings["verify"] = self.verify
        if profile is not None and profile.proxies is not None:
            settings["proxies"] = {**self.proxies, **told}
        return settings

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """requests' own; a profile's proxies stay the ones, and an answer that a hook refuses is closed."""
        if self.profile is not None and self.profile.proxies is not None:
            # Left out, requests would put the environment's before "all", which is how a profile names them.
            kwargs.setdefault("proxies", self.proxies)
        if not getattr(request, FOREIGN, False):
            self.check_allowed(request.url or "")
        with closing_on_error():
            above = super().send
            adapter = self._own_way(above, request)
            found = above(request, **kwargs) if adapter is None else self._sent(adapter, request, kwargs)
            let_in(request.hooks, found)
            return found

    def _own_way(self, above: Any, request: Any) -> Adapter | None:
        """Our adapter, where nobody between here and the connection wants to see the request pass."""
        if not (
            lean.is_of(above, REQUESTS)
            and lean.is_of(super().resolve_redirects, REQUESTS)
            and lean.is_of(super().get_redirect_target, REQUESTS)
            and lean.is_of(self.get_adapter, REQUESTS)
            and lean.is_of(self.resolve_redirects, OURS)
            and lean.is_of(self.get_redirect_target, OURS)
            and lean.is_of(adapters.HTTPAdapter.send, ADAPTERS)
            and type(request) is PreparedRequest
        ):
            return None
        adapter = self.get_adapter(request.url or "")
        return adapter if type(adapter) is Adapter and lean.is_of(adapter.send, OUR_ADAPTER) else None

    def _sent(self, adapter: Adapter, request: PreparedRequest, kwargs: dict[str, Any]) -> Response:
        """What requests' send does, less what an answer without cookies and redirects has no use for."""
        kwargs.setdefault("stream", self.stream)
        kwargs.setdefault("verify", self.verify)
        kwargs.setdefault("cert", self.cert)
        if "proxies" not in kwargs:
            kwargs["proxies"] = lean.proxies_for(request, self.proxies, self.trust_env)
        follow = kwargs.pop("allow_redirects", True)
        hooks = request.hooks
        began = sessions.preferred_clock()
        found = adapter.send(request, **kwargs)
        found.elapsed = timedelta(seconds=sessions.preferred_clock() - began)
        plain = hooks == lean.NO_HOOKS and lean.no_cookies_in(found.raw, self.cookies)
        found = sessions.dispatch_hook("response", hooks, found, **kwargs)
        if not plain:
            for earlier in found.history or ():
                sessions.extract_cookies_to_jar(self.cookies, earlier.request, earlier.raw)
            sessions.extract_cookies_to_jar(self.cookies, request, found.raw)
        if found.is_redirect:
            found = self._moved(found, request, follow, kwargs)
        if not kwargs["stream"]:
            found.content  # noqa: B018 - it is read here, so that the connection is free
        return found

    def _moved(self, found: Response, request: PreparedRequest, follow: bool, kwargs: dict[str, Any]) -> Response:
        """The end of a chain of redirects, or this one, which knows the next."""
        if not follow:
            for following in self.resolve_redirects(found, request, yield_requests=True, **kwargs):
                found._next = following
                break
            return found
        history = [found, *self.resolve_redirects(found, request, **kwargs)]
        found = history.pop()
        if history:
            found.history = history
        return found

    def rebuild_proxies(self, prepared_request: PreparedRequest, proxies: dict[str, str] | None) -> dict[str, str]:
        """requests' own; where the profile says which, the environment adds none on the way."""
        headers = prepared_request.headers
        if self.profile is not None and self.profile.proxies is not None:
            headers.pop("Proxy-Authorization", None)
            return dict(proxies or {})
        above = super().rebuild_proxies
        if lean.is_of(above, REQUESTS):
            found = lean.proxies_for(prepared_request, proxies, self.trust_env)
            if not found:
                # Without a proxy there is nobody to be told who we are.
                headers.pop("Proxy-Authorization", None)
                return found
        return above(prepared_request, proxies)

    def get_redirect_target(self, resp: Response) -> str | None:
        """Where a response redirects to; RedirectRefused where that is not http or https."""
        try:
            target = super().get_redirect_target(resp)
        except UnicodeError:
            # Bytes that are no UTF-8: what headers are read as, Latin-1, is what a download takes too.
            target = resp.headers["location"]
        if target is None:
            return None
        try:
            scheme = origin(urljoin(resp.url, target))[0]
        except ValueError:
            # Without its cause: it quotes what it could not read, and that may be userinfo.
            resp.close()
            raise RedirectRefused("redirected to what is no URL") from None
        if scheme not in ("http", "https"):
            resp.close()
            raise RedirectRefused(f"redirected to a URL of {scheme!r}: only http and https are followed")
        return target

    def resolve_redirects(self, resp: Response, req: PreparedRequest, **kwargs: Any) -> Any:  # type: ignore[override]
        """requests' own; nothing for a download, which reads no body of a redirect (requests would, without bound)."""
        if getattr(req, OWN_REDIRECTS, False):
            return
        try:
            yield from super().resolve_redirects(resp, req, **kwargs)
        except RedirectRefused:
            # Not followed, only looked at for Response.next: there is none.
            if not kwargs.get("yield_requests"):
                raise

    def rebuild_auth(self, prepared_request: PreparedRequest, response: Response) -> None:
        """requests' own; what the profile brought stays with the origin that it was made for."""
        before = response.request
        crossing = origin(before.url or "") != origin(prepared_request.url or "")
        if self.profile is None or not (crossing or getattr(before, FOREIGN, False)):
            # requests lets netrc replace what was said; here it counts where nothing was.
            if self.profile is None or self.auth is None:
                super().rebuild_auth(prepared_request, response)
            return
        setattr(prepared_request, FOREIGN, True)
        hooks: dict[str, Any] = prepared_request.hooks
        names, brought = hooks.get(BROUGHT, ((), ()))
        for name in (*self.profile.header_map, *names, "Authorization"):
            prepared_request.headers.pop(name, None)
        # A new mapping: the old one is the first request's as well.
        prepared_request.hooks = {"response": [hook for hook in hooks["response"] if hook not in brought]}

    def bare(self) -> Session:
        """A session for another origin: the same trust and the same way through proxies, nothing of who we are."""
        profile = self.profile or Profile()
        trust = Profile(
            proxies=profile.proxies,
            ca=profile.ca,
            verify=profile.verify,
            min_tls=profile.min_tls,
            ciphers=profile.ciphers,
            fingerprint=profile.fingerprint,
        )
        found = self._alike(trust)
        found.auth = NoAuth()
        found.verify = self.verify
        if profile.proxies is None:
            found.proxies = dict(self.proxies)
        found.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        return found

    def with_profile(self, profile: Profile) -> Session:
        """A session for a source with a profile of its own; of this one nothing goes along but caps and trust_env."""
        return self._alike(profile)

    def _alike(self, profile: Profile) -> Session:
        found = Session(profile, gate=self.gate)
        found.trust_env = self.trust_env
        found.max_redirects = self.max_redirects
        return found


#: Where methods are written that may be passed by.
REQUESTS, ADAPTERS, OURS = vars(sessions), vars(adapters), globals()
OUR_ADAPTER = vars(sys.modules[Adapter.__module__])
#: Adapters that run nobody else's code; a class derived from them may.
_KNOWN = frozenset({Adapter, FileAdapter})


def _check_header(name: str, value: str) -> None:
    try:
        check_header_validity((name, value))
        value.encode("latin-1")
    except (InvalidHeader, UnicodeError):
        # Without its cause: it quotes the value, which may be a secret.
        raise SpecError(f"header {name!r} of the profile: HTTP allows no such name or value") from None


def request(method: str, url: str, **kwargs: Any) -> Response:
    """``requests.request``: the same arguments, the same Response, over the shared connections; it yields while it
    waits.

    A new Session (its own cookies) each time, so nothing is remembered but connections and names.
    """
    with Session() as session:
        return session.request(method=method, url=url, **kwargs)


def get(url: str, params: Any = None, **kwargs: Any) -> Response:
    """``requests.get``; see :func:`request`."""
    return request("get", url, params=params, **kwargs)


def options(url: str, **kwargs: Any) -> Response:
    """``requests.options``; see :func:`request`."""
    return request("options", url, **kwargs)


def head(url: str, **kwargs: Any) -> Response:
    """``requests.head``; see :func:`request`."""
    kwargs.setdefault("allow_redirects", False)
    return request("head", url, **kwargs)


def post(url: str, data: Any = None, json: Any = None, **kwargs: Any) -> Response:
    """``requests.post``; see :func:`request`."""
    return request("post", url, data=data, json=json, **kwargs)


def put(url: str, data: Any = None, **kwargs: Any) -> Response:
    """``requests.put``; see :func:`request`."""
    return request("put", url, data=data, **kwargs)


def patch(url: str, data: Any = None, **kwargs: Any) -> Response:
    """``requests.patch``, the HTTP verb; see :func:`request`.  (To patch requests: ``geofetch.patch_requests``.)"""
    return request("patch", url, data=data, **kwargs)


def delete(url: str, **kwargs: Any) -> Response:
    """``requests.delete``; see :func:`request`."""
    return request("delete", url, **kwargs)
