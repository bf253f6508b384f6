"""Is this URL, or this path, fit to be used, and what of it may be shown?  In: text.  Out: text, or a SpecError.

The same rules serve a URL given by hand, a name out of a manifest and a path in a Spec.  Never: the disk, the network.
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from .errors import SpecError

SCHEMES = frozenset({"http", "https", "file"})

#: Longest name and path in bytes that every file system in use takes (Linux: NAME_MAX and PATH_MAX).
NAME_BYTES = 255
PATH_BYTES = 4095

#: A first part of a path that belongs to geofetch: its records, its quarantine.
OURS = ".geofetch"
#: How the name of a part file begins; no finished file may be called so.
PART_PREFIX = ".part-"

MASK = "***"

#: Origins that are remembered.
ORIGINS = 4096

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
#: What nearly all paths look like: parts of ASCII that begin with a letter or digit.  No rule finds fault with them.
_PLAIN_PATH = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._+~=@%-]*)(?:/[A-Za-z0-9][A-Za-z0-9._+~=@%-]*)*")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~=-]*")
_NOTHING_TO_QUOTE = re.compile(r"[A-Za-z0-9/~!$&'()*+,;=:@._-]*")
#: What nearly all URLs look like; what is wrong with one of them is wrong before its path, and the same for all there.
_PLAIN_URL = re.compile(r"(https?://[a-z0-9.-]+(?::[0-9]{1,5})?)(/[!-~]*)")
_SECRET_QUERY = re.compile(
    r"(?i)^x-(amz|goog|oss|cos)-|^(sig|auth|authorization|key|pwd|passwd|hdnts|hdnea|jwt|sas)$"
    r"|token|secret|signature|password|credential|api-?_?key|access-?_?key"
)


def checked_url(url: str) -> str:
    """The URL itself, if a file can be fetched from it; a SpecError that says what is wrong otherwise."""
    checked_origin(url)
    return url


def checked_origin(url: str) -> tuple[str, str, int]:
    """The origin of a URL, if a file can be fetched from it; a SpecError that says what is wrong otherwise."""
    if not isinstance(url, str):
        raise SpecError(f"a source is a URL in text, not {type(url).__name__}")
    plain = _PLAIN_URL.fullmatch(url)
    known = _origin(plain[1]) if plain is not None else None
    if known is None:
        _check(url)
        known = _read_origin(url)
    return known


def _check(url: str) -> None:
    if not url or url != url.strip():
        raise SpecError(f"bad URL {shown(url)!r}: empty, or white space around it")
    if _CONTROL.search(url):
        raise SpecError(f"bad URL {shown(url)!r}: it holds a control character")
    try:
        parts = urlsplit(url)
        _ = parts.port
        host = parts.hostname
    except ValueError as exc:
        # Without its cause: it quotes what it could not read, and that may be userinfo.
        raise SpecError(f"bad URL {shown(url)!r}: {_reason(exc)}") from None
    if parts.scheme not in SCHEMES:
        named = f"unknown scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        raise SpecError(f"bad URL {shown(url)!r}: {named}; use http, https or file")
    if parts.scheme == "file":
        _check_file_url(url, parts)
    elif not host or not _is_host(host):
        raise SpecError(f"bad URL {shown(url)!r}: {'bad' if host else 'no'} host")


def _is_host(host: str) -> bool:
    # RFC 1035, 2.3.4: labels of 1 to 63 bytes, 253 in all; what IDNA makes of other scripts is requests' to judge.
    labels = host.removesuffix(".").split(".")
    return ":" in host or (len(host) <= 253 and all(0 < len(label) < 64 and " " not in label for label in labels))


def _reason(exc: ValueError) -> str:
    # urlsplit quotes the port or host it dislikes, and with them userinfo: "…cast 'secret@host'…".
    return str(exc).split(":")[0].split("'")[0].strip() or "not a URL"


def _check_file_url(url: str, parts: SplitResult) -> None:
    # RFC 8089: an empty host or localhost means this machine; any other one is not ours to reach.
    if parts.netloc not in ("", "localhost"):
        raise SpecError(f"bad URL {shown(url)!r}: file: reaches this machine only, not the host {parts.hostname!r}")
    if not parts.path.startswith("/") or "%00" in parts.path:
        raise SpecError(f"bad URL {shown(url)!r}: file: wants an absolute path, as in file:///srv/a.rpm")


def shown(url: str) -> str:
    """The URL as it may be shown: no userinfo, every query value masked, no fragment."""
    if not _marked(url):
        return url
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return _beheaded(url)
    if not parts.netloc and parts.scheme != "file" and "@" in url:
        return _beheaded(url)
    if not parts.query and "@" not in parts.netloc and not parts.fragment:
        return url
    query = "&".join(f"{pair.partition('=')[0]}={MASK}" if "=" in pair else MASK for pair in parts.query.split("&"))
    return urlunsplit((parts.scheme, _host(parts), parts.path, query if parts.query else "", ""))


def _marked(url: str) -> bool:
    # Without one of these a URL has neither userinfo nor query nor fragment.
    return "?" in url or "#" in url or "@" in url


def _beheaded(text: str) -> str:
    # No URL: what looks like userinfo in it may be anywhere before an "@", and a secret may hold a slash.
    head, separator, rest = re.split(r"[?#]", text, maxsplit=1)[0].partition("://")
    return f"{head}://{rest.rpartition('@')[2]}" if separator else head.rpartition("@")[2]


def kept(url: str, secret_query: bool = False) -> str:
    """The URL as a record may keep it: no userinfo, and no query that carries a signature or a token."""
    parts = urlsplit(url)
    query = "" if secret_query or has_secret_query(url) else parts.query
    return urlunsplit((parts.scheme, _host(parts), parts.path, query, parts.fragment))


def has_secret_query(url: str) -> bool:
    """Whether a name in the query says that its value is a signature, token or key."""
    query = urlsplit(url).query
    return any(_SECRET_QUERY.search(unquote(pair.partition("=")[0])) for pair in query.split("&") if query)


def is_secret_name(name: str) -> bool:
    """Whether the name of a header or of a query's value says that it is a signature, a token, a key, a cookie."""
    return bool(_SECRET_QUERY.search(name) or re.search(r"(?i)auth|cookie|key|sign", name))


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host in lower case and port: what must be the same for a credential to go along (RFC 6454, 4)."""
    plain = _PLAIN_URL.fullmatch(url)
    known = _origin(plain[1]) if plain is not None else None
    return known or _read_origin(url)


@lru_cache(ORIGINS)
def _origin(start: str) -> tuple[str, str, int] | None:
    """The origin of all URLs that begin so; None for what is to be looked at more closely."""
    try:
        _check(f"{start}/")
    except SpecError:
        return None
    return _read_origin(start)


def _read_origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


def name_of(url: str) -> str:
    """The file's name that a URL ends in, percent-decoded once; ``index.html`` where it ends in a slash."""
    last = url.rpartition("/")[2]
    plain = _PLAIN_NAME.fullmatch(last) and _PLAIN_URL.fullmatch(url) and not _marked(url)
    if plain and len(last) <= NAME_BYTES:
        return checked_path(last)
    last = urlsplit(url).path.rpartition("/")[2]
    return checked_path(unquote(last, errors="surrogateescape") or "index.html", f"the name in {shown(url)}")


