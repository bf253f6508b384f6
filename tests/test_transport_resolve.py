"""Names: looked up once, remembered for a while, never in anybody's way; addresses: the first one that answers.

The resolver is slow or made up here, by hand: no test asks a name server.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import gevent.socket
import pytest
import requests
from gevent.event import Event

from geofetch.errors import Stalled, Unreachable
from geofetch.session import Session
from geofetch.stream import Patience
from geofetch.transport import resolve
from tests.support.mirrors import Mirror, Origins
from tests.support.sessions import *  # noqa: F403 - the fixtures of these tests
from tests.support.sessions import downloaded, refused, side_by_side
from tests.support.waiting import until
from tests.support.walking import in_subprocess


@pytest.fixture(autouse=True)
def no_names() -> Iterator[None]:
    """What this hub knows of names, before and after: nothing."""
    known = resolve.own("names", resolve._Names)

    def forget() -> None:
        for table in (known.known, known.refused, known.asking):
            table.clear()

    forget()
    yield
    until(lambda: known.unknown.counter == resolve.UNKNOWN_AT_ONCE, 5, "every lookup ended")
    forget()


class Names:
    """A resolver by hand: what it was asked, what it answers, and when."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.addresses: dict[str, list[str]] = {}
        self.held: dict[str, Event] = {}

    def getaddrinfo(self, host: str, port: int, *_: Any) -> list[Any]:
        self.asked[host] += 1
        if host in self.held:
            self.held[host].wait()
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
            for address in self.addresses[host]
        ]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names()
    monkeypatch.setattr(gevent.socket, "getaddrinfo", found.getaddrinfo)
    return found


class Clock:
    """The time as resolve.py reads it; it goes on only where a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(resolve, "monotonic", found)
    return found


# --------------------------------------------------------------------------------------------------- nobody in the way


def test_thirty_dead_names_do_not_hold_up_localhost(mirror: Mirror) -> None:
    """Each dead name blocks a thread of the hub's resolver for good; there are ten of them."""
    file = mirror.serves(b"x")
    code = """
        import _socket, socket, threading
        release, blocked, asked = threading.Event(), [], _socket.getaddrinfo
        def getaddrinfo(host, *args, **kwargs):
            if str(host).endswith(".invalid"):
                blocked.append(host)
                release.wait(60)
                raise socket.gaierror(socket.EAI_NONAME, "nobody")
            return asked(host, *args, **kwargs)
        _socket.getaddrinfo = getaddrinfo  # what the threads of gevent's resolver call
        def fails(number):
            try:
                geofetch.get(f"http://dead-{number}.invalid/")
            except Exception as exc:
                return type(exc).__name__
        dead = [gevent.spawn(fails, number) for number in range(30)]
        with gevent.Timeout(20):
            while len(blocked) < 6:
                gevent.sleep(0.005)
            for number in range(3):
                assert geofetch.get(url, timeout=(10, 10)).content == b"x"
            assert geofetch.get(url.replace("localhost", "127.0.0.1")).content == b"x"
        print(len(blocked), sum(job.dead for job in dead))
        release.set()
        gevent.joinall(dead)
        print({job.value for job in dead})
    """
    out = in_subprocess(code, url=file.via("localhost")).splitlines()
    assert out == ["6 0", "{'ConnectionError'}"]


def is_nobody(name: str, port: int) -> None:
    with pytest.raises(socket.gaierror):
        resolve.resolved(name, port)


def test_unknown_names_are_asked_for_few_at_once_and_known_ones_at_once(names: Names, origins: Origins) -> None:
    names.addresses = {"known.test": ["127.0.0.1"]}
    port = origins.http().port
    assert resolve.resolved("known.test", port)
    held = names.held = {f"dead-{number}.test": Event() for number in range(30)}
    jobs = [gevent.spawn(is_nobody, name, port) for name in held]
    until(lambda: sum(names.asked[name] for name in held) >= resolve.UNKNOWN_AT_ONCE)
    gevent.idle()
    assert sum(names.asked[name] for name in held) == resolve.UNKNOWN_AT_ONCE
    assert resolve.resolved("127.0.0.1", port)
    assert resolve.resolved("known.test", port)
    for event in held.values():
        event.set()
    gevent.joinall(jobs, timeout=10, raise_error=True)
    assert set(names.asked.values()) == {1}


