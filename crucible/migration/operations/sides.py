"""Both queue systems of a migration, for the commands of an operator."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.connection import TYPED_CONNECT_TIMEOUT_S, open_client
from crucible.broker.redis.transactions import executed
from crucible.broker.redis.translation import translated
from crucible.broker.results.lookup import read_meta
from crucible.broker.wire.priority import step_of
from crucible.evaluation.kept_results import encode_kept
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.messages import EvalMessages
from crucible.evaluation.record import (
    decode_record,
    encode_record,
    once_name,
    task_id_of,
    unended_ttl_s,
)
from crucible.evaluation.request import celery_priority, options_of, program_from, queue_of
from crucible.executor.served import ServedEnvironments
from crucible.legacy import LegacyClient
from crucible.migration.legacy_results import LEGACY_QUEUE, meta_of_task
from crucible.migration.live.ledger import decode_asked, encode_asked
from crucible.migration.state import SwitchStore
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    from crucible.broker.results.meta import Meta
    from crucible.evaluation.record import Record
    from crucible.evaluation.request import EvalRequest
    from crucible.models import Program
    from crucible.settings import Settings

#: Records read in one step.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Recorded:
    """An evaluation that was accepted.

    Attributes:
        stored: the bytes of its record as they were read, to notice a change since.
    """

    eval_id: str
    record: Record
    stored: bytes


class Sides:
    """Both queue systems. Made by ``Sides.connect``.

    Attributes:
        client: of the task queue server.
        keys: key names.
        legacy: the legacy queue, None where there is none.
        switches: the stored switches.
    """

    def __init__(
        self, client: Redis, results: Redis, legacy: LegacyClient | None, settings: Settings
    ) -> None:
        self.client = client
        self.keys = Keys(settings.global_keyprefix, settings.result_prefix)
        self.legacy = legacy
        self.switches = SwitchStore(client, self.keys, settings)
        self.settings = settings
        self._results = results
        self._messages = EvalMessages()

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings) -> AsyncIterator[Sides]:
        """Connections of its own; nothing is connected before it is needed."""
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            options: dict[str, Any] = {
                "connect_timeout_s": TYPED_CONNECT_TIMEOUT_S,
                "name": "migration",
            }
            client = await enter(open_client(settings.celery_broker_url, **options))
            results = client
            if settings.result_url != settings.celery_broker_url:
                results = await enter(open_client(settings.result_url, **options))
            legacy = None
            if url := settings.queue_service_url:
                legacy = await enter(LegacyClient(url, token=settings.queue_service_token))
            yield cls(client, results, legacy, settings)

    async def note_comparison(self, run: str) -> None:
        """Remember a run of programs on purpose, so that nobody misses records of its evaluations.

        Args:
            run: what the ids of its evaluations begin with, before a dash.

        Raises:
            BrokerError: the server does not answer.
        """
        with translated():
            async with self.client.pipeline(transaction=True) as pipe:
                pipe.sadd(self.keys.compare_runs, run)
                pipe.expire(self.keys.compare_runs, unended_ttl_s(self.settings.result_ttl_s))
                await pipe.execute()

    async def comparisons(self) -> tuple[str, ...]:
        """What ids of evaluations begin with that were run on purpose; raises BrokerError."""
        with translated():
            runs: Any = await self.client.smembers(self.keys.compare_runs)
        return tuple(f"{run.decode()}-" for run in runs)

    async def records(self) -> AsyncIterator[list[Recorded]]:
        """Every accepted evaluation that is still remembered, once each, in pages.

        The records are the ledger of what was accepted: one is written in the same step as the
        message, or before the legacy queue is asked. What was forgotten on request is not among
        them: its mark says nothing of where it was.

        Raises:
            BrokerError: the server does not answer.
        """
        start = self.keys.idempotency(once_name(""))
        seen: set[bytes] = set()
        cursor: Any = 0
        while True:
            with translated():
                answer: Any = await self.client.scan(cursor, match=f"{start}*", count=PAGE)
            cursor, names = answer
            fresh = [name for name in dict.fromkeys(names) if name not in seen]
            seen.update(fresh)
            if fresh:
                page = await self._read([name.decode()[len(start) :] for name in fresh])
                yield [one for one in page if not one.record.purged]
            if int(cursor) == 0:
                return

    async def read(self, eval_ids: Sequence[str]) -> list[Recorded]:
        """The records of some evaluations, as far as there are any; raises BrokerError.

        The marks of forgotten ones are among them.
        """
        return await self._read(list(eval_ids))

    async def _read(self, eval_ids: list[str]) -> list[Recorded]:
        if not eval_ids:
            return []
        names = [self.keys.idempotency(once_name(eval_id)) for eval_id in eval_ids]
        with translated():
            stored: Any = await self.client.mget(names)
        found = []
        for eval_id, value in zip(eval_ids, stored, strict=True):
            try:
                if value is not None:
                    found.append(Recorded(eval_id, decode_record(value), value))
            except msgspec.DecodeError:
                continue
        return found

    async def metas(self, eval_ids: Sequence[str]) -> dict[str, Meta]:
        """What Celery stored of evaluations; raises BrokerError."""
        return await self._metas(
            self._results, {i: self.keys.result(task_id_of(i)) for i in eval_ids}
        )

    async def with_kept_results(self, eval_ids: Sequence[str]) -> set[str]:
        """Those evaluations of the legacy queue whose result was kept; raises BrokerError."""
        if not eval_ids:
            return set()
        with translated():
            async with self.client.pipeline(transaction=False) as pipe:
                for eval_id in eval_ids:
                    pipe.exists(self.keys.legacy_result(eval_id))
                found = await pipe.execute()
        return {eval_id for eval_id, there in zip(eval_ids, found, strict=True) if there}

    async def _metas(self, client: Redis, names: dict[str, str]) -> dict[str, Meta]:
        if not names:
            return {}
        with translated():
            values: Any = await client.mget(list(names.values()))
        metas = {
            eval_id: read_meta(value)
            for eval_id, value in zip(names, values, strict=True)
            if value is not None
        }
        return {eval_id: meta for eval_id, meta in metas.items() if meta is not None}

    async def asked(self, eval_id: str) -> EvalRequest | None:
        """What an evaluation of the legacy queue was asked to run, while that is kept."""
        with translated():
            kept: Any = await self.client.get(self.keys.legacy_program(eval_id))
        return decode_asked(kept) if kept else None

    async def keep_result(self, eval_id: str) -> None:
        """Keep the result of a task of the legacy queue; raises BrokerError and LegacyError."""
        assert self.legacy is not None
        meta = meta_of_task(await self.legacy.result(eval_id))
        ttl_s = self.settings.result_ttl_s or None
        with translated():
            async with self.client.pipeline(transaction=True) as pipe:
                pipe.set(self.keys.legacy_result(eval_id), encode_kept(meta), nx=True, ex=ttl_s)
                pipe.delete(self.keys.legacy_program(eval_id))
                await pipe.execute()

    def program(self, eval_id: str, asked: EvalRequest) -> Program:
        """A request as the legacy queue takes it; raises InputError."""
        return program_from(
            eval_id,
            asked.code,
            asked.language,
            options_of(asked),
            served=ServedEnvironments(self.settings.served_environments),
            ceilings=ceilings_of(self.settings),
            isolation=self.settings.isolation,
        )

    async def give_to_celery(self, found: Recorded, asked: EvalRequest) -> bool:
        """Move an evaluation to Celery: its record and its message in one step.

        Returns:
            False where its record changed meanwhile; then nothing was done.

        Raises:
            BrokerError: the server does not answer.
        """
        queue, priority = queue_of(asked.priority), celery_priority(asked.priority)
        record = msgspec.structs.replace(
            found.record, queue=queue, queue_system="celery", shadow=False
        )
        pushed = (
            self.keys.step_list(queue, step_of(priority)),
            self._messages.render(found.eval_id, asked),
        )
        return await self._rewrite(found, record, pushed=pushed)

    async def give_to_legacy(self, found: Recorded, asked: EvalRequest) -> bool:
        """Record that the legacy queue has an evaluation now; see ``give_to_celery``."""
        record = msgspec.structs.replace(found.record, queue=LEGACY_QUEUE, queue_system="legacy")
        return await self._rewrite(found, record, program=encode_asked(asked))

    async def _rewrite(
        self,
        found: Recorded,
        record: Record,
        *,
        pushed: tuple[str, bytes] | None = None,
        program: bytes | None = None,
    ) -> bool:
        name = self.keys.idempotency(once_name(found.eval_id))
        ttl_s = unended_ttl_s(self.settings.result_ttl_s)
        kept = self.keys.legacy_program(found.eval_id)
        with translated():
            async with self.client.pipeline(transaction=True) as pipe:
                await pipe.watch(name)
                if await pipe.get(name) != found.stored:
                    return False
                pipe.multi()  # type: ignore[no-untyped-call]  # redis-py left it unannotated
                pipe.set(name, encode_record(record), ex=ttl_s)
                if pushed is not None:
                    pipe.delete(kept)
                    pipe.lpush(*pushed)
                if program is not None:
                    pipe.set(kept, program, ex=ttl_s)
                return await executed(pipe) is not None
