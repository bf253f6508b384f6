"""Patching: plain ``requests`` onto gevent (the stack), or the whole process.  Importing this module patches nothing.

    In     a word: ``patch_requests()``, ``patch_all()``, ``state()``
    Out    a report: what was rebound, what was right already, what to know, in words
    Never  half a patch: every name is looked for first, and none is rebound when one is missing

``patch_requests`` turns the few names through which urllib3 reaches sockets, waiting and sleeping into a choice: **a
native thread that has a gevent hub gets gevent's, any other thread keeps the standard library's.**  An ordinary thread
has no greenlets that could go on meanwhile, and gevent's sockets would cost it a hub of its own: two descriptors that
nobody gives back when the thread ends (measured: 100 threads with one call each left 200 open).

Not covered: PySocks (a ``socks5://`` proxy works, and stops the hub), an SSLContext whose class brings a
``wrap_socket`` of its own (likewise), a response that was asked for before the patch and is still being read.
"""

from __future__ import annotations

import importlib
import queue
import select
import socket
import sys
import time
import types
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, wraps
from typing import Any

import gevent
import gevent.event
import gevent.monkey
import gevent.queue
import gevent.select
import gevent.socket
import gevent.ssl
import gevent.time
from gevent._hub_local import get_hub_if_exists as _hub  # the public get_hub() makes one where there is none

__all__ = ["PatchError", "Patched", "State", "World", "patch_all", "patch_requests", "state"]


class PatchError(RuntimeError):
    """This urllib3 or requests lacks a name that the patch needs; nothing was changed."""


class World(StrEnum):
    """What is patched in this process."""

    NOTHING = "nothing patched"
    REQUESTS = "requests patched"
    PROCESS = "process patched"
    UNHEALED = "process patched late and not healed"


@dataclass(frozen=True)
class Patched:
    """What a patch did: names it ``rebound``, names that were ``already`` right, modules it ``healed``."""

    rebound: tuple[str, ...]
    already: tuple[str, ...]
    healed: tuple[str, ...]
    state: State

    def __str__(self) -> str:
        told = (("rebound", self.rebound), ("already right", self.already), ("healed", self.healed))
        return "\n".join((str(self.state), *(f"{word}: {', '.join(names)}" for word, names in told if names)))


@dataclass(frozen=True)
class State:
    """Which world this is, with which versions, and what the user should know of it."""

    world: World
    versions: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        first = f"{self.world} ({', '.join(f'{name} {version}' for name, version in self.versions)})"
        return "\n".join((first, *(f"warning: {warning}" for warning in self.warnings)))


def patch_requests() -> Patched:
    """Make plain requests cooperative, also in Sessions and modules that are there already; the process stays as it is.

    A second call changes nothing.  Raises PatchError.
    """
    owners, missing = _owners()
    if missing or _is_future():
        why = f"missing are {', '.join(missing)}" if missing else "urllib3-future stands in place of urllib3"
        raise PatchError(f"nothing was patched: {why}; urllib3 {_version('urllib3')}, requests {_version('requests')}")
    rebound: list[str] = []
    already: list[str] = []
    for mend in MENDS:
        owner = owners[mend.where]
        former = getattr(owner, mend.name)
        ours = mend.made(former)
        (already if ours is former else rebound).append(str(mend))
        if ours is not former:
            setattr(owner, mend.name, ours)
    # This thread has gevent's sockets from now on, and not only after the first spawn: a streamed response opened here
    # is often read in a greenlet (tests/worlds: AStreamOpenedBeforeTheFirstSpawn).
    if not gevent.monkey.is_module_patched("socket"):
        gevent.get_hub()
    return Patched(tuple(rebound), tuple(already), (), state())


