"""Connects to the database of the case store, SQLite or PostgreSQL.

Writers take turns: each transaction that writes holds a lock of the whole store from its first
statement. So no writer decides on rows that another one is changing, and the audit log has one
order. Readers never wait.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
)

from cadlib.cases.place import URL_VARIABLE
from cadlib.errors import CaseMissing, CaseStoreFailed

WAIT_S = 30
"""How long a writer waits for the others."""
CONNECT_S = 5
"""How long a connection to a database server may take."""
_LOCK_KEY = 0x6361646C
"""The key of the lock on PostgreSQL: "cadl"."""
_WRITES = "cadlib_writes"


def connect(url: str) -> Engine:
    """Return an engine for a URL; nothing is read or written yet.

    Raise CaseStoreFailed for a URL of another kind of database.
    """
    address = _checked(url)
    if address.get_backend_name() == "sqlite":
        return _connect_sqlite(address)
    return _connect_postgresql(address)


def _checked(url: str) -> URL:
    """Return the parts of a URL; raise CaseStoreFailed for one that cannot be used."""
    expected = "`sqlite:///FILE` or `postgresql+psycopg://USER@HOST/NAME`"
    try:
        address = make_url(url)
    except ArgumentError as error:
        # The URL is not shown: it may have a password in it.
        raise CaseStoreFailed(
            f"Expected {URL_VARIABLE} to be {expected}, but it is no such URL. Correct it."
        ) from error
    # `postgresql:` alone would ask for a driver that is not installed.
    backend = address.get_backend_name()
    if backend == "postgresql":
        return address.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and address.database not in (None, "", ":memory:"):
        return address
    raise CaseStoreFailed(
        f"Expected {URL_VARIABLE} to be {expected}, but got {address.render_as_string()!r}. "
        "Correct it."
    )


def _connect_sqlite(address: URL) -> Engine:
    path = Path(str(address.database))
    try:
        # Cases are nobody else's business on a shared machine.
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CaseStoreFailed(
            f"Expected to create the folder {path.parent} for cases, but {error.strerror}. "
            f"Name another file by {URL_VARIABLE}."
        ) from error
    # The driver waits this long for the lock of another writer.
    engine = create_engine(address, connect_args={"timeout": WAIT_S})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    """Set up a new connection to a SQLite file."""
    # The driver would begin transactions at its own discretion.
    connection.isolation_level = None
    # Readers do not wait for writers.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    # What was confirmed survives a loss of power.
    connection.execute("PRAGMA synchronous = FULL")
    # Deleted rows are overwritten with zeros.
    connection.execute("PRAGMA secure_delete = ON")


def _begin_sqlite(connection: Connection) -> None:
    """Begin a transaction, with the lock where it writes."""
    options = connection.get_execution_options()
    begin = "BEGIN IMMEDIATE" if options.get(_WRITES) else "BEGIN"
    connection.exec_driver_sql(begin)


def _connect_postgresql(address: URL) -> Engine:
    return create_engine(
        address,
        # A server that was restarted is found again.
        pool_pre_ping=True,
        connect_args={"connect_timeout": CONNECT_S},
    )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Yield a connection in a transaction that writes, alone; commit it at the end.

    Raise CaseStoreFailed when the database fails; nothing was written then.
    """
    with _explained(engine), engine.connect() as connection:
        # The options hold for this transaction only: the next one gets another connection object.
        connection = connection.execution_options(**{_WRITES: True})
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text(f"SET LOCAL lock_timeout = '{WAIT_S}s'"))
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
            yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection on which everything is as at one moment.

    Raise CaseStoreFailed when the database fails.
    """
    with _explained(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ",
                postgresql_readonly=True,
            )
        with connection.begin():
            yield connection


@contextmanager
def _explained(engine: Engine) -> Iterator[None]:
    """Turn an error of the database into CaseStoreFailed."""
    name = engine.url.render_as_string(hide_password=True)
    try:
        yield
    except IntegrityError as error:
        # Only a row that names an erased one has no partner; the rest would be an error of ours.
        if "foreign key" not in str(error.orig).lower():
            raise
        raise CaseMissing(
            "Expected the case to be in the store, but it is not: somebody has erased it. "
            "Nothing was saved. Open the list again."
        ) from error
    except (OperationalError, InterfaceError) as error:
        raise CaseStoreFailed(_explanation(name, error)) from error


def _explanation(name: str, error: DBAPIError) -> str:
    """Return what failed and what to do."""
    [reason, *_] = str(error.orig).strip().splitlines() or ["no reason is known"]
    if "full" in reason or "No space" in reason:
        remedy = "Nothing was saved. Free disk space and save again."
    elif "locked" in reason or "lock timeout" in reason:
        remedy = "Nothing was saved. Other work is being saved; try again."
    else:
        remedy = "Nothing was saved. Check the database and try again."
    return f"Expected the database {name} to answer, but it reports: {reason}. {remedy}"
