"""The clients of a cell: they submit evaluations, and the same again until it was accepted."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds between attempts, and for one of them.
_AGAIN_S, _TIMEOUT_S = 0.5, 5.0
#: Clients that wait for an answer at once; no more come while there are so many.
_MOST = 20
#: Seconds that those who still wait at the end are given.
_LAST_S = 30.0
_QUEUED = 202


@dataclass(slots=True)
class Submissions:
    """What was submitted.

    Attributes:
        key: sent with each, where the api wants one.
        accepted: evaluation ids with the time of the answer, seconds since the epoch.
        refused: answers by status; 0 where there was none.
    """

    base_url: str
    key: str = ""
    accepted: dict[str, float] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    _waiting: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def stream(self, rate: float, seconds: float) -> AsyncIterator[None]:
        """Short evaluations, so many a second, as long as the context is open."""
        async with self._session() as session:
            coming = asyncio.create_task(self._keep_coming(session, rate, seconds))
            try:
                yield
            finally:
                coming.cancel()
                await asyncio.wait([coming])
                await self._last()

    def _session(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        return aiohttp.ClientSession(self.base_url, timeout=timeout, headers=headers)

    async def _last(self) -> None:
        """Let those that still wait be accepted."""
        waiting = [*self._waiting]
        try:
            async with asyncio.timeout(_LAST_S):
                await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()

    async def submit(self, seconds: list[float]) -> None:
        """Evaluations that take so long each; returns once all were accepted."""
        async with self._session() as session:
            await asyncio.gather(*(self._one(session, length) for length in seconds))

    async def _keep_coming(
        self, session: aiohttp.ClientSession, rate: float, seconds: float
    ) -> None:
        while True:
            if len(self._waiting) < _MOST:
                task = asyncio.create_task(self._one(session, seconds))
                self._waiting.add(task)
                task.add_done_callback(self._waiting.discard)
            await asyncio.sleep(1 / rate)

    async def _one(self, session: aiohttp.ClientSession, seconds: float) -> None:
        eval_id = str(uuid.uuid4())
        body = {"eval_id": eval_id, "code": f"{seconds:g}", "language": "python"}
        while True:
            status, text = 0, ""
            try:
                async with session.post("/api/eval", json=body) as answer:
                    status, text = answer.status, await answer.text()
            except (aiohttp.ClientError, TimeoutError):
                pass
            if status in (200, _QUEUED):
                self.accepted[eval_id] = time.time()
                return
            self.refused[status] = self.refused.get(status, 0) + 1
            if 400 <= status < 500:
                raise RuntimeError(f"a submission is answered with {status}: {text}")
            await asyncio.sleep(_AGAIN_S)
