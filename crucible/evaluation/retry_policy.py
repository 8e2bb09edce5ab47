"""When an evaluation is retried: which errors, after how long, how often.

The other steps of a retry are named in ``docs/why/070-retries.md``.
"""

from __future__ import annotations

from crucible.errors import ExecutorUnavailable

#: Temporary platform faults. A program that ends, however it ends, is never retried; neither is
#: what no retry can change (``InputError``, ``ExecutorRefused``).
RETRIED = ExecutorUnavailable
#: Retries of one evaluation. With the delays below they span about four minutes: longer than an
#: engine takes to restart, and than an executor service takes to be replaced.
MAX_RETRIES = 8
#: Seconds: the first delay, the factor of each further one, and the longest.
FIRST_S, FACTOR, LONGEST_S = 1.0, 2.0, 60.0


def retry_delay_s(retries: int, spread: float) -> float:
    """Seconds until the next try: exponential, bounded, with jitter.

    Args:
        retries: retries so far; 0 before the first.
        spread: a random number from 0 to 1. Half of each delay depends on it, so that evaluations
            that failed together are not retried together.
    """
    delay = min(LONGEST_S, FIRST_S * FACTOR**retries)
    return delay * (0.5 + 0.5 * spread)
