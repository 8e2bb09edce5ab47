"""A legacy worker with an executor that does nothing; its argument is the queue's URL."""

from __future__ import annotations

import asyncio
import signal
import sys

from crucible.legacy import work
from crucible.models import Outcome, Program, Verdict

_DONE = Outcome(verdict=Verdict.OK, exit_code=0, stdout=b"42\n")


async def run(_: Program) -> Outcome:
    """Return an outcome as an executor does, immediately."""
    return _DONE


async def main(queue_url: str) -> None:
    """Work until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await work(queue_url, run, stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
