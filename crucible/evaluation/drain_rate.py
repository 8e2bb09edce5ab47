"""How fast evaluations complete, and so when a full queue will have room again. Pure."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds over which the rate is measured.
WINDOW_S = 30.0
#: Seconds a client is asked to wait where nothing is measured yet, and at least and at most.
UNKNOWN_S, SHORTEST_S, LONGEST_S = 2, 1, 60


class DrainRate:
    """Completions of all processes together, as they are counted on the queue server.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._noted: deque[tuple[float, int]] = deque()

    def note(self, completed: int) -> None:
        """Note how many had completed until now."""
        now = self._clock()
        if self._noted and completed < self._noted[-1][1]:
            # The server was emptied, and counts from zero.
            self._noted.clear()
        self._noted.append((now, completed))
        while self._noted[0][0] < now - WINDOW_S:
            self._noted.popleft()

    def per_second(self) -> float | None:
        """Completions a second; None while it is not known."""
        if len(self._noted) < 2:
            return None
        (began, before), (ended, after) = self._noted[0], self._noted[-1]
        return (after - before) / (ended - began) if ended > began else None

    def wait_s(self, depth: int) -> int:
        """Whole seconds until a queue of so many messages is through.

        At most ``LONGEST_S``: workers may be started meanwhile. As long where nothing completes.
        """
        rate = self.per_second()
        if rate is None:
            return UNKNOWN_S
        if rate <= 0:
            return LONGEST_S
        return max(SHORTEST_S, min(LONGEST_S, math.ceil(depth / rate)))
