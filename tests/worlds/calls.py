"""What is done in a world: each call is a class with a name, and says where it is promised and how long it may take.

To add one (geofetch.get, geofetch.Session, geofetch.Pool …): write a subclass of Call here; it registers itself, and
tests/test_monkey_worlds.py runs it once in each of its ``worlds``.

``prepare`` runs before a late patch, with everything imported; ``work`` after it, and its time counts.
"""

from __future__ import annotations

import importlib
import os
import socket
import ssl
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import gevent
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.util.retry import Retry
from urllib3.util.wait import wait_for_read

PATCHED = ("requests", "process", "late")
BOTH = ("requests, then process", "process, then requests")
EVERY = ("nothing", *PATCHED)

CALLS: dict[str, Call] = {}


@dataclass(frozen=True)
class Origin:
    """Where the listeners of server.py are, and the CA that signed them."""

    http: str
    https: str
    slow_handshake: str
    proxy: str
    tls_proxy: str
    ca: str

    def counts(self) -> dict[str, int]:
        found: dict[str, int] = requests.get(f"{self.http}/counts").json()
        return found


class Call:
    worlds: ClassVar[tuple[str, ...]] = ("requests",)
    under_s: ClassVar[float] = 2.0

    def __init_subclass__(cls, abstract: bool = False) -> None:
        if not abstract:
            CALLS[cls.__name__] = cls()

    def prepare(self, origin: Origin) -> Any:
        return None

    def work(self, origin: Origin, prepared: Any) -> None:
        raise NotImplementedError


