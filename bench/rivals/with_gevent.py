"""Clients on gevent: geventhttpclient, urllib3 in a patched process, and the raw floor, which is no client at all.

In: jobs.  Out: files, errors by name.  Never: geofetch; it has a module of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from ..content import Job
from .base import PIECE, Batch, Keeper, Rival, WrongBytes, library, secured

#: What one receive of the floor takes at most.
RECEIVED = 1 << 16


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


class Floor(OnGreenlets):
    """What this machine needs at the very least under gevent: a socket, llhttp, SHA-256, write, rename; written by
    hand, without a thought for redirects, cookies, proxies, retries or anybody's mistakes."""

    name = "floor"
    modules = ("gevent", "httptools")
    note = "no client: gevent sockets, llhttp, SHA-256, write, rename"

    @classmethod
    def version(cls) -> str:
        return ""

    def open(self) -> None:
        super().open()
        self._socket = library("gevent.socket")
        self._parser = library("httptools").HttpResponseParser
        self._context = secured(self.settings.ca) and library("gevent.ssl").create_default_context(
            cafile=self.settings.ca
        )
        where = urlsplit(self.settings.base)
        self._host, self._port = where.hostname or "", where.port or 80
        self._kept: list[Any] = []

    def _work(self, jobs: Iterator[Job], keeper: Keeper, errors: dict[str, str]) -> None:
        line = None
        for job in jobs:
            try:
                line = line or (self._kept.pop() if self._kept else _Line(self))
                if job.large:
                    with keeper.part(job) as write:
                        line.get(job, write)
                else:
                    pieces: list[bytes] = []
                    line.get(job, pieces.append)
                    keeper.whole(job, pieces[0] if len(pieces) == 1 else b"".join(pieces))
                if not line.kept:
                    line = line.close()
            except Exception as exc:
                errors[job.name] = repr(exc)
                line = line and line.close()
        if line:
            self._kept.append(line)

    def connected(self) -> Any:
        """A new socket, TLS done."""
        raw = self._socket.create_connection((self._host, self._port))
        raw.setsockopt(self._socket.IPPROTO_TCP, self._socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(raw, server_hostname=self._host) if self._context else raw

    def parser(self, line: Any) -> Any:
        """A new parser that calls this line."""
        return self._parser(line)

    def request(self, job: Job) -> bytes:
        """The head of a request."""
        path = job.url[len(self.settings.base) :]
        return f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n".encode()

    def close(self) -> None:
        for line in self._kept:
            line.close()


class _Line:
    """One connection of the floor, and what its parser calls."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._socket = floor.connected()
        self._buffer = memoryview(bytearray(RECEIVED))
        self.kept = True

    def get(self, job: Job, write: Any) -> None:
        self.on_body = write
        self._ended = False
        self.parser = parser = self._floor.parser(self)
        self._socket.sendall(self._floor.request(job))
        receive, buffer = self._socket.recv_into, self._buffer
        while not self._ended:
            count = receive(buffer)
            if not count:
                raise WrongBytes("cut off")
            parser.feed_data(buffer[:count])
        if parser.get_status_code() != 200:
            raise OSError(f"status {parser.get_status_code()}")

    def on_message_complete(self) -> None:
        self._ended = True
        self.kept = self.parser.should_keep_alive()

    def close(self) -> None:
        self._socket.close()
