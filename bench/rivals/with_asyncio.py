"""The asyncio clients: aiohttp and httpx, each with one client, as many tasks as connections.

In: jobs.  Out: files, errors by name.  Never: a loop that outlives the rival.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from typing import Any

from ..content import Job
from .base import PIECE, Batch, Keeper, Rival, library, secured

#: Seconds for which an idle connection is kept: longer than a round of all rivals.
KEPT_S = 600.0


class OnALoop(Rival):
    """A client of asyncio: its loop, and the tasks that share a batch."""

    def open(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._opened())

    @abstractmethod
    async def _opened(self) -> None: ...

    @abstractmethod
    async def _one(self, job: Job, keeper: Keeper) -> None: ...

    @abstractmethod
    async def _closed(self) -> None: ...

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        errors: dict[str, str] = {}
        jobs = iter(batch.jobs)

        async def work() -> None:
            for job in jobs:
                try:
                    await self._one(job, keeper)
                except Exception as exc:
                    errors[job.name] = repr(exc)

        async def together() -> None:
            await asyncio.gather(*(work() for _ in range(self.settings.connections)))

        self._loop.run_until_complete(together())
        return errors

    def close(self) -> None:
        self._loop.run_until_complete(self._closed())
        self._loop.close()


class Aiohttp(OnALoop):
    """aiohttp: one ClientSession."""

    name = "aiohttp"
    modules = ("aiohttp",)

    async def _opened(self) -> None:
        aiohttp = library("aiohttp")
        ssl: Any = secured(self.settings.ca) or True
        # By default it drops a connection that was idle for 15 s, which the others' rounds take.
        connector = aiohttp.TCPConnector(limit=self.settings.connections, ssl=ssl, keepalive_timeout=KEPT_S)
        # Its total timeout of five minutes would end large files.
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(None, sock_read=60))

    async def _one(self, job: Job, keeper: Keeper) -> None:
        async with self._session.get(job.url) as response:
            response.raise_for_status()
            if not job.large:
                keeper.whole(job, await response.read())
                return
            with keeper.part(job) as write:
                async for piece in response.content.iter_any():
                    write(piece)

    async def _closed(self) -> None:
        await self._session.close()


class Httpx(OnALoop):
    """httpx: one AsyncClient."""

    name = "httpx"
    modules = ("httpx",)

    async def _opened(self) -> None:
        httpx = library("httpx")
        size = self.settings.connections
        limits = httpx.Limits(max_connections=size, max_keepalive_connections=size, keepalive_expiry=KEPT_S)
        verify: Any = secured(self.settings.ca) or True
        self._client = httpx.AsyncClient(limits=limits, verify=verify, timeout=httpx.Timeout(60, pool=None))

    async def _one(self, job: Job, keeper: Keeper) -> None:
        if not job.large:
            response = await self._client.get(job.url)
            response.raise_for_status()
            keeper.whole(job, response.content)
            return
        async with self._client.stream("GET", job.url) as response:
            response.raise_for_status()
            with keeper.part(job) as write:
                async for piece in response.aiter_bytes(PIECE):
                    write(piece)

    async def _closed(self) -> None:
        await self._client.aclose()
