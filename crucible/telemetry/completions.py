"""Completions of evaluations, as counted on the task queue server for all processes together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from crucible.models import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client.core import Metric


class Completions(Protocol):
    """Completions in one queue system (``evaluation.completions.CompletionCounts``)."""

    @property
    def statuses(self) -> Mapping[str, int]:
        """Evaluations by their last status."""

    @property
    def total_s(self) -> float:
        """The sum of all durations, seconds."""

    @property
    def sandboxes(self) -> Mapping[str, int]:
        """Programs that found a sandbox ready (``hit``), or waited for one (``miss``)."""

    @property
    def sandbox_wait_s(self) -> float:
        """The sum of all waits for a sandbox, seconds."""

    @property
    def lanes(self) -> Mapping[str, int]:
        """Of those programs the ones that got a lane."""

    @property
    def retired(self) -> Mapping[tuple[str, str], int]:
        """Sandboxes that serve nobody any more as they are, by isolation and reason."""

    @property
    def compiles(self) -> Mapping[str, int]:
        """Programs that the compile cache had (``hit``), and that were compiled (``miss``)."""

    def cumulative(self) -> Sequence[tuple[str, int]]:
        """For each upper bound of a duration, how many took no longer."""


class CompletionCollector(Collector):
    """Exposes completions as they were read for one scrape.

    Args:
        completions: by queue system.
    """

    def __init__(self, completions: Mapping[str, Completions]) -> None:
        self._completions = completions

    def collect(self) -> Iterator[Metric]:
        """The counts as they were read."""
        completed = CounterMetricFamily(
            "tasks_completed",
            "Evaluations that have ended, in every process.",
            labels=["queue_system", "status"],
        )
        durations = HistogramMetricFamily(
            "task_duration_seconds", "From submission to the end.", labels=["queue_system"]
        )
        sandboxes = CounterMetricFamily(
            "sandboxes_taken",
            "Programs that found a sandbox ready (hit), or had to wait for one (miss).",
            labels=["outcome"],
        )
        waits = CounterMetricFamily(
            "sandbox_wait_seconds", "Time that programs spent waiting for a sandbox."
        )
        lanes = CounterMetricFamily(
            "lanes_taken", "Of those programs the ones that got a lane.", labels=["outcome"]
        )
        retired = CounterMetricFamily(
            "sandboxes_retired",
            "Containers that were removed and lanes that were restarted, by why.",
            labels=["isolation", "reason"],
        )
        compiles = CounterMetricFamily(
            "compile_cache_lookups",
            "Programs that were compiled before (hit), or had to be compiled (miss).",
            labels=["outcome"],
        )
        celery = self._completions.get("celery")
        for outcome in ("hit", "miss"):
            compiles.add_metric([outcome], celery.compiles.get(outcome, 0) if celery else 0)
            sandboxes.add_metric([outcome], celery.sandboxes.get(outcome, 0) if celery else 0)
            lanes.add_metric([outcome], celery.lanes.get(outcome, 0) if celery else 0)
        for labels, number in sorted(celery.retired.items() if celery else ()):
            retired.add_metric(labels, number)
        waits.add_metric([], celery.sandbox_wait_s if celery else 0)
        for queue_system, counts in sorted(self._completions.items()):
            # Zeros too: the first one of a status would be no increase otherwise.
            statuses = {status.value: 0 for status in ENDED} | dict(counts.statuses)
            for status, number in sorted(statuses.items()):
                completed.add_metric([queue_system, status], number)
            durations.add_metric([queue_system], counts.cumulative(), counts.total_s)
        yield completed
        yield durations
        yield sandboxes
        yield lanes
        yield retired
        yield waits
        yield compiles
