"""Deletes old evaluations, a few hundred in one transaction, so that nobody waits long for one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from crucible.history.database import translated
from crucible.history.schema import attempts, evaluations, labels, purged, transitions
from crucible.history.upserts import insert_purged
from crucible.redis_keys import PURGED_TTL_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncEngine

_DAY_MS = 86_400_000
#: Evaluations of one transaction.
_BATCH = 500
#: Days for which late events of what was forgotten on request are left out.
_PURGED_DAYS = PURGED_TTL_S // 86_400
#: Tables with rows of evaluations.
_TABLES = (labels, attempts, transitions, evaluations)


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
            for table in _TABLES:
                gone = delete(table).where(table.c.tenant == tenant, table.c.eval_id.in_(ids))
                await connection.execute(gone)
        return len(ids)


async def forget(engine: AsyncEngine, tenant: str, eval_id: str) -> None:
    """Delete one evaluation, and have late events of it not written.

    Args:
        engine: of the database.
        tenant: whose evaluation.
        eval_id: its id.

    Raises:
        HistoryError: the database does not answer; nothing is deleted, or all of it.
    """
    mark = {"tenant": tenant, "eval_id": eval_id, "at_ms": time.time_ns() // 1_000_000}
    with translated():
        async with engine.execution_options(writes=True).begin() as connection:
            # Waits for historians that write without having seen it; see ``HistoryWriter``.
            await connection.execute(insert_purged(engine.dialect.name), mark)
            for table in _TABLES:
                own = (table.c.tenant == tenant, table.c.eval_id == eval_id)
                await connection.execute(delete(table).where(*own))
