"""The pool on a real engine: nothing leaks, nothing hangs, whoever is cancelled whenever."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiodocker
import msgspec
import pytest
from support.interrupting import cut_short, once_it_speaks

from crucible.errors import ExecutorError, ExecutorRefused, ExecutorUnavailable
from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.executor.waiting import PoolClosed, PoolFull, PoolTimeout
from crucible.models import ISOLATIONS, Isolation, Limits, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from crucible.executor.hooks import (
        CompileLookup,
        ProgramEnded,
        SandboxReady,
        SandboxRetired,
        SandboxTaken,
        Trouble,
    )

pytestmark = pytest.mark.docker

HELLO = Program(language="python", code="print(6 * 7)")
SLEEP = Program(
    language="python", code="import time; time.sleep(60)", limits=Limits(wall_time_s=60)
)


def config(**changes: Any) -> ExecutorConfig:
    owner = f"{socket.gethostname()}-pool:{secrets.token_hex(4)}:x"
    return ExecutorConfig(**{"owner": owner, "pool_min": 1, "pool_max": 2, **changes})


async def left_of(owner: str) -> list[str]:
    async with aiodocker.Docker() as docker:
        found = await docker.containers.list(all=True, filters={"label": [f"crucible={owner}"]})
    return [container.id for container in found]


async def until(condition: Callable[[], object]) -> None:
    """Wait for a state of the pool, which has no event of its own for it."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


class Listener:
    """Counts what an executor tells."""

    def __init__(self) -> None:
        self.told: dict[str, list[Any]] = {}

    def _note(self, name: str, details: object) -> None:
        self.told.setdefault(name, []).append(details)

    def sandbox_ready(self, details: SandboxReady) -> None:
        self._note("ready", details)

    def sandbox_taken(self, details: SandboxTaken) -> None:
        self._note("taken", details)

    def compile_looked_up(self, details: CompileLookup) -> None:
        self._note("compile", details)

    def sandbox_retired(self, details: SandboxRetired) -> None:
        self._note("retired", details)

    def program_ended(self, details: ProgramEnded) -> None:
        self._note("ended", details)

    def trouble(self, details: Trouble) -> None:
        self._note("trouble", details)


