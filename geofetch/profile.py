"""Who we are, and whom we trust: a Profile.

In: TLS, proxies, headers, auth, in any usual writing; secrets as text or by reference.  Out: a frozen value, checked.
Never: I/O of any kind; a secret that is looked for (unlock.py), shown or repeated in an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from .errors import SpecError
from .names import origin
from .secret import Secret, SecretLike

__all__ = ["PROXY_SCHEMES", "Origin", "Profile"]

Origin: TypeAlias = "tuple[str, str, int]"
Part: TypeAlias = "str | bytes | Secret"

#: How a proxy may be spoken to; those of SOCKS need the extra "socks".
PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """How to be let in, and whom to trust.  None leaves a matter to the environment; anything else is final.

    ``headers`` go to the source's origin alone, never to where it redirects.  ``auth`` is requests' own: a pair or a
    callable.  ``proxies`` is one URL for all, or requests' mapping; "" means none.  ``cert`` is a client certificate: a
    path or PEM bytes, or a pair of certificate and key.  ``ca`` is a path (file or folder) or PEM bytes.
    ``verify=False`` trusts anyone.  ``min_tls`` is ``"1.2"`` or ``"1.3"``.  ``fingerprint`` is the SHA-256 of the
    server's certificate in hex.  ``name`` is what records know the profile by: they hold no secret.

    ``token`` is sent as ``Authorization: Bearer``.  ``query`` is added to each URL, as where a token stands in it.
    ``proxy_auth`` is a name and a password for the proxy, as they are: nobody has to quote them.  ``origins`` are the
    only ones that the profile is for: ``"https://mirror.example"``, ``"mirror.example:8443"`` (https),
    ``"https://*.cdn.example"``; None means any.

    A password, a token, a header's or query's value, ``key_password`` and a certificate or key may be a
    :class:`Secret`, which says where it is to be found.
    """

    name: str | None = None
    headers: Mapping[str, SecretLike] | tuple[tuple[str, SecretLike], ...] | None = None
    auth: Any = None
    proxies: str | Mapping[str, str] | tuple[tuple[str, str], ...] | None = None
    cert: Part | tuple[Part, Part] | None = None
    key_password: SecretLike | None = None
    ca: str | bytes | None = None
    verify: bool | None = None
    min_tls: str | None = None
    ciphers: str | None = None
    fingerprint: str | None = None
    token: SecretLike | None = None
    query: Mapping[str, SecretLike] | tuple[tuple[str, SecretLike], ...] | None = None
    proxy_auth: tuple[str, SecretLike] | None = None
    origins: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("headers", _pairs(self.headers, "headers", secret=True))
        put("query", _pairs(self.query, "query", secret=True))
        if self.proxies is not None and not isinstance(self.proxies, str):
            put("proxies", _pairs(self.proxies, "proxies"))
        for key, proxy in (self.proxy_map or {}).items():
            if proxy and key != "no_proxy":
                _check_proxy(proxy)
        for pair in ("auth", "cert", "proxy_auth"):
            if isinstance(getattr(self, pair), list):
                put(pair, tuple(getattr(self, pair)))
        for one in (*(self.cert if isinstance(self.cert, tuple) else (self.cert,)), self.ca):
            if not isinstance(one, str | bytes | Secret | None) and not hasattr(one, "__fspath__"):
                raise SpecError(f"a certificate is a path or PEM bytes, not {type(one).__name__}")
        ca: Any = self.ca
        if hasattr(ca, "__fspath__"):
            put("ca", ca.__fspath__())
        if self.min_tls is not None:
            put("min_tls", _tls_version(self.min_tls))
        if self.fingerprint is not None:
            put("fingerprint", _fingerprint(self.fingerprint))
        if self.origins is not None:
            given = (self.origins,) if isinstance(self.origins, str) else tuple(self.origins)
            put("origins", tuple(map(_allowed, given)))
        _check_together(self)

    @property
    def header_map(self) -> dict[str, Any]:
        return dict(self.headers or ())

    @property
    def query_map(self) -> dict[str, Any]:
        return dict(self.query or ())

    @property
    def proxy_map(self) -> dict[str, str] | None:
        """requests' mapping of proxies; None leaves it to the environment, {} means none."""
        if self.proxies is None:
            return None
        if isinstance(self.proxies, str):
            return {"all": self.proxies} if self.proxies else {}
        return dict(self.proxies)

    @property
    def secrets(self) -> dict[str, Secret]:
        """The references in it, by what they stand for."""
        return {name: value for name, value in _secret_parts(self) if isinstance(value, Secret)}

    def allows(self, origin: Origin) -> bool:
        """Whether the profile is for this origin; nothing of it travels to a file."""
        if self.origins is None or origin[0] == "file":
            return True
        return any(_fits(pattern, origin) for pattern in self.origins)

    def __repr__(self) -> str:
        told = [name for name in self.__slots__ if name != "name" and getattr(self, name) not in (None, ())]
        return f"Profile({self.name!r}, with {', '.join(told) or 'nothing'})"


