"""A bounded sample of live traffic, so that real programs of clients can be compared."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError
from crucible.migration.live.ledger import decode_asked, encode_asked
from crucible.migration.operations.programs import Named
from crucible.redis_keys import SAMPLE_LIMIT

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.evaluation.request import EvalRequest
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Larger submissions are skipped.
LARGEST_BYTES = 16 * 1024
#: Submissions taken a second by one process at most, and seconds between two writes.
RATE, WRITE_S = 10, 1.0


class Sampler:
    """Takes a few submissions a second. Open it with ``async with``."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._taken: deque[tuple[str, EvalRequest]] = deque(maxlen=RATE)
        self._second = 0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep_writing(), name="crucible-sampler")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def offer(self, eval_id: str, asked: EvalRequest) -> None:
        """Take a submission, unless enough were taken this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._left = RATE
        if self._left > 0 and len(asked.code) < LARGEST_BYTES:
            self._left -= 1
            self._taken.append((eval_id, asked))

    _left = RATE

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(WRITE_S)
            try:
                await self._write()
            except BrokerError as error:
                log.debug("the sample cannot be written now: %s", error)

    async def _write(self) -> None:
        taken = list(self._taken)
        self._taken.clear()
        rows = [(eval_id, encode_asked(asked)) for eval_id, asked in taken]
        if not rows:
            return
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for eval_id, program in rows:
                    if len(program) <= LARGEST_BYTES:
                        pipe.xadd(
                            self._keys.sample,
                            {"eval_id": eval_id, "program": program},
                            maxlen=SAMPLE_LIMIT,
                            approximate=True,
                        )
                await pipe.execute()


async def latest_sample(client: Redis, keys: Keys, limit: int) -> list[Named]:
    """The last submissions that were sampled, newest first; raises BrokerError."""
    with translated():
        rows: Any = await client.xrevrange(keys.sample, count=limit)
    return [
        Named(fields[b"eval_id"].decode(), decode_asked(fields[b"program"])) for _, fields in rows
    ]
