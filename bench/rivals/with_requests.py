"""requests, and what is built right on it: one after the other, on threads, on greenlets, grequests, requests-futures.

In: jobs.  Out: files, errors by name.  Never: a patched process where the client asks for none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import local
from typing import Any, ClassVar

from ..content import Job
from .base import PIECE, Batch, Keeper, Rival, library


def taken(keeper: Keeper, job: Job, response: Any) -> None:
    """Check the status, read the body, keep it."""
    with response:
        response.raise_for_status()
        if job.large:
            keeper.pieces(job, response.iter_content(PIECE))
        else:
            keeper.whole(job, response.content)


def attempted(errors: dict[str, str], job: Job, act: Callable[..., object], *given: object) -> None:
    """Do it; what it raises is noted by the job's name."""
    try:
        act(*given)
    except Exception as exc:
        errors[job.name] = repr(exc)


class Requests(Rival):
    """requests, one file after the other over one Session."""

    name = "requests"
    modules: ClassVar[tuple[str, ...]] = ("requests",)
    serial = True

    def open(self) -> None:
        self._requests = library("requests")
        self._session = self._a_session()

    def _a_session(self) -> Any:
        session = self._requests.Session()
        adapter = self._requests.adapters.HTTPAdapter(pool_maxsize=self.settings.connections)
        session.mount("http://", adapter)
        session.mount("https://", adapter)
        if self.settings.ca:
            session.verify = self.settings.ca
        return session

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        for job in batch.jobs:
            attempted(errors, job, self._one, self._session, keeper, job)
        return errors

    def _one(self, session: Any, keeper: Keeper, job: Job) -> None:
        taken(keeper, job, session.get(job.url, stream=job.large, timeout=60))

    def close(self) -> None:
        self._session.close()


class RequestsGreen(Requests):
    """requests in a process that gevent patched, one Session, as many greenlets as connections."""

    name = "requests-gevent"
    modules = ("requests", "gevent")
    serial = False

    def open(self) -> None:
        library("gevent.monkey").patch_all()
        self._gevent = library("gevent")
        super().open()

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        jobs = iter(batch.jobs)

        def work() -> None:
            for job in jobs:
                attempted(errors, job, self._one, self._session, keeper, job)

        self._gevent.joinall([self._gevent.spawn(work) for _ in range(self.settings.connections)], raise_error=True)
        return errors


class RequestsThreads(Requests):
    """requests on a pool of native threads, a Session each: its documents promise no more."""

    name = "requests-threads"
    serial = False

    def open(self) -> None:
        super().open()
        self._own = local()
        self._threads = ThreadPoolExecutor(self.settings.connections)

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}

        def work(job: Job) -> None:
            session = getattr(self._own, "session", None)
            if session is None:
                session = self._own.session = self._a_session()
            attempted(errors, job, self._one, session, keeper, job)

        for _ in self._threads.map(work, batch.jobs):
            pass
        return errors

    def close(self) -> None:
        self._threads.shutdown()
        super().close()


class Grequests(Requests):
    """grequests.imap over one Session; without one it makes a Session, and so a connection, a request."""

    name = "grequests"
    modules = ("grequests",)
    serial = False
    note = "with a shared Session; its own default is one a request"

    def open(self) -> None:
        self._grequests = library("grequests")  # patches the process, all but threads and select
        super().open()

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        named = {job.url: job.name for job in batch.jobs}

        def failed(request: Any, error: Exception) -> None:
            errors[named[request.url]] = repr(error)

        calls = (
            self._grequests.get(job.url, session=self._session, timeout=60, callback=self._taker(keeper, job))
            for job in batch.jobs
        )
        streamed = any(job.large for job in batch.jobs)
        size = self.settings.connections
        for _ in self._grequests.imap(calls, stream=streamed, size=size, exception_handler=failed):
            pass
        return errors

    def _taker(self, keeper: Keeper, job: Job) -> Callable[..., None]:
        # In the callback, which runs in the request's own greenlet: what it raises reaches the exception handler.
        def take(response: Any, **settings: Any) -> None:
            taken(keeper, job, response)

        return take


class RequestsFutures(Requests):
    """requests-futures: a FuturesSession with as many threads as connections."""

    name = "requests-futures"
    modules = ("requests_futures",)
    serial = False

    def _a_session(self) -> Any:
        sessions = library("requests_futures.sessions")
        return sessions.FuturesSession(session=super()._a_session(), max_workers=self.settings.connections)

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        futures = [(job, self._session.get(job.url, **self._how(keeper, job))) for job in batch.jobs]
        self._waited(futures, errors)
        return errors

    def _how(self, keeper: Keeper, job: Job) -> dict[str, Any]:
        def take(response: Any, *unused: Any, **settings: Any) -> None:
            taken(keeper, job, response)

        told: dict[str, Any] = {"stream": job.large, "timeout": 60, "hooks": {"response": take}}
        return told | ({"verify": self.settings.ca} if self.settings.ca else {})

    def _waited(self, futures: Iterable[tuple[Job, Any]], errors: dict[str, str]) -> None:
        for job, future in futures:
            attempted(errors, job, future.result)