def _secret_parts(profile: Profile) -> list[tuple[str, Any]]:
    """Everything in a profile that may be a secret, by what it stands for."""
    # A pair of requests', or an auth of its own kind that has a password, as HTTPDigestAuth.
    auth = profile.auth
    password = auth[1] if isinstance(auth, tuple) and len(auth) == 2 else getattr(auth, "password", None)
    cert = profile.cert if isinstance(profile.cert, tuple) else (profile.cert, None)
    return [
        ("password", password),
        ("token", profile.token),
        ("key password", profile.key_password),
        ("proxy password", profile.proxy_auth[1] if profile.proxy_auth is not None else None),
        *((f"header {name}", value) for name, value in profile.header_map.items()),
        *((f"query {name}", value) for name, value in profile.query_map.items()),
        ("certificate", cert[0]),
        ("key", cert[1]),
    ]


def _check_together(profile: Profile) -> None:
    if profile.verify is not None and not isinstance(profile.verify, bool):
        raise SpecError("verify is True or False; give a CA as ca=")
    if profile.verify is False and profile.ca is not None:
        raise SpecError("verify=False and a CA contradict each other; leave one out")
    signed = any(name.lower() == "authorization" for name in profile.header_map)
    if profile.token is not None and (profile.auth is not None or signed):
        raise SpecError("a token is sent as Authorization, and so is what auth or headers say: leave one out")
    for name, value in (("token", profile.token), ("key_password", profile.key_password)):
        if not isinstance(value, str | Secret | None):
            raise SpecError(f"{name} is text or a Secret, not {type(value).__name__}")
    if profile.proxy_auth is not None:
        if len(profile.proxy_auth) != 2 or not isinstance(profile.proxy_auth[1], str | Secret):
            raise SpecError("proxy_auth is a pair: a name, and a password as text or a Secret")
        if not profile.proxies:
            raise SpecError("proxy_auth belongs to a proxy: give proxies as well")


def _check_proxy(url: str) -> None:
    """As requests takes it, which reads ``proxy.example:3128`` as http.  What is wrong is not repeated: it may hold a
    password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        sound = parts.scheme.lower() in PROXY_SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound or re.search(r"[\s\0]", url):
        raise SpecError(f"a proxy is a URL as http://proxy.example:3128; its scheme one of {', '.join(PROXY_SCHEMES)}")


def _pairs(given: Any, what: str, secret: bool = False) -> tuple[tuple[str, Any], ...] | None:
    if given is None:
        return None
    items = tuple(given.items()) if isinstance(given, Mapping) else tuple(given)
    kinds = str | Secret if secret else str
    for item in items:
        if not (isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], kinds)):
            raise SpecError(f"{what} are a mapping from text to text")
        value = item[1] if isinstance(item[1], str) else ""
        if what == "headers" and re.search(r"[\r\n\0]", item[0] + value):
            raise SpecError(f"header {item[0]!r}: a line break or NUL in it")
    return items


def _tls_version(text: str) -> str:
    version = str(text).lower().removeprefix("tls").removeprefix("v")
    if version not in ("1.2", "1.3"):
        raise SpecError(f"min_tls is '1.2' or '1.3', not {text!r}")
    return version


def _fingerprint(text: str) -> str:
    plain = text.lower().removeprefix("sha256:").replace(":", "")
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise SpecError("fingerprint is the SHA-256 of a certificate: 64 hex digits")
    return plain


def _allowed(text: Any) -> str:
    """An origin in one writing, its port told; a host by itself means https."""
    cure = "an origin is as https://mirror.example, mirror.example:8443 (https) or https://*.cdn.example"
    if not isinstance(text, str):
        raise SpecError(f"{cure}; not {type(text).__name__}")
    try:
        url = text if "://" in text else f"https://{text}"
        parts = urlsplit(url)
        scheme, host, port = origin(url)
    except ValueError:
        raise SpecError(cure) from None
    name = host.removeprefix("*.")
    named = bool(name) and "*" not in name and not re.search(r"[\s\0]", text)
    if scheme not in ("http", "https") or not named or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        # Not repeated where it may hold a password.
        raise SpecError(cure if "@" in text else f"{cure}; not {text!r}")
    return f"{scheme}://{f'[{host}]' if ':' in host else host.removesuffix('.')}:{port}"


def _fits(pattern: str, asked: Origin) -> bool:
    scheme, host, port = origin(pattern)
    name = asked[1].lower().removesuffix(".")
    if (scheme, port) != (asked[0], asked[2]):
        return False
    return name.endswith(host[1:]) if host.startswith("*.") else name == host
