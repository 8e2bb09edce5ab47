"""The load generator, in its own process like the subjects.

It stands for clients on other machines, but has a core with the queue server here. What serves
comes first there: at equal priority the server waited for it by the tick of the scheduler, 4 ms,
in one request of a hundred.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec

from benchmarks.http_load import Load, apply

#: Added to its nice value. Its own lateness counts in every latency it reports.
_YIELDING = 10


def setup(job: dict[str, Any]) -> None:
    """Yield to what serves."""
    os.nice(_YIELDING)


async def run(job: dict[str, Any]) -> Any:
    """Apply one load."""
    return msgspec.to_builtins(await apply(msgspec.convert(job, Load)))


def teardown(job: dict[str, Any]) -> None:
    """Nothing to tear down."""
