"""The executor that starts containers itself."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.environments import EnvironmentState, state_of
from crucible.errors import ExecutorRefused, ExecutorUnavailable, InputError
from crucible.executor.admission import check_program
from crucible.executor.engine import Engine
from crucible.executor.grading.grader import grade
from crucible.executor.hooks import NoHooks, ProgramEnded
from crucible.executor.interrupted import Interrupted
from crucible.executor.nested.pool import LanePool
from crucible.executor.nested.probe import require_nested
from crucible.executor.pool import Pool
from crucible.executor.reaper import Reaper
from crucible.executor.sandbox import NotStarted, Shape
from crucible.executor.served import ServedEnvironments
from crucible.models import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from crucible.environments import Environment
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.languages import Language
    from crucible.grading.models import Grading, Judgement
    from crucible.models import Outcome, Program


class DockerExecutor:
    """Runs programs in containers, or lanes, from the pools of their environments."""

    def __init__(
        self,
        engine: Engine,
        reaper: Reaper,
        config: ExecutorConfig,
        hooks: ExecutorHooks,
        opened: AsyncExitStack,
    ) -> None:
        self._engine = engine
        self._reaper = reaper
        self.config = config
        self._served = ServedEnvironments(config.environments)
        self._hooks = hooks
        self._opened = opened
        self._pools: dict[str, Pool] = {}
        self._lanes: dict[str, LanePool] = {}
        #: Held by whoever needs two lanes at once: if all lanes were with such, each waiting for
        #: its second, none would go on.
        self.two_lanes = asyncio.Semaphore(max(1, config.lanes_max // 2))

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
        async with Engine(config.docker_url, config.engine_s) as engine:
            if config.isolation == "nested":
                await require_nested(engine, config)
            async with cls._running(engine, config, listener) as executor:
                yield executor

    @classmethod
    @asynccontextmanager
    async def _running(
        cls, engine: Engine, config: ExecutorConfig, listener: ExecutorHooks
    ) -> AsyncIterator[DockerExecutor]:
        async with (
            Reaper(engine, config, listener) as reaper,
            AsyncExitStack() as pools,
        ):
            executor = cls(engine, reaper, config, listener, pools)
            await executor._pool_of(config.environments[0])
            await executor.lanes_of(config.environments[0])
            yield executor

    @property
    def pool(self) -> Pool:
        """The pool of the first environment."""
        return self._pools[self.config.environments[0].name]

    @property
    def lanes(self) -> LanePool:
        """The lanes of the first environment."""
        return self._lanes[self.config.environments[0].name]

    async def _pool_of(self, environment: Environment) -> Pool:
        """The sandboxes of an environment, opened at its first use."""
        pool = self._pools.get(environment.name)
        if pool is None:
            pool = Pool(self._engine, self.config, self._usual_shape(environment), self._hooks)
            # Set before anything is awaited, so that a program that comes meanwhile gets the same.
            self._pools[environment.name] = pool
            await self._open(pool)
        return pool

    async def lanes_of(self, environment: Environment) -> LanePool:
        """The lanes of an environment, opened at its first use."""
        lanes = self._lanes.get(environment.name)
        if lanes is None:
            lanes = LanePool(self._engine, self.config, self._usual_shape(environment), self._hooks)
            self._lanes[environment.name] = lanes
            await self._open(lanes)
        return lanes

    async def _open(self, pool: Pool | LanePool) -> None:
        self._reaper.watch(*self._pools.values(), *self._lanes.values())
        await self._opened.enter_async_context(pool)

    def _usual_shape(self, environment: Environment) -> Shape:
        return self._shape(environment, Limits().disk_mb)

    def _shape(self, environment: Environment, disk_mb: int) -> Shape:
        image = self.config.image_of(environment)
        return Shape(disk_mb=disk_mb, image=image, preload=environment.preload)

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
        return [await self._state_of(environment) for environment in self._served]

    async def _state_of(self, environment: Environment) -> EnvironmentState:
        try:
            image = await self._engine.image(self.config.image_of(environment))
        except ExecutorRefused:
            return EnvironmentState(name=environment.name)
        return state_of(environment.name, image)

    def pool_counts(self) -> dict[str, int]:
        """The sandboxes of the pool by state, and the programs that wait for one."""
        return msgspec.structs.asdict(self.pool.counts)

    def stats(self) -> dict[str, Any]:
        """What the first pool has now and has done, and what the others have, by environment.

        Seconds where a name ends in ``_s``.
        """
        now_s = time.monotonic()
        demand = self.pool.demand
        others = {
            name: {**msgspec.structs.asdict(pool.counts), **msgspec.structs.asdict(pool.totals)}
            for name, pool in self._pools.items()
            if pool is not self.pool
        }
        return {
            "environments": others,
            **self.pool_counts(),
            **msgspec.structs.asdict(self.pool.totals),
            "arrivals_per_s": round(demand.rate_per_s(now_s), 3),
            "expected_during_preparation": round(demand.during_preparation(now_s), 3),
        }

    async def run(self, program: Program) -> Outcome:
        """Run one program in a fresh sandbox.

        Raises:
            ExecutorRefused: it can never run as asked.
            ExecutorUnavailable: it cannot run now.
        """
        environment, language, _ = self.admitted(program)
        started_s = time.monotonic()
        nested = program.isolation == "nested"
        # After a restart of the engine every idle sandbox is dead: try each, then a new one.
        for _ in range((self.config.lanes_max if nested else self.config.pool_max) + 1):
            try:
                return await self._run_once(program, environment, language, started_s)
            except NotStarted:
                continue
        raise ExecutorUnavailable("no sandbox stayed alive until the program started")

    async def grade(self, grading: Grading, judged: Callable[[Judgement], None]) -> None:
        """Grade one program; see ``Executor.grade``."""
        await grade(self, grading, judged)

    def admitted(self, program: Program) -> tuple[Environment, Language, Shape]:
        """What a program is to run in.

        Raises:
            ExecutorRefused: it can never run as asked.
        """
        try:
            environment, language = check_program(program, self.config.ceiling, self._served)
        except InputError as error:
            raise ExecutorRefused(str(error)) from error
        return environment, language, self._shape(environment, program.limits.disk_mb)

    async def _run_once(
        self, program: Program, environment: Environment, language: Language, started_s: float
    ) -> Outcome:
        open_pool = self.lanes_of if program.isolation == "nested" else self._pool_of
        pool: Pool | LanePool = await open_pool(environment)
        sandbox = await pool.acquire(self._shape(environment, program.limits.disk_mb), program)
        try:
            await sandbox.fit(program.limits)
            sandbox_s = time.monotonic() - started_s
            outcome = await sandbox.run(program, language)
        except Interrupted as cut:
            sandbox.clean = False
            cut.outcome = self.observed(program, cut.outcome, sandbox_s)
            raise
        except BaseException:
            sandbox.clean = False
            raise
        finally:
            pool.release(sandbox)
        return self.observed(program, outcome, sandbox_s)

    def observed(self, program: Program, outcome: Outcome, sandbox_s: float) -> Outcome:
        """An outcome as it is reported, once the observers know of it."""
        self._hooks.program_ended(
            ProgramEnded(
                language=program.language,
                isolation=program.isolation,
                verdict=outcome.verdict,
                sandbox_s=sandbox_s,
                run_s=outcome.run_s,
            )
        )
        return msgspec.structs.replace(outcome, sandbox_s=sandbox_s, isolation=program.isolation)
