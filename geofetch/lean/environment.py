"""What the environment says of a request: proxies, the CA bundle, auth from netrc.

In: ``os.environ``, URLs, netrc files.  Out: what requests' own functions say of them.  Never: a value that changed
since; every call compares, and only what is still the same is not worked out again.
"""

from __future__ import annotations

import netrc
import os
import re
import stat
import time
import urllib.request
from collections import OrderedDict
from typing import Any
from urllib.parse import urlparse

import requests.sessions
import requests.utils

from .seams import Seams

__all__ = ["Environment", "environment", "netrc_auth", "proxies_for", "settings"]

#: Origins whose proxies are remembered.
ORIGINS = 4096
#: Seconds for which a netrc file must have been left alone before it is remembered: two edits within one tick of the
#: file system's clock look alike.
SETTLED_S = 2.0

#: requests' own, which name what they only import as well.
sessions: Any = requests.sessions
utils: Any = requests.utils
system: Any = urllib.request

_PROXIES = Seams(
    (sessions, "merge_setting get_environ_proxies resolve_proxies"),
    (utils, "get_environ_proxies should_bypass_proxies resolve_proxies getproxies proxy_bypass"),
    (system, "getproxies_environment proxy_bypass_environment"),
)
_NETRC = Seams((sessions, "get_netrc_auth"), (utils, "get_netrc_auth urlparse"), (netrc, "netrc"))

#: Whether the environment alone says which proxies there are: elsewhere the system's settings do as well.
ALONE = (utils.getproxies, utils.proxy_bypass) == (system.getproxies_environment, system.proxy_bypass_environment)

#: Whether a file can be looked for as who opens it.
EFFECTIVE = os.access in os.supports_effective_ids

#: Where a URL's host and port end.
_START = re.compile(r"https?://(?:[A-Za-z0-9.\-_]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?(?=/)")


class Environment:
    """``os.environ`` between two changes, and what requests reads from it."""

    def __init__(self, raw: dict[Any, Any]) -> None:
        self._raw = raw.copy()
        self._proxies: dict[str, dict[str, str]] = {}
        self.bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
        told = os.environ.get("NETRC")
        names = (told,) if told is not None else tuple(f"~/{name}" for name in utils.NETRC_FILES)
        self.netrc_files = tuple(map(os.path.expanduser, names))
        #: Whether the environment says where home is; else the system's users do, and those change unseen.
        self.knows_home = "HOME" in os.environ

    def is_still(self, raw: dict[Any, Any]) -> bool:
        # All of it: the values are mostly the same objects, so this costs 1 µs for 60 names, and a proxy's may be any.
        return self._raw == raw

    def proxies(self, url: str) -> dict[str, str]:
        """requests' get_environ_proxies, which looks at nothing of a URL but its host and port."""
        start = _START.match(url)
        if start is None:
            return dict(utils.get_environ_proxies(url))
        found = self._proxies.get(start[0])
        if found is None:
            found = dict(utils.get_environ_proxies(url))
            if environment() is self:  # another native thread may have changed it meanwhile
                if len(self._proxies) >= ORIGINS:
                    self._proxies.clear()
                self._proxies[start[0]] = found
        return found


_now: Environment | None = None


def environment() -> Environment | None:
    """The environment of this moment; None where it cannot be compared."""
    global _now
    raw = getattr(os.environ, "_data", None)
    if type(raw) is not dict:
        return None
    found = _now
    if found is None or not found.is_still(raw):
        found = _now = Environment(raw)
    return found


def settings(
    session: Any, url: Any, proxies: dict[str, str], stream: Any, verify: Any, cert: Any
) -> dict[str, Any] | None:
    """requests' merge_environment_settings; None where it must be asked itself.  ``proxies`` are added to."""
    if not (ALONE and _PROXIES.untouched()):
        return None
    if session.trust_env:
        around = environment()
        if around is None or type(url) is not str or "no_proxy" in proxies:
            return None
        for scheme, proxy in around.proxies(url).items():
            proxies.setdefault(scheme, proxy)
        if verify is True or verify is None:
            verify = around.bundle or verify
    merge = sessions.merge_setting
    none = not proxies and type(session.proxies) is dict and not session.proxies
    return {
        "proxies": OrderedDict() if none else merge(proxies, session.proxies),
        "stream": merge(stream, session.stream),
        "verify": merge(verify, session.verify),
        "cert": merge(cert, session.cert),
    }


def proxies_for(request: Any, proxies: Any, trust_env: bool) -> dict[str, str]:
    """requests' resolve_proxies: those that were told, and the environment's where none was for this URL."""
    url = request.url
    around = environment() if trust_env and ALONE and _PROXIES.untouched() else None
    if around is None or type(url) is not str or not _START.match(url) or (proxies and "no_proxy" in proxies):
        return sessions.resolve_proxies(request, proxies, trust_env)  # type: ignore[no-any-return]
    found: dict[str, str] = {} if proxies is None else proxies.copy()
    scheme, there = url.partition(":")[0], around.proxies(url)
    proxy = there.get(scheme, there.get("all"))
    if proxy:
        found.setdefault(scheme, proxy)
    return found


# --------------------------------------------------------------------------------------------------------------- netrc

#: The state in which a file was read, and what it said; None for nothing that can be read.
_netrc: dict[str, tuple[tuple[int, ...], netrc.netrc | None]] = {}


def _there(file: str) -> bool:
    # Mostly there is none; a stat that fails costs twice as much.
    return os.access(file, os.F_OK, effective_ids=True) if EFFECTIVE else os.path.exists(file)


def netrc_auth(url: Any) -> tuple[str, str] | None:
    """requests' get_netrc_auth, except that a file is read again only when it changed."""
    around = environment() if _NETRC.untouched() else None
    if around is None or not around.knows_home or type(url) is not str:
        return _asked(url)
    for file in around.netrc_files:
        if not _there(file):
            continue
        try:
            found = os.stat(file)
        except OSError:
            continue
        if not stat.S_ISREG(found.st_mode):
            return _asked(url)
        host = urlparse(url).hostname
        return None if host is None else _login(_said(file, _state(found)), host)
    return None


def _asked(url: Any) -> tuple[str, str] | None:
    found: tuple[str, str] | None = sessions.get_netrc_auth(url)
    return found


def _login(said: netrc.netrc | None, host: str) -> tuple[str, str] | None:
    told = None if said is None else said.authenticators(host)
    if not told or not any(told):
        return None
    # As requests has it, the account stands in for a login that is missing.
    return (told[0] if told[0] else told[1]) or "", told[2] or ""


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _said(file: str, state: tuple[int, ...]) -> netrc.netrc | None:
    known = _netrc.get(file)
    if known is not None and known[0] == state:
        return known[1]
    settled = time.clock_gettime(time.CLOCK_REALTIME) - max(state[-2:]) / 1e9 > SETTLED_S
    try:
        said = netrc.netrc(file)
    except netrc.NetrcParseError:
        said = None
    except OSError:
        return None
    if settled and _still(file, state):
        _netrc.clear()
        _netrc[file] = state, said
    return said


def _still(file: str, state: tuple[int, ...]) -> bool:
    try:
        return _state(os.stat(file)) == state
    except OSError:
        return False
