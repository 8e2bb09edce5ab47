"""The load generator, in its own process like the subjects."""

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
