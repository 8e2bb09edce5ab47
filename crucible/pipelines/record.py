"""What is kept of a pipeline while it runs: one hash on the task queue server."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.assessments.record import Run, decode_run
from crucible.assessments.suite import Case  # noqa: TC001 - msgspec reads the annotations
from crucible.broker.redis.translation import translated
from crucible.evaluation.leases import changed
from crucible.pipelines.resources import Amounts  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

#: Seconds a pipeline is kept after its last change: longer than it may take.
KEPT_S = 2 * 3600


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked.

    Attributes:
        pipeline_id: follows from the rest: the same order twice is one pipeline.
        task_id: of ``tasks.evaluate_ai_model``.
        model_id: which model.
        sha256: what it must be; None takes what it is.
        resources: what to reserve.
        max_mb: how large it may be.
        pass_score: the score from which on it passes.
        cases: the suite.
        tenant: whose programs they are.
    """

    pipeline_id: str
    task_id: str
    model_id: str
    sha256: str | None
    resources: Amounts
    max_mb: int
    pass_score: float
    cases: list[Case]
    tenant: str


_order_decoder = msgspec.msgpack.Decoder(Order)
_encode = msgspec.msgpack.Encoder().encode


def pipeline_id_of(*asked: Any) -> str:
    """The id of what was asked, whoever asks."""
    text = msgspec.json.encode(asked, order="deterministic")
    return hashlib.sha256(text).hexdigest()[:32]


class PipelineStore:
    """Keeps pipelines. Every method raises ``BrokerError`` if the server does not answer.

    Args:
        client: of the task queue server.
        keys: key names.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        # The stubs of redis-py describe blocking and asynchronous answers at once.
        self._redis: Any = client
        self._keys = keys

    async def begin(self, order: Order) -> Order:
        """Keep an order, unless the same runs already: then that one."""
        key = self._keys.pipeline(order.pipeline_id)
        with translated():
            await self._redis.hsetnx(key, "order", _encode(order))
            await self._redis.expire(key, KEPT_S)
            return _order_decoder.decode(await self._redis.hget(key, "order"))

    async def order(self, pipeline_id: str) -> Order | None:
        """An order that runs; None once it has ended."""
        key = self._keys.pipeline(pipeline_id)
        with translated():
            await self._redis.expire(key, KEPT_S)
            raw = await self._redis.hget(key, "order")
        return None if raw is None else _order_decoder.decode(raw)

    async def keep_run(self, pipeline_id: str, number: int, run: Run) -> None:
        """Keep how a run ended; of one that is there already the first stays."""
        with translated():
            await self._redis.hsetnx(
                self._keys.pipeline(pipeline_id), f"run:{number}", _encode(run)
            )

    async def runs(self, pipeline_id: str) -> dict[int, Run]:
        """The runs that have ended, by number."""
        with translated():
            fields = await self._redis.hgetall(self._keys.pipeline(pipeline_id))
        return {
            int(name.removeprefix(b"run:")): decode_run(value)
            for name, value in fields.items()
            if name.startswith(b"run:")
        }

    async def reach(self, pipeline_id: str, progress: float) -> float | None:
        """Keep how far a pipeline has come, percent; the greatest so far, None once it has ended.

        Raises:
            BrokerError: the server does not answer.
        """
        key, greatest = self._keys.pipeline(pipeline_id), progress
        ended = False

        async def change(pipe: Any) -> Callable[[], None] | None:
            nonlocal greatest, ended
            await pipe.watch(key)  # whoever ends it removes it, and it must not come back
            running, kept = await pipe.hmget(key, "order", "progress")
            greatest, ended = max(progress, float(kept or 0)), running is None
            if ended or (kept is not None and greatest > progress):
                return None
            return lambda: pipe.hset(key, "progress", str(progress))

        await changed(self._redis, change)
        return None if ended else greatest

    async def end(self, pipeline_id: str) -> None:
        """Forget it."""
        with translated():
            await self._redis.delete(self._keys.pipeline(pipeline_id))
