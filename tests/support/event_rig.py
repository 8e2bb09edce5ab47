"""Clients of server-sent events, for tests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp


class Sse(NamedTuple):
    """One server-sent event."""

    name: str
    id: str
    data: dict[str, Any]


class SseClient:
    """One open stream.

    Attributes:
        response: the answer.
        last_id: what a browser would resume with.
        comments: heartbeats so far.
    """

    def __init__(self, response: aiohttp.ClientResponse, last_id: str = "") -> None:
        self.response = response
        self.last_id = last_id
        self.comments = 0
        self._name, self._data = "", ""

    async def next(self) -> Sse | None:
        """The next event; None once the stream has ended."""
        async with asyncio.timeout(PATIENCE_S):
            async for raw in self.response.content:
                line = raw.decode().rstrip("\n")
                field, _, value = line.partition(": ")
                if line.startswith(":"):
                    self.comments += 1
                elif field == "id":
                    self.last_id = value
                elif field == "event":
                    self._name = value
                elif field == "data":
                    self._data = value
                elif not line and self._data:
                    event = Sse(self._name, self.last_id, json.loads(self._data))
                    self._name, self._data = "", ""
                    return event
        return None

    async def all(self) -> list[Sse]:
        """Every event until the stream ends."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event)
        return found


@asynccontextmanager
async def following(
    client: aiohttp.ClientSession, path: str = "/api/events", last_id: str = ""
) -> AsyncIterator[SseClient]:
    """An open stream of events."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with client.get(path, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield SseClient(response, last_id)
