"""What a stock client writes for each call of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from stock_rig import golden
from stock_rig.client import StockClient, StockClientError
from stock_rig.monitor import Monitor
from stock_rig.scenarios import trace

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Ways of sending a call that is not a canvas; they differ in ``ignore_result``.
WAYS = ("send_task", "apply_async")


async def drain(redis: Redis) -> list[dict[str, str]]:
    """Remove and return every element of every list, oldest first."""
    pushed: list[dict[str, str]] = []
    async for key in redis.scan_iter(_type="list"):
        elements = await redis.lrange(str(key), 0, -1)
        pushed += [{"list": str(key), "message": str(raw)} for raw in reversed(elements)]
        await redis.delete(str(key))
    return sorted(pushed, key=lambda item: item["list"])


async def publish(
    call: dict[str, Any], via: str, client: StockClient, monitor: Monitor, redis: Redis
) -> dict[str, Any]:
    """One call: ``pushed`` (list and raw message), ``writes`` (all other commands), ``result``."""
    start = await monitor.settle()
    entry: dict[str, Any] = {"call": call["call"], "via": via}
    try:
        entry["result"] = await client.send(call, via)
    except StockClientError as error:
        entry["error"] = str(error)
    end = await monitor.settle()
    written = trace(monitor.commands[start:end])
    entry["writes"] = [words for words in written if words[0] != "LPUSH"]
    entry["pushed"] = await drain(redis)
    return entry


async def publish_table(
    version: str, url: str, calls: Sequence[dict[str, Any]] | None = None
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What a client of ``version`` writes for each call (None: the whole table).

    Returns:
        The versions installed, and an entry per call and way of sending.
    """
    entries: list[dict[str, Any]] = []
    async with (
        StockClient(version, url) as client,
        Redis.from_url(url, decode_responses=True) as redis,
        Monitor(url) as monitor,
    ):
        # The first publish also declares the queue; later ones write only the call itself.
        await client.send_task("rig.echo")
        await drain(redis)
        for call in golden.calls() if calls is None else calls:
            for via in ("canvas",) if "canvas" in call else WAYS:
                entries.append(await publish(call, via, client, monitor, redis))  # noqa: PERF401
        return await client.versions(), entries
