"""Gauges of queues and of the workers' load, as they were measured for one scrape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric


class AppendOnly(Protocol):
    """An append-only file (``evaluation.fleet_load.AppendOnly``)."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""

    @property
    def failed(self) -> bool:
        """The last write or rewrite of it did."""


class Load(Protocol):
    """The load of all async workers (``evaluation.fleet_load.FleetLoad``)."""

    @property
    def slots(self) -> int:
        """Tasks they run at once."""

    @property
    def busy(self) -> int:
        """Tasks they run now."""

    @property
    def claimed(self) -> int:
        """Messages they hold."""

    @property
    def service_s(self) -> float | None:
        """Seconds a task takes on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Queues and workers; what is unknown is absent.

    Attributes:
        depths: messages waiting, by queue system and queue.
        steps: messages of Celery queues by queue and priority step.
        ages: seconds the next message waits, by queue system and queue.
        load: of the async workers.
        desired: workers the autoscale policy wants.
        append_only: the append-only file of the task queue server.
    """

    depths: Mapping[tuple[str, str], int] = field(default_factory=dict)
    steps: Mapping[tuple[str, str], int] = field(default_factory=dict)
    ages: Mapping[tuple[str, str], float] = field(default_factory=dict)
    load: Load | None = None
    desired: int | None = None
    append_only: AppendOnly | None = None


class FleetCollector(Collector):
    """Exposes queues and workers.

    Args:
        fleet: as measured.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[Metric]:
        """Every gauge."""
        yield from _queues(self._fleet)
        yield from _workers(self._fleet)
        yield from _append_only(self._fleet.append_only)


def _queues(fleet: Fleet) -> Iterator[Metric]:
    depth = GaugeMetricFamily("queue_depth", "Messages waiting.", labels=["queue_system", "queue"])
    celery = GaugeMetricFamily(
        "celery_queue_length", "Messages waiting in a Celery queue.", labels=["queue"]
    )
    legacy = GaugeMetricFamily("legacy_queue_length", "Tasks waiting in the legacy queue.")
    for (queue_system, queue), waiting in fleet.depths.items():
        depth.add_metric([queue_system, queue], waiting)
        if queue_system == "celery":
            celery.add_metric([queue], waiting)
        else:
            legacy.add_metric([], waiting)
    steps = GaugeMetricFamily(
        "queue_depth_by_step",
        "Messages waiting in a Celery queue by priority step; step 0 is served first.",
        labels=["queue", "step"],
    )
    for labels, waiting in fleet.steps.items():
        steps.add_metric(labels, waiting)
    ages = GaugeMetricFamily(
        "queue_oldest_age_seconds",
        "Since the next message was accepted; 0 where none waits.",
        labels=["queue_system", "queue"],
    )
    for labels, age_s in fleet.ages.items():
        ages.add_metric(labels, age_s)
    yield from (depth, celery, legacy, steps, ages)


def _workers(fleet: Fleet) -> Iterator[Metric]:
    slots = GaugeMetricFamily(
        "worker_slots", "Tasks that async workers run at once, by state.", labels=["state"]
    )
    claimed = GaugeMetricFamily(
        "worker_claimed_messages", "Messages async workers hold; delayed ones are not held."
    )
    service = GaugeMetricFamily(
        "worker_service_seconds", "Time one task takes, averaged over async workers."
    )
    if fleet.load is not None:
        slots.add_metric(["busy"], fleet.load.busy)
        slots.add_metric(["idle"], max(0, fleet.load.slots - fleet.load.busy))
        claimed.add_metric([], fleet.load.claimed)
        if fleet.load.service_s is not None:
            service.add_metric([], fleet.load.service_s)
    desired = GaugeMetricFamily(
        "crucible_desired_workers", "Workers that the autoscale policy wants."
    )
    if fleet.desired is not None:
        desired.add_metric([], fleet.desired)
    yield from (slots, claimed, service, desired)


def _append_only(file: AppendOnly | None) -> Iterator[Metric]:
    size = GaugeMetricFamily(
        "queue_server_append_only_bytes", "Size of the task queue server's append-only file."
    )
    failed = GaugeMetricFamily(
        "queue_server_append_only_failed",
        "1 if the last write or rewrite of that file failed, as on a full disk.",
    )
    if file is not None:
        size.add_metric([], file.size_bytes)
        failed.add_metric([], file.failed)
    yield from (size, failed)
