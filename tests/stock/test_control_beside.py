"""Remote control of an async worker by stock clients, beside a stock worker on the same server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from stock_rig.client import StockClient
from stock_rig.environments import NEWEST, OLDEST
from stock_rig.worker import StockWorker
from support.fleet_tasks import registry

from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from redis.asyncio import Redis

pytestmark = pytest.mark.stock

ASYNC, STOCK = "async1@rig", "stock1@rig"
#: ``(method, arguments)``: both must say exactly the same.
SAME_WORDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ping", {}),
    ("revoked", {}),
    ("revoke", {"task_id": "not-seen", "terminate": False, "signal": "SIGTERM"}),
    ("revoke", {"task_id": ["not-seen-2"], "terminate": True, "signal": "SIGTERM"}),
    ("revoke", {"task_id": ["not-seen-2"], "terminate": True, "signal": "sigterm"}),
    ("terminate", {"task_id": ["not-seen-2"], "signal": "SIGKILL"}),
    ("revoked", {}),
    ("revoke_by_stamped_headers", {"headers": {"tenant": ["acme"]}}),
    ("revoke_by_stamped_headers", {"headers": {"tenant": ["acme"]}, "terminate": True}),
    ("revoke_by_stamped_headers", {"headers": ["tenant=acme"]}),
    ("rate_limit", {"task_name": "rig.add", "rate_limit": "10/m"}),
    ("rate_limit", {"task_name": "rig.add", "rate_limit": 0}),
    ("rate_limit", {"task_name": "rig.add", "rate_limit": "wrong"}),
    ("rate_limit", {"task_name": "rig.unknown", "rate_limit": "10/m"}),
    ("rate_limit", {}),
    ("rate_limit", {"task_name": "rig.add"}),
    ("time_limit", {"task_name": "rig.add", "hard": 60, "soft": 30}),
    ("time_limit", {"task_name": "rig.unknown", "hard": 60, "soft": 30}),
    ("pool_grow", {"n": 1}),
    ("pool_shrink", {"n": 1}),
    ("autoscale", {"max": 4, "min": 1}),
    ("autoscale", {"maximum": 4}),
    ("pool_restart", {"modules": None, "reload": False}),
    ("add_consumer", {"queue": "extra"}),
    ("add_consumer", {"queue": "extra"}),
    ("add_consumer", {}),
    ("cancel_consumer", {"queue": "extra"}),
    ("cancel_consumer", {"queue": "nowhere"}),
    ("enable_events", {}),
    ("enable_events", {}),
    ("enable_events", {"surprise": 1}),
    ("disable_events", {}),
    ("disable_events", {}),
    ("heartbeat", {}),
    ("active", {"safe": None}),
    ("reserved", {}),
    ("scheduled", {}),
    ("query_task", {"ids": ["unknown"]}),
    ("dump_active", {}),
    ("objgraph", {}),
    ("nosuch", {}),
)
#: Both must answer in the same shape: members and their kinds, down to lists and numbers.
SAME_SHAPE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("stats", {}),
    ("active_queues", {}),
    ("clock", {}),
    ("report", {}),
    ("hello", {"from_node": "other@rig", "revoked": {}, "surprise": 1}),
    ("registered", {"taskinfoitems": []}),
    ("hello", {"from_node": "other@rig", "revoked": None}),
)
#: Where a name of our own or a figure that stock leaves out is no difference in shape.
FREE = frozenset({"total", "transport_options", "credential_provider", "strategy", "heartbeat"})


def shape(value: Any) -> Any:
    """The kinds in a reply, without its values."""
    if isinstance(value, dict):
        return {key: "free" if key in FREE else shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, (int, float)) else type(value).__name__


async def ask(client: StockClient, node: str, method: str, arguments: dict[str, Any]) -> Any:
    """One node's reply, without its name."""
    # It returns with the first reply.
    options = {"destination": [node], "reply": True, "limit": 1, "timeout": 60}
    replies = await client.control("broadcast", method, arguments=arguments, **options)
    assert replies, f"no reply to {method}"
    return replies[0][node]


def worker(url: str, queue: str = "other", **options: Any) -> Worker:
    options.setdefault("concurrency", 2)
    return Worker(registry, broker_url=url, queues=(queue,), name=ASYNC, drain_s=5.0, **options)


async def until(wanted: Any, timeout: float = 10.0) -> Any:
    """What ``wanted`` returns once it is true."""
    async with asyncio.timeout(timeout):
        while not (value := await wanted()):
            await asyncio.sleep(0.02)
        return value


