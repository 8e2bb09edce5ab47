"""Whether a message may be run now: not expired, not revoked, due, and within its rate limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.worker.run import TurnedAway

if TYPE_CHECKING:
    from crucible.broker.redis.clock import ServerClock
    from crucible.broker.wire.decode import Message
    from crucible.worker.control.revocations import Revocations
    from crucible.worker.rate_limits import RateLimits
    from crucible.worker.run import Run


class NotDue(Exception):  # noqa: N818 - a state of the message; tasks never see it
    """The message is not due yet.

    Attributes:
        eta: when it is, in seconds since the epoch.
    """

    def __init__(self, eta: float) -> None:
        super().__init__(eta)
        self.eta = eta


class RateLimited(Exception):  # noqa: N818 - a state of the run; tasks never see it
    """The run has to wait for its rate limit, which keeps it and offers it to the slots again."""


class Admission:
    """Decides what may be run now.

    Args:
        revocations: what was revoked.
        rates: rate limits of tasks.
        clock: of the queue server; expiry and eta are compared with its time.
    """

    def __init__(self, revocations: Revocations, rates: RateLimits, clock: ServerClock) -> None:
        self._revocations = revocations
        self._rates = rates
        self._clock = clock

    def refusal(self, message: Message) -> TurnedAway | None:
        """Why a message is not run at all; None when it may be."""
        if message.expires is not None and message.expires < self._clock.now():
            return TurnedAway.EXPIRED
        if self._revocations.is_revoked(message):
            return TurnedAway.REVOKED
        return None

    def is_due(self, eta: float) -> bool:
        """Whether a time, in seconds since the epoch, has come."""
        return eta <= self._clock.now()

    def within_rate(self, run: Run, name: str) -> bool:
        """Whether the task's rate limit lets a run start now; if not, it keeps the run."""
        return not self._rates or self._rates.admit(run, name)