class CancelAt:
    """Awaits a coroutine and cancels the task at its n-th suspension.

    ``late`` cancels it once what it waits for is there but before it has it: the moment between
    picked and handed over.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], at: int, *, late: bool) -> None:
        self._work = work
        self._at = at
        self._late = late
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        inner = self._work.__await__()
        count = 0
        send: BaseException | None = None
        while True:
            try:
                future = inner.throw(send) if send is not None else next(inner)
            except StopIteration as stop:
                return stop.value
            count += 1
            if count == self._at:
                self.reached = True
                if self._late and future is not None:
                    future.add_done_callback(lambda _: task.cancel())
                else:
                    task.cancel()
            try:
                send = None
                yield future
            except BaseException as error:  # noqa: BLE001 - passed on to the coroutine
                send = error


@pytest.mark.parametrize("isolation", ISOLATIONS)
@pytest.mark.parametrize("late", [False, True], ids=["waiting", "handed-over"])
@pytest.mark.parametrize("memory_mb", [256, 64], ids=["as-made", "changed"])
@pytest.mark.parametrize("pool_min", [0, 1], ids=["miss", "hit"])
async def test_cancelling_at_any_await_leaks_nothing(
    isolation: Isolation, late: bool, memory_mb: int, pool_min: int
) -> None:
    """A run cancelled at each of its awaits in turn leaves no sandbox busy and none behind."""
    # Lanes are made ahead of need where they are what is usual.
    settings = config(
        pool_min=pool_min, isolation=isolation if pool_min else "container", lanes_max=2
    )
    limits = Limits(memory_mb=memory_mb)
    program = msgspec.structs.replace(HELLO, limits=limits, isolation=isolation)
    async with DockerExecutor.open(settings) as executor:

        async def attempt(at: int) -> bool:
            cancelling = CancelAt(executor.run(program), at, late=late)
            try:
                await cancelling
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
            return cancelling.reached

        at = 1
        while at < 60 and await asyncio.create_task(attempt(at)):
            await until(lambda: not executor.pool.counts.busy + executor.lanes.counts.busy)
            at += 1
        assert at > 1
        assert (await executor.run(program)).stdout == b"42\n"
        await until(lambda: not executor.pool.counts.busy + executor.lanes.counts.busy)
        assert len(executor.pool.container_ids) <= settings.pool_max + 1
        assert len(executor.lanes.container_ids) <= settings.lanes_max + 1
    assert await left_of(settings.owner) == []


async def test_a_miss_is_counted_and_shows_in_the_time() -> None:
    """Who found no sandbox ready has waited for one, by the outcome, the hooks and the totals."""
    listener = Listener()
    async with DockerExecutor.open(config(pool_min=0, pool_max=2), listener) as executor:
        missed = await executor.run(HELLO)
        (taken,) = listener.told["taken"]
        # Another may have been prepared since.
        ready = listener.told["ready"][0]
        assert not taken.hit
        assert missed.sandbox_s >= taken.waited_s >= ready.took_s > 0
        totals = executor.pool.totals
        assert (totals.programs, totals.misses) == (1, 1)
        assert totals.waited_s == taken.waited_s
        # Demand keeps one ready from here on.
        await until(lambda: executor.pool.counts.idle)
        found = await executor.run(HELLO)
        assert listener.told["taken"][1].hit
        assert (totals.programs, totals.misses) == (2, 1)
        assert found.sandbox_s < missed.sandbox_s
        stats = executor.stats()
        assert {"programs", "misses", "waited_s", "failed_preparations"} <= stats.keys()


async def test_a_cancelled_program_is_killed() -> None:
    """Cancelling a run ends the program; its place is free for the next."""
    settings = config(pool_max=1)
    async with DockerExecutor.open(settings) as executor:
        running = asyncio.create_task(executor.run(SLEEP))
        await until(lambda: executor.pool.counts.busy)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await executor.run(HELLO)).stdout == b"42\n"


async def test_what_a_cancelled_program_wrote_is_handed_back() -> None:
    """Whoever cancels a run may learn what it had come to."""
    async with DockerExecutor.open(config(pool_max=1)) as executor:
        talking = msgspec.structs.replace(
            SLEEP, code="import time\nprint('so far', flush=True)\ntime.sleep(60)"
        )
        running = await once_it_speaks(cut_short(executor, talking))
        running.cancel()
        outcome = await running
        assert (outcome.verdict, outcome.stdout) == (Verdict.CANCELLED, b"so far\n")
        assert outcome.usage.wall_time_ms > 0


async def test_waiting_is_bounded_and_timed() -> None:
    """One too many is turned away at once, and one that waits too long after its time."""
    settings = config(pool_max=1, max_waiting=1, acquire_s=1.0)
    async with DockerExecutor.open(settings) as executor:
        running = asyncio.create_task(executor.run(SLEEP))
        await until(lambda: executor.pool.counts.busy)
        waiting = asyncio.create_task(executor.run(HELLO))
        await until(lambda: executor.pool.counts.waiting)
        with pytest.raises(PoolFull):
            await executor.run(HELLO)
        with pytest.raises(PoolTimeout):
            await waiting
        running.cancel()


async def test_closing_ends_everything() -> None:
    """Closing tells those who wait, kills what runs, and leaves no container."""
    settings = config(pool_max=1)
    async with DockerExecutor.open(settings) as executor:
        running = asyncio.create_task(executor.run(SLEEP))
        await until(lambda: executor.pool.counts.busy)
        waiting = asyncio.create_task(executor.run(HELLO))
        await until(lambda: executor.pool.counts.waiting)
    results = await asyncio.gather(running, waiting, return_exceptions=True)
    assert isinstance(results[0], ExecutorUnavailable)
    assert isinstance(results[1], PoolClosed)
    assert await left_of(settings.owner) == []
    with pytest.raises(PoolClosed):
        await executor.run(HELLO)


async def test_containers_are_recycled_and_retired() -> None:
    """A container serves by restart until it is used up; hooks and counts tell of all of it."""
    listener = Listener()
    settings = config(pool_max=1, max_uses=3)
    async with DockerExecutor.open(config()) as executor:
        # The first of a process compiles the supervisor, and is not kept for that.
        assert (await executor.run(HELLO)).stdout == b"42\n"
    async with DockerExecutor.open(settings, listener) as executor:
        for _ in range(4):
            assert (await executor.run(HELLO)).stdout == b"42\n"
        await until(lambda: executor.pool.counts.idle)
    assert [details.reason for details in listener.told["retired"]] == ["used_up", "closing"]
    assert [details.recycled for details in listener.told["ready"]] == [
        False, True, True, False, True,
    ]  # fmt: skip
    assert len(listener.told["ended"]) == len(listener.told["taken"]) == 4
    assert all(details.verdict is Verdict.OK for details in listener.told["ended"])
    assert "trouble" not in listener.told


async def test_old_sandboxes_are_replaced() -> None:
    """A sandbox that has waited too long goes, and another comes."""
    listener = Listener()
    async with DockerExecutor.open(config(max_age_s=0.5), listener) as executor:
        await until(lambda: [d for d in listener.told.get("retired", []) if d.reason == "too_old"])
        assert (await executor.run(HELLO)).stdout == b"42\n"


async def test_unusual_disks_share_the_ceiling() -> None:
    """Programs with a disk of their own size get containers of their own, within the ceiling."""
    unusual = msgspec.structs.replace(HELLO, limits=Limits(disk_mb=8))
    async with DockerExecutor.open(config(pool_min=2)) as executor:
        outcomes = await asyncio.gather(
            *(executor.run(program) for program in [unusual, HELLO, unusual, HELLO])
        )
        assert {outcome.stdout for outcome in outcomes} == {b"42\n"}


async def test_an_engine_without_the_image_says_so() -> None:
    """Without its image the pool raises the refusal, and neither hangs nor spins."""
    listener = Listener()
    settings = config(image="crucible-none:missing")
    async with DockerExecutor.open(settings, listener) as executor:
        with pytest.raises(ExecutorRefused):
            await executor.run(HELLO)
    assert len(listener.told["trouble"]) < 10


async def test_an_engine_that_is_not_there_is_an_error() -> None:
    """No engine at the address: programs are told so, promptly."""
    settings = config(docker_url="unix:///nowhere/docker.sock")
    async with DockerExecutor.open(settings) as executor:
        with pytest.raises(ExecutorError):
            await executor.run(HELLO)
        with pytest.raises(ExecutorError):
            await executor.check()


ORPHAN_MAKER = """
import asyncio, sys
from crucible.executor import ExecutorConfig
from crucible.executor.docker import DockerExecutor
from crucible.models import Limits, Program
async def main():
    async with DockerExecutor.open(ExecutorConfig(pool_min=1, pool_max=2)) as executor:
        code = "import time; time.sleep(60)"
        limits = Limits(wall_time_s=60)
        run = asyncio.create_task(
            executor.run(Program(language="python", code=code, limits=limits)))
        while not executor.pool.counts.busy or not executor.pool.counts.idle:
            await asyncio.sleep(0.01)
        print(executor.config.owner, flush=True)
        await run
