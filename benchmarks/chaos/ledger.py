"""The ledger: a stream on a separate server that no fault is injected into."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING, Any

from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from benchmarks.chaos.records import Record, decode, encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STREAM = "ledger"
#: Environment variables of every process that writes to it.
URL_VARIABLE, WORKER_VARIABLE = "CHAOS_LEDGER_URL", "CHAOS_WORKER"
_BLOCK_MS = 200
_ROWS = 1000


def open_client(url: str) -> Redis:
    """A client of the ledger without timeouts.

    To a process that was stopped (SIGSTOP), a reply that came meanwhile looks late. A task failing
    over that would be a fault of the test and not of what it tests.
    """
    return Redis.from_url(url, socket_timeout=None, socket_connect_timeout=None)


def new_run() -> str:
    """A unique id for one execution."""
    return uuid.uuid4().hex


class Ledger:
    """Writes records from asyncio; a record is stored once ``write`` returned."""

    def __init__(self, client: Redis) -> None:
        self._client: Any = client

    async def write(self, record: Record) -> None:
        """Append one record."""
        await self._client.xadd(STREAM, {"r": encode(record)})

    async def tail(self) -> AsyncIterator[list[Record]]:
        """All records from the first one on, as they arrive; empty lists while none arrive."""
        last: Any = "0"
        while True:
            answer = await self._client.xread({STREAM: last}, count=_ROWS, block=_BLOCK_MS)
            rows = answer[0][1] if answer else []
            if rows:
                last = rows[-1][0]
            yield [decode(fields[b"r"]) for _, fields in rows]


class BlockingLedger:
    """Writes records from a stock worker's child processes, one connection per process."""

    def __init__(self) -> None:
        self._client: Any = None
        self._pid = 0

    def write(self, record: Record) -> None:
        """Append one record."""
        if self._pid != os.getpid():
            self._client = BlockingRedis.from_url(
                os.environ[URL_VARIABLE], socket_timeout=None, socket_connect_timeout=None
            )
            self._pid = os.getpid()
        self._client.xadd(STREAM, {"r": encode(record)})
