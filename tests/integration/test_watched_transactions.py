"""Transactions that watch keys, on a connection that breaks off in the middle of one.

redis-py then raises the error that it raises where others have changed those keys.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec
import pytest
import pytest_asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from support.faults import Fault, FaultProxy
from support.patience import PATIENCE_S

import crucible
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.effect_store import EffectBlock, Guarded, PartCount, Verb, Write
from crucible.broker.redis.transactions import executed
from crucible.broker.redis.without_lua.store import TransactionStore
from crucible.broker.wire import claim_value
from crucible.errors import BrokerUnavailable
from crucible.evaluation.completion_store import CompletionStore
from crucible.evaluation.leases import changed
from crucible.identity.key_store import KeyStore
from crucible.identity.keys import checked_request
from crucible.migration.state import Change, SwitchStore
from crucible.redis_keys import Keys
from crucible.settings import Settings
from crucible.webhooks.registration import RegistrationStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from redis.asyncio import Redis

    Operation = Callable[[Any], Awaitable[Any]]

KEYS = Keys()
CLAIM = "worker:1"
#: For the reply to one command, seconds.
REPLY_S = 2.0


async def change_something(client: Any) -> None:
    """As assessments, workflows and forgetting do."""

    async def change(pipe: Any) -> Callable[[], None]:
        await pipe.watch("watched")
        await pipe.get("watched")
        return lambda: pipe.incr("watched")

    await changed(client, change)


async def make_key(client: Any) -> None:
    """A key is made."""
    store = KeyStore(client, KEYS)
    await store.create(checked_request({"name": "n", "tenant": "t", "scopes": ["read"]}))


async def disable_webhook(client: Any) -> None:
    """A webhook is changed."""
    await RegistrationStore(client, KEYS).disable("t", "wh_1", "it is gone")


async def change_switches(client: Any) -> None:
    """The switches of a migration."""
    settings = Settings(queue_service_url="http://127.0.0.1:8002")
    await SwitchStore(client, KEYS, settings).change(Change(celery_percentage=0.5))


async def count_letters(client: Any) -> None:
    """Dead letters of dead workers."""
    await CompletionStore(client, KEYS, 60).count_letters()


async def requeue(client: Any) -> None:
    """A claim is given back, without scripts."""
    await TransactionStore(client).requeue(KEYS, [(CLAIM, "celery")])


async def settle_effects(client: Any) -> None:
    """A claim ends, without scripts."""
    guarded = Guarded("mark", "size", "token", 60, [Write(Verb.PUSH, "celery", (b"m",))])
    block = EffectBlock(CLAIM, [Write(Verb.INCREMENT, "count", (60,))], [guarded])
    await TransactionStore(client).settle_effects(KEYS, [block], 60)


async def count_part(client: Any) -> None:
    """A part of a chord, without scripts."""
    part = PartCount("g", "t", '["t",0,1]', '["t",0', "0", "token")
    await TransactionStore(client).count_chord_part(KEYS, part, ttl_s=60, mark_ttl_s=60)


OPERATIONS: list[Operation] = [
    change_something,
    make_key,
    disable_webhook,
    change_switches,
    count_letters,
    requeue,
    settle_effects,
    count_part,
]


@pytest_asyncio.fixture
async def client(redis: Redis, proxied_url: str) -> AsyncIterator[Redis]:
    """Through the proxy; the server has what the operations change."""
    webhook = await RegistrationStore(redis, KEYS).create("t", "https://own.example/", ())
    await redis.hset(KEYS.webhooks, "t:wh_1", msgspec.json.encode(webhook))
    await redis.hset(KEYS.unacked, CLAIM, claim_value.join(b"{}", '"celery"'))
    await redis.xadd(KEYS.dlq, {"task_id": "eval-lost", "detail": "died", "raw": b"x"})
    async with open_client(proxied_url, command_timeout_s=REPLY_S) as client:
        yield client


def after_watching(act: Callable[[], None]) -> Any:
    """A patch of ``Pipeline`` with which ``act`` is called once it watches."""
    real = Pipeline.watch

    async def called(self: Pipeline, *names: Any) -> Any:
        found = await real(self, *names)
        act()
        return found

    return mock.patch.object(Pipeline, "watch", called)


def cut_at_end(proxy: FaultProxy, redis: Redis) -> Any:
    """A patch of ``Pipeline``: the connection of one that watches ends once the server ran it."""
    real = Pipeline.execute

    async def cut(run: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while await executions(redis) == run:
                await asyncio.sleep(0.01)
        proxy.set(Fault.RESET)

    async def called(self: Pipeline, *args: Any, **options: Any) -> Any:
        if not self.watching:
            return await real(self, *args, **options)
        proxy.set(Fault.LOST_REPLIES)
        cutting = asyncio.create_task(cut(await executions(redis)))
        try:
            return await real(self, *args, **options)
        finally:
            await cutting
            proxy.set(Fault.PASS)

    return mock.patch.object(Pipeline, "execute", called)


async def executions(redis: Redis) -> int:
    """Transactions that the server has run."""
    found: Any = await redis.info("commandstats")
    return int(found.get("cmdstat_exec", {"calls": 0})["calls"])


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_each_watches_and_carries_out_once(
    operation: Operation, client: Redis, redis: Redis
) -> None:
    """What the tests below break off."""
    count = await executions(redis)
    await operation(client)
    assert await executions(redis) == count + 1


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.BLACKHOLE], ids=lambda fault: fault.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_one_that_breaks_off_before_its_end_is_an_outage(
    operation: Operation, fault: Fault, client: Redis, redis: Redis, proxy: FaultProxy
) -> None:
    """After its first command: no refusal, and nobody goes on as if nothing had happened."""
    count = await executions(redis)
    with after_watching(lambda: proxy.set(fault)), pytest.raises(BrokerUnavailable):
        await operation(client)
    assert await executions(redis) == count


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_one_whose_end_is_not_told_is_not_carried_out_again(
    operation: Operation, client: Redis, redis: Redis, proxy: FaultProxy
) -> None:
    """Its reply is lost, and then all is well again: who did it must know that it is not known."""
    count = await executions(redis)
    with cut_at_end(proxy, redis), pytest.raises(BrokerUnavailable):
        await operation(client)
    assert await executions(redis) == count + 1


async def test_a_change_of_others_is_told_from_a_lost_connection(
    client: Redis, redis: Redis, proxy: FaultProxy
) -> None:
    """Nothing was done in the first case."""
    pipe: Any
    async with client.pipeline(transaction=True) as pipe:
        await pipe.watch("key")
        await redis.set("key", "others'")
        pipe.multi()
        pipe.set("key", "ours")
        assert await executed(pipe) is None
    async with client.pipeline(transaction=True) as pipe:
        await pipe.watch("key")
        pipe.multi()
        pipe.set("key", "ours")
        assert await executed(pipe) == [True]
        proxy.set(Fault.RESET)
        pipe.set("key", "again")
        with pytest.raises(RedisConnectionError):
            await executed(pipe)
    assert await redis.get("key") == b"ours"


def test_nobody_else_reads_that_error() -> None:
    """There is one place that tells its two meanings apart, and one that translates it."""
    package = Path(crucible.__file__).parent
    reading = {
        path.name for path in package.rglob("*.py") if "WatchError" in path.read_text("utf-8")
    }
    assert reading == {"transactions.py", "translation.py"}
