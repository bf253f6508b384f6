"""Which filesystem of fsspec's, and where in it.  In: a URL with options, or a filesystem and a root.  Out: a Place.

    ftp://host/srv                    as fsspec knows it
    fsspec+ftp://host:2121/srv        the same, as commands and records say it

A URL's path is percent-encoded, as everywhere; fsspec's own settings (``FSSPEC_FTP_PASSWORD`` and the like, its files)
say what the URL does not.  Never: I/O; a user or a password that is shown, or is part of a name.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from ...errors import SpecError

__all__ = ["Place", "is_elsewhere", "place_of"]

PREFIX = "fsspec+"
_NAMED = re.compile(r"fsspec\+[a-z][a-z0-9.+-]*://", re.IGNORECASE)
#: Options whose values nobody is to see.
_SECRET = re.compile(r"pass|secret|token|key|cred|auth|acct|sas|user", re.IGNORECASE)
#: What asks once and remembers, or shows one filesystem as another: what is said of a file must be its filesystem's.
_AROUND = frozenset(
    {"simplecache", "filecache", "blockcache", "cached", "dir", "reference", "zip", "tar", "libarchive"}
)


def is_elsewhere(text: str) -> bool:
    """Whether this is the URL of a place that fsspec is to reach."""
    return _NAMED.match(text) is not None


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A folder of a filesystem, and how that is made."""

    kind: Any = field(repr=False)
    protocol: str
    root: str
    name: str
    args: tuple[Any, ...] = field(default=(), repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def moves(self) -> bool:
        """Whether it renames files; else a file is to be seen when its upload is complete, as in an object store."""
        from fsspec.spec import AbstractFileSystem

        return any(getattr(self.kind, name, None) is not getattr(AbstractFileSystem, name, None) for name in _MOVES)

    def at(self, key: str) -> str:
        """Its path in the filesystem."""
        return f"{self.root}/{key}"

    def url(self, key: str) -> str:
        """Where it is, fit to be shown."""
        return f"{self.name.rstrip('/')}/{quote(key)}"

    def masked(self, text: str) -> str:
        """What a filesystem said, without what its options tell nobody."""
        for name, value in self.options.items():
            for secret in (value, *value) if isinstance(value, tuple | list) else (value,):
                if isinstance(secret, str) and secret and _SECRET.search(name):
                    text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "…", text)
        return text


_MOVES = ("mv", "mv_file", "_mv", "_mv_file", "move", "rename")


def place_of(where: Any, root: str | None, options: Mapping[str, Any]) -> Place:
    """The place that a URL names, or that a filesystem and a root are; a SpecError if there is none."""
    if importlib.util.find_spec("fsspec") is None:
        raise SpecError("this store needs fsspec: pip install 'geofetch[fsspec]'")
    from fsspec.spec import AbstractFileSystem

    if isinstance(where, AbstractFileSystem):
        if root is None or options:
            raise SpecError("a filesystem has its options, and comes with a root in it: FsspecStore(fs, '/srv')")
        return _place(type(where), where._strip_protocol(root), where.storage_args, where.storage_options)
    if not isinstance(where, str) or root is not None:
        raise SpecError("where? give a URL as in ftp://host/srv, or a filesystem of fsspec's and a root in it")
    return _of_url(where, dict(options))


def _of_url(url: str, options: dict[str, Any]) -> Place:
    try:
        parts: Any = urlsplit(url[len(PREFIX) :] if is_elsewhere(url) else url)
        port = parts.port
    except ValueError:
        raise SpecError("the URL of a filesystem cannot be read: a bad host or port") from None
    if not parts.scheme or "::" in url or parts.query or parts.fragment or port == 0:
        raise SpecError(
            "a filesystem is named as in ftp://host/srv: a protocol of fsspec's and a path, no '::', no query and no "
            "fragment; give anything else as an option"
        )
    from fsspec import get_filesystem_class

    try:
        kind = get_filesystem_class(parts.scheme)
    except (ValueError, ImportError) as exc:  # it says what to install
        raise SpecError(f"fsspec cannot reach {parts.scheme}: URLs here: {exc}") from None
    userinfo, _, host = parts.netloc.rpartition("@")
    user, told, password = userinfo.partition(":")
    if user:
        options.setdefault("username", unquote(user))
    if told:
        options.setdefault("password", unquote(password))
    plain = f"{parts.scheme}://{host}{unquote(parts.path)}"
    return _place(
        kind, kind._strip_protocol(plain), (), {**_settings(kind), **kind._get_kwargs_from_urls(plain), **options}
    )


def _place(kind: Any, root: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> Place:
    from fsspec.spec import AbstractFileSystem

    protocol = kind.protocol if isinstance(kind.protocol, str) else kind.protocol[0]
    inner = any(isinstance(one, AbstractFileSystem) for one in (*args, *options.values()))
    if protocol in _AROUND or inner or options.get("global_store") is False:
        raise SpecError(f"{protocol}: give the filesystem itself: each thread makes one of its own, and asks it anew")
    if getattr(kind, "async_impl", False):
        _refuse_patched(protocol)
    root = root.rstrip("/")
    if any(part in ("", ".", "..") for part in root.lstrip("/").split("/")) and root.strip("/"):
        raise SpecError(f"{root!r} is no root: a part of it is empty, '.' or '..'")
    host, port = options.get("host") or "", options.get("port")
    # The words of infer_storage_options: an IPv6 address loses its brackets there.
    shown = f"[{host}]" if ":" in host else host
    name = f"{PREFIX}{protocol}://{shown}{f':{port}' if port else ''}{quote(root)}"
    return Place(kind, protocol, root, name, tuple(args), dict(options))


def _settings(kind: Any) -> dict[str, Any]:
    """What fsspec's settings say of it: it finds them by itself, but what of them is secret is to be known here."""
    from fsspec.config import conf

    protocols = (kind.protocol,) if isinstance(kind.protocol, str) else kind.protocol
    return {name: value for one in protocols for name, value in conf.get(one, {}).items()}


def _refuse_patched(protocol: str) -> None:
    import _thread

    if _thread.start_new_thread.__module__.startswith("gevent"):
        raise SpecError(
            f"{protocol}: fsspec runs it on asyncio in a thread of its own, and a process that is patched as a whole "
            "has none: leave out patch_all(); patch_requests() does no harm"
        )
