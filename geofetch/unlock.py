"""Secrets looked for: a Profile as a Session needs it, with every reference in it resolved.

In: a Profile, its Secrets.  Out: a Profile without any; a SpecError that names the reference and the cure, before any
request is sent.  Never: a secret in an error or a log; the hub held up by a disk or a keyring (native threads wait).
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from requests.auth import HTTPDigestAuth

from .errors import SpecError
from .hubs import threads
from .profile import Profile
from .secret import Secret

__all__ = ["lockers", "observers", "sealed", "unlocked", "value_of"]

log = logging.getLogger("geofetch")

#: Told of every secret that is found, so that they can see to it that nobody shows it.
observers: list[Callable[[str], object]] = []

#: Native threads that wait for disks and keyrings; one profile asks for one secret after the other.
THREADS = 2


def unlocked(profile: Profile) -> Profile:
    """The profile with its secrets in it, its token among its headers, its proxies' names and passwords in their URLs;
    the profile itself if it has nothing of that kind."""
    if not (profile.secrets or profile.token is not None or profile.proxy_auth is not None):
        return profile

    def found(what: str, value: Any) -> Any:
        return _found(profile, what, value) if isinstance(value, Secret) else value

    headers = tuple((name, found(f"header {name}", value)) for name, value in profile.header_map.items())
    if profile.token is not None:
        headers += (("Authorization", f"Bearer {found('token', profile.token)}"),)
    query = tuple((name, found(f"query {name}", value)) for name, value in profile.query_map.items())
    try:
        return replace(
            profile,
            headers=headers or None,
            query=query or None,
            token=None,
            auth=_auth(profile.auth, found),
            key_password=found("key password", profile.key_password),
            cert=_cert(profile.cert, found),
            proxies=_proxies(profile, found),
            proxy_auth=None,
        )
    except SpecError as exc:
        # Checked once more, now that all is told: a header's value that came from a file may have a line break in it.
        raise SpecError(f"{_named(profile)}: {exc}" if _named(profile) not in str(exc) else str(exc)) from exc


def _auth(auth: Any, found: Callable[[str, Any], Any]) -> Any:
    if isinstance(auth, tuple) and len(auth) == 2:
        return auth[0], found("password", auth[1])
    secret = getattr(auth, "password", None)
    if not isinstance(secret, Secret):
        return auth
    if type(auth) is HTTPDigestAuth:
        return HTTPDigestAuth(auth.username, found("password", secret))
    # requests would send the reference itself.
    told = copy(auth)
    told.password = found("password", secret)
    return told


def _cert(cert: Any, found: Callable[[str, Any], Any]) -> Any:
    if isinstance(cert, tuple):
        return tuple(_pem(part, found(what, part)) for what, part in zip(("certificate", "key"), cert, strict=True))
    return _pem(cert, found("certificate", cert))


def _pem(told: Any, found: Any) -> Any:
    return found.encode() if isinstance(told, Secret) else found


def _proxies(profile: Profile, found: Callable[[str, Any], Any]) -> Any:
    if profile.proxy_auth is None:
        return profile.proxies
    user, password = profile.proxy_auth[0], found("proxy password", profile.proxy_auth[1])
    given = profile.proxy_map or {}
    return {key: one if key == "no_proxy" or not one else _signed(one, user, password) for key, one in given.items()}


def _signed(proxy: str, user: str, password: str) -> str:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    userinfo = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{parts.netloc.rpartition('@')[2]}"))


def _named(profile: Profile) -> str:
    return f"the profile {profile.name!r}" if profile.name is not None else "the profile"


def _found(profile: Profile, what: str, secret: Secret) -> str:
    try:
        return value_of(secret)
    except SpecError as exc:
        raise SpecError(f"{_named(profile)}: its {what}: {exc}") from exc.__cause__


# ----------------------------------------------------------------------------------------------------- one secret


def value_of(secret: Secret) -> str:
    """The secret itself; a SpecError that names the reference and the cure where it cannot be had."""
    found = _FINDERS[secret.kind](secret)
    if not isinstance(found, str) or not found:
        raise SpecError(f"{secret.shown} gave {'nothing' if not found else f'a {type(found).__name__}, no text'}")
    for observer in list(observers):
        observer(found)
    return found


def _of_environment(secret: Secret) -> str:
    if secret.told not in os.environ:
        raise SpecError(f"{secret.shown}: ${secret.told} is not set; export it to whoever runs this")
    if not os.environ[secret.told]:
        raise SpecError(f"{secret.shown}: ${secret.told} is empty")
    return os.environ[secret.told]


def _of_file(secret: Secret) -> str:
    try:
        text: str = _apart(_read, os.path.expanduser(secret.told))
    except OSError as exc:
        raise SpecError(f"{secret.shown} cannot be read: {exc.strerror}; make it readable to this user") from exc
    except UnicodeDecodeError:
        # Without its cause, which quotes what it could not read.
        raise SpecError(f"{secret.shown} holds bytes that are no UTF-8; keep the secret there as text") from None
    # One line break: an editor's, or echo's.
    return text.removesuffix("\n").removesuffix("\r")


def _read(path: str) -> str:
    with open(path, "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(mode) and mode & 0o077:
            _warn(path, mode & 0o777)
        return file.read().decode()


@lru_cache(maxsize=1024)
def _warn(path: str, mode: int) -> None:
    # Not refused: what Docker and Kubernetes mount for a container is readable to all in it.
    log.warning("the secret in %s can be read by others (mode %o): chmod 600 it", path, mode)


def _of_keyring(secret: Secret) -> str:
    service, _, user = secret.told.partition("/")
    try:
        found: str | None = _apart(_asked_keyring, service, user)
    except ImportError as exc:
        raise SpecError(f"{secret.shown} wants the package keyring: pip install geofetch[keyring]") from exc
    except Exception as exc:
        # What a backend says is its own, and may quote what it holds.
        raise SpecError(f"{secret.shown}: the keyring refused ({type(exc).__name__}); is it there, and open?") from None
    if found is None:
        raise SpecError(f"{secret.shown} is not in the keyring; keyring set {service} {user} puts it there")
    return found


def _asked_keyring(service: str, user: str) -> str | None:
    import keyring

    found: str | None = keyring.get_password(service, user)
    return found


def _of_callable(secret: Secret) -> str:
    assert callable(secret.reference)
    try:
        return secret.reference()
    except Exception as exc:
        # Without its cause: its words, and the frames of its traceback, may hold what it was about to give.
        raise SpecError(f"{secret.shown} raised {type(exc).__name__}") from None


def _decrypted(secret: Secret) -> str:
    if not secret.keys:
        raise SpecError("fernet:… without a key to open it; name one in the profiles file: [fernet] keys = [...]")
    locks = lockers(secret.keys)
    from cryptography.fernet import InvalidToken

    try:
        return str(locks.decrypt(secret.told.encode()).decode())
    except InvalidToken:
        keys = ", ".join(key.shown for key in secret.keys)
        raise SpecError(f"fernet:… is opened by none of the keys there are ({keys}); was its key dropped?") from None


_FINDERS: dict[str, Callable[[Secret], str]] = {
    "env": _of_environment,
    "file": _of_file,
    "keyring": _of_keyring,
    "callable": _of_callable,
}


def _apart(work: Callable[..., Any], *args: Any) -> Any:
    """The result of ``work(*args)`` on a native thread; what it raises travels as a value, else the hub prints it."""
    done, error = threads("secrets", THREADS).spawn(_outcome, work, args).get()
    if error is not None:
        raise error
    return done


def _outcome(work: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return work(*args), None
    except Exception as exc:
        return None, exc


# ----------------------------------------------------------------------------------------------- encrypted in place


def lockers(keys: Iterable[Secret]) -> Any:
    """MultiFernet over these keys: the first encrypts, each of them opens."""
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as exc:
        raise SpecError("fernet:… wants the package cryptography: pip install geofetch[profiles]") from exc
    found = []
    for key in keys:
        try:
            found.append(Fernet(value_of(key).strip()))
        except ValueError as exc:
            if isinstance(exc, SpecError):
                raise SpecError(f"a key of the profiles file: {exc}") from exc.__cause__
            raise SpecError(f"{key.shown} holds no Fernet key; geofetch profiles key makes one") from None
    return MultiFernet(found)


def sealed(text: str, keys: tuple[Secret, ...], locks: Any = None) -> Secret:
    """The text encrypted by the first of these keys."""
    token = (locks or lockers(keys)).encrypt(text.encode()).decode()
    return Secret(f"fernet:{token}", keys)


_FINDERS["fernet"] = _decrypted
