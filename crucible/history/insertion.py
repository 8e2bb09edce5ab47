"""Many rows of several tables at once, as each database takes them fastest.

PostgreSQL gets one statement for all tables, with one array a column, and makes rows of them
itself: it is planned and executed once, and the database works without pause while the historian
prepares its next batch. SQLite executes a prepared statement for each row in its own code, so its
rows are tuples. Nothing of SQLAlchemy looks at the values in either case.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    Integer,
    String,
    Text,
    bindparam,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Column, Table
    from sqlalchemy.ext.asyncio import AsyncConnection

    from crucible.history.rows import Row
    from crucible.history.upserts import Insert

    #: A table, and what makes the statement of a dialect that inserts rows into it.
    Target = tuple[Table, Callable[[str], Insert]]


class _Statement(NamedTuple):
    """A statement for rows of one table each.

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
        self._columns = [[column.name for column in table.columns] for table, _ in targets]
        self._apart: list[_Statement] = []
        self._together = ""
        if dialect == "postgresql":
            self._together = _from_arrays(targets)
        else:
            self._apart = [_one_by_one(*target) for target in targets]

    async def execute(self, connection: AsyncConnection, *tables: Sequence[Row]) -> None:
        """Insert rows, of each table in turn, which have no key twice."""
        if self._together:
            arrays: list[Sequence[Any]] = []
            for columns, rows in zip(self._columns, tables, strict=True):
                arrays += _turned(columns, rows)
            await connection.exec_driver_sql(self._together, tuple(arrays))
            return
        for (statement, names), rows in zip(self._apart, tables, strict=True):
            if rows:
                values = list(map(itemgetter(*names), rows))
                await connection.exec_driver_sql(statement, values)


def _turned(names: Sequence[str], rows: Sequence[Row]) -> Sequence[Sequence[Any]]:
    """The columns of rows."""
    if not rows:
        return [()] * len(names)
    return list(zip(*map(itemgetter(*names), rows), strict=True))


def _one_by_one(table: Table, statement: Callable[[str], Insert]) -> _Statement:
    compiled = statement("sqlite").compile(
        dialect=sqlite.dialect(paramstyle="qmark"),
        column_keys=[column.name for column in table.columns],
    )
    return _Statement(str(compiled), list(compiled.positiontup or ()))


def _from_arrays(targets: Sequence[Target]) -> str:
    """One statement for all tables, with the arrays of their columns, in order, as parameters."""
    parts = [_rows_of_arrays(table, statement("postgresql")) for table, statement in targets]
    whole: Any = select(literal_column("1"))
    for part, (table, _) in zip(parts, targets, strict=True):
        whole = whole.add_cte(part.cte(f"into_{table.name}"))
    dialect: Any = asyncpg.dialect
    compiled = whole.compile(dialect=dialect())
    names = [_parameter(table, column) for table, _ in targets for column in table.columns]
    if list(compiled.positiontup or ()) != names:
        raise AssertionError("the arrays are not in the order of the columns")
    return str(compiled)


def _rows_of_arrays(table: Table, insert: Any) -> Any:
    """The statement for a table with its rows out of arrays."""
    names = [column.name for column in table.columns]
    arrays = [
        bindparam(_parameter(table, column), type_=postgresql.ARRAY(_element(column)))
        for column in table.columns
    ]
    given = func.unnest(*arrays).table_valued(*names, name=f"new_{table.name}").render_derived()
    return insert.from_select(names, select(*(given.c[name] for name in names)))


def _parameter(table: Table, column: Column[Any]) -> str:
    return f"{table.name}_{column.name}"


def _element(column: Column[Any]) -> Any:
    for kind in (BigInteger, Integer, Boolean, Float):
        if isinstance(column.type, kind):
            return kind()
    if not isinstance(column.type, (String, Text)):
        raise TypeError(f"column {column.name} is of no known type")
    return Text()
