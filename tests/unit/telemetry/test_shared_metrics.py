"""Metrics of several processes added up, from files that another process could have written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from crucible.telemetry.shared import SharedMetrics

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.core import Metric


def families(submitted: int, held: int) -> list[Metric]:
    counter = CounterMetricFamily("submitted", "Accepted.", labels=["kind"])
    counter.add_metric(["a"], submitted)
    return [counter, GaugeMetricFamily("open", "Open now.", value=held)]


def values(shared: SharedMetrics) -> dict[str, float]:
    return {s.name: s.value for metric in shared.merged() for s in metric.samples}


def test_what_lives_is_added_and_what_died_keeps_its_counts(tmp_path: Path) -> None:
    with SharedMetrics.opened(tmp_path) as first:
        first.write(families(3, 1))
        with SharedMetrics.opened(tmp_path) as second:
            second.write(families(4, 10))
            assert values(first) == values(second) == {"submitted_total": 7, "open": 11}
        assert values(first) == {"submitted_total": 7, "open": 1}
        first.write(families(5, 2))
        assert values(first) == {"submitted_total": 9, "open": 2}
