"""Real worker processes of both kinds, for tests."""

from __future__ import annotations

import os
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING

from stock_rig.child import Child
from stock_rig.environments import PROJECT
from stock_rig.worker import StockWorker

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: The platform's queues.
QUEUES = (
    "high_priority",
    "evaluation",
    "batch",
    "maintenance",
    "webhooks",
    "assessments",
    "reports",
)
START_S = 60.0


def plain_environment(**more: str) -> dict[str, str]:
    """An environment without inherited ``CRUCIBLE_`` variables, plus ``more``."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    return {**kept, "PYTHONUNBUFFERED": "1", **more}


def crucible(arguments: Sequence[str], **environment: str) -> Child:
    """A ``crucible`` command as a child process without inherited ``CRUCIBLE_`` variables."""
    return Child([sys.executable, "-m", "crucible", *arguments], plain_environment(**environment))


def async_worker(queue_url: str, *arguments: str, **environment: str) -> Child:
    """``crucible worker`` on the queues of ``queue_url``."""
    return crucible(["worker", *arguments], CELERY_BROKER_URL=queue_url, **environment)


def stock_worker(
    queue_url: str,
    *,
    pool: str = "prefork",
    concurrency: int = 2,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> StockWorker:
    """``celery -A crucible.celery_app worker`` on the same queues."""
    return StockWorker(
        PROJECT,
        queue_url,
        queues=QUEUES,
        pool=pool,
        concurrency=concurrency,
        app="crucible.celery_app",
        environment={"CELERY_BROKER_URL": queue_url, **environment},
    )
