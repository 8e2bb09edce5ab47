"""An event loop whose time goes forward only when nothing is left to do at the present one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class TurnedLoop(asyncio.SelectorEventLoop):
    """Waits for nothing: its clock is set to the next timer instead."""

    def __init__(self) -> None:
        super().__init__()
        self._turned_to = 0.0

    def time(self) -> float:
        """Seconds since the loop was made, by the turned clock."""
        return self._turned_to

    def _run_once(self) -> None:
        # ``_ready`` and ``_scheduled`` are as in every CPython since 3.4.
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]  # private
        if not ready and scheduled:
            self._turned_to = max(self._turned_to, scheduled[0]._when)
        super()._run_once()  # type: ignore[misc]  # private


def run_turned(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, in no time."""
    with asyncio.Runner(loop_factory=TurnedLoop) as runner:
        return runner.run(main)
