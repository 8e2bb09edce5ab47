"""What a soak calls flat, and its plot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.soak.picture import draw
from benchmarks.soak.samples import UNITS, Samples

if TYPE_CHECKING:
    from pathlib import Path


def _sampled(kind: str, name: str, values: list[float]) -> Samples:
    samples = Samples()
    for at, value in enumerate(values):
        samples.add(float(at), {(kind, name): value})
    return samples


@pytest.mark.parametrize(
    ("kind", "values", "flat"),
    [
        ("memory", [10.0] * 4 + [60.0] * 12, True),  # the first quarter is warm-up
        ("memory", [60.0 + 2 * n for n in range(16)], False),
        ("memory", [60.0 + 0.2 * n for n in range(16)], True),
        ("descriptors", [20.0 + n for n in range(16)], False),
        ("keys", [5000.0] * 8 + [100.0] * 8, True),
        ("lag", [0.0] * 12 + [30.0] * 4, False),
        ("lag", [0.0, 30.0], True),  # too few to say
    ],
)
def test_growth_is_from_the_second_quarter_to_the_last(
    kind: str, values: list[float], flat: bool
) -> None:
    """By more than a share and more than what is nothing in its unit."""
    samples = _sampled(kind, "api", values)
    assert (samples.rising == []) is flat


def test_the_history_has_a_row_for_each_evaluation() -> None:
    """Its size is drawn and not judged; how far it is behind is judged."""
    rising = [100.0 * n for n in range(16)]
    assert _sampled("disk", "history", rising).rising == []
    assert _sampled("lag", "history", rising).rising != []


def test_every_kind_is_drawn(tmp_path: Path) -> None:
    """One file."""
    samples = Samples()
    for at in range(3):
        samples.add(float(at), {(kind, "api"): float(at) for kind in UNITS})
    draw(samples, tmp_path / "deep" / "soak.svg", "a soak")
    text = (tmp_path / "deep" / "soak.svg").read_text()
    assert all(f"<!-- {kind}, {unit} -->" in text for kind, unit in UNITS.items())
