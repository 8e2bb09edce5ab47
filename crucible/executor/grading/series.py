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
    from crucible.executor.docker import DockerExecutor
    from crucible.executor.languages import Language
    from crucible.executor.nested.lane import Lane
    from crucible.executor.nested.pool import LanePool
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

    async def run(self, program: Program) -> Outcome:
        """Run one program; errors as of ``Executor.run``."""
        lost: ExecutorUnavailable | None = None
        for _ in range(TRIES):
            if self._alone:
                break
            try:
                return await self._run_once(program)
            except (NotStarted, ProgramLost) as error:
                lost = error
            except ExecutorRefused:
                if not self._fresh or self._lane is not None:
                    raise
                self._alone = True
        if self._alone:
            return await self._executor.run(msgspec.structs.replace(program, isolation="container"))
        raise lost or ExecutorUnavailable("no lane stayed alive until the program started")

    async def _run_once(self, program: Program) -> Outcome:
        started_s = time.monotonic()
        lane, language = await self._lane_for(program)
        try:
            await lane.fit(program.limits)
            sandbox_s = time.monotonic() - started_s
            outcome = await lane.run(program, language)
        except BaseException:
            lane.clean = False
            self._release()
            raise
        if not lane.reusable:
            self._release()
        return self._executor.observed(program, outcome, sandbox_s)

    async def _lane_for(self, program: Program) -> tuple[Lane, Language]:
        """The lane at hand where it is as the program needs it, else another."""
        environment, language, shape = self._executor.admitted(program)
        if self._lane is not None and self._lane.shape != shape:
            self._release()
        if self._lane is None:
            self._pool = await self._executor.lanes_of(environment)
            self._lane = await self._pool.acquire(shape, program, fresh=self._fresh)
        return self._lane, language

    def _release(self) -> None:
        if self._lane is not None and self._pool is not None:
            self._pool.release(self._lane)
            self._lane = None
