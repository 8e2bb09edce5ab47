"""Many rows in one statement, as each database takes them fastest.

PostgreSQL gets one array a column and makes rows of them itself: one statement is planned and
executed, where rows one by one would be thousands. SQLite executes a prepared statement for each
row in its own code, so its rows are tuples, which nothing of SQLAlchemy looks at.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Float, Integer, String, Text, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Column, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from crucible.history.rows import Row
    from crucible.history.upserts import Insert


class Insertion:
    """Rows of one table.

    Args:
        dialect: of the database, ``sqlite`` or ``postgresql``.
        table: the table.
        statement: makes the statement that inserts rows, of the dialect.
    """

    def __init__(self, dialect: str, table: Table, statement: Callable[[str], Insert]) -> None:
        self._names = [column.name for column in table.columns]
        self._arrays: Any = None
        self._text = ""
        if dialect == "postgresql":
            self._arrays = _from_arrays(table, statement(dialect))
        else:
            compiled = statement(dialect).compile(
                dialect=sqlite.dialect(paramstyle="qmark"), column_keys=self._names
            )
            self._text = str(compiled)
            # In the order of the placeholders.
            self._names = list(compiled.positiontup or ())
        self._values = itemgetter(*self._names)

    async def execute(self, connection: AsyncConnection, rows: Sequence[Row]) -> None:
        """Insert rows, which have no key twice."""
        if not rows:
            return
        if self._arrays is None:
            await connection.exec_driver_sql(self._text, list(map(self._values, rows)))
            return
        columns = zip(*map(self._values, rows), strict=True)
        arrays = dict(zip(self._names, map(list, columns), strict=True))
        await connection.execute(self._arrays, arrays)


def _from_arrays(table: Table, insert: Any) -> Any:
    """The same statement with the rows of arrays, which are named as the columns are."""
    names = [column.name for column in table.columns]
    arrays = [bindparam(c.name, type_=postgresql.ARRAY(_element(c))) for c in table.columns]
    given = func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    return insert.from_select(names, select(*(given.c[name] for name in names)))


def _element(column: Column[Any]) -> Any:
    for kind in (BigInteger, Integer, Boolean, Float):
        if isinstance(column.type, kind):
            return kind()
    if not isinstance(column.type, (String, Text)):
        raise TypeError(f"column {column.name} is of no known type")
    return Text()