def patch_all(**kwargs: Any) -> Patched:
    """Patch the whole process with gevent, or what is left of it to patch, and heal what was imported before.

    Takes the arguments of gevent.monkey.patch_all; where all of them are patched already, it only heals.
    """
    if _unpatched(kwargs):
        with warnings.catch_warnings():
            # It says that modules imported early keep the real SSLContext: those are healed below.
            warnings.filterwarnings("ignore", "Monkey-patching ssl after", gevent.monkey.MonkeyPatchWarning)
            warnings.filterwarnings("ignore", "Patching more than once", gevent.monkey.MonkeyPatchWarning)
            gevent.monkey.patch_all(**kwargs)
    healed = _heal_tls() if gevent.monkey.is_module_patched("ssl") else ()
    try:
        done = patch_requests()
    except PatchError as exc:
        found = state()
        return Patched((), (), healed, State(found.world, found.versions, (*found.warnings, str(exc))))
    return Patched(done.rebound, done.already, healed, done.state)


def state() -> State:
    """Which world this is; changes nothing."""
    versions = tuple((name, _version(name)) for name in ("gevent", "urllib3", "requests"))
    return State(_world(), versions, tuple(_cautions()))


# Without one of these a process is patched in part; the other arguments of patch_all() are a matter of taste.
WHOLE = ("socket", "ssl", "select", "thread", "time", "queue")


def _unpatched(wanted: Mapping[str, Any]) -> list[str]:
    modules = {name: "threading" if name == "thread" else name for name in WHOLE if wanted.get(name, True)}
    return [name for name, module in modules.items() if not gevent.monkey.is_module_patched(module)]


def _world() -> World:
    if len(_unpatched({})) < len(WHOLE):
        return World.UNHEALED if _recurses() else World.PROCESS
    owners, missing = _owners()
    right = not missing and all(mend.made(old := getattr(owners[mend.where], mend.name)) is old for mend in MENDS)
    return World.REQUESTS if right and not _is_future() else World.NOTHING


def _recurses() -> bool:
    # The setters of the real class call super(SSLContext, …) by the name that now means gevent's: for ever.
    return gevent.monkey.is_module_patched("ssl") and any(_lost_setters()) and any(_holders())


def _cautions() -> Iterator[str]:
    if _is_future():
        yield f"urllib3-future {_version('urllib3')} replaced urllib3 (niquests brings it): patch_requests() refuses it"
    elif getattr(sys.modules.get("urllib3.util.ssl_"), "IS_PYOPENSSL", False):
        yield "pyOpenSSL is injected into urllib3: its own contexts are used, not gevent's"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        yield "Python runs without its GIL: gevent does not support that"
    missing = _unpatched({})
    if 0 < len(missing) < len(WHOLE):
        yield f"the process is patched in part, without {', '.join(missing)}: geofetch.patch_all() completes it"
    if _recurses():
        late = ", ".join(sorted({module.__name__ for module, _ in _holders()}))
        yield f"HTTPS ends in RecursionError in {late}, imported before the patch: geofetch.patch_all() heals it"


def _version(name: str) -> str:
    return str(importlib.import_module(name).__version__)


def _is_future() -> bool:
    # urllib3-future installs itself over urllib3 and says so in the patch number: 2.25.904.
    patch = _version("urllib3").split(".")[2:3]
    return bool(patch) and patch[0].isdigit() and int(patch[0]) >= 900


@dataclass(frozen=True)
class Mend:
    """One name to rebind; ``made`` gives what it should hold from what it holds, the same object if that is right."""

    where: str
    name: str
    made: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"{self.where.replace(':', '.')}.{self.name}"


def _owners() -> tuple[dict[str, Any], list[str]]:
    """The module or class of each name, and the names that are missing."""
    owners: dict[str, Any] = {}
    missing = []
    for mend in MENDS:
        module, _, kind = mend.where.partition(":")
        try:
            found: Any = importlib.import_module(module)
            owners[mend.where] = getattr(found, kind) if kind else found
            getattr(owners[mend.where], mend.name)
        except (ImportError, AttributeError):
            missing.append(str(mend))
    return owners, missing


