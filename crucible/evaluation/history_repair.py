"""Restores what the event bus has lost, from what the queue and result servers still know.

Every submission has an idempotency record, and every end a result. What the history lacks of them
is written as the events would have been, so that events that come later find the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.translation import translated
from crucible.broker.results.meta import decode_meta
from crucible.errors import MessageError
from crucible.evaluation.record import (
    TASK_ID_PREFIX,
    decode_record,
    once_name,
    public_id,
    task_id_of,
    tenant_of,
)
from crucible.evaluation.transitions import as_read, is_scoped
from crucible.evaluation.view import evaluation_of
from crucible.events.event import Event, Transition
from crucible.models import ENDED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from crucible.broker.results.meta import Meta
    from crucible.evaluation.record import Record
    from crucible.history.writer import HistoryWriter, Known
    from crucible.redis_keys import Keys

#: Evaluations that are compared at once, and keys that one step of a scan looks at.
_PAGE, _SCANNED = 500, 2000


@dataclass(slots=True)
class Repaired:
    """What a repair did.

    Attributes:
        looked_at: evaluations that the servers know.
        submissions: that the history lacked.
        ends: that the history lacked.
    """

    looked_at: int = 0
    submissions: int = 0
    ends: int = 0


class Repair:
    """Compares the history with the servers.

    Args:
        queue: the task queue server.
        results: the result server.
        keys: key names.
        writer: of the history.
    """

    def __init__(self, queue: Redis, results: Redis, keys: Keys, writer: HistoryWriter) -> None:
        self._queue = queue
        self._results = results
        self._keys = keys
        self._writer = writer

    async def run(self) -> Repaired:
        """Write what is missing; running it again, or beside historians, does no harm.

        Raises:
            BrokerError: a server does not answer.
            HistoryError: the database does not answer.
        """
        done = Repaired()
        once = self._keys.idempotency(once_name(""))
        result = self._keys.result(TASK_ID_PREFIX)
        for client, prefix in ((self._queue, once), (self._results, result)):
            async for page in _pages(client, prefix):
                await self._compare(page, done)
        return done

    async def _compare(self, eval_ids: Sequence[str], done: Repaired) -> None:
        records = [self._keys.idempotency(once_name(one)) for one in eval_ids]
        results = [self._keys.result(task_id_of(one)) for one in eval_ids]
        legacy = [self._keys.legacy_result(one) for one in eval_ids]
        with translated():
            stored: Any = await self._queue.mget(records)
            metas: Any = await self._results.mget(results)
            kept: Any = await self._queue.mget(legacy)
        known = await self._writer.known([(tenant_of(one), public_id(one)) for one in eval_ids])
        events: list[Event] = []
        for one, record, meta, of_legacy in zip(eval_ids, stored, metas, kept, strict=True):
            row = known.get((tenant_of(one), public_id(one)))
            events += missing(one, _record(record), _meta(meta, of_legacy), row, done)
        done.looked_at += len(eval_ids)
        if events:
            await self._writer.write(events)


def missing(
    eval_id: str, record: Record | None, metas: Metas, row: Known | None, done: Repaired
) -> list[Event]:
    """The events that the history lacks of one evaluation.

    Args:
        eval_id: its scoped id.
        record: of its submission.
        metas: its results.
        row: what the history has of it.
        done: counts them.
    """
    events: list[Event] = []
    if record is not None and not (row and row.submitted):
        events.append(_submission(eval_id, record))
        done.submissions += 1
    legacy = record is not None and record.queue_system == "legacy"
    meta = metas.legacy if legacy else metas.celery
    if meta is not None and not (row and row.status in ENDED):
        seq = row.seq if row else 0
        end = as_read(evaluation_of(eval_id, record, meta), tenant_of(eval_id), seq)
        if end is not None:
            # Only of a submission does the history believe what was submitted.
            events.append(msgspec.structs.replace(end, metadata=None))
            done.ends += 1
    return events


def _submission(eval_id: str, record: Record) -> Event:
    return Event(
        public_id(eval_id),
        0,
        record.created_ms,
        Transition.QUEUED,
        "queued",
        tenant_of(eval_id),
        record.queue,
        record.queue_system,
        language=record.language,
        metadata=record.metadata,
    )


@dataclass(frozen=True, slots=True)
class Metas:
    """The results of one evaluation in both queue systems."""

    celery: Meta | None
    legacy: Meta | None


def _meta(celery: bytes | None, legacy: bytes | None) -> Metas:
    return Metas(_decoded(celery), _decoded(legacy))


def _decoded(stored: bytes | None) -> Meta | None:
    try:
        return None if stored is None else decode_meta(stored)
    except (MessageError, ValueError):
        return None


def _record(stored: bytes | None) -> Record | None:
    try:
        record = None if stored is None else decode_record(stored)
    except msgspec.DecodeError:
        return None
    return None if record is None or record.purged else record


async def _pages(client: Redis, prefix: str) -> AsyncIterator[list[str]]:
    """Scoped ids of the keys with a prefix, page by page; a scan may return one twice."""
    pattern = "".join(f"\\{one}" if one in "*?[]\\" else one for one in prefix) + "*"
    found: list[str] = []
    with translated():
        async for key in client.scan_iter(match=pattern, count=_SCANNED):
            eval_id = key.decode(errors="replace")[len(prefix) :]
            if not is_scoped(eval_id):
                continue
            found.append(eval_id)
            if len(found) == _PAGE:
                yield found
                found = []
    if found:
        yield found
