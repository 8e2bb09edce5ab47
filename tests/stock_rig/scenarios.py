"""What a worker writes while it runs a scenario: results, acknowledgements, events.

``run_scenario`` works with any worker on the database, so that Crucible's can be compared.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from stock_rig import golden
from stock_rig.client import StockClient
from stock_rig.monitor import Monitor
from stock_rig.worker import StockWorker

if TYPE_CHECKING:
    from stock_rig.monitor import Command

#: Commands that only subscribe, wait, or set up a connection.
NOISE = frozenset(
    {
        *("AUTH", "BRPOP", "CLIENT", "ECHO", "EXISTS", "HELLO", "HLEN", "INFO", "LLEN", "LRANGE"),
        *("PING", "PSUBSCRIBE", "PUNSUBSCRIBE", "SCAN", "SCRIPT", "SELECT", "SUBSCRIBE"),
        *("UNSUBSCRIBE", "UNWATCH", "WATCH", "ZREVRANGEBYSCORE"),
    }
)
#: Keys of kombu's restore sweep, which runs at its own intervals.
SWEEP = frozenset({"unacked_mutex", "pfx:unacked_mutex"})
#: Suffixes of the keys that hold messages; a key prefix may precede them.
HOLDING = ("unacked", "celery", "celery\x06\x163", "celery\x06\x166", "celery\x06\x169")
#: Seconds without a command after which a scenario is over, once nothing is queued or unacked.
QUIET_S = 0.25
SCENARIO_DEADLINE_S = 30.0


def trace(commands: list[Command], *, bindings: bool = True) -> list[list[str]]:
    """The significant commands, in the server's order, without empty transactions.

    Args:
        commands: the commands of a monitor.
        bindings: keep kombu's updates of bindings, which 5.7 repeats at its own intervals.
    """
    kept: list[list[str]] = []
    for command in commands:
        words = command.words
        if words[0] in NOISE or SWEEP.intersection(words[1:3]):
            continue
        if not bindings and (words == ["TIME"] or any("_kombu.bind" in word for word in words)):
            continue
        if words == ["EXEC"] and kept and kept[-1] == ["MULTI"]:
            kept.pop()
        else:
            kept.append(words)
    return kept


async def until_state(monitor: Monitor, task_id: str, state: str) -> None:
    """Wait until a worker has published that a task is in ``state``.

    By the monitor rather than by reading the result, which would be in the trace.

    Raises:
        TimeoutError: none did.
    """
    status = f'"status": "{state}"'
    await monitor.until(
        lambda command: (
            command.words[0] == "PUBLISH"
            and command.words[1].endswith(task_id)
            and status in command.words[2]
        )
    )


async def until_quiet(monitor: Monitor, redis: Redis) -> None:
    """Wait until nothing is queued or unacked, and no command came for ``QUIET_S``.

    Raises:
        TimeoutError: that did not happen in time.
    """
    async with asyncio.timeout(SCENARIO_DEADLINE_S):
        while True:
            before = await monitor.settle()
            await asyncio.sleep(QUIET_S)
            after = await monitor.settle()
            if trace(monitor.commands[before:after], bindings=False):
                continue
            keys = [str(key) async for key in redis.scan_iter()]
            held = [key for key in keys if key.endswith(HOLDING) and "_kombu" not in key]
            if not held:
                return


async def run_scenario(
    scenario: dict[str, Any], client: StockClient, monitor: Monitor, redis: Redis
) -> dict[str, Any]:  # fmt: skip
    """One scenario's trace, from the client's publish until no more commands come."""
    await redis.flushdb()
    start = await monitor.settle()
    result = await client.send(scenario["call"], scenario.get("via", default_via(scenario)))
    if "after" in scenario:
        await until_state(monitor, result["id"], scenario["after"])
    if "then" in scenario:
        step = json.loads(json.dumps(scenario["then"]).replace("$id", result["id"]))
        await client.control(step["method"], *step["args"], **step.get("kwargs", {}))
    if scenario.get("wait", "result") == "result":
        await client.ask("get", id=result["id"], propagate=False, timeout=60)
    await until_quiet(monitor, redis)
    kept = trace(monitor.commands[start:], bindings=False)
    return {
        "scenario": scenario["scenario"],
        "result": result,
        "state": await client.state(result["id"]),
        "trace": kept,
        "keys": {
            str(key): await redis.ttl(str(key))
            async for key in redis.scan_iter()
            if "_kombu" not in str(key)
        },
    }


def default_via(scenario: dict[str, Any]) -> str:
    """How a scenario's call is sent by default."""
    return "canvas" if "canvas" in scenario["call"] else "send_task"


def kind_of_worker(scenario: dict[str, Any]) -> tuple[str, str]:
    """Scenarios of the same kind share one worker."""
    return scenario.get("pool", "solo"), json.dumps(scenario.get("config", {}))


async def run_table(version: str, url: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What a stock worker of ``version`` writes for each scenario of the table.

    Returns:
        The versions installed, and an entry per scenario.
    """
    entries: list[dict[str, Any]] = []
    versions: dict[str, str] = {}
    for (pool, config), chosen in itertools.groupby(golden.scenarios(), kind_of_worker):
        async with (
            Redis.from_url(url, decode_responses=True) as redis,
            StockClient(version, url, config=json.loads(config)) as client,
            StockWorker(
                version, url, pool=pool, events=True, node="stock1@rig",
                config=json.loads(config), arguments=["--without-heartbeat"],
            ),
            Monitor(url) as monitor,
        ):  # fmt: skip
            versions = await client.versions()
            # The first publish also declares the queue, which is not part of the scenario.
            await client.get(await client.send_task("rig.echo"))
            await until_quiet(monitor, redis)
            entries.extend(
                [await run_scenario(scenario, client, monitor, redis) for scenario in chosen]
            )
    return versions, entries
