"""A filesystem, asked: each native thread its own, errors in words that help, what passes once more.

In: a place, what is to be done with its filesystem.  Out: what that gives, or a StoreError.
Everything here blocks, and runs on native threads.  Never: the hub; a filesystem that two threads share; a password in
a message, nor in the exception that is its cause.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from ...errors import Cancelled, StoreError
from ...hubs import own
from .place import Place

__all__ = ["Asker", "Wanted", "passing"]

T = TypeVar("T")

#: Seconds between two tries, doubled each time; nobody sleeps longer than a nap without looking who still waits.
WAIT_S = 0.2
WAIT_MOST_S = 3.0
NAP_S = 0.1
#: Bugs, ours or a filesystem's: they are no word of its server's.
BUGS = (TypeError, AttributeError, NameError, AssertionError)
#: What is said of a name, and not of the way to it: the connection is good, and asking again changes nothing.
_OF_NAMES = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)
#: Exceptions of protocols, by name: a connection that broke, or was never there.
_BROKEN = frozenset(
    {"error_temp", "error_proto", "error_reply", "SSHException", "EOFError", "NoValidConnectionsError"}
    | {"ChannelException", "ServerDisconnectedError", "ClientConnectorError", "SMBConnectionClosed"}
)
_CURES = {
    errno.ENOENT: "nothing is there",
    errno.EACCES: "access is denied; let this user read and write there, or give other credentials",
    errno.EPERM: "access is denied; let this user read and write there, or give other credentials",
    errno.ENOSPC: "it is full; free some space there, or store elsewhere",
    errno.EDQUOT: "the quota is used up; free some of it, or store elsewhere",
    errno.ECONNREFUSED: "nobody answers there; is the server running, and the address right?",
    errno.ETIMEDOUT: "the server does not answer in time",
}


class Wanted:
    """Whether anybody still waits for what a thread does."""

    __slots__ = ("given_up",)

    def __init__(self) -> None:
        self.given_up = False

    def give_up(self) -> None:
        self.given_up = True

    def look(self, doing: str) -> None:
        """Nothing, as long as somebody waits."""
        if self.given_up:
            raise Cancelled(f"{doing}: nobody waits for it any more")


class Asker:
    """How a place is asked; a store's own."""

    def __init__(self, place: Place, patience_s: float) -> None:
        self.place = place
        self.patience_s = patience_s
        #: Its store was closed: whoever holds a filesystem of it lets it go.
        self.over = False

    def ask(
        self, doing: str, work: Callable[[Any], T], wanted: Wanted | None = None, patience_s: float | None = None
    ) -> T:
        """What ``work`` gives for this thread's filesystem; done again, with a new one, where its connection broke."""
        until, wait_s = monotonic() + (self.patience_s if patience_s is None else patience_s), WAIT_S
        while True:
            if wanted is not None:
                wanted.look(doing)
            try:
                return work(self._filesystem())
            except StoreError:
                raise
            except Exception as exc:
                if isinstance(exc, BUGS):
                    raise
                if not isinstance(exc, _OF_NAMES):
                    self._let_go()
                if not passing(exc) or monotonic() + wait_s > until:
                    raise self._refused(exc, doing) from exc
            self._nap(wait_s * random.uniform(0.8, 1.2), wanted, doing)
            wait_s = min(2 * wait_s, WAIT_MOST_S)

    def _filesystem(self) -> Any:
        mine: dict[Asker, Any] = own("fsspec", dict)
        found = mine.get(self)
        if found is None:
            for other in [other for other in mine if other.over]:
                del mine[other]
            place = self.place
            found = mine[self] = place.kind(*place.args, **{**place.options, "skip_instance_cache": True})
            listings: Any = getattr(found, "dircache", None)
            if hasattr(listings, "use_listings_cache"):
                listings.use_listings_cache = False
        # What it remembers of folders is what was there.
        found.invalidate_cache()
        return found

    def _let_go(self) -> None:
        mine: dict[Asker, Any] = own("fsspec", dict)
        mine.pop(self, None)

    def _refused(self, exc: Exception, doing: str) -> StoreError:
        number = exc.errno if isinstance(exc, OSError) else None
        if isinstance(exc, FileNotFoundError):
            number = errno.ENOENT
        elif isinstance(exc, PermissionError):
            number = number or errno.EACCES
        elif isinstance(exc, TimeoutError):
            number = number or errno.ETIMEDOUT
        said = self.place.masked(str(exc))
        why = _CURES.get(number or 0) or (os.strerror(number) if number else f"{type(exc).__name__}: {said}")
        if _not_let_in(exc):
            number, settings = errno.EACCES, f"FSSPEC_{self.place.protocol.upper()}"
            why = (
                f"the server does not let us in ({type(exc).__name__}: {said}); give user and password by"
                f" {settings}_USERNAME and {settings}_PASSWORD in the environment"
            )
        exc.args = tuple(self.place.masked(one) if isinstance(one, str) else one for one in exc.args)
        return StoreError(f"{doing}: {why}", errno=number)

    def _nap(self, seconds: float, wanted: Wanted | None, doing: str) -> None:
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            if wanted is not None:
                wanted.look(doing)
            time.sleep(min(left, NAP_S))


def _not_let_in(exc: BaseException) -> bool:
    """Whether an FTP server wants another user or password, or any at all."""
    return any(one.__name__ == "error_perm" for one in type(exc).__mro__) and str(exc).startswith("530")


def passing(exc: BaseException | None) -> bool:
    """Whether the same may be done a little later."""
    if isinstance(exc, _OF_NAMES):
        return False
    if isinstance(exc, ConnectionError | TimeoutError | EOFError):
        return True
    return any(one.__name__ in _BROKEN for one in type(exc).__mro__)