asyncio.run(main())
"""


async def test_what_a_killed_process_leaves_is_reaped() -> None:
    """Containers of a process killed with SIGKILL go when the next executor opens."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN_MAKER, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    owner = (await process.stdout.readline()).decode().strip()
    assert len(await left_of(owner)) >= 2
    bystander = config()
    async with DockerExecutor.open(bystander) as other:
        assert (await other.run(HELLO)).stdout == b"42\n"
        assert len(await left_of(owner)) >= 2, "a living process keeps its containers"
        process.kill()
        await process.wait()
        async with DockerExecutor.open(config()):
            async with asyncio.timeout(30):
                while await left_of(owner):
                    await asyncio.sleep(0.05)
        assert (await other.run(HELLO)).stdout == b"42\n"


async def test_an_idle_sandbox_is_not_kept_from_those_it_fits() -> None:
    """A program takes a waiting sandbox at once, though one of another shape queues before it."""
    unusual = msgspec.structs.replace(HELLO, limits=Limits(disk_mb=8))
    async with DockerExecutor.open(config(pool_min=2, pool_max=3, acquire_s=20.0)) as executor:
        await until(lambda: executor.pool.counts.idle == 2)
        queued = asyncio.create_task(executor.run(unusual))
        await until(lambda: executor.pool.counts.unusual)
        assert (await executor.run(HELLO)).stdout == b"42\n"
        assert not queued.done()
        assert (await queued).stdout == b"42\n"


async def test_one_that_closes_leaves_what_another_of_its_process_runs() -> None:
    """Both have the process's name on their containers; the last to close leaves none."""
    shared = config()
    slow = msgspec.structs.replace(HELLO, code="import time; time.sleep(4); print('done')")
    async with DockerExecutor.open(shared) as first:
        async with DockerExecutor.open(shared) as second:
            await second.run(HELLO)
            running = asyncio.create_task(first.run(slow))
            await until(lambda: first.pool.counts.busy)
        assert (await running).stdout == b"done\n"
    assert await left_of(shared.owner) == []
