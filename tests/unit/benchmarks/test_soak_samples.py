"""What a soak calls flat, and its plot."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from benchmarks.machine import descriptors, rss_mb
from benchmarks.soak.picture import draw
from benchmarks.soak.run import _keys, _sum, results_s
from benchmarks.soak.samples import OF_CHILDREN, OUTLIVING, UNITS, Samples
from crucible.embedded.server import EmbeddedServer

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
        ("queue", [11.0] * 8 + [28.0] * 8, True),  # a slow machine
        ("queue", [10.0 * n for n in range(16)], False),
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


def test_keys_that_outlive_the_soak_are_drawn_only() -> None:
    """They become more until the first expires; all others are judged."""
    rising = [100.0 * n for n in range(16)]
    assert _sampled(*OUTLIVING, rising).rising == []
    assert _sampled("keys", "task queue", rising).rising != []


def test_what_a_child_of_the_stock_worker_holds_is_drawn_only() -> None:
    """It depends on how long ago a cancellation ended the child before; its parent's is judged."""
    rising = [10.0 * n for n in range(16)]
    assert _sampled(*OF_CHILDREN, rising).rising == []
    assert _sampled("descriptors", "stock worker", rising).rising != []


def test_a_process_that_ends_meanwhile_has_nothing() -> None:
    """Two hours are not lost to a child that was there a moment ago."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert _sum(descriptors, [os.getpid(), ended.pid]) == descriptors(os.getpid())
    assert _sum(rss_mb, [ended.pid]) == 0.0


@pytest.mark.parametrize(("seconds", "kept"), [(7200, 60), (420, 52), (8, 1), (1, 1)])
def test_results_have_expired_before_the_second_quarter(seconds: float, kept: int) -> None:
    """From there on as many expire as are stored."""
    assert results_s(seconds) == kept


async def test_keys_are_counted_by_how_long_they_live(tmp_path: Path) -> None:
    """One that has no TTL is judged, like one that expires during the soak."""
    async with EmbeddedServer(tmp_path, durable=False) as server:
        async with (
            Redis.from_url(server.url) as queue,
            Redis.from_url(f"{server.url[:-1]}1") as bus,
        ):
            await queue.set("for ever", 1)
            await queue.set("result", 1, ex=60)
            await queue.set("delivered", 1, ex=172_800)
            await bus.set("stream", 1)
            found = await _keys(queue, bus, 7200)
    assert found == {("keys", "task queue"): 2, OUTLIVING: 1, ("keys", "event bus"): 1}


def test_every_kind_is_drawn(tmp_path: Path) -> None:
    """One file."""
    samples = Samples()
    for at in range(3):
        samples.add(float(at), {(kind, "api"): float(at) for kind in UNITS})
    draw(samples, tmp_path / "deep" / "soak.svg", "a soak")
    text = (tmp_path / "deep" / "soak.svg").read_text()
    assert all(f"<!-- {kind}, {unit} -->" in text for kind, unit in UNITS.items())
