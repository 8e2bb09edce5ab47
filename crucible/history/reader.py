"""Reads the history for the api, and forgets on request, behind a circuit breaker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from crucible.breaker import CircuitBreaker
from crucible.errors import HistoryError, HistoryUnavailable
from crucible.history.database import open_database, translated
from crucible.history.filters import Place, cursor_of, place_of
from crucible.history.queries import counts_query, one_query, page_queries
from crucible.history.retention import forget
from crucible.history.state import HISTORY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncEngine

    from crucible.breaker import BreakerPolicy, Permit
    from crucible.history.filters import Filters
    from crucible.history.rows import Row

#: Seconds one question may take, and connections of one process.
_READ_S, _CONNECTIONS = 5.0, 4


class HistoryReader:
    """Answers questions; opened with ``open_reader``.

    Each method raises ``HistoryError`` where the database does not answer, and at once while its
    circuit is open.

    Args:
        engine: of the database.
        breaker: of the database.
    """

    def __init__(self, engine: AsyncEngine, breaker: CircuitBreaker) -> None:
        self._engine = engine
        self.breaker = breaker

    async def page(
        self, filters: Filters, limit: int, cursor: str | None
    ) -> tuple[list[Row], str | None]:
        """Evaluations that fit, newest first; and the cursor of the next page.

        Args:
            filters: what is asked for.
            limit: rows of the page.
            cursor: of the page before.

        Raises:
            ParameterError: the cursor or a filter cannot be used.
        """
        after = place_of(filters, cursor) if cursor else None
        queries = list(page_queries(filters, after, limit + 1))
        rows = [row for query in queries for row in await self._rows(query)]
        if len(queries) > 1:
            rows.sort(key=_place, reverse=True)
        if len(rows) <= limit:
            return rows, None
        return rows[:limit], cursor_of(filters, _place(rows[limit - 1]))

    async def one(self, tenant: str, eval_id: str) -> Row | None:
        """One evaluation; None where the history has none."""
        return next(iter(await self._rows(one_query(tenant, eval_id))), None)

    async def counts(self, tenant: str, since_ms: int, until_ms: int, bucket_ms: int) -> list[Row]:
        """How many were accepted, by ``at`` (milliseconds), ``status`` and ``verdict``."""
        return await self._rows(counts_query(tenant, since_ms, until_ms, bucket_ms))

    async def forget(self, tenant: str, eval_id: str) -> None:
        """Delete one evaluation for good (see ``retention.forget``)."""
        with self._permit():
            async with asyncio.timeout(_READ_S):
                await forget(self._engine, tenant, eval_id)

    async def _rows(self, query: Select[Any]) -> list[Row]:
        with self._permit(), translated():
            async with asyncio.timeout(_READ_S), self._engine.connect() as connection:
                found = await connection.execute(query)
                return [dict(row) for row in found.mappings()]

    def _permit(self) -> Permit:
        permit = self.breaker.permit()
        if permit is None:
            raise HistoryUnavailable("the database of the history has not answered lately")
        return permit


def _place(row: Row) -> Place:
    return Place(row["created_ms"], row["eval_id"])


@asynccontextmanager
async def open_reader(url: str, policy: BreakerPolicy) -> AsyncIterator[HistoryReader]:
    """A reader; the database need not answer yet.

    Args:
        url: the database.
        policy: when its circuit opens.

    Raises:
        RequirementError: a driver is missing.
    """
    breaker = CircuitBreaker(HISTORY, HistoryError, policy=policy)
    async with open_database(url, connections=_CONNECTIONS, statement_s=_READ_S) as engine:
        yield HistoryReader(engine, breaker)
