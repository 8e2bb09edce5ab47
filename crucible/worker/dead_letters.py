"""Messages that could not be run, as they are kept: with their bytes, a reason and a detail."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crucible.broker.claiming.claims import Destination, Disposition

if TYPE_CHECKING:
    from crucible.broker.redis.clock import ServerClock
    from crucible.worker.run import Run

logger = logging.getLogger(__name__)


class DeadLetterEncoder:
    """Encodes the dead letters of one worker.

    Args:
        hostname: its node name.
        clock: of the queue server.
    """

    def __init__(self, hostname: str, clock: ServerClock) -> None:
        self._hostname = hostname
        self._clock = clock

    def encode(
        self, run: Run, reason: str, detail: str, attempts: int | None = None
    ) -> Disposition:
        """The message of ``run`` as a dead letter; ``attempts`` is how often it was tried."""
        what = "a message" if run.message is None else f"task {run.message.task}[{run.message.id}]"
        logger.warning(
            "%s of the queue %s becomes a dead letter, %s: %s",
            what,
            run.claim.queue,
            reason,
            detail,
        )
        letter = {"queue": run.claim.queue, "reason": reason, "detail": detail}
        if run.message is not None:
            letter["task_id"], letter["task"] = run.message.id, run.message.task
        letter["at"] = f"{self._clock.now():.6f}"
        letter["worker"] = self._hostname
        if attempts is not None:
            letter["attempts"] = str(attempts)
        return Disposition(to=Destination.DEAD_LETTERS, raw=run.claim.raw, letter=letter)
