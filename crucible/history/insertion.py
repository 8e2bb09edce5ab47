"""Many rows of several tables at once, as each database takes them fastest.

PostgreSQL gets the rows by COPY into temporary tables and one statement that puts them into the
tables themselves: encoding arrays of columns takes the driver three times as long, and during one
statement the database works without pause while the historian prepares its next batch. SQLite
executes a prepared statement for each row in its own code, so its rows are tuples. Nothing of
SQLAlchemy looks at the values in either case.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import column, literal_column, select
from sqlalchemy import table as named_table
from sqlalchemy.dialects import postgresql, sqlite

from crucible.history.database import fault_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from sqlalchemy import Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from crucible.history.rows import Row
    from crucible.history.upserts import Insert

    #: A table, and what makes the statement of a dialect that inserts rows into it.
    Target = tuple[Table, Callable[[str], Insert]]


class _Statement(NamedTuple):
    """A statement for rows of one table.

    Attributes:
        text: of the statement.
        names: the columns of the rows, in the order of its placeholders.
    """

    text: str
    names: Sequence[str]


class Insertion:
    """Rows of some tables.

    Args:
        dialect: of the database, ``sqlite`` or ``postgresql``.
        targets: the tables.
    """

    def __init__(self, dialect: str, *targets: Target) -> None:
        self._copied = dialect == "postgresql"
        self._tables = [(_copy_of(t), [c.name for c in t.columns]) for t, _ in targets]
        if self._copied:
            self._prepare = ";".join(map(_create_copy, (table for table, _ in targets)))
            # Null while they are not there: the last one is made last.
            self._look = f"SELECT to_regclass('pg_temp.{self._tables[-1][0]}')"
            self._merge = _merge(targets)
        else:
            self._statements = [_one_by_one(*target) for target in targets]

    async def execute(
        self,
        connection: AsyncConnection,
        *tables: Sequence[Row],
        working: asyncio.Event | None = None,
    ) -> None:
        """Insert rows, of each table in turn, which have no key twice.

        Args:
            connection: in a transaction.
            tables: the rows of each.
            working: is set where the database begins with what takes longest.
        """
        if self._copied:
            await self._copy(connection, tables)
        if working is not None:
            # Whoever waits for it goes on in the next turn of the loop: when this is sent.
            working.set()
        if self._copied:
            await connection.exec_driver_sql(self._merge)
            return
        for (statement, names), rows in zip(self._statements, tables, strict=True):
            if rows:
                values = list(map(itemgetter(*names), rows))
                await connection.exec_driver_sql(statement, values)

    async def _copy(self, connection: AsyncConnection, tables: Sequence[Sequence[Row]]) -> None:
        """Have the rows in the temporary tables."""
        from asyncpg import InterfaceError, PostgresError

        # SQLAlchemy begins a transaction with a statement of its own.
        found = (await connection.exec_driver_sql(self._look)).scalar_one()
        driver: Any = (await connection.get_raw_connection()).driver_connection
        try:
            # A transaction that failed has taken them away again, and a pooler between may have
            # changed the session.
            if found is None:
                await driver.execute(self._prepare)
            for (name, names), rows in zip(self._tables, tables, strict=True):
                if rows:
                    records = list(map(itemgetter(*names), rows))
                    await driver.copy_records_to_table(name, records=records, columns=names)
        except (PostgresError, InterfaceError, ValueError, OverflowError) as error:
            raise fault_of(error) from error


def _one_by_one(table: Table, statement: Callable[[str], Insert]) -> _Statement:
    compiled = statement("sqlite").compile(
        dialect=sqlite.dialect(paramstyle="qmark"),
        column_keys=[column.name for column in table.columns],
    )
    return _Statement(str(compiled), list(compiled.positiontup or ()))


def _copy_of(table: Table) -> str:
    return f"new_{table.name}"


def _create_copy(table: Table) -> str:
    # Once a session, as catalogs grow with each table that is made; empty after each transaction.
    return (
        f"CREATE TEMPORARY TABLE IF NOT EXISTS {_copy_of(table)} (LIKE {table.name})"
        " ON COMMIT DELETE ROWS"
    )


def _merge(targets: Sequence[Target]) -> str:
    """One statement that inserts what the temporary tables have, in the order it was copied."""
    whole: Any = select(literal_column("1"))
    for table, statement in targets:
        names = [column.name for column in table.columns]
        rows = named_table(_copy_of(table), *map(column, names))
        insert: Any = statement("postgresql")
        part = insert.from_select(names, select(*(rows.c[name] for name in names)))
        whole = whole.add_cte(part.cte(f"into_{table.name}"))
    dialect: Any = postgresql.dialect
    return str(whole.compile(dialect=dialect()))
