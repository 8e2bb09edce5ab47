"""Looking after queues and dead letters from outside a worker: what operators' commands do."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crucible.broker.admin.census import Census, purge_queue, take_census
from crucible.broker.claiming.claims import RESULT_TTL_S
from crucible.broker.claiming.deadletters import DeadLetters
from crucible.broker.redis.pair import open_steps
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from crucible.broker.redis.atomic import Steps


class Admin:
    """An operator's view of one queue server. Made by ``Admin.connect``.

    Attributes:
        dead_letters: messages that could not be run.
    """

    def __init__(self, steps: Steps, results: Steps, keys: Keys, result_ttl_s: int) -> None:
        self.dead_letters = DeadLetters(steps, keys, results)
        self._steps = steps
        self._results = results
        self._keys = keys
        self._result_ttl_s = result_ttl_s

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        result_url: str | None = None,
        global_keyprefix: str = "",
        result_ttl_s: int = RESULT_TTL_S,
        scripting: bool = True,
    ) -> AsyncIterator[Admin]:
        """Connections of its own; nothing is connected before it is needed.

        Raises:
            ValueError: a URL cannot be used.
        """
        async with open_steps(url, result_url, scripting=scripting, name="admin") as servers:
            yield cls(*servers, Keys(global_keyprefix), result_ttl_s)

    async def census(self, queues: Sequence[str]) -> Census:
        """How much waits where; see ``take_census``."""
        return await take_census(self._steps, self._keys, queues)

    async def purge(
        self,
        queue: str,
        dropped_tasks: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    ) -> int:
        """Drop what waits in a queue; see ``purge_queue``."""
        return await purge_queue(
            self._steps, self._results, self._keys, queue, self._result_ttl_s, dropped_tasks
        )
