"""Opens the database of the history, and translates what SQLAlchemy raises."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from crucible.errors import HistoryError, HistoryUnavailable, RequirementError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy.engine import URL, Connection

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
#: Seconds to connect, and for one statement; a writer is not to wait for ever behind another.
CONNECT_S, STATEMENT_S = 5.0, 30.0
#: SQLite: seconds to wait for the one writer, and KiB of pages that a connection keeps.
_BUSY_S, _CACHE_KB = 10.0, 4 * 1024


@asynccontextmanager
async def open_database(
    url: str, *, connections: int = 2, statement_s: float = STATEMENT_S
) -> AsyncIterator[AsyncEngine]:
    """An engine; it connects when it is used.

    Args:
        url: of the setting ``CRUCIBLE_HISTORY_URL``.
        connections: at most, to a server.
        statement_s: seconds one statement may take in PostgreSQL.

    Raises:
        RequirementError: its driver is not installed.
    """
    target = make_url(url)
    try:
        engine = create_async_engine(
            target.set(drivername=_DRIVERS[target.drivername]),
            pool_size=connections,
            max_overflow=0,
            hide_parameters=True,  # errors are logged, and metadata is the client's
            pool_timeout=CONNECT_S,
            pool_pre_ping=target.drivername == "postgresql",
            connect_args=_connect_args(target, statement_s),
        )
    except ImportError as error:
        raise RequirementError(
            f"the history needs {error.name}",
            "pip install 'crucible-sandbox[postgres]'",
        ) from None
    if target.drivername == "sqlite":
        _prepare_sqlite(engine)
    try:
        yield engine
    finally:
        await engine.dispose()


def _connect_args(target: URL, statement_s: float) -> dict[str, Any]:
    if target.drivername == "sqlite":
        return {"timeout": _BUSY_S, "isolation_level": None}
    # Compiling a plan to machine code takes longer than any statement here.
    settings = {"jit": "off", "application_name": "crucible-history"}
    return {"timeout": CONNECT_S, "command_timeout": statement_s, "server_settings": settings}


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Readers beside the one writer, and durable commits."""

    def connected(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            # What was acknowledged on the bus must survive a loss of power.
            "synchronous=FULL",
            f"cache_size=-{_CACHE_KB}",
            "wal_autocheckpoint=4000",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        # A transaction that reads first and writes later would fail beside another writer instead
        # of waiting for it.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)


@contextmanager
def translated() -> Iterator[None]:
    """Raise errors of ours for those of SQLAlchemy and its drivers."""
    try:
        yield
    except PoolTimeout as error:
        raise HistoryUnavailable("no connection to the database of the history is free") from error
    except DBAPIError as error:
        raise _translate(error) from error
    except (TimeoutError, OSError) as error:
        raise HistoryUnavailable(f"the database of the history: {_first_line(error)}") from error
    except SQLAlchemyError as error:
        raise HistoryError(_first_line(error)) from error


def _translate(error: DBAPIError) -> HistoryError:
    cause = getattr(error.orig, "__cause__", None) or error.orig or error
    if isinstance(error, (DataError, IntegrityError)):
        return HistoryError(_first_line(cause))
    return fault_of(cause)


def fault_of(error: BaseException) -> HistoryError:
    """What was written cannot be stored, or the database cannot store anything now.

    Args:
        error: of a driver.
    """
    text = _first_line(error)
    # Classes 22 and 23 of PostgreSQL; asyncpg raises a ValueError for what it cannot encode. All
    # else may pass, a missing table included: events are kept until then.
    data = str(getattr(error, "sqlstate", "") or "")[:2] in ("22", "23")
    if data or isinstance(error, (ValueError, OverflowError)):
        return HistoryError(text)
    return HistoryUnavailable(text)


def _first_line(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return text or type(error).__name__
