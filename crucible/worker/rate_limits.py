"""Rate limits: runs that may not start yet wait here, outside the slots.

As in stock, a limit holds in one worker, a bucket has room for one token, and what waits counts
against what the worker claims ahead (celery ``worker/consumer/consumer.py``, kombu
``utils/limits.py``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crucible.worker.run import Run
    from crucible.worker.task import Task

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def per_second(rate: object) -> float:
    """Tasks a second; 0 is no limit. ``"10/m"``, ``"0.5/s"``, ``5``, None.

    Raises:
        ValueError: not a rate; the text is stock's.
        KeyError: an unknown unit, as stock has it.
    """
    if not rate:
        return 0.0
    if isinstance(rate, str):
        count, _, unit = rate.partition("/")
        return float(count) / _SECONDS[unit or "s"]
    if isinstance(rate, (int, float)):
        return float(rate)
    raise ValueError(f"not a rate: {rate!r}")


class _Bucket:
    """One task's limit."""

    def __init__(self, rate: float) -> None:
        self.interval_s = 1.0 / rate
        self.free_at = 0.0
        self.waiting: deque[Run] = deque()
        self.timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class RateLimits:
    """The limits of one worker's tasks.

    Args:
        tasks: their own limits apply at first.
        offer: called with runs whose turn has come.
        withheld: called with the number waiting whenever it changes.
    """

    def __init__(
        self,
        tasks: Iterable[Task],
        offer: Callable[[Sequence[Run]], None],
        withheld: Callable[[int], None],
    ) -> None:
        self._offer = offer
        self._withheld = withheld
        self._rates: dict[str, object] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._cleared: set[Run] = set()
        for task in tasks:
            if task.rate_limit:
                self.set(task.name, task.rate_limit)

    def __len__(self) -> int:
        return sum(len(bucket.waiting) for bucket in self._buckets.values())

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return bool(self._buckets)

    def rate_of(self, name: str) -> object:
        """The limit as it was given, None for none."""
        return self._rates.get(name)

    def set(self, name: str, rate: object) -> None:
        """Limit a task from now on; what waits for it already is offered again under the new limit.

        Raises:
            ValueError: not a rate.
            KeyError: an unknown unit.
        """
        tokens = per_second(rate)
        self._rates[name] = rate or None
        old = self._buckets.pop(name, None)
        waiting: Sequence[Run] = ()
        if old is not None:
            old.close()
            waiting = tuple(old.waiting)
        if tokens > 0:
            self._buckets[name] = _Bucket(tokens)
        self._withheld(len(self))
        self._offer(waiting)

    def admit(self, run: Run, name: str) -> bool:
        """Whether a run may start now; if not it is kept, and offered when its turn comes."""
        if run in self._cleared:
            self._cleared.discard(run)
            return True
        bucket = self._buckets.get(name)
        if bucket is None:
            return True
        now = asyncio.get_running_loop().time()
        if not bucket.waiting and now >= bucket.free_at:
            bucket.free_at = now + bucket.interval_s
            return True
        bucket.waiting.append(run)
        self._withheld(len(self))
        self._arm(bucket)
        return False

    def take_all(self) -> list[Run]:
        """Everything that waits, to be given back."""
        taken: list[Run] = []
        for bucket in self._buckets.values():
            bucket.close()
            taken.extend(bucket.waiting)
            bucket.waiting.clear()
        self._withheld(0)
        return taken

    def _arm(self, bucket: _Bucket) -> None:
        if bucket.timer is None and bucket.waiting:
            loop = asyncio.get_running_loop()
            bucket.timer = loop.call_at(bucket.free_at, self._release, bucket)

    def _release(self, bucket: _Bucket) -> None:
        bucket.timer = None
        if not bucket.waiting:
            return
        bucket.free_at = asyncio.get_running_loop().time() + bucket.interval_s
        run = bucket.waiting.popleft()
        self._cleared.add(run)
        self._withheld(len(self))
        self._offer((run,))
        self._arm(bucket)