def test_a_name_is_looked_up_once_however_many_ask(names: Names, mirror: Mirror) -> None:
    names.addresses["many.test"] = ["127.0.0.1"]
    gate = names.held["many.test"] = Event()
    jobs = [gevent.spawn(resolve.resolved, name, mirror.port) for name in ("many.test", "MANY.test") for _ in range(20)]
    until(lambda: names.asked.total())
    gate.set()
    found = [job.get(timeout=10) for job in jobs]
    assert {address[4] for one in found for address in one} == {("127.0.0.1", mirror.port)}
    assert names.asked.total() == 1


def test_an_address_asks_nobody(names: Names) -> None:
    assert [one[4] for one in resolve.resolved("127.0.0.1", 80)] == [("127.0.0.1", 80)]
    assert [one[4] for one in resolve.resolved("::1", 80)] == [("::1", 80, 0, 0)]
    assert not names.asked


def test_who_loses_patience_leaves_the_answer_to_the_next(names: Names, mirror: Mirror) -> None:
    file = mirror.serves(b"x")
    names.addresses["slow.test"] = ["127.0.0.1"]
    gate = names.held["slow.test"] = Event()
    with pytest.raises(requests.exceptions.ConnectTimeout):
        Session().get(file.via("slow.test"), timeout=0.02)
    refused(Stalled, file.via("slow.test"), patience=Patience(connect_s=0.02))
    killed = gevent.spawn(Session().get, file.via("slow.test"))
    gevent.sleep(0)
    killed.kill()
    gate.set()
    assert Session().get(file.via("slow.test")).content == b"x"
    assert names.asked["slow.test"] == 1


# ----------------------------------------------------------------------------------------------------------- remembered


@pytest.mark.parametrize("begun", [False, True], ids=["before-it-began", "as-it-asked"])
def test_nobody_waits_for_a_lookup_that_was_killed(names: Names, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    names.held["killed.test"] = Event()
    lookups: list[gevent.Greenlet] = []
    spawn = gevent.spawn

    def noted(*told: Any) -> gevent.Greenlet:
        lookups.append(spawn(*told))
        if not begun:
            lookups[0].kill(block=False)
        return lookups[0]

    with monkeypatch.context() as patch:
        patch.setattr(gevent, "spawn", noted)
        waiting = [spawn(is_nobody, "killed.test", 80) for _ in range(3)]
        until(lambda: names.asked["killed.test"] if begun else lookups)
    lookups[0].kill(block=False)
    gevent.joinall(waiting, timeout=5, raise_error=True)
    assert all(one.ready() for one in waiting)
    assert (len(lookups), names.asked["killed.test"]) == (1, begun)
    names.addresses["killed.test"] = ["127.0.0.1"]
    names.held.clear()
    with gevent.Timeout(5):
        assert resolve.resolved("killed.test", 80)


def test_an_answer_is_remembered_for_a_while(names: Names, clock: Clock) -> None:
    names.addresses["a.test"] = ["127.0.0.1"]
    resolve.resolved("a.test", 80)
    clock.now += resolve.KEEP_S - 1
    names.addresses["a.test"] = ["127.0.0.2"]
    assert resolve.resolved("a.test", 80)[0][4] == ("127.0.0.1", 80)
    assert names.asked["a.test"] == 1
    clock.now += 2
    assert resolve.resolved("a.test", 80)[0][4] == ("127.0.0.2", 80)
    assert names.asked["a.test"] == 2


def test_a_refusal_is_remembered_for_a_moment(names: Names, clock: Clock) -> None:
    for _ in range(3):
        with pytest.raises(socket.gaierror) as caught:
            resolve.resolved("late.test", 80)
        assert caught.value.errno == socket.EAI_NONAME
    assert names.asked["late.test"] == 1
    names.addresses["late.test"] = ["127.0.0.1"]
    clock.now += resolve.KEEP_REFUSAL_S + 0.1
    assert resolve.resolved("late.test", 80)
    assert names.asked["late.test"] == 2


def test_a_name_whose_answer_got_old_still_goes_first(names: Names, clock: Clock) -> None:
    names.addresses["known.test"] = ["127.0.0.1"]
    resolve.resolved("known.test", 80)
    names.held = {f"dead-{number}.test": Event() for number in range(30)}
    jobs = [gevent.spawn(resolve.resolved, name, 80) for name in names.held]
    until(lambda: names.asked.total() > resolve.UNKNOWN_AT_ONCE)
    clock.now += resolve.KEEP_S + 1
    with gevent.Timeout(10):
        resolve.resolved("known.test", 80)
    assert names.asked["known.test"] == 2
    gevent.killall(jobs)
    for event in names.held.values():
        event.set()


def test_what_is_remembered_is_bounded(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "NAMES", 3)
    names.addresses = {f"{number}.test": ["127.0.0.1"] for number in range(5)}
    for name in names.addresses:
        resolve.resolved(name, 80)
    resolve.resolved("4.test", 80)
    resolve.resolved("0.test", 80)
    assert (names.asked["4.test"], names.asked["0.test"]) == (1, 2)


@pytest.mark.parametrize("url", ["http://nowhere.test/", "http://xn--a.test/"])
def test_a_name_without_an_address_is_unreachable(names: Names, url: str) -> None:
    with pytest.raises(requests.ConnectionError):
        Session().get(url)
    assert type(refused(Unreachable, url)) is Unreachable


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "\N{LATIN SMALL LETTER A WITH DIAERESIS}" * 64, "a..test"])
def test_a_name_that_cannot_be_one_is_refused_and_nobody_is_asked(names: Names, name: str) -> None:
    """Python's codec refuses it, too, but on the resolver's thread, where gevent prints what is raised."""
    with pytest.raises(socket.gaierror, match="is no host name"):
        resolve.resolved(name, 80)
    assert not names.asked


