"""A Request and its session made into the PreparedRequest that requests makes of them.

In: a requests.Session, a Request.  Out: a PreparedRequest.  Never: a part whose shortcut is not sure; each of them goes
requests' way by itself then.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import lru_cache
from http.cookiejar import CookieJar
from typing import Any

import requests.sessions
from requests import PreparedRequest, Request, cookies, models
from requests.cookies import RequestsCookieJar
from requests.exceptions import RequestException
from requests.structures import CaseInsensitiveDict

from .environment import netrc_auth
from .headers import Template
from .seams import Seams

__all__ = ["no_cookies_in", "prepared"]

#: Origins whose writing is remembered.
ORIGINS = 4096

#: requests' own, which name what they only import as well.
sessions: Any = requests.sessions

_PREPARING = Seams(
    (models.PreparedRequest, "prepare prepare_url prepare_cookies prepare_body prepare_auth prepare_hooks"),
    (models, "parse_url requote_uri get_cookie_header get_auth_from_url cookiejar_from_dict"),
    (sessions, "PreparedRequest RequestsCookieJar merge_setting merge_cookies merge_hooks cookiejar_from_dict"),
)
_STORING = Seams((sessions, "extract_cookies_to_jar"), (RequestsCookieJar, "extract_cookies make_cookies"))

#: Hooks, of a session or a request, that hold none.
NO_HOOKS: dict[str, list[Any]] = {"response": []}


def prepared(session: Any, template: Template | None, request: Request) -> PreparedRequest | None:
    """requests' prepare_request; None where it must be asked itself.

    In requests' order, first all that is merged, then each part: what is wrong in two places fails as it does there.
    """
    if not _PREPARING.untouched():
        return None
    found = PreparedRequest()
    url, said, auth = request.url, request.headers, request.auth
    jar = _jar(session.cookies, request.cookies)
    if session.trust_env and not auth and not session.auth:
        auth = netrc_auth(url)
    method = request.method.upper()  # type: ignore[union-attr]
    merge = sessions.merge_setting
    headers = None if template is None else template.headers(said)
    merged = None if headers is not None else merge(said, session.headers, dict_class=CaseInsensitiveDict)
    params = None if _empty(request.params) and _empty(session.params) else merge(request.params, session.params)
    auth = merge(auth, session.auth)
    hooks = sessions.merge_hooks(request.hooks, session.hooks)
    found.prepare_method(method)
    plain = _set_url(found, url, params)
    if headers is None:
        found.prepare_headers(merged)
    else:
        found.headers = headers
    if jar is None and plain:
        found._cookies = RequestsCookieJar()
    else:  # also without a cookie: looking for those that fit, requests parses the URL, and may refuse it
        found.prepare_cookies(RequestsCookieJar() if jar is None else jar)
    _set_body(found, request)
    if auth is not None or not plain:
        found.prepare_auth(auth, url)  # type: ignore[arg-type]
    if hooks != NO_HOOKS:
        found.prepare_hooks(hooks)
    return found


def _empty(params: Any) -> bool:
    return type(params) is dict and not params


def _jar(own: Any, given: Any) -> CookieJar | None:
    """The cookies that may go along, in a jar of their own; None where there are none."""
    if not given and type(own) is RequestsCookieJar and not own._cookies:  # type: ignore[attr-defined]
        return None
    given = given or {}
    if not isinstance(given, CookieJar):
        given = cookies.cookiejar_from_dict(given)
    merge = sessions.merge_cookies
    found: CookieJar = merge(merge(RequestsCookieJar(), own), given)
    return found


def _set_body(found: PreparedRequest, request: Request) -> None:
    data: Any = request.data
    if (type(data) is dict or type(data) is list) and not data and not request.files and request.json is None:
        found.prepare_content_length(None)
    else:
        found.prepare_body(data, request.files, request.json)


# ------------------------------------------------------------------------------------------------------------- the URL

_SAFE = r"A-Za-z0-9\-._~!$&'()*+,;=:@/"
#: A percent sign that stays: in capitals, and for what may not stand there itself.
_ESCAPE = r"%(?:[0189A-F][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[B-DF])"
#: Split where urllib3 and requests split it, and with nothing in it that either of them would write in another way.
_WRITTEN = re.compile(
    r"(https?://[A-Za-z0-9.\-_:\[\]]++)"
    rf"(/(?:[{_SAFE}]++|{_ESCAPE})*+(?:\?(?:[{_SAFE}?]++|{_ESCAPE})++)?)"
)
#: Segments that say where to go rather than where it is.
_DOTS = re.compile(r"/\.\.?(?:[/?]|\Z)")


def _set_url(found: PreparedRequest, url: Any, params: Any) -> bool:
    """Whether the URL could be taken as it stands; there is no userinfo in it then."""
    if type(url) is str and (params is None or type(params) in (dict, OrderedDict)) and _plain(url) is not None:
        # requests parses the URL before it looks at the params; in a plain one it finds nothing to complain about.
        query = "" if params is None else found._encode_params(params)
        plain = _plain(f"{url}{'&' if '?' in url else '?'}{query}" if query else url)
        if plain is not None:
            found.url = plain
            return True
        params = query  # what it was made of may have been an iterator
    found.prepare_url(url, params)
    return False


def written(url: str) -> tuple[str, str] | None:
    """Scheme, host and port as requests writes them, and the rest; None where it may write that otherwise."""
    found = _WRITTEN.fullmatch(url)
    if found is None or ("/." in url and _DOTS.search(url)):
        return None
    start = _start(found[1])
    return None if start is None else (start, found[2])


def _plain(url: str) -> str | None:
    """The URL as requests writes it, if it changes nothing after the port; None where it may."""
    found = written(url)
    return None if found is None else found[0] + found[1]


@lru_cache(ORIGINS)
def _start(start: str) -> str | None:
    """Scheme, host and port as requests writes them; None where it refuses them."""
    request = PreparedRequest()
    try:
        request.prepare_url(f"{start}/", None)
    except (RequestException, ValueError):
        return None
    url = request.url or ""
    return url[:-1] if _WRITTEN.fullmatch(url) else None


# ------------------------------------------------------------------------------------------------------------- cookies


def no_cookies_in(raw: Any, jar: Any) -> bool:
    """Whether requests would find nothing for this jar in an answer of our own transport's."""
    headers = getattr(raw, "headers", None)
    return (
        type(jar) is RequestsCookieJar
        and headers is not None
        and not ("set-cookie" in headers or "set-cookie2" in headers)
        and _STORING.untouched()
    )
