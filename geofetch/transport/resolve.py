"""Names into addresses, and addresses into connected sockets; the hub never waits for a name server.

In: a host and a port.  Out: a connected gevent socket.  Never: TLS, HTTP.

gevent resolves in the hub's ten native threads.  Thirty dead names would hold up ``localhost`` for as long as the
resolver takes to give up; so lookups of names that never answered yet are fewer than the threads, answers are
remembered, and one name is looked up once however many ask.
"""

from __future__ import annotations

import os
import socket as native
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

import gevent
import gevent.socket
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from ..hubs import own

__all__ = ["connect", "resolved"]

#: Seconds that an answer is remembered, and that a refusal is.
KEEP_S = 60.0
KEEP_REFUSAL_S = 2.0
#: Names remembered at most.
NAMES = 4096
#: Lookups of unknown names at once; the rest of the resolver's ten threads stays for names that are known to answer.
UNKNOWN_AT_ONCE = 6

Address = tuple[int, int, int, str, Any]


# A forked child has none of the threads that look names up, and gevent notices that only after the first lookup went to
# them and was lost: a plain os.fork() is told here. (Where os.fork is gevent's own, this is the second time, and idle.)
os.register_at_fork(after_in_child=gevent.reinit)


class _Names:
    """What one hub knows of names."""

    def __init__(self) -> None:
        self.known: OrderedDict[tuple[str, int], tuple[float, list[Address]]] = OrderedDict()
        self.refused: OrderedDict[tuple[str, int], tuple[float, OSError]] = OrderedDict()
        self.asking: dict[tuple[str, int], AsyncResult] = {}
        self.unknown = BoundedSemaphore(UNKNOWN_AT_ONCE)


def resolved(host: str, port: int) -> Sequence[Address]:
    """The addresses of a host, as getaddrinfo gives them; its own OSError (gaierror) if there are none."""
    literal = _literal(host, port)
    if literal is not None:
        return literal
    names = own("names", _Names)
    key = host.lower(), port
    now = monotonic()
    found = names.known.get(key)
    if found is not None and found[0] > now:
        return found[1]
    refusal = names.refused.get(key)
    if refusal is not None and refusal[0] > now:
        # A new exception each time: one that is raised again and again keeps every traceback.
        raise type(refusal[1])(*refusal[1].args)
    asked = names.asking.get(key)
    if asked is None:
        asked = names.asking[key] = AsyncResult()
        # A greenlet of its own asks: whoever waits may lose patience, the answer still serves the next one.
        gevent.spawn(_ask, names, key, host, port, asked).rawlink(lambda lookup: _left(names, key, asked))
    addresses: Sequence[Address] = asked.get()
    return addresses


def _literal(host: str, port: int) -> list[Address] | None:
    for family in (native.AF_INET, native.AF_INET6):
        try:
            native.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        where = (host, port) if family == native.AF_INET else (host, port, 0, 0)
        return [(family, native.SOCK_STREAM, native.IPPROTO_TCP, "", where)]
    return None


def _ask(names: _Names, key: tuple[str, int], host: str, port: int, asked: AsyncResult) -> None:
    try:
        trusted = key in names.known or host == "localhost" or host.endswith(".localhost")
        if trusted:
            found = _looked_up(host, port)
        else:
            with names.unknown:
                found = _looked_up(host, port)
    except Exception as exc:
        error = exc if isinstance(exc, OSError) else native.gaierror(native.EAI_NONAME, f"{host!r} is no host name")
        _remember(names.refused, key, (monotonic() + KEEP_REFUSAL_S, error))
        asked.set_exception(error)
    else:
        names.refused.pop(key, None)
        _remember(names.known, key, (monotonic() + KEEP_S, found))
        asked.set(found)
    finally:
        names.asking.pop(key, None)


def _left(names: _Names, key: tuple[str, int], asked: AsyncResult) -> None:
    """The lookup is over; one that was killed, perhaps before it began, has told nobody."""
    if not asked.ready():
        if names.asking.get(key) is asked:
            del names.asking[key]
        asked.set_exception(native.gaierror(native.EAI_AGAIN, "the lookup was ended"))


def _looked_up(host: str, port: int) -> list[Address]:
    host.encode("idna")  # what has no such form is refused here: gevent prints what is raised on the resolver's thread
    return list(gevent.socket.getaddrinfo(host, port, 0, native.SOCK_STREAM))


def _remember(table: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > NAMES:
        table.popitem(last=False)


def connect(
    host: str,
    port: int,
    timeout_s: float | None,
    source_address: tuple[str, int] | None = None,
    options: Iterable[tuple[Any, ...]] | None = None,
) -> Any:
    """A gevent socket connected to the host: the first address that answers.

    ``timeout_s`` covers the name and all addresses together; each address gets an even share of what is left, so that
    one that swallows packets leaves time for the next.  Raises TimeoutError, gaierror, or the last address' OSError.
    """
    with gevent.Timeout(timeout_s, TimeoutError("timed out")):
        until = None if timeout_s is None else monotonic() + timeout_s
        addresses = resolved(host, port)
        refused: OSError | None = None
        for index, address in enumerate(addresses):
            share = None if until is None else max(0.001, (until - monotonic()) / (len(addresses) - index))
            try:
                return _connected(address, share, source_address, options)
            except OSError as exc:
                refused = exc
                if until is not None and monotonic() >= until:
                    break
        raise refused or native.gaierror(native.EAI_NONAME, "no address")


def _connected(
    address: Address,
    timeout_s: float | None,
    source_address: tuple[str, int] | None,
    options: Iterable[tuple[Any, ...]] | None,
) -> Any:
    family, kind, protocol, _, where = address
    sock = gevent.socket.socket(family, kind, protocol)
    try:
        for option in options or ():
            sock.setsockopt(*option)
        sock.settimeout(timeout_s)
        if source_address:
            sock.bind(source_address)
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock
