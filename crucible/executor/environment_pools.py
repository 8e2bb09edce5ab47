"""The pools of every environment in use: of sandboxes, and of lanes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.executor.nested.policy import LaneCounts
from crucible.executor.nested.pool import LanePool
from crucible.executor.pool import Pool
from crucible.executor.pool_policy import PoolCounts
from crucible.executor.sandbox import Shape
from crucible.models import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from contextlib import AsyncExitStack

    from crucible.environments import Environment
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.reaper import Reaper
    from crucible.executor.sandbox import Sandbox
    from crucible.models import Isolation, Program


class EnvironmentPools:
    """Opens a pool at an environment's first use, and lends what is in it.

    Args:
        engine: where containers are.
        reaper: is told of every pool.
        config: the executor's.
        hooks: told what happens.
        opened: closes the pools.
    """

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
        self._config = config
        self._hooks = hooks
        self._opened = opened
        self._pools: dict[str, Pool] = {}
        self._lanes: dict[str, LanePool] = {}

    async def open_first(self) -> None:
        """Open those of the first environment, which keep some ready from the start."""
        first = self._config.environments[0]
        await self._pool_of(first)
        await self.lanes_of(first)

    @property
    def pool(self) -> Pool:
        """The sandboxes of the first environment."""
        return self._pools[self._config.environments[0].name]

    @property
    def lanes(self) -> LanePool:
        """The lanes of the first environment."""
        return self._lanes[self._config.environments[0].name]

    def counts(self) -> dict[Isolation, dict[str, int]]:
        """Sandboxes of all environments by isolation and state.

        The states are those of ``PoolCounts`` and ``LaneCounts``; ``waiting`` are programs.
        """
        return {
            "container": _added_up(PoolCounts, self._pools.values()),
            "nested": _added_up(LaneCounts, self._lanes.values()),
        }

    def figures(self) -> dict[str, dict[str, Any]]:
        """What each environment's sandboxes, and its ``lanes``, are now and have done, by name."""
        return {
            name: {**_figures(self._pools.get(name)), "lanes": _figures(self._lanes.get(name))}
            for name in {**self._pools, **self._lanes}
        }

    @asynccontextmanager
    async def lend(
        self, environment: Environment, program: Program, disk_mb: int
    ) -> AsyncIterator[Sandbox]:
        """Have a sandbox of the program's isolation; after an error it is not used again.

        Args:
            environment: of the program.
            program: what it is for.
            disk_mb: MiB of temporary files it is to have.

        Raises:
            ExecutorError: none can be had.
        """
        nested = program.isolation == "nested"
        pool: Pool | LanePool = await (self.lanes_of if nested else self._pool_of)(environment)
        sandbox = await pool.acquire(self.shape_of(environment, disk_mb), program)
        try:
            yield sandbox
        except BaseException:
            sandbox.clean = False
            raise
        finally:
            pool.release(sandbox)

    async def _pool_of(self, environment: Environment) -> Pool:
        pool = self._pools.get(environment.name)
        if pool is None:
            pool = Pool(self._engine, self._config, self._usual_shape(environment), self._hooks)
            # Set before anything is awaited, so that a program that comes meanwhile gets the same.
            self._pools[environment.name] = pool
            await self._open(pool)
        return pool

    async def lanes_of(self, environment: Environment) -> LanePool:
        """The lanes of an environment, opened at their first use."""
        lanes = self._lanes.get(environment.name)
        if lanes is None:
            usual = self._usual_shape(environment)
            lanes = LanePool(self._engine, self._config, usual, self._hooks)
            self._lanes[environment.name] = lanes
            await self._open(lanes)
        return lanes

    async def _open(self, pool: Pool | LanePool) -> None:
        self._reaper.watch(*self._pools.values(), *self._lanes.values())
        await self._opened.enter_async_context(pool)

    def _usual_shape(self, environment: Environment) -> Shape:
        return self.shape_of(environment, Limits().disk_mb)

    def shape_of(self, environment: Environment, disk_mb: int) -> Shape:
        """What sandboxes of an environment are like."""
        image = self._config.image_of(environment)
        return Shape(disk_mb=disk_mb, image=image, preload=environment.preload)


def _figures(pool: Pool | LanePool | None) -> dict[str, Any]:
    """What a pool has now and has done; nothing of one that was not needed yet."""
    if pool is None:
        return {}
    return {**msgspec.structs.asdict(pool.counts), **msgspec.structs.asdict(pool.totals)}


def _added_up(
    counts: type[PoolCounts | LaneCounts], pools: Iterable[Pool | LanePool]
) -> dict[str, int]:
    """Each count of several pools, added up."""
    found = [pool.counts for pool in pools]
    return {name: sum(getattr(one, name) for one in found) for name in counts.__struct_fields__}
