"""The continuous comparison of dual-write traffic: each evaluation with its copy.

Equal outcomes are counted. A difference is examined: the program runs twice more on Celery. Where
those runs agree with the first, a mismatch is counted; where they do not, the program is
nondeterministic and the difference says nothing about the queue systems.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError, TaskError
from crucible.migration.comparison import Comparison, Kind, judge
from crucible.redis_keys import MISMATCH_LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from crucible.evaluation.request import EvalRequest
    from crucible.models import Evaluation
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Differences that may wait to be examined, and further runs of a program that differed.
LIMIT, AGAIN = 50, 2
#: Differences examined at once.
EXAMINERS = 4
#: Seconds between two writes of the counts.
FLUSH_S = 0.5


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A difference that was found.

    Attributes:
        at: when, UTC.
        confirmed: the program was run again, so that it is known not to be nondeterministic.
    """

    eval_id: str
    at: str
    language: str
    confirmed: bool
    comparison: Comparison


class _Pair(NamedTuple):
    asked: EvalRequest
    legacy: Evaluation
    celery: Evaluation


class Mismatches:
    """What is kept of comparisons on the task queue server.

    Args:
        client: of the server.
        keys: key names.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def add(self, listed: Listed) -> None:
        """Keep a difference; raises BrokerError."""
        with translated():
            await self._client.xadd(
                self._keys.mismatches,
                {"entry": msgspec.json.encode(listed)},
                maxlen=MISMATCH_LIMIT,
                approximate=True,
            )

    async def count(self, counts: Counter[str]) -> None:
        """Add to the counts of every process; raises BrokerError."""
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                for name, number in counts.items():
                    pipe.hincrby(self._keys.compared, name, number)
                await pipe.execute()

    async def counts(self) -> dict[str, int]:
        """Results of all comparisons; raises BrokerError."""
        with translated():
            held: Any = await self._client.hgetall(self._keys.compared)
        found = {name.decode(): int(number) for name, number in held.items()}
        return {kind.value: found.get(kind.value, 0) for kind in Kind}

    async def latest(self, limit: int = 100) -> list[Listed]:
        """The last differences, newest first; raises BrokerError."""
        with translated():
            rows: Any = await self._client.xrevrange(self._keys.mismatches, count=limit)
        return [msgspec.json.decode(fields[b"entry"], type=Listed) for _, fields in rows]


class DualComparer:
    """Compares pairs in the background. Open it with ``async with``.

    Args:
        kept: where counts and differences go.
        run_again: runs a program once more on Celery.
    """

    def __init__(
        self,
        kept: Mismatches,
        run_again: Callable[[str, int, EvalRequest], Awaitable[Evaluation]],
    ) -> None:
        self._kept = kept
        self._run_again = run_again
        self._differing: asyncio.Queue[_Pair] = asyncio.Queue(LIMIT)
        self._unwritten: Counter[str] = Counter()
        self._unlisted: list[Listed] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.totals: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._tasks = [
            *(asyncio.create_task(self._keep_examining()) for _ in range(EXAMINERS)),
            asyncio.create_task(self._keep_writing(), name="crucible-comparer-writer"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await self._write()
        except BrokerError as error:
            log.warning("the last comparisons are not counted: %s", error)

    def compare(self, asked: EvalRequest, legacy: Evaluation, celery: Evaluation) -> None:
        """Compare an evaluation with its copy."""
        first = judge(legacy.eval_id, legacy, celery)
        if first.kind is not Kind.MISMATCH:
            self._count(asked, first, confirmed=True)
            return
        try:
            self._differing.put_nowait(_Pair(asked, legacy, celery))
        except asyncio.QueueFull:
            # So many differ that it is not by chance.
            self._count(asked, first, confirmed=False)

    async def _keep_examining(self) -> None:
        while True:
            pair = await self._differing.get()
            try:
                await self._examine(pair)
            except Exception:  # supervision: one pair that fails must not end the comparison
                log.exception("the comparison of %s failed", pair.legacy.eval_id)

    async def _examine(self, pair: _Pair) -> None:
        eval_id = pair.legacy.eval_id
        again: list[Evaluation] = []
        try:
            again = [await self._run_again(eval_id, n, pair.asked) for n in range(AGAIN)]
        except (BrokerError, TaskError) as error:
            log.info("%s could not be run again: %s", eval_id, error)
        verdict = judge(eval_id, pair.legacy, pair.celery, again)
        self._count(pair.asked, verdict, confirmed=len(again) == AGAIN)

    def _count(self, asked: EvalRequest, found: Comparison, *, confirmed: bool) -> None:
        self.totals[found.kind] += 1
        self._unwritten[found.kind] += 1
        if found.kind is Kind.EQUAL:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        log.log(
            logging.ERROR if found.kind is Kind.MISMATCH else logging.INFO,
            "%s of %s: %s",
            found.kind,
            found.name,
            ", ".join(one.field for one in found.differences),
        )
        self._unlisted.append(
            Listed(
                eval_id=found.name,
                at=now,
                language=asked.language,
                confirmed=confirmed,
                comparison=found,
            )
        )
        del self._unlisted[:-MISMATCH_LIMIT]

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            try:
                await self._write()
            except BrokerError as error:
                log.debug("comparisons cannot be written now: %s", error)

    async def _write(self) -> None:
        while self._unlisted:
            await self._kept.add(self._unlisted[0])
            del self._unlisted[0]
        if self._unwritten:
            counts, self._unwritten = self._unwritten, Counter()
            try:
                await self._kept.count(counts)
            except BrokerError:
                self._unwritten.update(counts)
                raise
