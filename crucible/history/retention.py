"""Deletes old evaluations, a few hundred in one transaction, so that nobody waits long for one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from crucible.history.database import translated
from crucible.history.schema import attempts, evaluations, labels, purged, transitions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncEngine

_DAY_MS = 86_400_000
#: Evaluations of one transaction.
_BATCH = 500
#: Days for which late events of what was forgotten on request are left out.
_PURGED_DAYS = 30


class Retention:
    """Deletes evaluations that are older than they are kept.

    Args:
        engine: of the database.
        days: days by queue; 0 means for ever.
        other_days: the same of queues that are not named.
    """

    def __init__(self, engine: AsyncEngine, days: Mapping[str, int], other_days: int) -> None:
        self._engine = engine.execution_options(writes=True)
        self._days = days
        self._other_days = other_days

    async def delete_old(self) -> int:
        """Delete what is too old; how many evaluations that were.

        Raises:
            HistoryError: the database does not answer; what was deleted until then stays so.
        """
        deleted = 0
        with translated():
            now_ms = time.time_ns() // 1_000_000
            for tenant, queue in await self._groups():
                days = self._days.get(queue or "", self._other_days)
                while days:
                    count = await self._delete_some(tenant, queue, now_ms - days * _DAY_MS)
                    deleted += count
                    if count < _BATCH:
                        break
            async with self._engine.begin() as connection:
                before_ms = now_ms - _PURGED_DAYS * _DAY_MS
                await connection.execute(delete(purged).where(purged.c.at_ms < before_ms))
        return deleted

    async def _groups(self) -> list[tuple[str, str | None]]:
        query = select(evaluations.c.tenant, evaluations.c.queue).distinct()
        async with self._engine.connect() as connection:
            return [(tenant, queue) for tenant, queue in await connection.execute(query)]

    async def _delete_some(self, tenant: str, queue: str | None, before_ms: int) -> int:
        old = evaluations.c
        query = (
            select(old.eval_id)
            .where(old.tenant == tenant, old.queue.is_not_distinct_from(queue))
            .where(old.created_ms < before_ms)
            .order_by(old.created_ms)
            .limit(_BATCH)
        )
        if queue is not None:
            query = query.where(old.queue == queue)
        async with self._engine.begin() as connection:
            ids = list((await connection.execute(query)).scalars())
            for table in (labels, attempts, transitions, evaluations):
                gone = delete(table).where(table.c.tenant == tenant, table.c.eval_id.in_(ids))
                await connection.execute(gone)
        return len(ids)