def checked_path(path: str, what: str = "path") -> str:
    """The relative POSIX path itself, if a file may be stored under it; a SpecError otherwise."""
    if isinstance(path, str) and len(path) <= NAME_BYTES and _PLAIN_PATH.fullmatch(path):
        return path
    problem = _path_problem(path)
    if problem:
        raise SpecError(f"unsafe {what} {path!r}: {problem}")
    return path


def _path_problem(path: str) -> str | None:
    if not isinstance(path, str):
        return f"a path is text, not {type(path).__name__}"
    if not path:
        return "it is empty"
    if path.startswith("/"):
        return "it is absolute; give it relative to the store"
    if _CONTROL.search(path):
        return "it holds a NUL or another control character"
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if size > PATH_BYTES:
        return f"it is longer than {PATH_BYTES} bytes"
    # A backslash is a letter of a name on POSIX, and a separator where the tree may be copied to: '..\\x' is refused.
    if any(part in ("", ".", "..") for part in path.split("/")) or ".." in re.split(r"[/\\]", path):
        return "a part of it is empty, '.' or '..'"
    if re.match(r"[A-Za-z]:[\\/]|\\", path):
        return "it is absolute on Windows"
    return _name_problem(path.split("/"))


def _name_problem(names: list[str]) -> str | None:
    if any(len(name.encode()) > NAME_BYTES for name in names):
        return f"a name in it is longer than {NAME_BYTES} bytes"
    if names[0] == OURS:
        return f"{OURS}/ belongs to geofetch itself"
    if any(name.startswith(PART_PREFIX) for name in names):
        return f"{PART_PREFIX}* are geofetch's part files"
    return None


def joined(folder: str, name: str) -> str:
    """The URL of a file name in a folder's URL: percent-encoded once, so that the name 'a%3a' becomes 'a%253a'."""
    if not _NOTHING_TO_QUOTE.fullmatch(name):
        name = quote(name, safe="/~!$&'()*+,;=:@", errors="surrogateescape")
    return _base(folder) + name


@lru_cache(ORIGINS)
def _base(folder: str) -> str:
    parts = urlsplit(folder)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + "/", "", ""))


def folder_of(url: str) -> str:
    """The folder that a URL's file lies in, as a URL with its slash and without a query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rpartition("/")[0] + "/", "", ""))


def store_name(root: str) -> str:
    """What records call a store that is a folder: its absolute path as a file URL."""
    return "file://" + quote(root, errors="surrogateescape")
