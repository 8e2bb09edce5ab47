"""The executor that starts containers itself."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.errors import ExecutorRefused, ExecutorUnavailable, InputError
from crucible.executor.admission import check_program
from crucible.executor.engine import Engine
from crucible.executor.hooks import NoHooks, ProgramEnded
from crucible.executor.interrupted import Interrupted
from crucible.executor.languages import language_of
from crucible.executor.nested.pool import LanePool
from crucible.executor.nested.probe import require_nested
from crucible.executor.pool import Pool
from crucible.executor.reaper import Reaper
from crucible.executor.sandbox import NotStarted, Shape
from crucible.models import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor.config import ExecutorConfig
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.languages import Language
    from crucible.models import Outcome, Program


class DockerExecutor:
    """Runs every program in a container of its own, from a pool."""

    def __init__(
        self,
        engine: Engine,
        pool: Pool,
        lanes: LanePool,
        config: ExecutorConfig,
        hooks: ExecutorHooks,
    ) -> None:
        self.pool = pool
        self.lanes = lanes
        self._engine = engine
        self.config = config
        self._hooks = hooks

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
        default = Shape(disk_mb=Limits().disk_mb)
        async with Engine(config.docker_url, config.engine_s) as engine:
            if config.isolation == "nested":
                await require_nested(engine, config)
            async with cls._running(engine, config, default, listener) as executor:
                yield executor

    @classmethod
    @asynccontextmanager
    async def _running(
        cls, engine: Engine, config: ExecutorConfig, default: Shape, listener: ExecutorHooks
    ) -> AsyncIterator[DockerExecutor]:
        async with (
            Reaper(engine, config, listener) as reaper,
            Pool(engine, config, default, listener) as pool,
            LanePool(engine, config, listener) as lanes,
        ):
            reaper.watch(pool, lanes)
            yield cls(engine, pool, lanes, config, listener)

    async def check(self) -> None:
        """Return when the engine answers and has the image.

        Raises:
            ExecutorError: it does not, or has not.
        """
        await self._engine.image_id(self.config.image)

    def stats(self) -> dict[str, Any]:
        """What the pool has now and has done; seconds where a name ends in ``_s``."""
        now_s = time.monotonic()
        demand = self.pool.demand
        return {
            **msgspec.structs.asdict(self.pool.counts),
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
        try:
            check_program(program, self.config.ceiling)
        except InputError as error:
            raise ExecutorRefused(str(error)) from error
        language = language_of(program.language)
        started_s = time.monotonic()
        nested = program.isolation == "nested"
        # After a restart of the engine every idle sandbox is dead: try each, then a new one.
        for _ in range((self.config.lanes_max if nested else self.config.pool_max) + 1):
            try:
                return await self._run_once(program, language, started_s)
            except NotStarted:
                continue
        raise ExecutorUnavailable("no sandbox stayed alive until the program started")

    async def _run_once(self, program: Program, language: Language, started_s: float) -> Outcome:
        shape = Shape(disk_mb=program.limits.disk_mb, image=language.image)
        pool: Pool | LanePool = self.lanes if program.isolation == "nested" else self.pool
        sandbox = await pool.acquire(shape, program)
        try:
            await sandbox.fit(program.limits)
            sandbox_s = time.monotonic() - started_s
            outcome = await sandbox.run(program, language)
        except Interrupted as cut:
            sandbox.clean = False
            cut.outcome = self._told(program, cut.outcome, sandbox_s)
            raise
        except BaseException:
            sandbox.clean = False
            raise
        finally:
            pool.release(sandbox)
        return self._told(program, outcome, sandbox_s)

    def _told(self, program: Program, outcome: Outcome, sandbox_s: float) -> Outcome:
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
