"""geofetch itself, through its public names alone.

In: jobs, or a number of files for the case without a network.  Out: files, errors by name.  Never: a side door.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ..content import Job
from .base import Batch, Keeper, Rival, library

#: How often the hub is looked at, in seconds.
TICK_S = 0.01


class Geofetch(Rival):
    """geofetch.Pool with a FileStore and a Recorder: checks, publishes, and remembers each file in SQLite."""

    name = "geofetch"
    modules = ("geofetch",)
    note = "also records every file in SQLite; the pool and the database are opened and closed within the time"
    recorded = True
    durable = False

    def open(self) -> None:
        self._geofetch = library("geofetch")
        profile = self._geofetch.Profile(ca=self.settings.ca) if self.settings.ca else None
        self._session = self._geofetch.Session(profile)
        self._worst_s = 0.0

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        with self._watched(), self._pool(batch) as pool:
            for outcome in pool.imap_unordered(self._spec(job) for job in batch.jobs):
                if not outcome.ok:
                    errors[outcome.spec.path] = repr(outcome.error)
        return errors

    def _pool(self, batch: Batch) -> Any:
        return self._geofetch.Pool(
            self.settings.connections,
            session=self._session,
            store=self._geofetch.FileStore(batch.folder, durable=self.durable),
            recorder=f"sqlite:///{batch.folder}.db" if self.recorded else None,
            retries=0,
            progress=False,
        )

    def _spec(self, job: Job) -> Any:
        return self._geofetch.Spec(job.url, path=job.name, size=job.size, digests=f"sha256:{job.sha256}")

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """How long the hub was away at most, while the block runs: a greenlet that ticks."""
        gevent, clock = library("gevent"), library("time").monotonic
        self._worst_s = 0.0

        def tick() -> None:
            last = clock()
            while True:
                gevent.sleep(TICK_S)
                now = clock()
                self._worst_s = max(self._worst_s, now - last)
                last = now

        ticker = gevent.spawn(tick)
        try:
            yield
        finally:
            ticker.kill()

    def told(self) -> dict[str, Any]:
        return {"hub_away_s": round(self._worst_s, 4)}


class Unrecorded(Geofetch):
    """The same without records."""

    name = "geofetch-unrecorded"
    note = "records nothing"
    extra = True
    recorded = False


class Durable(Geofetch):
    """The same, and what it reports as stored outlives a cut of power."""

    name = "geofetch-durable"
    note = "durable=True"
    extra = True
    durable = True


class DurableUnrecorded(Unrecorded):
    """Durable, and without records."""

    name = "geofetch-durable-unrecorded"
    note = "durable=True; records nothing"
    durable = True


class SessionOnly(Geofetch):
    """geofetch.Session().get, from as many greenlets as connections; bodies stay in memory."""

    name = "geofetch-session"
    note = "Session().get"
    extra = True

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        gevent, session = library("gevent"), self._session
        errors: dict[str, str] = {}
        jobs = iter(batch.jobs)

        def work() -> None:
            for job in jobs:
                try:
                    response = session.get(job.url, timeout=60)
                    response.raise_for_status()
                    keeper.whole(job, response.content)
                except Exception as exc:
                    errors[job.name] = repr(exc)

        if self.settings.connections == 1:
            work()
        else:
            gevent.joinall([gevent.spawn(work) for _ in range(self.settings.connections)], raise_error=True)
        return errors

    def told(self) -> dict[str, Any]:
        return {}


class Flood(Geofetch):
    """Any number of specs, no network, a store that drops what it gets: what one spec costs, and what it leaves."""

    name = "geofetch-flood"
    note = "file: sources, a store that drops; RSS at ten points in the JSON"
    extra = True
    points = 10

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        self._rss: list[int] = []
        every = max(1, batch.files // self.points)
        source = batch.jobs[0]
        with self._geofetch.Pool(self.settings.connections, store=_Drain(), retries=0, progress=False) as pool:
            for number, outcome in enumerate(pool.imap_unordered(self._specs(source, batch.files)), 1):
                if not outcome.ok:
                    errors[f"spec {number}"] = repr(outcome.error)
                if number % every == 0:
                    self._rss.append(_resident())
        self._count = number
        return errors

    def _specs(self, source: Job, files: int) -> Iterator[Any]:
        for number in range(files):
            yield self._geofetch.Spec(
                source.url, path=f"{number:07}", size=source.size, digests=f"sha256:{source.sha256}"
            )

    def told(self) -> dict[str, Any]:
        return {"rss_at_points": self._rss, "ended": self._count}


def _resident() -> int:
    """Bytes of memory that are resident now; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as told:
            return int(told.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class _Drain:
    """A store that keeps nothing."""

    name = ""
    address = None

    def ready(self) -> None:
        """It always is."""

    def have(self, spec: Any, recall: Any, reread: bool = False) -> None:
        return None

    def begin(self, attempt: Any, head: Any) -> _Drop:
        return _Drop()

    def open(self, key: str) -> Any:
        raise FileNotFoundError(key)

    def stat(self, key: str) -> None:
        return None

    def quarantine(self, key: str) -> Any:
        raise FileNotFoundError(key)

    def keys(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None:
        """Nothing to let go of."""


class _Drop:
    """A part that goes nowhere."""

    def write(self, view: memoryview) -> None:
        """Gone."""

    def publish(self, digests: Any) -> tuple[None, None]:
        return None, None

    def discard(self) -> None:
        """Gone already."""
