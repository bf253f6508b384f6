"""A secret by reference: where it is to be found, never what it is.

    env:NAME               an environment variable
    file:PATH              what a file holds, without the line break at its end
    keyring:SERVICE/USER   an entry of the system's keyring (the extra "keyring")
    fernet:TOKEN           encrypted in place; opened by keys that are secrets themselves (the extra "profiles")
    a callable             of no arguments, that gives it: in Python alone

In: a reference.  Out: a value that can be shown, kept and compared.  Never: the secret itself; looking for it
(unlock.py does that, when a Session is made).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .errors import SpecError

__all__ = ["KINDS", "Secret", "SecretLike", "is_reference"]

KINDS = ("env", "file", "keyring", "fernet")

_REFERENCE = re.compile(r"(env|file|keyring|fernet):(.+)", re.DOTALL)
#: What each kind names; said where a reference is none.
_FORMS = {
    "env": (r"[A-Za-z_][A-Za-z0-9_]*", "env:NAME names an environment variable"),
    "file": (r"[^\0]+", "file:PATH names a file"),
    "keyring": (r"[^/\0]+/[^\0]+", "keyring:SERVICE/USER names an entry of the keyring"),
    "fernet": (r"[A-Za-z0-9_=-]+", "fernet:… is what encrypting gave; it is written in one piece"),
}


def is_reference(text: str) -> bool:
    """Whether a text is written as a reference."""
    return _REFERENCE.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Where a secret is to be found: ``Secret("env:TOKEN")``, ``Secret("file:/run/secrets/token")``,
    ``Secret("keyring:mirror/me")``, ``Secret(function)``.

    It stands where a :class:`Profile` takes a secret, and is looked for each time a Session is made of the profile.
    ``keys`` open what is ``fernet:…``: references themselves, or callables.
    """

    reference: str | Callable[[], str]
    keys: tuple[Secret, ...] = ()

    def __post_init__(self) -> None:
        if callable(self.reference):
            return
        found = _REFERENCE.fullmatch(self.reference) if isinstance(self.reference, str) else None
        # What was given is not repeated: it may be the secret itself.
        if found is None:
            raise SpecError("a reference is env:NAME, file:PATH, keyring:SERVICE/USER, fernet:… or a callable")
        form, words = _FORMS[found[1]]
        if not re.fullmatch(form, found[2], re.DOTALL):
            raise SpecError(words)
        if self.kind == "fernet" and any(key.kind == "fernet" for key in self.keys):
            raise SpecError("a key that opens secrets comes from outside: env:NAME, file:PATH or keyring:SERVICE/USER")

    @property
    def kind(self) -> str:
        """env, file, keyring, fernet or callable."""
        return self.reference.partition(":")[0] if isinstance(self.reference, str) else "callable"

    @property
    def told(self) -> str:
        """What stands behind the kind: a name, a path, a token."""
        return self.reference.partition(":")[2] if isinstance(self.reference, str) else ""

    @property
    def shown(self) -> str:
        """The reference as it may be shown; what is encrypted is of no use to a reader."""
        if not isinstance(self.reference, str):
            return f"callable {getattr(self.reference, '__qualname__', type(self.reference).__name__)}"
        return "fernet:…" if self.kind == "fernet" else self.reference

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return f"Secret({self.shown!r})"


SecretLike: TypeAlias = "str | Secret"
