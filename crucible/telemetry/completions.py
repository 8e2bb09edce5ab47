"""Completions of evaluations, as counted on the task queue server for all processes together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

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
        compiles = CounterMetricFamily(
            "compile_cache_lookups",
            "Programs that were compiled before (hit), or had to be compiled (miss).",
            labels=["outcome"],
        )
        celery = self._completions.get("celery")
        for outcome in ("hit", "miss"):
            compiles.add_metric([outcome], celery.compiles.get(outcome, 0) if celery else 0)
            sandboxes.add_metric([outcome], celery.sandboxes.get(outcome, 0) if celery else 0)
        waits.add_metric([], celery.sandbox_wait_s if celery else 0)
        for queue_system, counts in sorted(self._completions.items()):
            for status, number in sorted(counts.statuses.items()):
                completed.add_metric([queue_system, status], number)
            durations.add_metric([queue_system], counts.cumulative(), counts.total_s)
        yield completed
        yield durations
        yield sandboxes
        yield waits
        yield compiles
