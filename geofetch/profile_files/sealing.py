"""Secrets in place: those in clear encrypted, those that are encrypted encrypted again by the first key there is.

In: a profile's table, keys.  Out: a table that means the same.  Never: a table changed in place.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ..errors import SpecError
from ..secret import Secret, is_reference
from ..unlock import lockers, sealed
from .fields import KEYS, in_clear

__all__ = ["Sealer"]


class Sealer:
    """Encrypts by the first of some keys, which are looked for once; opens by any of them."""

    def __init__(self, keys: tuple[Secret, ...], first: Secret | None = None) -> None:
        if not keys and first is None:
            raise SpecError(
                "there is no key to encrypt by: geofetch profiles key --to FILE makes one, and [fernet] keys ="
                ' ["file:FILE"] in the profiles file, or --key file:FILE, names it'
            )
        self.keys = tuple(dict.fromkeys((first, *keys) if first is not None else keys))
        self._locks = lockers(self.keys)

    def seal(self, text: str) -> str:
        """The reference that stands for a secret."""
        found = sealed(text, self.keys, self._locks).reference
        assert isinstance(found, str)
        return found

    def sealed(self, table: Mapping[str, Any], where: str) -> tuple[dict[str, Any], int, int]:
        """The table with nothing in clear, and by the first key; how many secrets were encrypted, and how many anew."""
        found = copy.deepcopy(dict(table))
        _take_apart(found)
        clear = list(in_clear(found))
        for keys, secret in clear:
            if keys[0] == "proxy":
                raise SpecError(f"{where} proxy: a password for one of several proxies; give it as proxy_password")
            _put(found, keys, self.seal(secret))
        anew = 0
        for keys in list(_encrypted(table)):
            _put(found, keys, self._again(_get(table, keys), where, keys))
            anew += 1
        return found, len(clear), anew

    def _again(self, reference: str, where: str, keys: tuple[str, ...]) -> str:
        from cryptography.fernet import InvalidToken

        try:
            token = self._locks.rotate(reference.removeprefix("fernet:").encode())
        except InvalidToken:
            named = ", ".join(key.shown for key in self.keys)
            raise SpecError(f"{where} {'.'.join(keys)}: none of the keys there are ({named}) opens it") from None
        return f"fernet:{token.decode()}"


def _take_apart(table: dict[str, Any]) -> None:
    """A proxy's name and password in keys of their own, out of its URL."""
    proxy = table.get("proxy")
    if not isinstance(proxy, str) or "@" not in proxy or "proxy_user" in table:
        return
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.password:
        table["proxy"] = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        table["proxy_user"], table["proxy_password"] = unquote(parts.username or ""), unquote(parts.password)
        if is_reference(table["proxy_password"]):
            table["proxy_password"] = f"plain:{table['proxy_password']}"


def _encrypted(table: Mapping[str, Any]) -> Any:
    for key, kind in KEYS.items():
        value = table.get(key)
        if kind in ("secret", "part") and isinstance(value, str) and value.startswith("fernet:"):
            yield (key,)
        elif kind == "pairs" and isinstance(value, Mapping):
            yield from ((key, name) for name, text in value.items() if text.startswith("fernet:"))


def _get(table: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        table = table[key]
    return table


def _put(table: Any, keys: tuple[str, ...], value: Any) -> None:
    for key in keys[:-1]:
        table = table[key]
    table[keys[-1]] = value
