"""The executor that starts containers itself."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.environments import EnvironmentState, state_of
from crucible.errors import ExecutorRefused, InputError
from crucible.executor.admission import check_program, compile_limits_of
from crucible.executor.compile_cache import CACHE_BYTES
from crucible.executor.engine import Engine
from crucible.executor.environment_pools import EnvironmentPools
from crucible.executor.grading.grader import grade
from crucible.executor.hooks import NoHooks
from crucible.executor.jobs import Job, JobRunner
from crucible.executor.nested.policy import LANE
from crucible.executor.nested.probe import NestedTrial
from crucible.executor.reaper import Reaper
from crucible.executor.served import ServedEnvironments
from crucible.models import ISOLATIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crucible.environments import Environment
    from crucible.executor.artifact import Artifact, Compilation
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.nested.pool import LanePool
    from crucible.executor.pool import Pool
    from crucible.grading.models import Grading, Judgement
    from crucible.models import Isolation, Outcome, Program


class DockerExecutor:
    """Runs programs in containers, or lanes, from the pools of their environments.

    Attributes:
        config: what it was opened with.
        served: its environments.
        pools: its sandboxes.
        jobs: what is done in them, and the compile cache.
    """

    def __init__(
        self,
        engine: Engine,
        pools: EnvironmentPools,
        config: ExecutorConfig,
        hooks: ExecutorHooks,
    ) -> None:
        self._engine = engine
        self._nested = NestedTrial(engine, config)
        self.config = config
        self.served = ServedEnvironments(config.environments)
        self.pools = pools
        #: Held by whoever needs two lanes at once: if all lanes were with such, each waiting for
        #: its second, none would go on.
        self.two_lanes = asyncio.Semaphore(max(1, config.lanes_max // 2))
        self.jobs = JobRunner(engine, pools, config, hooks)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, config: ExecutorConfig, hooks: ExecutorHooks | None = None
    ) -> AsyncIterator[DockerExecutor]:
        """Connect to the engine and keep sandboxes ready.

        Raises:
            SettingsError: programs that name no isolation would get one that cannot be had here.
        """
        listener = hooks or NoHooks()
        async with (
            Engine(config.docker_url, config.engine_s) as engine,
            cls._running(engine, config, listener) as executor,
        ):
            yield executor

    @classmethod
    @asynccontextmanager
    async def _running(
        cls, engine: Engine, config: ExecutorConfig, listener: ExecutorHooks
    ) -> AsyncIterator[DockerExecutor]:
        async with (
            Reaper(engine, config, listener) as reaper,
            AsyncExitStack() as opened,
        ):
            pools = EnvironmentPools(engine, reaper, config, listener, opened)
            executor = cls(engine, pools, config, listener)
            if config.isolation == "nested":
                await executor._nested.require()
            await pools.open_first()
            yield executor

    @property
    def pool(self) -> Pool:
        """The pool of the first environment."""
        return self.pools.pool

    @property
    def lanes(self) -> LanePool:
        """The lanes of the first environment."""
        return self.pools.lanes

    async def check(self) -> None:
        """Return when the engine answers and has the image of the first environment.

        Raises:
            ExecutorError: it does not, or has not.
        """
        await self._engine.image_id(self.config.image_of(self.config.environments[0]))

    async def environments(self) -> list[EnvironmentState]:
        """What the engine has of each served environment.

        Raises:
            ExecutorUnavailable: it does not answer.
        """
        return [await self._state_of(environment) for environment in self.served]

    async def _state_of(self, environment: Environment) -> EnvironmentState:
        try:
            image = await self._engine.image(self.config.image_of(environment))
        except ExecutorRefused:
            return EnvironmentState(name=environment.name)
        return state_of(environment.name, image)

    async def isolations(self) -> tuple[Isolation, ...]:
        """What programs can have here.

        Raises:
            ExecutorError: the engine or the image is not there, so it is not known.
        """
        return ("container",) if await self._nested.missing() else ISOLATIONS

    def gauges(self) -> dict[str, int]:
        """Containers and, after ``LANE``, lanes by state, of all environments; bytes of the cache.

        The states are those of ``PoolCounts`` and ``LaneCounts``; ``waiting`` are programs.
        """
        counts = self.pools.counts()
        lanes = {f"{LANE}{state}": number for state, number in counts["nested"].items()}
        return {**counts["container"], **lanes, CACHE_BYTES: self.jobs.cache.size_bytes}

    def stats(self) -> dict[str, Any]:
        """What the pool and the lanes of the first environment have now and have done.

        Those of the others are under ``environments``. Seconds where a name ends in ``_s``.
        """
        now_s = time.monotonic()
        demand = self.pool.demand
        figures = self.pools.figures()
        first = figures.pop(self.config.environments[0].name)
        return {
            "environments": figures,
            **first,
            CACHE_BYTES: self.jobs.cache.size_bytes,
            "compile_cache": msgspec.structs.asdict(self.jobs.cache.totals),
            "arrivals_per_s": round(demand.rate_per_s(now_s), 3),
            "expected_during_preparation": round(demand.during_preparation(now_s), 3),
        }

    async def run(self, program: Program, artifact: Artifact | None = None) -> Outcome:
        """Run one program in a fresh sandbox, compiled before where its language needs it.

        Raises:
            ExecutorRefused: it can never run as asked.
            ExecutorUnavailable: it cannot run now.
        """
        job = self.admit(program)
        if job.language.compile and artifact is None:
            return await self.jobs.compile_and_run(job)
        return await self.jobs.run(job, artifact)

    async def compile(self, program: Program) -> Compilation:
        """Compile one program, in a sandbox of its isolation, unless the same was before.

        Raises:
            ExecutorRefused: it can never be compiled, or its language has no compiler.
            ExecutorUnavailable: it cannot be now.
        """
        job = self.admit(program)
        if not job.language.compile:
            raise ExecutorRefused(f"language: {job.language.name!r} is not compiled")
        return await self.jobs.compile(job)

    async def grade(
        self, grading: Grading, judged: Callable[[Judgement], None]
    ) -> Compilation | None:
        """Grade one program; see ``Executor.grade``."""
        return await grade(self, grading, judged)

    def admit(self, program: Program) -> Job:
        """A program with all that is known of where it runs.

        Raises:
            ExecutorRefused: it can never run as asked.
        """
        try:
            environment, language = check_program(program, self.config.ceiling, self.served)
        except InputError as error:
            raise ExecutorRefused(str(error)) from error
        limits = compile_limits_of(program, language, self.config.ceiling)
        return Job(program, environment, language, limits)
