"""PostgreSQL, through psycopg 3.  In: an address.  Out: a connection, as records use it; transactions, ids.

One process writes at a time: a transaction takes an advisory lock of the schema's, so that what it read stays true
until it commits.  Row locks would not do: the units that claim one place are no row of their own.  The lock goes with
the transaction, however that ends; a process that stands still within one loses it after ``IDLE_S``.

Never: psycopg2, which peewee would prefer; a wait on anybody's hub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from peewee import Database, OperationalError, PostgresqlDatabase, Psycopg3Adapter

from ...errors import SpecError
from ..models import LongTextField
from ..sql import done
from .kind import BUSY_S, IDLE_S, SILENT_S, Kind, original

if TYPE_CHECKING:
    from .address import Address

__all__ = ["POSTGRESQL", "PostgreSQL", "PostgreSQLKind"]

#: What its advisory locks are counted under; the other half of their number is the schema's name.
LOCK = 0x6765_6F66  # "geof"

#: Unless the URL says otherwise: a host that is gone without a word is given up after half a minute.
PARAMETERS = {
    "application_name": "geofetch",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

#: Connection lost, shutting down or starting up, given up for its idleness, too many; deadlock, serialization; a
#: standby that takes over.
PASSING = ("08", "57P0", "25P03", "53300", "40001", "40P01", "25006")
#: What a server says for which libpq has no code.
STARTING = (
    "starting up",
    "shutting down",
    "in recovery",
    "not yet accepting",
    "too many clients",
    "remaining connection",
)


class _Adapter(Psycopg3Adapter):
    def connect(self, db: Any, **params: Any) -> Any:
        from psycopg.types.numeric import Int8Dumper

        found = _connection().connect(cursor_factory=_cursor(), **params)
        # One type for every number: by default it depends on how large each is, and a statement is prepared anew for
        # each combination of them.
        found.adapters.register_dumper(int, Int8Dumper)
        return found


@cache
def _connection() -> Any:
    from psycopg import Connection, OperationalError

    class Impatient(Connection[Any]):
        """Gives up a server that stands still.

        Its kernel goes on to say that it is there, so that neither keepalives nor ``tcp_user_timeout`` notice.
        """

        silent_s: float | None = None

        def wait(self, gen: Any, *how: Any, **named: Any) -> Any:
            return super().wait(gen if self.silent_s is None else self._heard(gen, self.silent_s), *how, **named)

        def _heard(self, gen: Any, silent_s: float) -> Any:
            # psycopg wakes its generator several times a second: with 0 where the socket had nothing to say.
            until = monotonic() + silent_s
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    if ready:
                        until = monotonic() + silent_s
                    elif monotonic() > until:
                        self.pgconn.finish()  # what is asked next over this connection would wait as long
                        raise OperationalError(f"the server has said nothing for {silent_s} s, and is given up")
                    wanted = gen.send(ready)
            except StopIteration as last:
                return last.value

    return Impatient


@cache
def _cursor() -> Any:
    from psycopg import RawCursor

    class Numbered(RawCursor[Any]):
        """Hands a statement over with its places numbered.

        psycopg takes a statement apart to number them, and one of more than fifty each time anew: that was three
        quarters of the CPU that a batch took here (85 us a row, 22 without).
        """

        def execute(self, query: Any, params: Any = None, **how: Any) -> Any:
            return super().execute(_NUMBERED.get(query) or _numbered(query), params, **how)

    return Numbered


#: Statements with places by their texts as rows.py keeps them, and as peewee writes others: so many at most.
_NUMBERED: dict[str, str] = {}
MOST_STATEMENTS = 1000


def _numbered(text: str) -> str:
    first, *rest = text.split("%s")
    if not rest:
        return text  # a savepoint has a name of its own each time
    if len(_NUMBERED) >= MOST_STATEMENTS:
        _NUMBERED.clear()
    found = _NUMBERED[text] = first + "".join(f"${number}{part}" for number, part in enumerate(rest, 1))
    return found


class PostgreSQL(PostgresqlDatabase):
    psycopg3_adapter = _Adapter


class PostgreSQLKind(Kind):
    schemes = ("postgresql", "postgres")

    def told(self, given: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            from psycopg import ProgrammingError
            from psycopg.conninfo import make_conninfo
        except ImportError:
            raise SpecError("PostgreSQL wants psycopg: pip install 'geofetch[postgres]'") from None
        try:
            make_conninfo(**given)
        except ProgrammingError as exc:
            name = str(exc).partition('invalid connection option "')[2].partition('"')[0]
            if name not in given:
                raise ValueError("bad connection parameters") from None
            raise SpecError(f"bad database URL: {name!r} is no parameter of libpq's") from None
        return {**PARAMETERS, **given}

    def connected(self, address: Address) -> Database:
        database = PostgreSQL(
            address.told["dbname"],
            prefer_psycopg3=True,
            thread_safe=False,
            field_types={"HASH": "BYTEA", "NAME": "TEXT", "LONGTEXT": "TEXT"},
            **address.told,
        )
        database.connect()
        done(database, f"SET lock_timeout = '{BUSY_S}s'")
        done(database, f"SET idle_in_transaction_session_timeout = '{IDLE_S}s'")
        return database

    def set_durable(self, database: Database, durable: bool) -> None:
        if not durable:
            return  # as its server is set up
        if done(database, "SHOW fsync").fetchone()[0] != "on":
            raise OperationalError("the server has fsync turned off: no commit is durable; turn it on")
        if done(database, "SHOW synchronous_commit").fetchone()[0] == "off":
            done(database, "SET synchronous_commit = 'on'")

    def settled(self, database: Database) -> None:
        database.connection().silent_s = SILENT_S  # type: ignore[no-untyped-call]

    @contextmanager
    def writing(self, database: Database) -> Iterator[Any]:
        with database.atomic():
            # COALESCE: without a schema the table's own name leads to an error that says so.
            done(database, "SELECT pg_advisory_xact_lock(%s::int, hashtext(COALESCE(current_schema(), '')))", (LOCK,))
            yield

    def snapshot(self, database: Database) -> AbstractContextManager[Any]:
        return database.atomic("REPEATABLE READ READ ONLY")

    def new_ids(self, database: Database, count: int) -> Sequence[int]:
        return [number for (number,) in done(database, _IDS, (count,)).fetchall()]

    def index(self, index: Any) -> Any:
        # Its trees refuse values beyond 2,700 bytes; a hash index takes them all, and answers "=" and IN.
        fields = index._expressions
        return index.using("hash") if len(fields) == 1 and isinstance(fields[0], LongTextField) else index

    def unfit(self, text: str) -> str | None:
        return "PostgreSQL's text has no NUL" if "\0" in text else super().unfit(text)

    def of_row(self, exc: BaseException) -> bool:
        # Program limits exceeded: a name beyond what an index takes.
        return str(_state(exc)).startswith("54")

    def passing(self, exc: BaseException, known: bool) -> bool:
        state = _state(exc)
        if state is not None:
            return state.startswith(PASSING)
        if not isinstance(exc, OperationalError):
            return False
        # libpq has no code for a connection that was refused, or lost.
        return known or any(words in str(exc) for words in STARTING)


#: OFFSET 0: the sequence's name is looked up once, not for each number.
_IDS = (
    "SELECT nextval(name) FROM (SELECT pg_get_serial_sequence('units', 'id')::regclass AS name OFFSET 0) AS one, "
    "generate_series(1, %s)"
)

POSTGRESQL = PostgreSQLKind()


def _state(exc: BaseException) -> str | None:
    found = getattr(original(exc), "sqlstate", None)
    return found if isinstance(found, str) else None
