"""Captures what stock Celery writes to Redis, into ``tests/golden/<version>/*.json``.

    .venv/bin/python tests/golden/capture.py [VERSION ...] [--only publishes|traces|control]

Starts a scratch server of its own. Volatile parts (ids, times, hosts) are stored as they were;
``stock_rig.mask`` takes them out for comparisons.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stock_rig import golden
from stock_rig.client import StockClient, StockClientError
from stock_rig.monitor import Command, Monitor

from crucible.embedded.server import EmbeddedServer

#: Commands that only read, subscribe or set up a connection.
NOISE = {
    *("AUTH", "BRPOP", "CLIENT", "ECHO", "HELLO", "INFO", "LLEN", "LRANGE", "MGET", "PING"),
    *("PSUBSCRIBE", "PUNSUBSCRIBE", "SCAN", "SCRIPT", "SELECT", "SUBSCRIBE", "UNSUBSCRIBE"),
    *("UNWATCH", "WATCH"),
}


def writes(commands: list[Command]) -> list[list[str]]:
    """The commands that change or publish something."""
    return [command.words for command in commands if command.words[0] not in NOISE]


async def drain(redis: Redis) -> list[dict[str, str]]:
    """Every element of every list, oldest first, and the lists gone."""
    pushed: list[dict[str, str]] = []
    async for key in redis.scan_iter(_type="list"):
        elements = await redis.lrange(str(key), 0, -1)
        pushed += [{"list": str(key), "message": str(raw)} for raw in reversed(elements)]
        await redis.delete(str(key))
    return sorted(pushed, key=lambda item: item["list"])


async def publishes(version: str, url: str) -> None:
    """What a client writes for each call of the table, both ways of sending."""
    entries: list[dict[str, Any]] = []
    async with (
        StockClient(version, url) as client,
        Redis.from_url(url, decode_responses=True) as redis,
        Monitor(url) as monitor,
    ):
        # The first publish declares the queue; what later ones write is the call itself.
        await client.send_task("rig.echo")
        await redis.flushdb()
        for call in golden.calls():
            for via in ("canvas",) if "canvas" in call else ("send_task", "apply_async"):
                start = await monitor.settle()
                entry: dict[str, Any] = {"call": call["call"], "via": via}
                try:
                    entry["result"] = await client.send(call, via)
                except StockClientError as error:
                    entry["error"] = str(error)
                await monitor.settle()
                entry["writes"] = [
                    words for words in writes(monitor.commands[start:]) if words[0] != "LPUSH"
                ]
                entry["pushed"] = await drain(redis)
                entries.append(entry)
        versions = await client.versions()
    golden.save(version, "publishes", versions, entries)


CAPTURES: dict[str, Callable[[str, str], Awaitable[None]]] = {"publishes": publishes}


async def main(versions: list[str], names: list[str]) -> None:
    """Make the captures ``names`` of each version, each against an empty server."""
    for version in versions:
        for name in names:
            with tempfile.TemporaryDirectory() as directory:
                async with EmbeddedServer(Path(directory), durable=False) as server:
                    await CAPTURES[name](version, server.url)
            print(f"captured {version} {name}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("versions", nargs="*", default=list(golden.GOLDEN_VERSIONS))
    parser.add_argument("--only", choices=list(CAPTURES), action="append")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.versions, chosen.only or list(CAPTURES)))
