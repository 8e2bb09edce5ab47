"""The executor that the settings ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from crucible.breaker import BreakerPolicy
from crucible.evaluation.limits import ceilings_of
from crucible.executor import ExecutorConfig
from crucible.executor.gpus import check_gpus

if TYPE_CHECKING:
    from crucible.settings import Settings

#: With one slot, one long program would block a worker.
LEAST_CONCURRENCY = 2


def concurrency_of(settings: Settings) -> int:
    """Programs a worker runs at once: as set, else one for each core it may use."""
    return settings.concurrency or max(LEAST_CONCURRENCY, len(os.sched_getaffinity(0)))


def breaker_policy(settings: Settings) -> BreakerPolicy:
    """When circuits open and close."""
    return BreakerPolicy(
        failures=settings.breaker_failures,
        open_s=settings.breaker_open_s,
        trials=settings.breaker_trials,
    )


def executor_config(settings: Settings) -> ExecutorConfig:
    """The configuration for ``open_executor``.

    Raises:
        SettingsError: GPUs are named that cannot be.
    """
    check_gpus(settings.gpus)
    pool_max = settings.pool_max or 4 * max(concurrency_of(settings), settings.pool_min)
    return ExecutorConfig(
        urls=settings.executor_urls,
        token=settings.executor_token or None,
        breaker=breaker_policy(settings),
        docker_url=settings.docker_url or None,
        runtime=settings.docker_runtime or None,
        gpus=settings.gpus,
        image=settings.sandbox_image,
        environments=settings.served_environments,
        isolation=settings.isolation,
        lane_programs=settings.lane_programs,
        lanes_max=pool_max,
        pool_min=settings.pool_min,
        pool_max=pool_max,
        compile_cache_mb=settings.compile_cache_mb,
        ceiling=ceilings_of(settings),
    )
