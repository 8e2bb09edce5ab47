"""SAQ's settings dictionary with the task of the worker scenarios."""

from __future__ import annotations

import os
from typing import Any

from saq import Queue

queue = Queue.from_url(os.environ.get("QUEUE_URL", "redis://127.0.0.1"))


async def noop(ctx: Any, *, value: int) -> int:
    """Nothing."""
    return value


#: As in SAQ's documentation, with more concurrent jobs than its default of 10.
settings = {"queue": queue, "functions": [noop], "concurrency": 100}
