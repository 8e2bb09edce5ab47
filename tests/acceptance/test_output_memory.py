"""The memory of an api and a worker while a large output goes through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.output_memory import expected_digest, measure

if TYPE_CHECKING:
    from pathlib import Path

MB = 32


async def test_few_copies_of_a_stored_output_are_held(tmp_path: Path) -> None:
    """Every byte arrives, and neither process held more of it than a few times its size."""
    peaks = await measure(tmp_path, MB, store=True)
    assert peaks.digest == expected_digest(MB)
    copies = peaks.copies()
    assert copies["api"] < 1.5, copies
    assert copies["worker"] < 4.0, copies
