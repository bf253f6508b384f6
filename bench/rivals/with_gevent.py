"""Clients on gevent: geventhttpclient, and urllib3 in a patched process.

In: jobs.  Out: files, errors by name.  Never: geofetch; it has a module of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from ..content import Job
from .base import PIECE, Batch, Keeper, Rival, library


class OnGreenlets(Rival):
    """As many greenlets as connections share a batch."""

    def open(self) -> None:
        self._gevent = library("gevent")

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        jobs = iter(batch.jobs)
        size = min(self.settings.connections, len(batch.jobs))
        greenlets = [self._gevent.spawn(self._work, jobs, keeper, errors) for _ in range(size)]
        self._gevent.joinall(greenlets, raise_error=True)
        return errors

    @abstractmethod
    def _work(self, jobs: Iterator[Job], keeper: Keeper, errors: dict[str, str]) -> None:
        """One greenlet's share."""


class OneByOne(OnGreenlets):
    """A client that is asked for one file at a time in each greenlet."""

    def _work(self, jobs: Iterator[Job], keeper: Keeper, errors: dict[str, str]) -> None:
        for job in jobs:
            try:
                self._one(job, keeper)
            except Exception as exc:
                errors[job.name] = repr(exc)

    @abstractmethod
    def _one(self, job: Job, keeper: Keeper) -> None: ...


class Geventhttpclient(OneByOne):
    """geventhttpclient: one HTTPClient for the host."""

    name = "geventhttpclient"
    modules = ("geventhttpclient",)

    def open(self) -> None:
        super().open()
        told: dict[str, Any] = {"concurrency": self.settings.connections, "network_timeout": 60}
        if self.settings.ca:
            told["ssl_options"] = {"ca_certs": self.settings.ca}
            context = library("gevent.ssl").create_default_context(cafile=self.settings.ca)
            told["ssl_context_factory"] = lambda *given, **named: context
        self._client = library("geventhttpclient").HTTPClient.from_url(self.settings.base, **told)

    def _one(self, job: Job, keeper: Keeper) -> None:
        response = self._client.get(job.url[len(self.settings.base) :])
        try:
            if response.status_code != 200:
                raise OSError(f"status {response.status_code}")
            if job.large:
                keeper.pieces(job, iter(lambda: bytes(response.read(PIECE)), b""))
            else:
                keeper.whole(job, bytes(response.read()))
        finally:
            response.release()

    def close(self) -> None:
        self._client.close()


class Urllib3(OneByOne):
    """urllib3 in a process that gevent patched: one PoolManager."""

    name = "urllib3-gevent"
    modules = ("urllib3", "gevent")

    def open(self) -> None:
        library("gevent.monkey").patch_all()
        super().open()
        trust = {"ca_certs": self.settings.ca} if self.settings.ca else {}
        self._pools = library("urllib3").PoolManager(
            maxsize=self.settings.connections, block=True, retries=False, timeout=60, **trust
        )

    def _one(self, job: Job, keeper: Keeper) -> None:
        response = self._pools.request("GET", job.url, preload_content=not job.large)
        if response.status != 200:
            response.drain_conn()
            raise OSError(f"status {response.status}")
        if not job.large:
            keeper.whole(job, response.data)
            return
        keeper.pieces(job, response.stream(PIECE))
        response.release_conn()

    def close(self) -> None:
        self._pools.clear()
