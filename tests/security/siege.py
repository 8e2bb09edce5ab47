"""What every hostile program has to leave untouched, asserted around each run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiodocker
import msgspec
import pytest
import pytest_asyncio
from support.sandboxes import containers_of, processes_of

from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.models import Isolation, Limits, Outcome, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor.artifact import Artifact

ISOLATIONS: tuple[Isolation, ...] = ("container", "nested")


class SiegeExecutor(DockerExecutor):
    """Runs every program in one isolation, whatever it asks for."""

    isolation: Isolation = "container"

    async def run(self, program: Program, artifact: Artifact | None = None) -> Outcome:
        """Run one program; as of ``DockerExecutor.run``."""
        here = msgspec.structs.replace(program, isolation=self.isolation)
        outcome = await super().run(here, artifact)
        assert outcome.isolation == self.isolation
        return outcome


#: The promise is one second past the wall limit. On a machine shared with other work the engine
#: alone has taken three to kill a container full of processes; what escapes its limit has no end.
LATE_S = 10.0
GROWTH_BYTES = 20 << 20
#: For programs that are ended by their limit, and for those that come to their own end, which is
#: late where the machine is busy.
SHORT = Limits(wall_time_s=1.5, cpu_time_s=1.0)
LONG = Limits(wall_time_s=40.0, cpu_time_s=40.0)
HONEST = Program(
    language="python", code="print(sum(range(100_000)))", limits=Limits(wall_time_s=30)
)
HONEST_OUTPUT = b"4999950000\n"


def py(code: str, limits: Limits = LONG) -> Program:
    """A Python program."""
    return Program(language="python", code=code, limits=limits)


def sh(code: str, limits: Limits = LONG) -> Program:
    """A Bash program."""
    return Program(language="bash", code=code, limits=limits)


def js(code: str, limits: Limits = LONG) -> Program:
    """A JavaScript program."""
    return Program(language="javascript", code=code, limits=limits)


def c(code: str, limits: Limits = LONG) -> Program:
    """A C program."""
    return Program(language="c", code=code, limits=limits, compile_limits=limits)


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_descriptors() -> dict[str, str]:
    """Descriptors this process has open, with what each is."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the folder itself
            found[entry.name] = str(entry.readlink())
    return found


async def until_closed(before: dict[str, str]) -> None:
    """Return once no more descriptors are open than before; what stays open is a leak.

    A transport that is closed gives up its socket in a later turn of the loop.
    """
    try:
        async with asyncio.timeout(30):
            while len(open_descriptors()) > len(before):
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"descriptors are left: {sorted(open_descriptors().items() - before.items())}")


async def volumes_of(container_ids: list[str]) -> list[str]:
    """Volumes that the engine made for containers, by name."""
    async with aiodocker.Docker() as docker:
        shown = [await docker.containers.container(key).show() for key in container_ids]
    return [mount["Name"] for one in shown for mount in one["Mounts"] if "Name" in mount]


async def volumes() -> set[str]:
    """Volumes that the engine has."""
    async with aiodocker.Docker() as docker:
        listed = await docker.volumes.list()  # type: ignore[no-untyped-call]  # aiodocker's
        return {volume["Name"] for volume in listed["Volumes"] or ()}


async def honest(executor: DockerExecutor) -> Outcome:
    """An honest program gives the right answer."""
    outcome = await executor.run(HONEST)
    assert outcome.verdict is Verdict.OK, outcome
    assert outcome.stdout == HONEST_OUTPUT
    return outcome


async def attack(executor: DockerExecutor, program: Program) -> Outcome:
    """Run a hostile program beside an honest one, and one more afterwards.

    Asserts that the honest ones are right, that the hostile one ended in time, and that this
    process did not grow.
    """
    before = resident_bytes()
    beside = asyncio.create_task(honest(executor))
    try:
        outcome = await executor.run(program)
    finally:
        slowed_s = (await beside).run_s
    assert outcome.run_s < program.limits.wall_time_s + LATE_S + slowed_s, outcome
    assert outcome.verdict is not Verdict.INTERNAL_ERROR, outcome
    await honest(executor)
    # Files that are handed over are there twice while they arrive.
    held = 2 * sum(map(len, outcome.files.values()))
    assert resident_bytes() - before < GROWTH_BYTES + held
    return outcome


@asynccontextmanager
async def besieged(
    isolation: Isolation = "container", **changes: Any
) -> AsyncIterator[SiegeExecutor]:
    """An executor that has to be as good as new after whatever the tests do to it.

    Asserts at the end that 20 more programs pass, and that no container, volume, process, mount
    or descriptor is left.
    """
    owner = f"{socket.gethostname()}-siege:{os.getpid()}:{os.urandom(4).hex()}"
    before = open_descriptors()
    pool_min = 2 if isolation == "container" else 0
    sizes = {"pool_min": pool_min, "pool_max": 6, "lanes_max": 6, **changes}
    config = ExecutorConfig(owner=owner, isolation=isolation, **sizes)
    async with SiegeExecutor.open(config) as executor:
        assert isinstance(executor, SiegeExecutor)
        executor.isolation = isolation
        yield executor
        for _ in range(20):
            await honest(executor)
        known = await containers_of(owner)
        made = await volumes_of(known)
        assert known
        # Each program of a lane has terminals of its own, so the lane has no volume of them.
        assert len(made) == (len(known) if isolation == "container" else 0)
    assert await containers_of(owner) == []
    assert processes_of(known) == []
    mounts = Path("/proc/mounts").read_text()
    assert not [key for key in (*known, *made) if key in mounts]
    assert not await volumes() & set(made)
    await until_closed(before)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ISOLATIONS)
async def besieged_executor(request: pytest.FixtureRequest) -> AsyncIterator[SiegeExecutor]:
    """One executor of each isolation for all attacks of a module, which names it its own."""
    async with besieged(request.param) as opened:
        yield opened