# ---------------------------------------------------------------------------------------------------- several addresses


def dead_then_alive(names: Names, origins: Origins, kind: str) -> tuple[Mirror, str]:
    """Two addresses under one name: nobody is at the first one, a server at the second."""
    alive = origins.http()
    if kind == "refused":
        # Its port is bound on 127.0.0.1 alone.
        names.addresses["two.test"] = ["127.0.0.2", "127.0.0.1"]
    return alive, "two.test"


def test_the_first_address_refuses_and_the_second_answers(names: Names, origins: Origins) -> None:
    alive, name = dead_then_alive(names, origins, "refused")
    file = alive.serves(b"x")
    assert Session().get(file.via(name), timeout=5).content == b"x"
    assert downloaded(file.via(name))[1] == b"x"


@pytest.fixture
def silent_twin(names: Names, origins: Origins) -> Iterator[Callable[[], Mirror]]:
    """A server on 127.0.0.1, and on its port at 127.0.0.2 a backlog that has no place left."""
    held: list[socket.socket] = []

    def made() -> Mirror:
        alive = origins.http()
        full = socket.socket()
        full.bind(("127.0.0.2", alive.port))
        full.listen(0)
        held.append(full)
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.2", alive.port))
            held.append(one)
        names.addresses["two.test"] = ["127.0.0.2", "127.0.0.1"]
        return alive

    yield made
    for sock in held:
        sock.close()


def test_the_first_address_is_silent_and_the_second_answers_within_the_connect_timeout(
    silent_twin: Callable[[], Mirror],
) -> None:
    file = silent_twin().serves(b"x")
    began = time.monotonic()
    assert Session().get(file.via("two.test"), timeout=(2, 5)).content == b"x"
    assert downloaded(file.via("two.test"), patience=Patience(connect_s=2))[1] == b"x"
    # An even share: 1 s of the 2 s for the first address; the second call finds the kept connection.
    assert 0.9 < time.monotonic() - began < 2


def test_no_address_answers_within_the_connect_timeout(silent_twin: Callable[[], Mirror], names: Names) -> None:
    file = silent_twin().serves(b"x")
    names.addresses["two.test"] = ["127.0.0.2"] * 5
    began = time.monotonic()
    with pytest.raises(requests.exceptions.ConnectTimeout):
        Session().get(file.via("two.test"), timeout=(0.3, 5))
    assert time.monotonic() - began < 1
    refused(Stalled, file.via("two.test"), patience=Patience(connect_s=0.1))


def test_a_callers_own_timeout_is_no_answer_of_an_address(silent_twin: Callable[[], Mirror]) -> None:
    file = silent_twin().serves(b"x")
    mine = gevent.Timeout(0.1)
    with pytest.raises(gevent.Timeout) as caught, mine:
        Session().get(file.via("two.test"), timeout=(60, 5))
    assert caught.value is mine
    assert file.hits == 0


def test_all_addresses_refuse(names: Names, origins: Origins) -> None:
    names.addresses["two.test"] = ["127.0.0.2", "127.0.0.1"]
    error = refused(Unreachable, f"http://two.test:{origins.refusing().port}/")
    assert "refused" in str(error)


def test_twenty_at_once_by_name(names: Names, mirror: Mirror) -> None:
    names.addresses["two.test"] = ["127.0.0.1"]
    file = mirror.serves(b"x")
    session = Session()
    assert side_by_side([lambda: session.get(file.via("two.test")).content] * 20) == [b"x"] * 20
    assert names.asked["two.test"] == 1