class Choice:
    """A module's stand-in: gevent's module in a thread that has a hub, the standard library's in any other."""

    def __init__(self, plain: types.ModuleType, cooperative: types.ModuleType) -> None:
        self._plain = plain
        self._cooperative = cooperative

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain if _hub() is None else self._cooperative, name)


def _instead(ours: Any, *stock: Any) -> Callable[[Any], Any]:
    """Ours for what urllib3 or gevent put there (``stock``; none: whatever is there); what others put there stays."""
    return lambda former: ours if not stock or former in stock else former


def _once(wrapper: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A wrapper that leaves alone what it wrapped before, also below wrappers that others put around it since."""

    def made(former: Any) -> Any:
        inner = former
        while inner is not None:
            if getattr(inner, "_wrapped_by", None) is wrapper:
                return former
            inner = getattr(inner, "__wrapped__", None)
        ours = wrapper(former)
        ours._wrapped_by = wrapper
        return ours

    return made


# The real SSLContext is never a name of this module: gevent's own patch would warn of every module that holds it.
_PlainSSLSocket = gevent.ssl.orig_SSLContext.sslsocket_class


def _wrapping(former: Callable[..., Any]) -> Callable[..., Any]:
    """urllib3's last step to TLS: the socket decides how a handshake waits, not the class of the user's context."""

    @wraps(former)
    def _ssl_wrap_socket_impl(sock: Any, ssl_context: Any, tls_in_tls: bool, server_hostname: str | None = None) -> Any:
        way = None if tls_in_tls else getattr(type(ssl_context), "wrap_socket", None)
        own_class = getattr(ssl_context, "sslsocket_class", None)
        if way is gevent.ssl.orig_SSLContext.wrap_socket and own_class is _PlainSSLSocket and _hub() is not None:
            return gevent.ssl.SSLSocket(sock=sock, server_hostname=server_hostname, _context=ssl_context)
        if way is gevent.ssl.SSLContext.wrap_socket and _hub() is None and not isinstance(sock, gevent.socket.socket):
            return _PlainSSLSocket._create(sock=sock, server_hostname=server_hostname, context=ssl_context)
        return former(sock, ssl_context, tls_in_tls, server_hostname)

    return _ssl_wrap_socket_impl


def _heal_tls() -> tuple[str, ...]:
    """After the process was patched: let no context made from the real SSLContext recurse, and hand it out no more."""
    real = gevent.ssl.orig_SSLContext
    for name, found in list(_lost_setters()):
        names = {**found.fset.__globals__, "SSLContext": real}
        right = types.FunctionType(found.fset.__code__, names, name, None, found.fset.__closure__)
        setattr(real, name, property(found.fget, right, found.fdel, found.__doc__))
    holders = list(_holders())
    for module, name in holders:
        setattr(module, name, gevent.ssl.SSLContext)
    return tuple(f"{module.__name__}.{name}" for module, name in holders)


def _lost_setters() -> Iterator[tuple[str, Any]]:
    real = gevent.ssl.orig_SSLContext
    for name, found in vars(real).items():
        setter: Any = getattr(found, "fset", None)
        named = setter is not None and "SSLContext" in setter.__code__.co_names
        if named and setter.__globals__["SSLContext"] is not real:
            yield name, found


def _holders() -> Iterator[tuple[Any, str]]:
    for key, module in list(sys.modules.items()):
        # __dict__ and not getattr: a lazy module must not be woken by being looked at.
        names = getattr(module, "__dict__", {})
        for name in ("SSLContext", "orig_util_SSLContext"):
            if names.get(name) is gevent.ssl.orig_SSLContext and key.partition(".")[0] != "gevent":
                yield module, name


_PlainQueue: Any = gevent.monkey.get_original("queue", "LifoQueue")


class Places(_PlainQueue):  # type: ignore[misc]
    """The places of a connection pool: threads wait for one as the standard library has it, greenlets for a bell.

    gevent's own LifoQueue belongs to one hub: 8 threads that shared a blocking pool got 120 of 480 turns and LoopExit;
    its Semaphore hung.  An object of the standard library's class becomes one of this class as it stands.
    """

    @cached_property
    def _bells(self) -> deque[Any]:
        return deque()

    @cached_property
    def _leaving(self) -> set[Any]:
        return set()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        # Whoever is killed or timed out by gevent while waiting has no place, and urllib3 gives one back all the same:
        # the pool grows, or FullPoolError comes instead of the Timeout (tests/worlds: AKilledWaiterLeavesItsPlace).
        if item is None and gevent.getcurrent() in self._leaving:
            return self._leaving.discard(gevent.getcurrent())
        super().put(item, block and _hub() is None, timeout)
        self._ring()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        self._leaving.discard(gevent.getcurrent())
        if not block or _hub() is None:
            return super().get(block, timeout)
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            with suppress(queue.Empty):
                return super().get(block=False)
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise queue.Empty
            self._wait(left)

    def _wait(self, timeout: float | None) -> None:
        rung = gevent.event.Event()
        bell = gevent.get_hub().loop.async_()  # may be rung from any thread
        bell.start(rung.set)
        self._bells.append(bell)
        try:
            if self.empty():  # it may have been filled since we looked
                rung.wait(timeout)
        except BaseException:
            if bell not in self._bells:  # it rang for us, and we are leaving: the next one shall look
                self._ring()
            self._leaving.add(gevent.getcurrent())
            raise
        finally:
            bell.stop()
            with suppress(ValueError):
                self._bells.remove(bell)

    def _ring(self) -> None:
        with suppress(IndexError):
            self._bells.popleft().send()


def _checkout(former: Callable[..., Any]) -> Callable[..., Any]:
    """A pool hands out a connection: one that this hub was not the last to have is closed, and so connects anew."""

    @wraps(former)
    def _get_conn(self: Any, timeout: float | None = None) -> Any:
        if type(self.pool) is _PlainQueue:
            self.pool.__class__ = Places
        conn, here = former(self, timeout), _hub()
        # The connection itself and not its socket is asked: what lies below may be TLS in TLS, pyOpenSSL or PySocks.
        if getattr(conn, "_had_by", None) is not here and getattr(conn, "sock", None) is not None:
            conn.close()
        conn._had_by = here
        return conn

    return _get_conn


def _per_greenlet(former: Callable[..., None]) -> Callable[..., None]:
    """Digest sign-in keeps its state by thread: the greenlets of one would answer each other's challenge."""

    @wraps(former)
    def init_per_thread_state(self: Any) -> None:
        from .auth import unshared  # not before requests, which a process that is to be patched whole has not imported

        unshared(self)
        former(self)

    return init_per_thread_state


MENDS = (
    Mend("urllib3.util.connection", "socket", _instead(Choice(socket, gevent.socket))),
    Mend("urllib3.util.wait", "select", _instead(Choice(select, gevent.select))),
    Mend("urllib3.util.retry", "time", _instead(Choice(time, gevent.time))),
    Mend("urllib3.util.ssl_", "SSLContext", _instead(gevent.ssl.SSLContext, gevent.ssl.orig_SSLContext)),
    Mend("urllib3.util", "SSLContext", _instead(gevent.ssl.SSLContext, gevent.ssl.orig_SSLContext)),
    Mend("urllib3.util.ssl_", "_ssl_wrap_socket_impl", _once(_wrapping)),
    Mend(
        "urllib3.connectionpool:HTTPConnectionPool", "QueueCls", _instead(Places, _PlainQueue, gevent.queue.LifoQueue)
    ),
    Mend("urllib3.connectionpool:HTTPConnectionPool", "_get_conn", _once(_checkout)),
    Mend("requests.auth:HTTPDigestAuth", "init_per_thread_state", _once(_per_greenlet)),
)
