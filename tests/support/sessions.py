"""Sessions for tests.  In: what a test wants.  Out: calls side by side, and proof that no slot is left.

Never: a connection of one test that another one finds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import gevent
import pytest
import requests
from urllib3.exceptions import InsecureRequestWarning

import geofetch.pool  # noqa: F401 - it wires the process' limits above every Session, as the door does
from geofetch import limits
from geofetch.errors import FetchError
from geofetch.events import Head
from geofetch.session import Session
from geofetch.spec import Profile, Source
from geofetch.stream import Patience, opened
from geofetch.transport import pools

from .mirrors import Port
from .waiting import until

T = TypeVar("T")

#: Enough for any loopback answer, and an end for a test that hangs.
PATIENT = Patience(connect_s=10, read_s=10)


@pytest.fixture(autouse=True)
def no_slot_is_left() -> Iterator[None]:
    """After the test every slot was given back, and no connection rests."""
    pools.shared().close()
    assert limits.process.used == 0
    yield
    until(lambda: limits.process.used == 0, 2, "every slot given back")
    assert limits.process.used_by == {}
    pools.shared().close()


def session_of(**profile: Any) -> Session:
    """A Session of a Profile of these fields."""
    return Session(Profile(**profile) if profile else None)


def trusting(url: str, session: requests.Session, **how: Any) -> requests.Response:
    """A GET that trusts anyone, and is not warned about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureRequestWarning)
        return session.get(url, **{"timeout": 10, **how})


def side_by_side(calls: Iterable[Callable[[], T]], timeout_s: float = 30) -> list[T]:
    """What these calls give, each in a greenlet of its own; the first error is raised."""
    jobs = [gevent.spawn(call) for call in calls]
    gevent.joinall(jobs, timeout=timeout_s)
    return [job.get(block=False) for job in jobs]


def downloaded(
    url: str, session: Session | None = None, patience: Patience = PATIENT, **how: Any
) -> tuple[Head, bytes]:
    """Head and body of a download, as the walk opens it."""
    with opened(session or Session(), Source(url), patience, **how) as body:
        return body.head, b"".join(body)


def refused(
    kind: type[FetchError], url: str, session: Session | None = None, patience: Patience = PATIENT
) -> FetchError:
    """The error of a download that fails, which is of exactly this kind."""
    with pytest.raises(kind) as caught:
        downloaded(url, session, patience)
    assert type(caught.value) is kind
    return caught.value


def by_connection(port: Port, header: str = "X-Who") -> list[set[str | None]]:
    """Who asked, by that header, over each connection that carried a request."""
    seen: dict[int, set[str | None]] = {}
    for request in port.requests:
        seen.setdefault(request.connection, set()).add(request.header(header))
    return [seen[number] for number in sorted(seen)]
