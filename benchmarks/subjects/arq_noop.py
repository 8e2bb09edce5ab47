"""arq's settings class with the task of the worker scenarios."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from arq.connections import RedisSettings


async def noop(ctx: dict[str, Any], value: int) -> int:
    """Nothing."""
    return value


class WorkerSettings:
    """As in arq's documentation, with more concurrent jobs than its default of 10."""

    functions: ClassVar[list[Any]] = [noop]
    redis_settings = RedisSettings.from_dsn(os.environ.get("QUEUE_URL", "redis://127.0.0.1"))
    max_jobs = 100
