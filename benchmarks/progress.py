"""Waits that fail when nothing moves any more, however long a loaded machine takes in all."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

#: Seconds without any progress after which a wait fails: several times what adopting the batch of
#: a dead historian, a statement's time limit and the start of a process take together.
STALLED_S = 120.0
#: Seconds between looks at something that another process is to do, and lines of a log that are
#: shown.
LOOK_S, _LINES = 0.2, 20


class StalledError(RuntimeError):
    """Nothing has moved for ``STALLED_S``."""


async def until_done(look: Callable[[], Awaitable[object]], stalled_s: float = STALLED_S) -> None:
    """Look until nothing is left.

    Args:
        look: what is left, to be compared with what was left before; None where all is done.
        stalled_s: seconds for which it may stay the same.

    Raises:
        StalledError: it stayed the same for longer; says what is left.
    """
    left, since_s = await look(), time.monotonic()
    while left is not None:
        await asyncio.sleep(LOOK_S)
        now = await look()
        if now != left:
            left, since_s = now, time.monotonic()
        elif time.monotonic() - since_s > stalled_s:
            raise StalledError(f"nothing has moved for {stalled_s:.0f} s; left: {left}")


def tail_of(log: Path) -> str:
    """The last lines of a log."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join([f"--- {log.name}", *lines[-_LINES:]])
