"""Reporting an outage of the queue server once when it begins and once when it is over."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.errors import BrokerError

logger = logging.getLogger(__name__)

#: Seconds without a failure after which a success counts: a loop that fails is run again sooner.
_QUIET_S = 1.5


class Outage:
    """What the loops of a process see of the queue server's absence, as one event.

    Args:
        begun: what is logged when it begins, before the error.
        clock: seconds, only forward.
    """

    def __init__(
        self,
        begun: str = "the queue server is gone, trying again until it is back",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._begun = begun
        self._clock = clock
        self._since: float | None = None
        self._last = 0.0

    def failed(self, error: BrokerError) -> None:
        """A call failed because the server is not there."""
        self._last = self._clock()
        if self._since is None:
            self._since = self._last
            logger.warning("%s: %s", self._begun, error)

    def succeeded(self) -> None:
        """A call was answered. Others may still fail, on connections of their own."""
        if self._since is not None and self._clock() - self._last > _QUIET_S:
            logger.warning("the queue server is back after %.1f s", self._last - self._since)
            self._since = None
