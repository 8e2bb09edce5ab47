"""Many programs in a row, hostile ones among them: nothing piles up."""

from __future__ import annotations

import asyncio
import os

import pytest
from siege import ISOLATIONS, besieged, honest, open_descriptors, resident_bytes
from support.sandboxes import containers_of

from crucible.models import Isolation, Limits, Program, Verdict

pytestmark = pytest.mark.docker

#: The promise is held for 10 000 by ``CRUCIBLE_SOAK=10000``; a run of the suite does a sample.
PROGRAMS = int(os.environ.get("CRUCIBLE_SOAK", "100"))
SHORT = Limits(wall_time_s=2.0, cpu_time_s=0.5, memory_mb=48, pids=16, output_kb=16)
HOSTILE = [
    Program(language="python", code="while True: pass", limits=SHORT),
    Program(language="python", code="'x' * 10**9", limits=SHORT),
    Program(language="python", code="import os\nwhile True: os.fork()", limits=SHORT),
    Program(language="bash", code="yes", limits=SHORT),
    Program(language="bash", code="(sleep 99 &) ; kill -9 $$", limits=SHORT),
    Program(language="python", code="open('/tmp/f', 'wb').write(b'x' * 10**9)", limits=SHORT),
]


@pytest.mark.timeout(max(600, PROGRAMS * 2))
@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_nothing_piles_up(isolation: Isolation) -> None:
    """Memory, descriptors and containers after all of them are what they were after a few."""
    async with besieged(isolation) as executor:
        numbers = iter(range(PROGRAMS))

        async def lane() -> None:
            for number in numbers:
                if number % 500 == 0:
                    print(f"{number} of {PROGRAMS}, {resident_bytes() >> 10} KiB", flush=True)
                if number % 5 == 0:
                    outcome = await executor.run(HOSTILE[number // 5 % len(HOSTILE)])
                    assert outcome.verdict not in {Verdict.OK, Verdict.INTERNAL_ERROR}, outcome
                else:
                    await honest(executor)

        for _ in range(10):
            await honest(executor)
        memory, descriptors = resident_bytes(), len(open_descriptors())
        await asyncio.gather(*(lane() for _ in range(4)))
        assert resident_bytes() - memory < 20 << 20
        assert len(open_descriptors()) <= descriptors + 2 * executor.config.pool_max
        assert len(await containers_of(executor.config.owner)) <= executor.config.pool_max + 2
