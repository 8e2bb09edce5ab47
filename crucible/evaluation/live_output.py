"""The output of an evaluation while it runs: the end of it is stored now and then."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from crucible.evaluation.grading import PROGRESS
from crucible.evaluation.view import now_text
from crucible.executor.live import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.worker import TaskContext

#: Seconds between two looks: programs that end sooner cost nothing.
LOOK_S = 0.5
#: Bytes that are shown of a program that runs.
SHOWN_BYTES = 8192


class Tail:
    """The end of what a program has written.

    Attributes:
        written: bytes so far.
    """

    def __init__(self) -> None:
        self.written = 0
        self._kept = bytearray()

    def add(self, piece: bytes) -> None:
        """It has written more."""
        self.written += len(piece)
        self._kept += piece
        # Cut now and then, not for each piece.
        if len(self._kept) > 4 * SHOWN_BYTES:
            del self._kept[:-SHOWN_BYTES]

    @property
    def text(self) -> str:
        """As text; what is none in it, or was cut in two, is replaced."""
        return bytes(self._kept[-SHOWN_BYTES:]).decode("utf-8", "replace")


@asynccontextmanager
async def showing_output(ctx: TaskContext) -> AsyncIterator[None]:
    """Store what a program that runs inside has written, every ``LOOK_S`` seconds with news."""
    tail, reporting = Tail(), set[asyncio.Task[None]]()

    def begin() -> None:
        reporting.add(asyncio.create_task(_report(ctx, tail), name=f"output-{ctx.id}"))

    # A task only for those that run so long: most end sooner, and a timer costs next to nothing.
    timer = asyncio.get_running_loop().call_later(LOOK_S, begin)
    try:
        with listening(tail.add):
            yield
    finally:
        timer.cancel()
        for task in reporting:
            task.cancel()
        if reporting:
            # As with progress: a state on its way is stored before the result is.
            await asyncio.gather(*reporting, return_exceptions=True)


async def _report(ctx: TaskContext, tail: Tail) -> None:
    known = 0
    while True:
        if tail.written > known:
            known = tail.written
            await ctx.update_state(PROGRESS, _meta(ctx, tail))
        await asyncio.sleep(LOOK_S)


def _meta(ctx: TaskContext, tail: Tail) -> dict[str, Any]:
    return {
        "hostname": ctx.hostname,
        "retries": ctx.retries,
        "current_step": "running",
        "message": f"{tail.written} bytes of output",
        "updated_at": now_text(),
        "output": tail.text,
    }