async def test_replies_equal_those_of_a_stock_worker(redis_url: str) -> None:
    """Every command gets the same words, or the same shape, from both workers of one server."""
    differences = []
    async with (
        StockWorker(NEWEST, redis_url, pool="prefork", concurrency=2, node=STOCK),
        worker(redis_url),
        StockClient(NEWEST, redis_url) as client,
    ):
        for method, arguments in SAME_WORDS:
            stock = await ask(client, STOCK, method, arguments)
            ours = await ask(client, ASYNC, method, arguments)
            if stock != ours:
                differences.append((method, arguments, stock, ours))
        for method, arguments in SAME_SHAPE:
            stock = await ask(client, STOCK, method, arguments)
            ours = await ask(client, ASYNC, method, arguments)
            if shape(stock) != shape(ours):
                differences.append((method, arguments, stock, ours))
    assert not differences


async def test_requests_are_described_as_by_a_stock_worker(redis_url: str, redis: Redis) -> None:
    """Active, delayed and queried tasks have stock's members and values, one task for each."""
    eta = {"$datetime": "2099-01-02T03:04:05+00:00"}
    async with (
        StockWorker(NEWEST, redis_url, node=STOCK, pool="threads", concurrency=2),
        worker(redis_url),
        StockClient(NEWEST, redis_url) as client,
    ):
        described: dict[str, Any] = {}
        for node, queue in ((STOCK, "celery"), (ASYNC, "other")):
            running = await client.send_task("rig.slow", [3], {}, queue=queue, priority=3)
            delayed = await client.send_task("rig.slow", [3], {"kw": 1}, queue=queue, eta=eta)
            await until(lambda node=node: ask(client, node, "active", {}))
            if node == ASYNC:
                await until(lambda: redis.hlen("unacked"))
            await until(lambda node=node: ask(client, node, "scheduled", {}))
            replies = {
                "active": await ask(client, node, "active", {}),
                "safe": await ask(client, node, "active", {"safe": True}),
                "scheduled": await ask(client, node, "scheduled", {}),
                "query": await ask(client, node, "query_task", {"ids": [running, delayed]}),
            }
            text = repr(replies)
            for own, neutral in ((running, "RUNNING"), (delayed, "DELAYED"), (node, "NODE")):
                text = text.replace(own, neutral)
            described[node] = eval(text.replace(f"'{queue}'", "'QUEUE'"))
        mine, theirs = described[ASYNC], described[STOCK]
        for request in (*mine["active"], *mine["safe"], mine["query"]["RUNNING"][1]):
            assert request.pop("time_start") > 1.6e9
            assert request.pop("worker_pid") > 0
            # Ours are dropped with their result, stock's when they start.
            assert request.pop("acknowledged") is False
        for request in (*theirs["active"], *theirs["safe"], theirs["query"]["RUNNING"][1]):
            del request["time_start"], request["worker_pid"], request["acknowledged"]
        assert mine == theirs


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
async def test_stock_workers_meet_an_async_worker_quietly(version: str, redis_url: str) -> None:
    """Mingle trades revoked ids both ways, gossip sees it come and go, and nobody warns."""
    async with StockClient(version, redis_url) as client:
        async with worker(redis_url) as ours:
            await client.control("revoke", "known-to-ours")
            await until(lambda: _true("known-to-ours" in ours.node.revocations.ids))
            async with StockWorker(
                version, redis_url, sociable=True, events=True, node=STOCK, loglevel="DEBUG"
            ) as stock:
                await stock.wait_for_log("sync with 1 nodes")
                # A stock worker says it is ready before it listens.
                await until(lambda: client.inspect("ping", destination=[STOCK], timeout=0.5))
                assert "known-to-ours" in await ask(client, STOCK, "revoked", {})
                await stock.wait_for_log(f"{ASYNC} joined the party")
                await ours.drain(1.0)
                await stock.wait_for_log(f"{ASYNC} left")
                # Meets the stock worker, which still knows what the first one was told.
                await client.control("revoke", "known-to-stock", destination=[STOCK])
                stock.assert_quiet()
                async with worker(redis_url, queue="third") as late:
                    await until(lambda: _true("known-to-stock" in late.node.revocations.ids))
                    both = {STOCK: {"ok": "pong"}, ASYNC: {"ok": "pong"}}

                    async def answered(both: Any = both) -> bool:
                        return bool(await client.inspect("ping", timeout=1.0) == both)

                    await until(answered)
                stock.assert_quiet()


async def _true(value: bool) -> bool:
    return value
