"""An operator's access to queues and dead letters: what the api and the commands use."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crucible.broker.admin.census import Census, purge_queue, take_census
from crucible.broker.admin.listing import Listed, Place, list_messages
from crucible.broker.claiming.claims import RESULT_TTL_S
from crucible.broker.claiming.deadletters import DeadLetters
from crucible.broker.redis.servers import open_stores
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from crucible.broker.redis.store import RedisStore


class Admin:
    """An operator's view of one queue server. Made by ``Admin.connect``.

    Attributes:
        dead_letters: messages that could not be run.
    """

    def __init__(
        self, store: RedisStore, results: RedisStore, keys: Keys, result_ttl_s: int
    ) -> None:
        self.dead_letters = DeadLetters(store, keys, results)
        self._store = store
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
        result_keyprefix: str = "",
        result_ttl_s: int = RESULT_TTL_S,
        scripting: bool = True,
    ) -> AsyncIterator[Admin]:
        """Connections of its own; nothing is connected before it is needed.

        Args:
            url: the queue server.
            result_url: the result server; None is the same.
            global_keyprefix: Celery's broker transport option of that name.
            result_keyprefix: the same for the result backend, as it stands in front of keys.
            result_ttl_s: seconds results are kept, 0 for ever.
            scripting: False for servers without Lua.

        Raises:
            ValueError: a URL cannot be used.
        """
        async with open_stores(url, result_url, scripting=scripting, name="admin") as servers:
            yield cls(*servers, Keys(global_keyprefix, result_keyprefix), result_ttl_s)

    async def census(self, queues: Sequence[str]) -> Census:
        """How much waits where; see ``take_census``."""
        return await take_census(self._store, self._keys, queues)

    async def messages(
        self, queues: Sequence[str], place: Place
    ) -> tuple[list[Listed], Place | None]:
        """Some of what has not ended, and where to go on; see ``list_messages``."""
        return await list_messages(self._store, self._keys, queues, place)

    async def results(self, task_ids: str, cursor: int, count: int) -> tuple[list[str], int]:
        """Ids of tasks that have a stored result, and where to go on; 0 at the end.

        Args:
            task_ids: a pattern as Redis has them.
            cursor: 0 at the beginning.
            count: keys of the server to look at.
        """
        pattern = self._keys.result(task_ids)
        found, keys = await self._results.command(
            "SCAN", cursor, "MATCH", pattern, "COUNT", count, "TYPE", "string"
        )
        prefix = len(self._keys.result(""))
        return [key.decode(errors="replace")[prefix:] for key in keys], int(found)

    async def values(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of keys of the queue server; None for those that are not there."""
        if not keys:
            return []
        stored: list[bytes | None] = await self._store.command("MGET", *keys)
        return stored

    async def purge(
        self,
        queue: str,
        dropped_tasks: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    ) -> int:
        """Drop what waits in a queue; see ``purge_queue``."""
        return await purge_queue(
            self._store, self._results, self._keys, queue, self._result_ttl_s, dropped_tasks
        )
