"""Programs that run one after the other in one lane, each in namespaces of its own.

The lane is lent to the series until it closes: a **fresh** one, that has run nothing before and
runs nothing after, or one of the tenant's as any nested program gets. A program that did not end
by itself costs the lane, as always, and the series goes on in the next.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

import msgspec

from crucible.errors import ExecutorRefused, ExecutorUnavailable
from crucible.executor.sandbox import NotStarted, ProgramLost

if TYPE_CHECKING:
    from crucible.executor.artifact import Artifact
    from crucible.executor.docker import DockerExecutor
    from crucible.executor.jobs import Job
    from crucible.executor.nested.lane import Lane
    from crucible.executor.nested.pool import LanePool
    from crucible.executor.talk import Talk
    from crucible.models import Outcome, Program

#: Times a program is tried whose sandbox was lost, through no fault of a program's.
TRIES = 3


class Series:
    """Runs programs of one tenant.

    Args:
        executor: has the lanes.
        fresh: in lanes that run nothing else. Where this machine cannot have lanes, each program
            gets a container of its own, which is as good a wall and takes longer.
    """

    def __init__(self, executor: DockerExecutor, *, fresh: bool) -> None:
        self._executor = executor
        self._fresh = fresh
        self._pool: LanePool | None = None
        self._lane: Lane | None = None
        self._alone = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._release()

    async def run(
        self, program: Program, artifact: Artifact | None = None, talk: Talk | None = None
    ) -> Outcome:
        """Run one program, compiled where it has to be; errors as of ``Executor.run``."""
        lost: ExecutorUnavailable | None = None
        for _ in range(TRIES):
            if self._alone:
                break
            try:
                return await self._run_once(program, artifact, talk)
            except NotStarted as error:
                lost = error
            except ProgramLost as error:
                if talk is not None:
                    # The other side has heard some of it already.
                    raise
                lost = error
            except ExecutorRefused:
                if not self._fresh or self._lane is not None:
                    raise
                self._alone = True
        if self._alone:
            alone = msgspec.structs.replace(program, isolation="container")
            return await self._executor.jobs.run(self._executor.admit(alone), artifact, talk)
        raise lost or ExecutorUnavailable("no lane stayed alive until the program started")

    async def _run_once(
        self, program: Program, artifact: Artifact | None, talk: Talk | None
    ) -> Outcome:
        started_s = time.monotonic()
        job = self._executor.admit(program)
        lane = await self._lane_for(job)
        try:
            await lane.fit(program.limits)
            job.sandbox_s = time.monotonic() - started_s
            outcome = await lane.run(program, job.language, artifact, talk)
        except BaseException:
            lane.clean = False
            self._release()
            raise
        if not lane.reusable:
            self._release()
        return self._executor.jobs.ended(job, outcome)

    async def _lane_for(self, job: Job) -> Lane:
        """The lane at hand where it is as the program needs it, else another."""
        pools, program = self._executor.pools, job.program
        shape = pools.shape_of(job.environment, program.limits.disk_mb)
        if self._lane is not None and self._lane.shape != shape:
            self._release()
        if self._lane is None:
            self._pool = await pools.lanes_of(job.environment)
            self._lane = await self._pool.acquire(shape, program, fresh=self._fresh)
        return self._lane

    def _release(self) -> None:
        if self._lane is not None and self._pool is not None:
            self._pool.release(self._lane)
            self._lane = None
