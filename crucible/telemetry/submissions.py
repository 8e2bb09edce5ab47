"""What ``/metrics`` shows: counted while serving, read by the scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from crucible.evaluation.completions import CompletionCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.core import Metric

#: Seconds; a decision is a few microseconds of computation.
_SELECTIONS = (1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2)


class _Submitted(Collector):
    """Counts that are plain numbers elsewhere, because counting there must cost nothing."""

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The counts now."""
        by_side = CounterMetricFamily(
            "tasks_submitted", "Evaluations accepted.", labels=["queue_system"]
        )
        for side, count in self._read().items():
            by_side.add_metric([side], count)
            yield CounterMetricFamily(
                f"{side}_tasks_submitted", f"Evaluations accepted by the {side} side.", value=count
            )
        yield by_side


class Meter:
    """The metrics of one api process.

    Args:
        submitted: tells how many evaluations each side accepted.

    Attributes:
        registry: what is exposed.
    """

    def __init__(self, submitted: Callable[[], Mapping[str, int]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Submitted(submitted))
        self._selection = Histogram(
            "queue_selection_duration_seconds",
            "Deciding which side an evaluation goes to.",
            buckets=_SELECTIONS,
            registry=self.registry,
        )

    def selected(self, seconds: float) -> None:
        """A side was chosen."""
        self._selection.observe(seconds)


class Ends(Collector):
    """How evaluations ended, as read from the task queue server.

    Args:
        ends: by side.
    """

    def __init__(self, ends: Mapping[str, CompletionCounts]) -> None:
        self._ends = ends

    def collect(self) -> Iterator[Metric]:
        """The counts as they were read."""
        completed = CounterMetricFamily(
            "tasks_completed",
            "Evaluations that have ended, anywhere.",
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
            "sandbox_wait_seconds", "Spent by programs on waiting for a sandbox."
        )
        ours = self._ends.get("celery", CompletionCounts())
        for outcome in ("hit", "miss"):
            sandboxes.add_metric([outcome], ours.sandboxes[outcome])
        waits.add_metric([], ours.sandbox_wait_s)
        for side, counts in sorted(self._ends.items()):
            for status, number in sorted(counts.statuses.items()):
                completed.add_metric([side, status], number)
            durations.add_metric([side], counts.cumulative(), counts.total_s)
        yield completed
        yield durations
        yield sandboxes
        yield waits
