"""Reading stored results: one MGET for all who ask at the same time."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

from crucible.broker.redis.translation import translated
from crucible.broker.results.meta import Meta, decode_meta
from crucible.errors import BrokerError, BrokerUnavailable, MessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.link import Link
    from crucible.redis_keys import Keys

_log = logging.getLogger(__name__)

#: Keys in one MGET.
BATCH = 1000


class Lookup:
    """Batched reads of results. Open it with ``async with``."""

    def __init__(self, link: Link, keys: Keys, deadline_s: float) -> None:
        self._link = link
        self._keys = keys
        self._deadline_s = deadline_s
        self._asked: dict[str, asyncio.Future[Meta | None]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for future in self._asked.values():
            if not future.done():
                future.set_exception(BrokerUnavailable("the publisher was closed"))

    async def meta(self, task_id: str) -> Meta | None:
        """What is stored of a task; None while nothing is, or where it is no task's meta.

        Raises:
            BrokerUnavailable: no answer within the deadline.
        """
        future = self._asked.get(task_id)
        if future is None or future.done():
            future = asyncio.get_running_loop().create_future()
            self._asked[task_id] = future
        if self._reader is None:
            self._reader = asyncio.create_task(self._read_all(), name="crucible-lookup")
        # One who gives up must not take the answer from others who ask for the same.
        return await asyncio.shield(future)

    async def metas(self, task_ids: Sequence[str]) -> list[Meta | None]:
        """What is stored of each task, in order.

        Raises:
            BrokerUnavailable: no answer within the deadline.
        """
        found: list[Meta | None] = []
        for start in range(0, len(task_ids), BATCH):
            found += await self._mget(task_ids[start : start + BATCH])
        return found

    async def _mget(self, task_ids: Sequence[str]) -> list[Meta | None]:
        try:
            with translated():
                async with asyncio.timeout(self._deadline_s):
                    values = await self._link.call("MGET", *map(self._keys.result, task_ids))
        except UnicodeEncodeError:
            # No key can have such a name; ask for the others one by one.
            return [None] if len(task_ids) == 1 else [await self.meta(i) for i in task_ids]
        return [None if value is None else read_meta(value) for value in values]

    async def _read_all(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                await self._read(asked)
        finally:
            self._reader = None

    async def _read(self, asked: dict[str, asyncio.Future[Meta | None]]) -> None:
        try:
            found = await self.metas(list(asked))
        except BrokerError as error:
            for future in asked.values():
                if not future.done():
                    future.set_exception(BrokerUnavailable(str(error)))
                    # Its askers may all be gone.
                    future.exception()
        except asyncio.CancelledError:
            for future in asked.values():
                future.cancel()
            raise
        else:
            for future, meta in zip(asked.values(), found, strict=True):
                if not future.done():
                    future.set_result(meta)


def read_meta(raw: bytes) -> Meta | None:
    """A stored meta; None, and a line in the log, where the bytes are something else."""
    try:
        return decode_meta(raw)
    except MessageError as error:
        _log.warning("a result cannot be read: %s", error)
        return None
