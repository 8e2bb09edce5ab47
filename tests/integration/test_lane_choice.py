"""Which of a tenant's lanes runs its next program."""

from __future__ import annotations

import asyncio

import pytest

from crucible.executor import ExecutorConfig, open_executor
from crucible.models import Limits, Program

pytestmark = [pytest.mark.docker, pytest.mark.asyncio]

#: Each lane gives its programs user ids that go up by one.
WHO = Program(
    language="python",
    code="import os; print(os.getuid())",
    isolation="nested",
    tenant="one",
    limits=Limits(wall_time_s=30.0),
)


async def test_a_lane_is_used_up_before_the_next() -> None:
    """Of a tenant's lanes at rest that has its next program which has served most.

    Used in turns they would all have to be restarted at the same time.
    """
    config = ExecutorConfig(isolation="nested", pool_min=0)
    async with open_executor(config) as executor:
        await executor.run(WHO)
        await asyncio.gather(*(executor.run(WHO) for _ in range(3)))
        ids = [int((await executor.run(WHO)).stdout) for _ in range(5)]
    assert ids == list(range(ids[0], ids[0] + 5))
