"""A few hundred generated requests; ``python -m benchmarks.fuzz_api`` sends thousands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.fuzz_api import fuzz, prepared

if TYPE_CHECKING:
    from pathlib import Path

#: Streams of events have tests of their own; the long form reads their first frames.
STREAMS = ("/api/events", "/api/eval/{eval_id}/events")


@pytest.mark.parametrize("keyed", [False, True])
async def test_generated_requests_are_answered_as_described(tmp_path: Path, keyed: bool) -> None:
    """With and without a key: no 5xx, and nothing that the OpenAPI document does not have."""
    async with prepared(tmp_path, keyed=keyed) as (address, key):
        found = await fuzz(
            address,
            tmp_path,
            per_operation=2,
            seed=16,
            key=key,
            phases="fuzzing",
            without=STREAMS,
        )
    assert not found.failures, found.failures
    assert found.requests >= 100
