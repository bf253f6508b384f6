"""Pulp 2's content sources, as /etc/pulp/content/sources/conf.d/*.conf holds them: INI, a section a source.

    [mirror]
    enabled: 1
    type: yum
    base_url: https://mirror.example/pub/
    paths: fedora/20/ fedora/21/
    priority: 0
    ssl_ca_cert: /etc/pki/ca.pem
    headers: X-Team=mirrors

A section becomes a content source of its name, its base URL with each of its paths, and a profile of that name, bound
to the origin of the base URL.  ``priority`` is taken as it is: Pulp sorted ascending, whatever its documents said, so 0
is tried first there, here and in RFC 2782.  ``type``, ``expires``, ``max_concurrent`` and ``max_speed`` belong to
Pulp's catalogue and downloader; nothing here has use for them, and it is said that they were left out.

In: files.  Out: profiles and content sources; what was left out, in words.  Never: a connection; a value in an error.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import pipes
from ..errors import SpecError
from ..names import checked_origin
from ..profile import Profile
from ..secret import Secret
from .fields import Where, secret_of
from .sources import ContentSource

__all__ = ["Imported", "read_conf"]

#: What a section may say; the rest is reported as left out.
KEYS = {
    *("enabled", "base_url", "name", "priority", "paths", "headers"),
    *("ssl_ca_cert", "ssl_validation", "ssl_client_cert", "ssl_client_key"),
    *("proxy_url", "proxy_port", "proxy_username", "proxy_password"),
    *("basic_auth_username", "basic_auth_password"),
}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


@dataclass(frozen=True)
class Imported:
    """One section: its content source, its profile (None where it says nothing of one), what was left out."""

    source: ContentSource
    profile: Profile | None
    left_out: tuple[str, ...] = field(default=())


def read_conf(path: str | os.PathLike[str]) -> Iterator[Imported]:
    """Every section of a file, or of all ``*.conf`` files of a folder in the order of their names."""
    place = Path(path)
    files = sorted(place.glob("*.conf")) if place.is_dir() else [place]
    if not files:
        raise SpecError(f"{place} holds no *.conf file")
    for file in files:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(pipes.read(file).decode(), str(file))
        except OSError as exc:
            raise SpecError(f"{file} cannot be read: {exc.strerror}", errno=exc.errno) from exc
        except UnicodeDecodeError:
            raise SpecError(f"{file} is not UTF-8") from None
        except configparser.Error as exc:
            # Without its cause, which quotes the line: it may hold a password.
            raise SpecError(f"{file} is no INI file: {_reason(exc)}") from None
        for name in parser.sections():
            yield _Section(file, name, parser[name]).imported()


def _reason(exc: configparser.Error) -> str:
    line = getattr(exc, "lineno", None) or next((number for number, _ in getattr(exc, "errors", ())), None)
    kinds = {
        "DuplicateSectionError": "a section is there twice",
        "DuplicateOptionError": "a key is there twice in a section",
        "MissingSectionHeaderError": "something stands before the first [section]",
    }
    words = kinds.get(type(exc).__name__, "a line cannot be read")
    return f"{words} (line {line})" if line else words


class _Section:
    def __init__(self, file: Path, name: str, told: Mapping[str, str]) -> None:
        self.name, self.told = name, {key: value.strip() for key, value in told.items() if value.strip()}
        self.where = Where(str(file), name, str(file.parent))
        self.left_out = [f"{key} has no counterpart here" for key in self.told if key not in KEYS]

    def imported(self) -> Imported:
        urls = self._urls()
        profile = self._profile(urls)
        priority, enabled = self._priority(), self._flag("enabled", True)
        asked_by = self.name if profile is not None else None
        try:
            source = ContentSource(self.name, urls, priority=priority, profile=asked_by, enabled=enabled)
        except SpecError as exc:
            raise self.where.wrong("base_url", str(exc)) from exc
        return Imported(source, profile, tuple(self.left_out))

    def _urls(self) -> tuple[str, ...]:
        """The base URL with each of the paths, each with a slash at its end."""
        if "base_url" not in self.told:
            raise self.where.wrong("base_url", "it is missing")
        base = self.told["base_url"].rstrip("/")
        paths = self.told.get("paths", "").split() or [""]
        return tuple(dict.fromkeys(f"{base}/{path.strip('/')}".rstrip("/") + "/" for path in paths))

    def _priority(self) -> int:
        text = self.told.get("priority", "0")
        if not re.fullmatch(r"-?[0-9]{1,9}", text):
            raise self.where.wrong("priority", "a whole number is wanted")
        if int(text) < 0:
            self.left_out.append(f"priority {text} is 0 here, the first there is")
        return max(int(text), 0)

    def _flag(self, key: str, default: bool) -> bool:
        text = self.told.get(key, "").lower()
        if text and text not in _TRUE | _FALSE:
            raise self.where.wrong(key, "true or false is wanted")
        return text in _TRUE if text else default

    def _profile(self, urls: tuple[str, ...]) -> Profile | None:
        told: dict[str, Any] = {
            "verify": None if self._flag("ssl_validation", True) else False,
            "ca": self._path("ssl_ca_cert"),
            "cert": self._cert(),
            "auth": self._pair("basic_auth_username", "basic_auth_password"),
            "headers": dict(self._headers()) or None,
            **self._proxy(),
        }
        if told["verify"] is False and told["ca"] is not None:
            told["ca"] = None
            self.left_out.append("ssl_ca_cert says nothing where ssl_validation is off")
        if all(value is None for value in told.values()):
            return None
        try:
            scheme, host, port = checked_origin(urls[0])
        except SpecError as exc:
            raise self.where.wrong("base_url", str(exc)) from exc
        try:
            bound = None if scheme == "file" else (f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}",)
            return Profile(name=self.name, origins=bound, **told)
        except SpecError as exc:
            raise self.where.wrong(None, str(exc)) from exc

    def _path(self, key: str) -> str | None:
        return self.where.path(self.told[key]) if key in self.told else None

    def _cert(self) -> Any:
        cert, key = self._path("ssl_client_cert"), self._path("ssl_client_key")
        if key is not None and cert is None:
            raise self.where.wrong("ssl_client_key", "ssl_client_cert is missing")
        return (cert, key) if key is not None else cert

    def _pair(self, user: str, password: str) -> tuple[str, str | Secret] | None:
        if user not in self.told and password not in self.told:
            return None
        # Pulp left a name without a password out in silence: who signs in by an empty one says so.
        for key in (user, password):
            if key not in self.told:
                raise self.where.wrong(key, "it is missing, and its other half is there")
        return self.told[user], secret_of(self.told[password], self.where, password)

    def _proxy(self) -> dict[str, Any]:
        url, port = self.told.get("proxy_url"), self.told.get("proxy_port")
        pair = self._pair("proxy_username", "proxy_password")
        if url is None:
            if port is not None or pair is not None:
                raise self.where.wrong("proxy_url", "it is missing, and other proxy_… keys are there")
            return {"proxies": None, "proxy_auth": None}
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            if port is not None and parts.port is None:
                parts = parts._replace(netloc=f"{parts.netloc}:{int(port)}")
        except ValueError:
            raise self.where.wrong("proxy_port", "a URL and a number are wanted") from None
        return {"proxies": parts._replace(path="").geturl(), "proxy_auth": pair}

    def _headers(self) -> Iterator[tuple[str, str | Secret]]:
        """``k=v``: one a line, or several parted by white space where each of them has its ``=``."""
        for line in self.told.get("headers", "").splitlines():
            words = line.split()
            for pair in words if all("=" in word for word in words) else [line.strip()]:
                name, equals, value = pair.partition("=")
                if not equals or not name.strip():
                    raise self.where.wrong("headers", "NAME=VALUE is wanted, one a line")
                yield name.strip(), secret_of(value.strip(), self.where, "headers")
