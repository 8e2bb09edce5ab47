"""Not a system but the load generator, in a process of its own like everything else."""

from __future__ import annotations

from typing import Any

import msgspec

from benchmarks.http_load import Load, apply


def setup(job: dict[str, Any]) -> None:
    """Nothing to set up."""


async def run(job: dict[str, Any]) -> Any:
    """Apply one load."""
    return msgspec.to_builtins(await apply(msgspec.convert(job, Load)))


def teardown(job: dict[str, Any]) -> None:
    """Nothing to tear down."""
