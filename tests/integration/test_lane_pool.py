"""The pool of lanes against a real engine: what it lends, counts and retires, and why."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.models import Limits, Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.executor.nested.pool import LanePool

pytestmark = pytest.mark.docker

HELLO = Program(
    language="python", code="print(1)", isolation="nested", limits=Limits(wall_time_s=30)
)
CRASH = msgspec.structs.replace(HELLO, code="import os; os.abort()")


def config(**changes: Any) -> ExecutorConfig:
    """One lane at most, and no container of one program."""
    owner = f"{socket.gethostname()}-lanes:{os.getpid()}:{os.urandom(4).hex()}"
    usual = {"pool_min": 0, "lanes_max": 1, "lane_programs": 3, "owner": owner}
    return ExecutorConfig(**{**usual, **changes})


def of(tenant: str, program: Program = HELLO) -> Program:
    """A tenant's program."""
    return msgspec.structs.replace(program, tenant=tenant)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a state of the pool, which has no event of its own for it."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def at_rest(lanes: LanePool) -> None:
    """Nothing is being made, stopped or removed."""
    await until(lambda: not lanes.counts.preparing + lanes.counts.settling + lanes.counts.parked)


async def test_lanes_are_counted() -> None:
    """By state, programs, misses and seconds waited, apart from containers of one program."""
    async with DockerExecutor.open(config()) as executor:
        assert executor.pools.counts()["nested"]["busy"] == 0
        for _ in range(3):
            await executor.run(of("a"))
        totals = executor.lanes.totals
        assert (totals.programs, totals.misses) == (3, 1)
        assert totals.waited_s > 0
        await at_rest(executor.lanes)
        assert executor.pools.counts()["nested"]["fresh"] == 1
        assert not any(executor.pools.counts()["container"].values())
        stats = executor.stats()
        assert stats["programs"] == 0
        lanes = stats["lanes"]
        assert (lanes["programs"], lanes["misses"], lanes["fresh"]) == (3, 1, 1)
        assert lanes["retired"] == {"programs": 1}
        assert msgspec.json.decode(msgspec.json.encode(stats)) == stats


async def test_other_environments_are_counted_as_well() -> None:
    """What is opened for lanes alone is shown, and is in the sums."""
    from crucible.environments import DEFAULT

    other = msgspec.structs.replace(DEFAULT, name="other")
    settings = config(environments=(DEFAULT, other), lanes_max=2)
    async with DockerExecutor.open(settings) as executor:
        for pools in (executor.pools.lanes_of(DEFAULT), executor.pools.lanes_of(other)):
            await pools
        shown = executor.stats()["environments"]["other"]
        assert shown["lanes"]["programs"] == 0
        assert "idle" not in shown  # no program of a container of its own came


@pytest.mark.parametrize(
    ("programs", "reasons"),
    [
        ([of("a")] * 3, {"programs": 1}),
        ([of("a"), of("a", CRASH)], {"verdict": 1}),
        ([of("a", CRASH)] * 2, {"verdict": 2}),
        ([of("a"), of("b")], {"not_needed": 1}),
    ],
)
async def test_why_a_lane_serves_nobody_any_more(
    programs: list[Program], reasons: dict[str, int]
) -> None:
    """After so many programs, after a bad end, and where another tenant needs its place."""
    async with DockerExecutor.open(config()) as executor:
        for program in programs:
            await executor.run(program)
        assert executor.lanes.totals.retired == reasons


async def test_a_turn_ends_where_others_wait() -> None:
    """A lane goes from a tenant with programs of its own to one that has none, restarted."""
    async with DockerExecutor.open(config(lane_programs=1000, acquire_s=300)) as executor:
        await executor.run(of("a"))
        many = [asyncio.create_task(executor.run(of("a"))) for _ in range(40)]
        await executor.run(of("b"))
        assert executor.lanes.totals.retired["turn"] >= 1
        await asyncio.gather(*many)


async def test_a_lane_that_nobody_uses_goes() -> None:
    """After the idle time: a tenant's, then those that are nobody's."""
    settings = config(lane_idle_s=0.5, lanes_max=2)
    async with DockerExecutor.open(settings) as executor:
        await executor.run(of("a"))
        await until(lambda: not executor.lanes.counts.total)
        assert set(executor.lanes.totals.retired) == {"idle"}


async def test_containers_say_why_they_went_too() -> None:
    """``stats`` has the reasons of both isolations."""
    async with DockerExecutor.open(config(max_uses=1)) as executor:
        await executor.run(msgspec.structs.replace(HELLO, isolation="container"))
        assert executor.stats()["retired"] == {"used_up": 1}
