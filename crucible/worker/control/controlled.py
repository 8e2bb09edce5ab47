"""What remote control commands may ask of a worker: nothing beyond this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from crucible.broker.redis.store import RedisStore
    from crucible.worker.config import WorkerConfig
    from crucible.worker.control.node import Node
    from crucible.worker.rate_limits import RateLimits
    from crucible.worker.registry import TaskRegistry
    from crucible.worker.run import Run


class RunControl(Protocol):
    """The runs of a worker, and how many there may be at once."""

    @property
    def concurrency(self) -> int:
        """Tasks run at once."""

    @property
    def running(self) -> Collection[Run]:
        """What runs now."""

    @property
    def unsettled(self) -> Iterable[Run]:
        """What is claimed and not settled yet."""

    def resize(self, concurrency: int) -> None:
        """Run this many tasks at once from now on."""

    def terminate(self, task_id: str) -> bool:
        """Stop a running task; False when it does not run here."""


class QueueControl(Protocol):
    """The queues of a worker."""

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues served, in order."""

    async def serve(self, queues: Sequence[str]) -> None:
        """Take from these queues from now on, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlledWorker:
    """A worker as remote control commands see it.

    Attributes:
        worker_id: its id in claims and heartbeats.
        config: its settings at the start.
        registry: its tasks.
        rates: rate limits of tasks.
        time_limits: overrides of tasks' time limits by name: hard, soft.
        node: its events, clock and revocations.
        steps: atomic steps on the queue server.
        runs: its runs.
        consumer: its queues.
    """

    worker_id: str
    config: WorkerConfig
    registry: TaskRegistry
    rates: RateLimits
    time_limits: dict[str, tuple[float | None, float | None]]
    node: Node
    steps: RedisStore
    runs: RunControl
    consumer: QueueControl
