"""Priority steps: how a Celery priority becomes one of a queue's lists."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

#: kombu ``transport/redis.py`` ``PRIORITY_STEPS``. Lower numbers are served first on Redis.
STEPS: tuple[int, ...] = (0, 3, 6, 9)


def step_of(priority: int | None, steps: tuple[int, ...] = STEPS) -> int:
    """The largest step not above ``priority``, which is clamped to 0..9; None counts as 0.

    Source: kombu ``transport/redis.py`` ``Channel.priority`` and ``_get_message_priority``.
    """
    clamped = max(0, min(9, priority or 0))
    return steps[bisect_right(steps, clamped) - 1]


def priority_of(envelope: dict[str, Any]) -> int:
    """The priority of a decoded message; what is no number counts as 0, as for kombu.

    Source: kombu ``transport/virtual/base.py`` ``_get_message_priority``.
    """
    properties = envelope.get("properties")
    try:
        return int(properties["priority"]) if isinstance(properties, dict) else 0
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0
