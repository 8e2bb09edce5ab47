"""Assessments on the task queue server; every key of one goes away ``KEPT_S`` after a change.

What must not be torn apart is in one transaction; what depends on what was read is watched. So two
workers that both run an assessment, one of them given up for dead, count nothing twice.
"""

from __future__ import annotations

import zlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from crucible.assessments.record import (
    KEPT_S,
    MAX_KEPT,
    OVER,
    Head,
    Plan,
    Stage,
    decode_case,
    decode_run,
    encode,
    head_of,
    now_ms,
)
from crucible.assessments.suite import MAX_CASES, MAX_RUNS, MAX_SUITE_BYTES, check_ids
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.errors import ConflictError, InputError, NotEnded, NotFound
from crucible.evaluation.leases import Lease, changed
from crucible.evaluation.record import public_id, scoped_id, tenant_of
from crucible.validation import quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from crucible.assessments.record import Run
    from crucible.assessments.suite import Case
    from crucible.evaluation.leases import Change
    from crucible.redis_keys import Keys

    Value = str | int | float | bytes

#: Entries read with one command.
_CHUNK = 500
#: Of so many of the oldest, one that has ended makes room for a new one.
_OLDEST = 20
#: What is kept of one assessment; its lease ends by itself.
_PARTS = "head", "cases", "ids", "window", "runs", "report"


