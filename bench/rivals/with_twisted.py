"""treq, on a reactor in a thread of its own: a reactor runs once a process, a rival's batches are many.

In: jobs.  Out: files, errors by name.  Never: a reactor in the thread that others wait in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

from ..content import Job
from .base import Batch, Keeper, Rival, library


class Treq(Rival):
    """treq over one Agent with a persistent pool."""

    name = "treq"
    modules = ("treq", "twisted")

    def open(self) -> None:
        self._treq = library("treq")
        self._defer = library("twisted.internet.defer")
        self._reactor = library("twisted.internet.reactor")
        self._call = library("twisted.internet.threads").blockingCallFromThread
        self._thread = Thread(target=self._reactor.run, kwargs={"installSignalHandlers": False}, daemon=True)
        self._thread.start()
        self._call(self._reactor, self._opened)

    def _opened(self) -> None:
        client = library("twisted.web.client")
        self._pool = client.HTTPConnectionPool(self._reactor, persistent=True)
        self._pool.maxPersistentPerHost = self.settings.connections
        trusted = {"contextFactory": self._trust(client)} if self.settings.ca else {}
        self._client = library("treq.client").HTTPClient(client.Agent(self._reactor, pool=self._pool, **trusted))

    def _trust(self, client: Any) -> Any:
        ssl = library("twisted.internet.ssl")
        bundle = Path(self.settings.ca).read_bytes()
        found = re.findall(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", bundle, re.DOTALL)
        roots = ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(one) for one in found])
        return client.BrowserLikePolicyForHTTPS(trustRoot=roots)

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        jobs = iter(batch.jobs)

        def together() -> Any:
            size = min(self.settings.connections, len(batch.jobs))
            working = [self._defer.ensureDeferred(self._work(jobs, keeper, errors)) for _ in range(size)]
            return self._defer.gatherResults(working)

        self._call(self._reactor, together)
        return errors

    async def _work(self, jobs: Iterator[Job], keeper: Keeper, errors: dict[str, str]) -> None:
        for job in jobs:
            try:
                await self._one(job, keeper)
            except Exception as exc:
                errors[job.name] = repr(exc)

    async def _one(self, job: Job, keeper: Keeper) -> None:
        response = await self._client.get(job.url, unbuffered=job.large)
        if response.code != 200:
            await response.content()
            raise OSError(f"status {response.code}")
        if not job.large:
            keeper.whole(job, await response.content())
            return
        with keeper.part(job) as write:
            await self._treq.collect(response, write)

    def close(self) -> None:
        self._call(self._reactor, self._pool.closeCachedConnections)
        self._reactor.callFromThread(self._reactor.stop)
        self._thread.join(10)
