"""Receives task events during a run."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

_PATTERN = "*.celeryev/*"
_AGAIN_S = 0.1


class Watcher:
    """Every task event received.

    Attributes:
        heard: worker, task id and kind of each.
        deaf: periods without a subscription, as begin and end.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.heard: set[tuple[str, str, str]] = set()
        self.deaf: list[tuple[float, float]] = []
        self.listening = asyncio.Event()

    async def listen(self) -> None:
        """Collect until cancelled; subscribe again when the server comes back."""
        deaf_since = time.time()
        while True:
            try:
                async with Redis.from_url(self._url) as client, client.pubsub() as pubsub:
                    await pubsub.psubscribe(_PATTERN)
                    async for message in pubsub.listen():
                        if message["type"] == "psubscribe":
                            self.deaf.append((deaf_since, time.time()))
                            self.listening.set()
                        elif message["type"] == "pmessage":
                            self._take(message["data"])
            except (RedisError, OSError):
                if self.listening.is_set():
                    deaf_since = time.time()
                    self.listening.clear()
                await asyncio.sleep(_AGAIN_S)

    def _take(self, data: bytes) -> None:
        body: Any = json.loads(base64.b64decode(json.loads(data)["body"]))
        for event in body if isinstance(body, list) else [body]:
            if "uuid" in event:
                self.heard.add((event.get("hostname", ""), event["uuid"], event["type"]))
