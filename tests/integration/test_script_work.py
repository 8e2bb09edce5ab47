"""No script's work grows with what is on the server, only with what it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from support.script_calls import ScriptCall, script_calls

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.link import Link
from crucible.broker.redis.scripts import script

#: Rows beside what a call is about: of every kind it might walk.
CROWD = 3000
#: Commands a script runs for each value it is given, and besides.
PER_VALUE, BESIDES = 4, 20
#: Sent by the test, or by the client when it connects.
NOT_OF_SCRIPTS = frozenset({"config|resetstat", "config", "evalsha", "eval", "info", "client",
                            "client|setinfo", "client|setname", "hello", "select"})  # fmt: skip


async def crowd(redis: Any, call: ScriptCall) -> None:
    """Delayed messages, claims of others, strays and waiting messages."""
    unacked, index = f"{call.script}:unacked", f"{call.script}:unacked_index"
    value = b'[{"a": 1}, "", "q"]'
    fields = [f"crucible|delayed|0|{number}" for number in range(CROWD)]
    late = {f"crucible|w{number}|1": 9e9 + number for number in range(CROWD)}
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hset(unacked, mapping=dict.fromkeys([*fields, *late, *map(str, range(CROWD))], value))
        pipe.zadd(index, {**{field: number for number, field in enumerate(fields)}, **late})
        pipe.lpush(f"{call.script}:q", *[value] * CROWD)
        pipe.zadd(f"{call.script}:workers", late)
        pipe.zadd(f"{call.script}:g.j", {f'[1, "{number}",': "+inf" for number in range(CROWD)})
        await pipe.execute()


@pytest.mark.parametrize("crowded", [False, True], ids=["alone", "crowded"])
@pytest.mark.parametrize("call", script_calls(), ids=lambda call: call.script)
async def test_work_is_bounded_by_the_arguments(
    redis_url: str, redis: Redis, call: ScriptCall, crowded: bool
) -> None:
    """150 000 delayed messages and one stray held up everybody for 1.4 s."""
    await call.seed(redis)
    if crowded:
        await crowd(redis, call)
    async with open_client(redis_url) as client:
        link = Link(client)
        await redis.config_resetstat()
        await script(call.script).run(link.call, call.keys, call.args)
    stats: dict[str, Any] = await redis.info("commandstats")
    commands = {
        name.removeprefix("cmdstat_"): row["calls"]
        for name, row in stats.items()
        if name.removeprefix("cmdstat_") not in NOT_OF_SCRIPTS
    }
    values = len(call.args) + sum(arg for arg in call.args if type(arg) is int and arg <= 200)
    assert 0 < sum(commands.values()) <= BESIDES + PER_VALUE * values, commands
