"""Copies for Celery of what the legacy queue runs, sent in the background.

Nothing here affects a client: offering a copy neither waits nor fails. A copy that cannot be sent
in time, or finds no room, is counted and dropped; that evaluation is not compared.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Self

from crucible.errors import BrokerError
from crucible.evaluation.request import size_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crucible.breaker import CircuitBreaker
    from crucible.evaluation.request import EvalRequest

log = logging.getLogger(__name__)

#: Copies that may wait to be sent, and those sent at once.
LIMIT, AT_ONCE = 1000, 16
#: Memory that waiting copies may take.
WAITING_BYTES = 64 * 1024 * 1024
#: Seconds that waiting copies have when the process stops.
CLOSE_S = 1.0


class Copy(NamedTuple):
    """One evaluation to send a copy of."""

    eval_id: str
    asked: EvalRequest


class Shadow:
    """Sends copies. Open it with ``async with``.

    Args:
        send: publishes one copy; its deadline is its own.
        missed: called with the id of each evaluation of which no copy was sent.
        breaker: of the task queue server.
        limit: copies that may wait.
    """

    def __init__(
        self,
        send: Callable[[str, EvalRequest], Awaitable[None]],
        missed: Callable[[str], None],
        breaker: CircuitBreaker,
        *,
        limit: int = LIMIT,
    ) -> None:
        self._send = send
        self._missed = missed
        self._breaker = breaker
        self._waiting: asyncio.Queue[Copy] = asyncio.Queue(limit)
        self._tasks: list[asyncio.Task[None]] = []
        self._bytes = 0
        self.totals: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._keep_sending(), name=f"crucible-shadow-{number}")
            for number in range(AT_ONCE)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._waiting.join()
        except TimeoutError:
            log.warning("%d copies for Celery were not sent before the stop", self._waiting.qsize())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def offer(self, eval_id: str, asked: EvalRequest) -> None:
        """Have a copy sent, if there is room."""
        if self._waiting.full() or self._bytes + size_of(asked) > WAITING_BYTES:
            self._miss(eval_id, "no_room")
            return
        self._bytes += size_of(asked)
        self._waiting.put_nowait(Copy(eval_id, asked))

    async def _keep_sending(self) -> None:
        while True:
            copy = await self._waiting.get()
            self._bytes -= size_of(copy.asked)
            try:
                await self._send_one(copy)
            except Exception:  # supervision: one copy that fails must not end the sender
                log.exception("sending the copy of %s failed", copy.eval_id)
                self._miss(copy.eval_id, "broken")
            finally:
                self._waiting.task_done()

    async def _send_one(self, copy: Copy) -> None:
        permit = self._breaker.permit()
        if permit is None:
            self._miss(copy.eval_id, "circuit_open")
            return
        try:
            with permit:
                await self._send(copy.eval_id, copy.asked)
        except BrokerError as error:
            log.info("no copy of %s: %s", copy.eval_id, error)
            self._miss(copy.eval_id, "failed")
        else:
            self.totals["sent"] += 1

    def _miss(self, eval_id: str, why: str) -> None:
        self.totals[why] += 1
        self._missed(eval_id)
