"""Runs programs through blocking libraries, several at once in threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: The program, and its expected output.
PROGRAM, EXPECTED = "print(6 * 7)", "42\n"


def sent_in(seconds: float, at_once: int, program: Callable[[], str]) -> dict[str, Any]:
    """Run programs for some seconds; ``program`` returns what one printed.

    Raises:
        RuntimeError: one printed something else.
    """
    started = time.perf_counter()

    def lane() -> int:
        done = 0
        while time.perf_counter() - started < seconds:
            if (output := program()) != EXPECTED:
                raise RuntimeError(f"the program printed {output!r}")
            done += 1
        return done

    with ThreadPoolExecutor(at_once) as threads:
        lanes = [threads.submit(lane) for _ in range(at_once)]
        sent = sum(one.result() for one in lanes)
    return {"sent": sent, "elapsed_s": time.perf_counter() - started}
