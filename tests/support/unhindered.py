"""A clock for what has to happen soon, on machines where others have the processors."""

from __future__ import annotations

import time
from pathlib import Path


def unhindered_s(*server_pids: int) -> float:
    """Seconds of a clock that does not count waiting for a processor, for differences.

    Args:
        server_pids: processes whose waiting is not counted either.
    """
    threads = ("thread-self", *map(str, server_pids))
    # The second number is the time spent runnable and not running, in nanoseconds.
    waited_ns = (int(Path(f"/proc/{one}/schedstat").read_text().split()[1]) for one in threads)
    return time.monotonic() - sum(waited_ns) / 1e9