def together(count: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What so many greenlets got at once; the first error is raised."""
    jobs = [gevent.spawn(function, *args) for _ in range(count)]
    gevent.joinall(jobs)
    return [job.get() for job in jobs]


class Ticker:
    """A greenlet that ticks each 10 ms; ``worst_s`` is the longest time that the hub did not let it."""

    def __enter__(self) -> Ticker:
        self.worst_s = 0.0
        self._job = gevent.spawn(self._tick)
        gevent.sleep(0)
        return self

    def _tick(self) -> None:
        last = time.perf_counter()
        while True:
            gevent.sleep(0.01)
            now = time.perf_counter()
            self.worst_s = max(self.worst_s, now - last)
            last = now

    def __exit__(self, *exc: object) -> None:
        gevent.sleep(0.02)
        self._job.kill()


def twenty(get: Callable[[], requests.Response]) -> None:
    """20 greenlets, 0.3 s each: 6 s one after the other."""
    assert [answer.text for answer in together(20, get)] == ["slow"] * 20


def session(**adapter: Any) -> requests.Session:
    made = requests.Session()
    for prefix in ("http://", "https://"):
        made.mount(prefix, HTTPAdapter(**adapter))
    return made


# --- plain requests --------------------------------------------------------------------------------------------------


class PlainHttp(Call):
    worlds = PATCHED

    def work(self, origin: Origin, prepared: Any) -> None:
        twenty(lambda: requests.get(f"{origin.http}/slow"))


class PlainHttps(Call):
    worlds = PATCHED + BOTH

    def work(self, origin: Origin, prepared: Any) -> None:
        twenty(lambda: requests.get(f"{origin.https}/slow", verify=origin.ca))


class Serial(Call):
    """The control: nothing patched, the same calls wait for one another."""

    worlds = ("nothing",)
    under_s = 10.0

    def work(self, origin: Origin, prepared: Any) -> None:
        began = time.perf_counter()
        together(5, lambda: requests.get(f"{origin.http}/slow"))
        assert time.perf_counter() - began > 1.4


class KeptAliveFromBefore(Call):
    worlds = PATCHED + BOTH
    under_s = 5.0  # three rounds: 18 s one after the other

    def prepare(self, origin: Origin) -> requests.Session:
        kept = session(pool_maxsize=20)
        for url in (origin.http, origin.https):
            for answer in [kept.get(f"{url}/fast", stream=True, verify=origin.ca) for _ in range(20)]:
                assert answer.content == b"fast"
        return kept

    def work(self, origin: Origin, prepared: requests.Session) -> None:
        twenty(lambda: prepared.get(f"{origin.http}/slow"))
        twenty(lambda: prepared.get(f"{origin.https}/slow", verify=origin.ca))
        before = origin.counts()["connections"]
        twenty(lambda: prepared.get(f"{origin.https}/slow", verify=origin.ca))
        assert origin.counts()["connections"] == before + 1, "what was opened in this world is used again"


class OwnContext(HTTPAdapter):
    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_maxsize=20)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)


class OwnSslContext(Call):
    """The standard library's context, made before any patch, its handshakes slow."""

    worlds = PATCHED + BOTH

    def prepare(self, origin: Origin) -> requests.Session:
        made = requests.Session()
        made.mount("https://", OwnContext(ssl.create_default_context(cafile=origin.ca)))
        return made

    def work(self, origin: Origin, prepared: requests.Session) -> None:
        answers = together(20, lambda: prepared.get(f"{origin.slow_handshake}/slow", verify=origin.ca))
        assert [answer.text for answer in answers] == ["slow"] * 20


class OwnSslContextIsStillAsked(Call):
    worlds = ("requests", "late")

    def prepare(self, origin: Origin) -> requests.Session:
        made = requests.Session()
        made.mount("https://", OwnContext(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))  # it trusts nobody
        return made

    def work(self, origin: Origin, prepared: requests.Session) -> None:
        error: Exception | None = None
        try:
            prepared.get(f"{origin.https}/fast")
        except requests.exceptions.SSLError as exc:
            error = exc
        assert "certificate verify failed" in str(error)


class RetryWithBackoff(Call):
    worlds = PATCHED

    def work(self, origin: Origin, prepared: Any) -> None:
        patient = session(max_retries=Retry(total=3, backoff_factor=0.3, status_forcelist=[503]))
        with Ticker() as ticker:
            began = time.perf_counter()
            assert patient.get(f"{origin.http}/failing/backoff-{os.getpid()}/2").ok
            assert time.perf_counter() - began > 0.55
        assert ticker.worst_s < 0.45, f"the hub stood still for {ticker.worst_s:.2f} s"


class RetryAfter(Call):
    def work(self, origin: Origin, prepared: Any) -> None:
        patient = session(max_retries=Retry(total=3, status_forcelist=[503]))
        with Ticker() as ticker:
            began = time.perf_counter()
            assert patient.get(f"{origin.http}/failing/after-{os.getpid()}/1/1").ok
            assert time.perf_counter() - began > 0.9
        assert ticker.worst_s < 0.7, f"the hub stood still for {ticker.worst_s:.2f} s"


class BlockingPool(Call):
    """More greenlets than places, in a pool made before the patch and in one made after."""

    worlds = PATCHED + BOTH
    under_s = 5.0

    def prepare(self, origin: Origin) -> requests.Session:
        made = session(pool_maxsize=2, pool_block=True)
        assert made.get(f"{origin.http}/fast").ok
        return made

    def work(self, origin: Origin, prepared: requests.Session) -> None:
        for blocking in (prepared, session(pool_maxsize=2, pool_block=True)):
            before = origin.counts()["connections"]
            together(8, lambda blocking=blocking: blocking.get(f"{origin.http}/slow"))
            assert origin.counts()["connections"] <= before + 3


class BlockingPoolGivesUpInTime(Call):
    def work(self, origin: Origin, prepared: Any) -> None:
        pool = urllib3.connection_from_url(origin.http, maxsize=1, block=True)
        held = pool.urlopen("GET", "/fast", preload_content=False)
        with Ticker() as ticker:
            error: Exception | None = None
            try:
                pool.urlopen("GET", "/fast", pool_timeout=0.6)
            except urllib3.exceptions.EmptyPoolError as exc:
                error = exc
        assert error is not None
        assert ticker.worst_s < 0.4
        held.drain_conn()
        assert pool.urlopen("GET", "/fast", pool_timeout=0.2).data == b"fast"


class AKilledWaiterLeavesItsPlace(Call):
    """The bell rings for one who is killed before he looks: the next one gets the place, and there is still but one."""

    def prepare(self, origin: Origin) -> Any:
        return urllib3.connection_from_url(origin.http, maxsize=1, block=True)

    def work(self, origin: Origin, prepared: Any) -> None:
        held = prepared.urlopen("GET", "/fast", preload_content=False)
        first, second = (gevent.spawn(prepared.urlopen, "GET", "/slow", preload_content=False) for _ in range(2))
        while len(prepared.pool._bells) < 2:
            gevent.sleep(0)
        held.drain_conn()
        first.kill(block=False)
        second.get(timeout=5)
        assert isinstance(first.get(timeout=5), gevent.GreenletExit)
        assert prepared.pool.qsize() == 0


class ATimeoutWhileWaitingForAPlace(Call):
    """gevent.Timeout comes through, and the pool has as many places as before."""

    def work(self, origin: Origin, prepared: Any) -> None:
        pool = urllib3.connection_from_url(origin.http, maxsize=1, block=True)
        held = pool.urlopen("GET", "/fast", preload_content=False)
        with gevent.Timeout(0.1, False) as timeout:
            pool.urlopen("GET", "/fast")
        assert not timeout.pending
        held.drain_conn()
        assert pool.urlopen("GET", "/fast").data == b"fast"
        assert pool.pool.qsize() == 1


class WaitingForASocket(Call):
    def work(self, origin: Origin, prepared: Any) -> None:
        near, far = socket.socketpair()
        with near, far, Ticker() as ticker:
            assert not wait_for_read(near, 0.6)
            far.send(b"x")
            assert wait_for_read(near, 0.3)
        assert ticker.worst_s < 0.4


class ForwardProxy(Call):
    def work(self, origin: Origin, prepared: Any) -> None:
        answers = together(20, lambda: requests.get(f"{origin.http}/slow", proxies={"http": origin.proxy}))
        assert [(answer.text, answer.headers["Via"]) for answer in answers] == [("slow", "1.1 worlds")] * 20


class Connect(Call):
    worlds = PATCHED

    def work(self, origin: Origin, prepared: Any) -> None:
        before = origin.counts().get("tunnels", 0)
        through = {"https": origin.proxy}
        twenty(lambda: requests.get(f"{origin.https}/slow", proxies=through, verify=origin.ca))
        assert origin.counts()["tunnels"] == before + 20


class TlsInTls(Call):
    worlds = PATCHED

    def work(self, origin: Origin, prepared: Any) -> None:
        before = origin.counts().get("tunnels", 0)
        through = {"https": origin.tls_proxy}
        twenty(lambda: requests.get(f"{origin.https}/slow", proxies=through, verify=origin.ca))
        assert origin.counts()["tunnels"] == before + 20


class TlsInTlsIsKeptAlive(Call):
    def work(self, origin: Origin, prepared: Any) -> None:
        kept = requests.Session()
        before = origin.counts().get("tunnels", 0)
        for _ in range(3):
            answer = kept.get(f"{origin.https}/fast", proxies={"https": origin.tls_proxy}, verify=origin.ca)
            assert answer.text == "fast"
        assert origin.counts()["tunnels"] == before + 1


class AStreamOpenedBeforeTheFirstSpawn(Call):
    def work(self, origin: Origin, prepared: Any) -> None:
        stream = requests.get(f"{origin.http}/drip", stream=True)
        with Ticker() as ticker:
            assert gevent.spawn(lambda: stream.content).get() == b"." * 10
        assert ticker.worst_s < 0.5  # 1 s otherwise


class DigestSignIn(Call):
    """One HTTPDigestAuth for all, made before the patch: nobody answers another one's challenge."""

    worlds = PATCHED

    def prepare(self, origin: Origin) -> HTTPDigestAuth:
        auth = HTTPDigestAuth("user", "secret")
        assert requests.get(f"{origin.http}/digest", auth=auth).ok
        return auth

    def work(self, origin: Origin, prepared: HTTPDigestAuth) -> None:
        for auth in (prepared, HTTPDigestAuth("user", "secret")):
            answers = together(20, lambda auth=auth: requests.get(f"{origin.http}/digest", auth=auth))
            assert [answer.status_code for answer in answers] == [200] * 20


# --- ordinary threads ------------------------------------------------------------------------------------------------


def threads(count: int, function: Callable[[], Any]) -> None:
    """So many ordinary threads at once (greenlets in a patched process); the first error is raised."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as exc:
            errors.append(exc)

    started = [threading.Thread(target=run) for _ in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        # The main thread's own greenlets go on meanwhile.
        while thread.is_alive():
            thread.join(0.01)
            gevent.sleep(0)
    if errors:
        raise errors[0]


class ThreadsShareASession(Call, abstract=True):
    """8 threads, 25 calls each, with 4 greenlets beside them: 200 calls, 200 answers, in pools that block or not."""

    worlds = EVERY
    under_s = 20.0
    block = False
    hubs = False

    def prepare(self, origin: Origin) -> requests.Session:
        shared = session(pool_maxsize=4, pool_block=self.block)
        assert shared.get(f"{origin.https}/fast", verify=origin.ca).ok
        return shared

    def work(self, origin: Origin, prepared: requests.Session) -> None:
        answers: list[str] = []

        def calls() -> None:
            if self.hubs:
                gevent.sleep(0)
            for number in range(25):
                url = origin.https if number % 5 == 0 else origin.http
                answers.append(prepared.get(f"{url}/fast", verify=origin.ca).text)

        beside = [gevent.spawn(calls) for _ in range(4)] if "nothing" not in self.worlds else []
        threads(8, calls)
        gevent.joinall(beside, raise_error=True)
        assert answers == ["fast"] * 25 * (8 + len(beside))


class OrdinaryThreads(ThreadsShareASession):
    pass


class OrdinaryThreadsWithHubs(ThreadsShareASession):
    worlds = ("requests", "requests, then process")
    hubs = True


class OrdinaryThreadsInABlockingPool(ThreadsShareASession):
    block = True


class ThreadsAndGreenletsInABlockingPool(ThreadsShareASession):
    worlds = ("requests",)
    block = True


class ThreadsWithHubsAndGreenletsInABlockingPool(ThreadsShareASession):
    worlds = ("requests",)
    block = True
    hubs = True


class ThreadsLeaveNoDescriptors(Call):
    """A hub is two descriptors that no one closes when its thread ends: ordinary threads get none."""

    worlds = EVERY
    under_s = 10.0

    def work(self, origin: Origin, prepared: Any) -> None:
        shared = requests.Session()

        def call() -> None:
            assert shared.get(f"{origin.https}/fast", verify=origin.ca).ok
            assert requests.get(f"{origin.https}/fast", verify=origin.ca).ok

        threads(1, call)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            threads(1, call)
        assert len(os.listdir("/proc/self/fd")) <= before + 5


class AForkGoesOn(Call):
    def work(self, origin: Origin, prepared: Any) -> None:
        child = os.fork()
        if not child:
            try:
                twenty(lambda: requests.get(f"{origin.http}/slow"))
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


# --- what else stands on urllib3 -------------------------------------------------------------------------------------


class Boto3(Call):
    """One client for 10 greenlets, made after the patch of what was imported before it."""

    worlds = PATCHED
    under_s = 2.5

    def prepare(self, origin: Origin) -> Any:
        return importlib.import_module("boto3")

    def work(self, origin: Origin, prepared: Any) -> None:
        client = prepared.client(
            "s3",
            endpoint_url=origin.https,
            verify=origin.ca,
            region_name="nowhere",
            aws_access_key_id="x",
            aws_secret_access_key="y",
        )
        read = together(10, lambda: client.get_object(Bucket="bucket", Key="slow")["Body"].read())
        assert read == [b"slow"] * 10


# --- geofetch's own calls: cooperative in EVERY world, patched or not; they come here ---------------------------------


class Own(Call, abstract=True):
    """What geofetch brings is imported, and used, before a late patch."""

    worlds = EVERY

    def prepare(self, origin: Origin) -> Any:
        from geofetch import Profile, Session

        kept = Session(Profile(ca=origin.ca))
        assert kept.get(f"{origin.http}/fast").text == kept.get(f"{origin.https}/fast").text == "fast"
        return kept


class OwnHttp(Own):
    def work(self, origin: Origin, prepared: Any) -> None:
        import geofetch

        twenty(lambda: geofetch.get(f"{origin.http}/slow"))


class OwnHttps(Own):
    def work(self, origin: Origin, prepared: Any) -> None:
        import geofetch

        twenty(lambda: geofetch.get(f"{origin.https}/slow", verify=origin.ca))


class OwnHandshakes(Own):
    """The server begins each handshake 0.3 s late."""

    worlds = ("nothing", "late")

    def work(self, origin: Origin, prepared: Any) -> None:
        twenty(lambda: prepared.get(f"{origin.slow_handshake}/slow"))


class OwnSession(Own):
    """One Session for all, made before the patch, with connections from before it."""

    worlds = EVERY + BOTH
    under_s = 4.0  # three rounds: 18 s one after the other

    def work(self, origin: Origin, prepared: Any) -> None:
        for url in (origin.http, origin.https, origin.https):
            twenty(lambda url=url: prepared.get(f"{url}/slow"))


class OwnPool(Own):
    """20 downloads, all at the same time."""

    def work(self, origin: Origin, prepared: Any) -> None:
        import geofetch

        specs = [
            geofetch.Spec(f"{url}/slow", path=f"{url[:5]}-{number}", size=4)
            for url in (origin.http, origin.https)
            for number in range(10)
        ]
        store = geofetch.MemoryStore()
        with geofetch.Pool(20, session=prepared, store=store, progress=False, retries=0) as pool:
            outcomes = pool.map(specs)
        assert [outcome.state for outcome in outcomes] == ["stored"] * 20, outcomes


class OwnProxies(Own):
    worlds = ("nothing", "late")
    under_s = 3.0

    def work(self, origin: Origin, prepared: Any) -> None:
        through = {"http": origin.proxy, "https": origin.proxy}
        twenty(lambda: prepared.get(f"{origin.http}/slow", proxies=through))
        twenty(lambda: prepared.get(f"{origin.https}/slow", proxies=through))


class OwnTlsInTls(Own):
    worlds = ("nothing", "late")

    def work(self, origin: Origin, prepared: Any) -> None:
        twenty(lambda: prepared.get(f"{origin.https}/slow", proxies={"https": origin.tls_proxy}))


def by_address(url: str) -> str:
    """Without a name: gevent 26.9 crashes at the process' end where a thread of a ThreadPool looked one up."""
    return url.replace("localhost", "127.0.0.1")


class OwnSessionInNativeThreads(Own):
    """Three threads of gevent's ThreadPool and this one, at once: 80 calls, 80 answers, no socket shared."""

    under_s = 10.0

    def work(self, origin: Origin, prepared: Any) -> None:
        from gevent.threadpool import ThreadPool

        def calls() -> list[str]:
            urls = [by_address(url) for url in (origin.http, origin.https)]
            return [prepared.get(f"{urls[number % 2]}/fast").text for number in range(20)]

        before = origin.counts()["connections"]
        pool = ThreadPool(3)
        jobs = [pool.spawn(calls) for _ in range(3)]
        assert calls() == ["fast"] * 20
        assert [job.get(timeout=10) for job in jobs] == [["fast"] * 20] * 3
        # Two for each thread at most (it has one greenlet), two for this one, one for the question itself.
        assert origin.counts()["connections"] - before <= 9


class OwnGreenletsInNativeThreads(Own):
    """Each thread has a hub of its own, and ten greenlets that wait together."""

    worlds = ("nothing", "late")
    under_s = 3.0

    def work(self, origin: Origin, prepared: Any) -> None:
        from gevent.threadpool import ThreadPool

        pool, url = ThreadPool(3), by_address(origin.https)
        jobs = [pool.spawn(together, 10, lambda: prepared.get(f"{url}/slow").text) for _ in range(3)]
        assert [job.get(timeout=10) for job in jobs] == [["slow"] * 10] * 3


class OwnForkGoesOn(Own):
    """The child opens its own connections; those that the parent keeps are the parent's, and still good there."""

    under_s = 6.0

    def work(self, origin: Origin, prepared: Any) -> None:
        urls = (f"{origin.http}/fast", f"{origin.https}/fast")

        def opened(function: Callable[[], Any]) -> int:
            before = origin.counts()["connections"]
            function()
            return origin.counts()["connections"] - before - 1

        def calls() -> None:
            assert [prepared.get(url).text for url in urls * 3] == ["fast"] * 6

        calls()
        assert opened(calls) == 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from 3.12 on: the resolver's native threads are not in the child
            child = os.fork()
        if not child:
            try:
                assert opened(calls) == 2
                assert opened(calls) == 0
                twenty(lambda: prepared.get(f"{origin.https}/slow"))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert opened(calls) == 0


class KeptProfiles(Call):
    """Profiles are saved, loaded and resolved on native threads, and hold up nobody in any world."""

    worlds = EVERY
    under_s = 10.0

    def prepare(self, origin: Origin) -> Any:
        import tempfile

        import geofetch

        assert geofetch.Profiles
        return tempfile.mkdtemp()

    def work(self, origin: Origin, folder: Any) -> None:
        import geofetch

        pipe = f"{folder}/token"
        os.mkfifo(pipe)
        kept = geofetch.Profiles(path=f"{folder}/profiles.toml")
        kept.add(geofetch.Profile(name="a", token=geofetch.Secret(f"file:{pipe}"), origins=(origin.http,)))
        kept.save()
        found = geofetch.Profiles.load(kept.path)

        def fetched() -> Any:
            with geofetch.Pool(2, profiles=found, progress=False) as pool:
                source = geofetch.Source(f"{origin.http}/counts", profile="a")
                (outcome,) = pool.map([geofetch.Spec(source)])
                with outcome.raise_for_error().location as file:
                    return file.read()

        with Ticker() as ticker:
            job = gevent.spawn(fetched)
            gevent.sleep(0.3)
            assert not job.ready()
            number = os.open(pipe, os.O_WRONLY)
            os.write(number, b"s3cret\n")
            os.close(number)
            assert job.get(timeout=8)
        assert ticker.worst_s < 0.5, ticker.worst_s
