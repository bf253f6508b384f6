"""MariaDB and MySQL, through PyMySQL.  In: an address.  Out: a connection, as records use it; transactions, ids.

One process writes at a time: a transaction begins with a lock on the first row of ``geofetch_schema``, so that what it
read stays true until it commits.  Text is compared byte by byte; the servers' own ways would take A for a.

Never: a session that cuts a value short to make it fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from peewee import SQL, Database, Entity, InterfaceError, MySQLDatabase, NodeList, OperationalError, fn

from ...errors import SpecError
from ..models import LongTextField, UnitRow
from ..sql import done, fetched
from .kind import BUSY_S, IDLE_S, Kind, original

if TYPE_CHECKING:
    from .address import Address

__all__ = ["MYSQL", "MySQL", "MySQLKind"]

#: Parameters of a URL's query, by what their values are.
TEXTS = ("unix_socket", "read_default_file", "read_default_group", "ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password")
SWITCHES = ("ssl_disabled", "ssl_verify_cert", "ssl_verify_identity")
NUMBERS = ("connect_timeout", "read_timeout", "write_timeout")
TRUTHS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}

#: Characters of a path or key that an index begins with; InnoDB's take 3,072 bytes.
PREFIX = 255
SESSION = f"SET SESSION default_storage_engine = InnoDB, innodb_lock_wait_timeout = {BUSY_S}"
MODES = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
LOCK = "SELECT version FROM geofetch_schema ORDER BY version LIMIT 1 FOR UPDATE"
#: A name of its own for each database of a server, within 64 characters.
SCHEMA_LOCK = "CONCAT('geofetch ', LEFT(SHA2(DATABASE(), 256), 40))"

#: No connection, too many of them, shutting down, lost, given up; deadlock.
PASSING = frozenset({0, 1040, 1053, 1077, 1079, 1080, 1213, 1317, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 3169, 4031})
#: Of these only the first two may pass where there never was a connection.
AT_FIRST = frozenset({1040, 1053})
#: A value that is null, cut, out of range, no number, no text, or against a CHECK.
ROW = frozenset({1048, 1264, 1265, 1292, 1366, 1406, 3819, 4025})


class MySQL(MySQLDatabase):
    maria = False

    def _connect(self) -> Any:
        from pymysql import Connection

        found = Connection(database=self.database, autocommit=True, defer_connect=True, **self.connect_params)
        try:
            found.connect()
        except BaseException:
            found._force_close()  # of a handshake that fails PyMySQL leaves the socket open
            raise
        return found

    def _set_server_version(self, conn: Any) -> None:
        super()._set_server_version(conn)  # type: ignore[misc]
        self.maria = "maria" in str(conn.get_server_info()).lower()
        text = f"CHARACTER SET utf8mb4 COLLATE {'utf8mb4_nopad_bin' if self.maria else 'utf8mb4_0900_bin'}"
        types: dict[str, str] = self._field_types  # type: ignore[attr-defined]
        types.update(
            TEXT=f"LONGTEXT {text}", LONGTEXT=f"LONGTEXT {text}", NAME=f"VARCHAR(700) {text}", HASH="BINARY(16)"
        )


class MySQLKind(Kind):
    schemes = ("mysql", "mariadb")
    undoes_schema = False

    def told(self, given: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            import pymysql  # noqa: F401
        except ImportError:
            raise SpecError("MariaDB and MySQL want PyMySQL: pip install 'geofetch[mysql]'") from None
        found: dict[str, Any] = {}
        for name, value in given.items():
            if name in ("host", "user", "password", "dbname", *TEXTS):
                found[name] = value
            elif name in SWITCHES and value.lower() in TRUTHS:
                found[name] = TRUTHS[value.lower()]
            elif name in ("port", *NUMBERS) and value.isdecimal():
                found[name] = int(value)
            else:
                known = ", ".join((*TEXTS, *SWITCHES, *NUMBERS))
                raise SpecError(f"bad database URL: {name!r} is no parameter, or has no such value; they are {known}")
        return found

    def connected(self, address: Address) -> Database:
        parameters = {**address.told}
        database = MySQL(
            parameters.pop("dbname"), thread_safe=False, sql_mode=MODES, init_command=SESSION, **parameters
        )
        database.connect()
        done(database, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        if database.maria:  # MySQL has no such thing: there the lock of a process that stands still is waited for
            done(database, f"SET SESSION idle_transaction_timeout = {IDLE_S}")
        return database

    def set_durable(self, database: Database, durable: bool) -> None:
        # A session has no word in it.
        if durable and done(database, "SELECT @@innodb_flush_log_at_trx_commit").fetchone()[0] != 1:
            raise OperationalError("the server does not sync its commits; set innodb_flush_log_at_trx_commit = 1")

    @contextmanager
    def writing(self, database: Database) -> Iterator[Any]:
        with database.atomic():
            done(database, LOCK).fetchall()
            yield

    @contextmanager
    def altering(self, database: Database) -> Iterator[Any]:
        # Each step of a schema commits by itself.
        if done(database, f"SELECT GET_LOCK({SCHEMA_LOCK}, {BUSY_S})").fetchone()[0] != 1:
            raise OperationalError("another process is changing the schema")
        try:
            yield
        finally:
            with suppress(OperationalError, InterfaceError):  # with the connection the lock is gone, too
                done(database, f"SELECT RELEASE_LOCK({SCHEMA_LOCK})").fetchone()

    def snapshot(self, database: Database) -> AbstractContextManager[Any]:
        return database.atomic("REPEATABLE READ")

    def new_ids(self, database: Database, count: int) -> Sequence[int]:
        # Whoever writes has the lock, and so are all ids that were given to be seen.
        first = int(fetched(database, UnitRow.select(fn.MAX(UnitRow.id)))[0][0] or 0) + 1
        return range(first, first + count)

    def upserting(self, query: Any, key: list[Any], others: list[Any]) -> Any:
        # Not INSERT IGNORE, which makes a warning of every error.
        return query.on_conflict(update={field: _new(field) for field in others or key[:1]})

    def index(self, index: Any) -> Any:
        # Text has an index of its beginning alone.
        fields = index._expressions
        if len(fields) == 1 and isinstance(fields[0], LongTextField):
            index = index.clone()
            index._expressions = [NodeList((Entity(fields[0].column_name), SQL(f"({PREFIX})")), glue="")]
        return index

    def of_row(self, exc: BaseException) -> bool:
        return _number(exc) in ROW

    def passing(self, exc: BaseException, known: bool) -> bool:
        return _number(exc) in (PASSING if known else AT_FIRST)


MYSQL = MySQLKind()


def _new(field: Any) -> Any:
    return fn.VALUES(Entity(field.column_name))


def _number(exc: BaseException) -> int | None:
    exc = original(exc)
    if not type(exc).__module__.startswith("pymysql") or not exc.args:
        return None
    return exc.args[0] if isinstance(exc.args[0], int) else None
