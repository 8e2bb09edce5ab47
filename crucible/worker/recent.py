"""How many runs ended lately, counted in steps so that one costs next to nothing."""

from __future__ import annotations

from collections import deque

#: Seconds that are looked back on, in so many steps. The first of them may be cut short.
WINDOW_S, _STEPS = 0.02, 4
_STEP_S = WINDOW_S / _STEPS


class RecentEnds:
    """Counts the runs that ended within the last ``WINDOW_S`` seconds."""

    __slots__ = ("_counts", "_step")

    def __init__(self) -> None:
        self._counts: deque[int] = deque([0] * _STEPS, maxlen=_STEPS)
        self._step = 0

    def add(self, now: float) -> None:
        """One ended at ``now``, in seconds of a clock that only goes forward."""
        if int(now / _STEP_S) != self._step:
            self._go_to(now)
        self._counts[-1] += 1

    def count(self, now: float) -> int:
        """How many ended within the window before ``now``."""
        self._go_to(now)
        return sum(self._counts)

    def _go_to(self, now: float) -> None:
        step = int(now / _STEP_S)
        self._counts.extend([0] * min(_STEPS, step - self._step))
        self._step = step
