"""The raw floor, which is no client: what this machine needs at the very least under gevent, with rows and without.

In: jobs.  Out: files, errors by name; rows in a database of its own.  Never: a thought for redirects, cookies, proxies,
retries or anybody's mistakes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from ..content import Job
from .base import Batch, Keeper, WrongBytes, library, secured
from .with_gevent import OnGreenlets

#: What one receive takes at most.
RECEIVED = 1 << 16
#: Files of one commit; their rows are one INSERT a table.
COMMITTED = 256

TABLES = """
CREATE TABLE unit (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL, sha256 TEXT NOT NULL);
CREATE TABLE source (unit INTEGER NOT NULL REFERENCES unit, url TEXT NOT NULL, PRIMARY KEY (unit, url)) WITHOUT ROWID;
"""


class Floor(OnGreenlets):
    """A socket, llhttp, SHA-256, write, rename; written by hand."""

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
                self._done(job)
                if not line.kept:
                    line = line.close()
            except Exception as exc:
                errors[job.name] = repr(exc)
                line = line and line.close()
        if line:
            self._kept.append(line)

    def _done(self, job: Job) -> None:
        """This file is there."""

    def asked(self, line: _Line) -> None:
        """This connection is about to be asked."""

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


class FloorRecorded(Floor):
    """The same, and each file remembered: two rows, committed for many files at once by a native thread."""

    name = "floor-recorded"
    note = "the floor, and two rows a file in SQLite, the fewest that tell a file and where it comes from"

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        self._rows = _Rows(f"{batch.folder}.db")
        try:
            return super().fetch(batch, keeper)
        finally:
            self._rows.close()

    def _done(self, job: Job) -> None:
        self._rows.put(job)


class FloorCareful(FloorRecorded):
    """The same, and every look and lock with which geofetch keeps a file whole: system calls, and no more code than
    they need.  What geofetch takes above this is its own Python.
    """

    name = "floor-careful"
    note = "floor-recorded, and the system calls that geofetch's promises need: looks at the target, a locked part"
    extra = True

    def fetch(self, batch: Batch, keeper: Keeper) -> dict[str, str]:
        return super().fetch(batch, _Careful(keeper.folder))

    def asked(self, line: _Line) -> None:
        if line.quiet.poll(0):
            raise WrongBytes("something came unasked")


class _Careful(Keeper):
    """Keeps bodies as geofetch's FileStore does: nothing is replaced but a file, nobody else had a hand on the part."""

    def whole(self, job: Job, body: bytes) -> None:
        target = f"{self.folder}/{job.name}"
        if os.access(target, os.F_OK):
            raise OSError(f"{target} is there already")
        part = f"{target}.part"
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            made = os.fstat(file)
            if hashlib.sha256(body).hexdigest() != job.sha256 or os.write(file, body) != job.size:
                raise WrongBytes(f"{len(body)} of {job.size} bytes, or another SHA-256")
            written, seen = os.fstat(file), os.lstat(part)
            if (seen.st_ino, seen.st_mtime_ns, seen.st_nlink) != (made.st_ino, written.st_mtime_ns, 1):
                raise OSError(f"{part} was touched")
            if os.access(target, os.F_OK):
                raise OSError(f"{target} was made meanwhile")
            os.close(os.dup(file))
            os.rename(part, target)
        finally:
            os.close(file)


class _Rows:
    """A database, new, and the native thread that alone uses it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = library("gevent.threadpool").ThreadPool(1)
        self._gathered: list[tuple[int, Job]] = []
        self._written: list[Any] = []
        self._count = 0
        self._thread.spawn(self._open).get()

    def put(self, job: Job) -> None:
        self._count += 1
        self._gathered.append((self._count, job))
        if len(self._gathered) == COMMITTED:
            self._commit()

    def close(self) -> None:
        """Wait until all is committed, and see that it is."""
        self._commit()
        for written in self._written:
            written.get()
        counted = self._thread.spawn(self._counted).get()
        self._thread.kill()
        if counted != self._count:
            raise WrongBytes(f"{self._count} files, and {counted} of them recorded")

    def _commit(self) -> None:
        gathered, self._gathered = self._gathered, []
        if gathered:
            self._written.append(self._thread.spawn(self._write, gathered))

    def _open(self) -> None:
        self._database = sqlite3.connect(self._path, isolation_level=None)
        self._database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {TABLES}")

    def _write(self, files: list[tuple[int, Job]]) -> None:
        self._database.execute("BEGIN")
        self._insert("unit", [(number, job.name, job.size, job.sha256) for number, job in files])
        self._insert("source", [(number, job.url) for number, job in files])
        self._database.execute("COMMIT")

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        marks = f"({', '.join('?' * len(rows[0]))})"
        values = [value for row in rows for value in row]
        self._database.execute(f"INSERT INTO {table} VALUES {', '.join([marks] * len(rows))}", values)

    def _counted(self) -> int:
        found = self._database.execute("SELECT count(*) FROM unit JOIN source ON source.unit = unit.id").fetchone()[0]
        self._database.close()
        return int(found)


class _Line:
    """One connection of the floor, and what its parser calls."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._socket = floor.connected()
        self.quiet = select.poll()
        self.quiet.register(self._socket.fileno(), select.POLLIN)
        self._buffer = memoryview(bytearray(RECEIVED))
        self.kept = True

    def get(self, job: Job, write: Any) -> None:
        self.on_body = write
        self._ended = False
        self.parser = parser = self._floor.parser(self)
        self._floor.asked(self)
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