class AssessmentStore:
    """Keeps assessments. Every method raises ``BrokerError`` if the server does not answer.

    Args:
        client: of the task queue server.
        keys: key names.

    Attributes:
        client: the same.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        # The stubs of redis-py describe blocking and asynchronous answers at once.
        self._redis: Any = client
        self._keys = keys

    # Heads

    async def create(
        self, assessment_id: str, plan: Plan, cases: Sequence[Case], draft: bool
    ) -> Head:
        """Keep a new assessment; one that is there with the same content is returned as it is.

        Where the tenant has as many as it may, the oldest that has ended is deleted.

        Raises:
            ConflictError: the id was used for something else, or the tenant has too many that have
                not ended.
        """
        index = self._keys.assessments(tenant_of(assessment_id))
        head, now = self._keys.assessment(assessment_id), now_ms()
        fields: dict[str, Value] = {
            "plan": encode(plan),
            "stage": Stage.CREATED,
            "updated_ms": now,
            "step": "created",
            "message": "it was not started yet",
        }
        if draft:
            fields["draft"] = 1

        async def change(pipe: Any) -> Callable[[], None] | None:
            await pipe.watch(head)
            if await pipe.exists(head):
                return None
            if await pipe.zcard(index) >= MAX_KEPT:
                message = f"there are {MAX_KEPT} assessments already; cancel or purge some first"
                raise ConflictError("assessment_id", message)

            def write() -> None:
                pipe.hset(head, mapping=fields)
                pipe.zadd(index, {public_id(assessment_id): now})
                pipe.expire(index, KEPT_S)
                self._append(pipe, assessment_id, cases, b"", 0)

            return write

        await self._make_room(assessment_id, now)
        await self._changed(change)
        found = await self.get(assessment_id)
        if found.plan.digest != plan.digest:
            raise ConflictError("assessment_id", "was used before with different content")
        return found

    async def _make_room(self, assessment_id: str, now: int) -> None:
        """Forget what has expired; and the oldest that has ended, if a new one is one too many."""
        tenant = tenant_of(assessment_id)
        index = self._keys.assessments(tenant)
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zremrangebyscore(index, "-inf", now - KEPT_S * 1000)
                pipe.zcard(index)
                _, kept = await pipe.execute()
            if kept < MAX_KEPT:
                return
            if await self._redis.exists(self._keys.assessment(assessment_id)):
                return
            oldest = await self._redis.zrange(index, 0, _OLDEST - 1)
        for one in oldest:
            try:
                await self.forget(scoped_id(tenant, one.decode()))
            except NotEnded:
                continue
            except NotFound:
                # Its keys have expired, and it is in the index alone.
                with translated():
                    await self._redis.zrem(index, one)
            return

    async def add_cases(self, assessment_id: str, at: int, cases: Sequence[Case]) -> Head:
        """Add cases to a draft; the same cases at the same place again add nothing.

        Raises:
            NotFound: there is no such assessment.
            NotEnded: it was started.
            InputError: ``at`` is not how many there are, an id is taken, or it would be too many.
        """
        head, ids = (
            self._keys.assessment(assessment_id),
            self._keys.assessment(assessment_id, "ids"),
        )

        async def change(pipe: Any) -> Callable[[], None] | None:
            await pipe.watch(head)
            found = await self.get(assessment_id)
            if found.stage is not Stage.CREATED or not found.draft:
                raise NotEnded("cases can only be added to a draft that was not started")
            if found.cases == at + len(cases):
                return None
            if found.cases != at:
                raise InputError("at", f"must be {found.cases}, the number of cases so far")
            size = int(await pipe.hget(head, "size") or 0)
            new = [one.id for one in cases]
            taken = await pipe.smembers(ids)
            check_ids(new, at, {one for one in new if one.encode() in taken})

            def write() -> None:
                self._append(pipe, assessment_id, cases, found.repetitions, size)

            return write

        await self._changed(change)
        return await self.get(assessment_id)

    def _append(
        self, pipe: Any, assessment_id: str, cases: Sequence[Case], before: bytes, size: int
    ) -> None:
        if not cases:
            pipe.expire(self._keys.assessment(assessment_id), KEPT_S)
            return
        encoded = [encode(case) for case in cases]
        repetitions = before + bytes(case.repetitions for case in cases)
        size += sum(map(len, encoded))
        if len(repetitions) > MAX_CASES:
            raise InputError("cases", f"must not be more than {MAX_CASES}")
        if sum(repetitions) > MAX_RUNS:
            raise InputError("cases", f"must not have more than {MAX_RUNS} runs together")
        if size > MAX_SUITE_BYTES:
            raise InputError("cases", f"must not exceed {MAX_SUITE_BYTES >> 20} MiB together")
        pipe.rpush(self._keys.assessment(assessment_id, "cases"), *encoded)
        pipe.sadd(self._keys.assessment(assessment_id, "ids"), *(case.id for case in cases))
        counts: dict[str, Value] = {
            "cases": len(repetitions),
            "runs": sum(repetitions),
            "repetitions": repetitions,
            "size": size,
            "updated_ms": now_ms(),
        }
        pipe.hset(self._keys.assessment(assessment_id), mapping=counts)
        self._keep(pipe, assessment_id)

    def _keep(self, pipe: Any, assessment_id: str) -> None:
        for part in _PARTS:
            pipe.expire(self._keys.assessment(assessment_id, part), KEPT_S)

    async def forget(self, assessment_id: str) -> None:
        """Delete an assessment that has ended.

        Raises:
            NotFound: there is none with this id.
            NotEnded: it has not ended, or who ran it has not let go of it yet.
        """
        head = self._keys.assessment(assessment_id)
        index = self._keys.assessments(tenant_of(assessment_id))

        async def change(pipe: Any) -> Callable[[], None]:
            await pipe.watch(head)
            found = await self.get(assessment_id)
            # Who has the lease may still note how a run ended.
            if found.stage not in OVER or await self.lease(assessment_id).held():
                raise NotEnded(f"the assessment is {found.stage}; cancel it, and purge it then")

            def write() -> None:
                pipe.delete(*(self._keys.assessment(assessment_id, part) for part in _PARTS))
                pipe.zrem(index, public_id(assessment_id))

            return write

        await self._changed(change)

    async def get(self, assessment_id: str) -> Head:
        """One assessment.

        Raises:
            NotFound: there is none with this id.
        """
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(self._keys.assessment(assessment_id))
                pipe.hlen(self._keys.assessment(assessment_id, "runs"))
                fields, ended = await pipe.execute()
        if not fields:
            shown = quoted(public_id(assessment_id), 64)
            raise NotFound(f"no assessment has the id {shown}")
        return head_of(assessment_id, fields, ended)

    async def newest(self, tenant: str, limit: int) -> list[str]:
        """Public ids of a tenant's assessments, the newest first."""
        with translated():
            found = await self._redis.zrange(self._keys.assessments(tenant), -limit, -1)
        return [one.decode() for one in reversed(found)]

    async def move(
        self,
        assessment_id: str,
        stages: Sequence[Stage],
        check: Callable[[Head], None] = lambda head: None,
        **fields: Value,
    ) -> tuple[Head, bool]:
        """Change an assessment that is in one of ``stages``.

        Args:
            assessment_id: its scoped id.
            stages: those.
            check: called with it before, whatever its stage; it raises to refuse.
            fields: of it.

        Returns:
            It as it was before, and whether it was changed.

        Raises:
            NotFound: there is none with this id.
        """
        key = self._keys.assessment(assessment_id)
        before: list[Head] = []

        async def change(pipe: Any) -> Callable[[], None] | None:
            await pipe.watch(key)
            before[:] = [await self.get(assessment_id)]
            check(before[0])
            if before[0].stage not in stages:
                return None

            def write() -> None:
                pipe.hset(key, mapping={**fields, "updated_ms": now_ms()})
                if fields.get("stage") in OVER:
                    self._keep(pipe, assessment_id)

            return write

        changed = await self._changed(change)
        return before[0], changed

    async def fail(self, assessment_id: str, message: str) -> None:
        """End an assessment that cannot go on; one that has ended stays as it is."""
        await self.move(
            assessment_id,
            [Stage.CREATED, Stage.QUEUED, Stage.RUNNING],
            stage=Stage.FAILED,
            finished_ms=now_ms(),
            step="failed",
            message=message,
        )

    async def _changed(self, change: Change) -> bool:
        return await changed(self.client, change)

    # Cases and runs

    async def cases(self, assessment_id: str, first: int, count: int) -> list[Case]:
        """Cases by their position."""
        key = self._keys.assessment(assessment_id, "cases")
        with translated():
            raw = await self._redis.lrange(key, first, first + count - 1)
        return [decode_case(one) for one in raw]

    async def reserve(self, assessment_id: str, count: int) -> list[int]:
        """The next runs to submit; none where all are submitted, or it does not run any more.

        They are in the window from here on, before anything is submitted: whoever cancels finds
        every evaluation there that may be queued.
        """
        key, window = (
            self._keys.assessment(assessment_id),
            self._keys.assessment(assessment_id, "window"),
        )
        taken: list[int] = []

        async def change(pipe: Any) -> Callable[[], None] | None:
            await pipe.watch(key)
            head = await self.get(assessment_id)
            taken[:] = range(head.reserved, min(head.runs, head.reserved + count))
            if head.stage is not Stage.RUNNING or not taken:
                taken.clear()
                return None

            def write() -> None:
                pipe.sadd(window, *taken)
                pipe.hset(key, "reserved", str(taken[-1] + 1))

            return write

        await self._changed(change)
        return taken

    async def window(self, assessment_id: str) -> list[int]:
        """Runs that were given to evaluations and are not known to have ended, in order."""
        with translated():
            found = await self._redis.smembers(self._keys.assessment(assessment_id, "window"))
        return sorted(map(int, found))

    async def record(self, assessment_id: str, runs: Mapping[int, Run]) -> None:
        """Keep how runs ended; of one that is there already the first stays."""
        key = self._keys.assessment(assessment_id, "runs")
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                for number, run in runs.items():
                    pipe.hsetnx(key, str(number), encode(run))
                pipe.srem(self._keys.assessment(assessment_id, "window"), *runs)
                pipe.expire(key, KEPT_S)
                new = (await pipe.execute())[: len(runs)]
                passed = sum(
                    run.passed for run, is_new in zip(runs.values(), new, strict=True) if is_new
                )
                if passed:
                    head = self._keys.assessment(assessment_id)
                    await self._redis.hincrby(head, "passed_runs", passed)

    async def runs(self, assessment_id: str, first: int, count: int) -> list[Run | None]:
        """Runs by their numbers; None for those that have not ended."""
        key = self._keys.assessment(assessment_id, "runs")
        names = [str(number) for number in range(first, first + count)]
        with translated():
            raw = await self._redis.hmget(key, names) if names else []
        return [None if one is None else decode_run(one) for one in raw]

    def lease(self, assessment_id: str) -> Lease:
        """Of who runs it."""
        return Lease(self.client, self._keys.assessment(assessment_id, "lease"))

    # Reports

    async def keep_report(self, assessment_id: str, kind: str, content: bytes) -> None:
        """Keep a document, compressed."""
        key = self._keys.assessment(assessment_id, "report")
        with translated():
            await self._redis.hset(key, kind, zlib.compress(content, 6))
            await self._redis.expire(key, KEPT_S)

    async def report(self, assessment_id: str, kind: str) -> bytes | None:
        """A document, None where it was not made."""
        with translated():
            found = await self._redis.hget(self._keys.assessment(assessment_id, "report"), kind)
        return None if found is None else zlib.decompress(found)


async def every_case(
    store: AssessmentStore, head: Head
) -> AsyncIterator[tuple[int, Case, list[Run | None]]]:
    """Every case with its runs, in order; only a few hundred of them are in memory at once."""
    first_run = 0
    for start in range(0, head.cases, _CHUNK):
        cases = await store.cases(head.id, start, _CHUNK)
        total = sum(case.repetitions for case in cases)
        runs = await store.runs(head.id, first_run, total)
        first_run += total
        at = 0
        for number, case in enumerate(cases, start):
            yield number, case, runs[at : at + case.repetitions]
            at += case.repetitions


@asynccontextmanager
async def open_store(url: str, keys: Keys) -> AsyncIterator[AssessmentStore]:
    """A store on one task queue server; nothing is connected before it is needed.

    Raises:
        ValueError: the URL cannot be used.
    """
    async with open_client(url, name="assessments") as client:
        yield AssessmentStore(client, keys)
