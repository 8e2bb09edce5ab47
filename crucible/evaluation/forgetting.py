"""Forgetting one evaluation on request: its result, history, events, deliveries and dead letter.

What is left is a mark, so that nothing brings it back: its idempotency record without any content,
the history's row in ``purged``, and, where its message may still be somewhere, a final REVOKED. The
record is written last: until then the request can be repeated, after that the id is unknown.
"""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.broker.results.meta import REVOKED, encode_meta, revoked_result
from crucible.errors import NotFound
from crucible.evaluation.in_flight import release
from crucible.evaluation.past import past_evaluation
from crucible.evaluation.record import (
    Record,
    encode_record,
    once_name,
    scoped_id,
    task_id_of,
)
from crucible.events.reader import entries_of
from crucible.models import ENDED
from crucible.redis_keys import PURGED_TTL_S
from crucible.webhooks.log import StreamLog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    from crucible.broker.admin.operator import Admin
    from crucible.evaluation.service import EvaluationService
    from crucible.history.reader import HistoryReader
    from crucible.identity.principal import Principal
    from crucible.models import Evaluation
    from crucible.redis_keys import Keys
    from crucible.settings import Settings

#: Entries of the event bus that are read at once, and milliseconds by which the clocks of those
#: that write events may differ from that of the bus.
_PAGE, _SKEW_MS = 1000, 10_000


class Forgetter:
    """Forgets evaluations; opened with ``open_forgetter``.

    Args:
        service: knows and stops evaluations.
        admin: reads dead letters.
        queue: of the task queue server.
        results: of the result server.
        bus: of the event bus; None where there is none.
        keys: key names.
        history: of the database; None where there is no history.
        objects: deletes what was stored outside of Redis, by scoped id; None where nothing is.
    """

    def __init__(
        self,
        service: EvaluationService,
        admin: Admin,
        queue: Redis,
        results: Redis,
        bus: Redis | None,
        keys: Keys,
        history: HistoryReader | None,
        objects: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._service = service
        self._admin = admin
        self._queue = queue
        self._results = results
        self._bus = bus
        self._keys = keys
        self._history = history
        self._objects = objects

    async def forget(self, caller: Principal, eval_id: str) -> None:
        """Cancel an evaluation if it has not ended, and delete what there is of it.

        Asking again is safe where this raises.

        Raises:
            NotFound: the caller has no evaluation with this id.
            LegacyWrongState: it runs where it cannot be stopped.
            BrokerError: a server does not answer.
            HistoryError: the database does not answer.
        """
        scoped = scoped_id(caller.tenant, eval_id)
        found = await self._find(caller, eval_id)
        had_ended = found.status in ENDED
        if not had_ended:
            found = await self._service.cancel(caller, eval_id)
        if self._history is not None:
            await self._history.forget(caller.tenant, eval_id)
        if self._objects is not None:
            await self._objects(scoped)
        await StreamLog(self._queue, self._keys).forget(caller.tenant, eval_id)
        letter = await self._admin.dead_letters.find(task_id_of(scoped))
        if letter is not None:
            await self._admin.dead_letters.purge([letter.letter_id])
        await self._forget_events(caller.tenant, eval_id, found)
        await self._forget_result(scoped, may_run=not had_ended)
        await self._mark(scoped)

    async def _find(self, caller: Principal, eval_id: str) -> Evaluation:
        """The evaluation, of its record or result, else of the history."""
        try:
            return await self._service.look_up(caller, eval_id)
        except NotFound:
            row = None
            if self._history is not None:
                row = await self._history.one(caller.tenant, eval_id)
            if row is None:
                raise
            return past_evaluation(row)

    async def _forget_events(self, tenant: str, eval_id: str, found: Evaluation) -> None:
        """Delete its entries from the bus, which are between its submission and its end."""
        if self._bus is None:
            return
        stream = self._keys.events
        first_ms = _ms_of(found.created_at, 0) - _SKEW_MS
        last_ms = _ms_of(found.finished_at, time.time_ns() // 1_000_000) + _SKEW_MS
        start = str(max(0, first_ms))
        with translated():
            while True:
                rows: Any = await self._bus.xrange(stream, start, str(last_ms), count=_PAGE)
                own = [
                    str(entry.position)
                    for entry in entries_of(rows)
                    if (entry.event.tenant, entry.event.eval_id) == (tenant, eval_id)
                ]
                if own:
                    await self._bus.xdel(stream, *own)
                if len(rows) < _PAGE:
                    return
                start = f"({rows[-1][0].decode()}"

    async def _forget_result(self, scoped: str, *, may_run: bool) -> None:
        """Delete the result; where a worker may still meet the message, have it not run."""
        task_id = task_id_of(scoped)
        key = self._keys.result(task_id)
        with translated():
            if may_run:
                # Its children are known, so that a late result does not replace it.
                meta = encode_meta(task_id, REVOKED, revoked_result("revoked"), children=())
                await self._results.set(key, meta, ex=PURGED_TTL_S)
            else:
                await self._results.delete(key)

    async def _mark(self, scoped: str) -> None:
        mark = Record(b"", 0, "", "", result_ttl_s=PURGED_TTL_S, purged=True)
        name = self._keys.idempotency(once_name(scoped))
        with translated():
            async with self._queue.pipeline(transaction=True) as pipe:
                pipe.delete(self._keys.legacy_result(scoped), self._keys.legacy_program(scoped))
                release(pipe, self._keys, [scoped])
                pipe.set(name, encode_record(mark), ex=PURGED_TTL_S)
                await pipe.execute()


def _ms_of(text: str | None, default: int) -> int:
    return default if text is None else int(datetime.fromisoformat(text).timestamp() * 1000)


@asynccontextmanager
async def open_forgetter(
    settings: Settings,
    keys: Keys,
    service: EvaluationService,
    admin: Admin,
    history: HistoryReader | None,
    objects: Callable[[str], Awaitable[None]] | None = None,
) -> AsyncIterator[Forgetter]:
    """A forgetter with connections of its own; arguments as of ``Forgetter``."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        queue = await enter(open_client(settings.celery_broker_url, name="forgetting"))
        results = await enter(open_client(settings.result_url, name="forgetting"))
        bus = None
        if settings.event_bus is not None:
            bus = await enter(open_client(settings.event_bus, name="forgetting"))
        yield Forgetter(service, admin, queue, results, bus, keys, history, objects)
