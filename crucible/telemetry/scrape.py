"""One answer to a scrape: what a process counted, and what was measured for this scrape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from crucible.breaker import BreakerState
from crucible.telemetry.completions import CompletionCollector
from crucible.telemetry.fleet import FleetCollector
from crucible.telemetry.shared import Fixed, collected

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from crucible.breaker import Circuit
    from crucible.telemetry.completions import Completions
    from crucible.telemetry.fleet import Fleet
    from crucible.telemetry.shared import SharedMetrics

CONTENT_TYPE = CONTENT_TYPE_LATEST
_STATES = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured for one scrape.

    Attributes:
        connections: of the clients of this process.
        fleet: queues and the workers' load.
        completions: of all processes, by queue system.
        circuits: the worst state of each downstream.
        memory_full: whether the queue server refuses messages for want of memory; None: not known.
        copies: dual-write copies of this process by what became of them; None where there is no
            legacy queue.
        claimed: messages taken and not ended; None where that is not known.
        dead_letters: messages that could not be run; None where that is not known.
        workers: workers that live, by kind; unknown ones are absent.
        sandboxes: of all async workers, by state; ``waiting`` are programs without one.
        lanes: the same of lanes.
        compile_cache_bytes: of compiled programs that all async workers keep.
        events: of this process; None where there is no event bus.
        history: of all historians; None where there is no history.
    """

    connections: Connections
    fleet: Fleet
    completions: Mapping[str, Completions]
    circuits: Mapping[str, Circuit]
    memory_full: bool | None = None
    copies: Mapping[str, int] | None = None
    claimed: int | None = None
    dead_letters: int | None = None
    workers: Mapping[str, int] = field(default_factory=dict)
    sandboxes: Mapping[str, int] = field(default_factory=dict)
    lanes: Mapping[str, int] = field(default_factory=dict)
    compile_cache_bytes: int = 0
    events: Events | None = None
    history: History | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Events of one process: written to the event bus, and followed by clients.

    Attributes:
        written: the bus has them.
        dropped: lost, since the bus was away for too long or refused them.
        waiting: not written yet.
        write_lag_s: seconds the oldest of those has waited.
        streams: clients that follow events.
        cut: streams that were ended, by reason.
        follow_lag_s: seconds between the last event's time and its reading.
    """

    written: int
    dropped: int
    waiting: int
    write_lag_s: float
    streams: int
    cut: Mapping[str, int]
    follow_lag_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What historians write.

    Attributes:
        historians: that live.
        lag_s: seconds the oldest event has waited that none of them has written; None: none lives.
        written: events, since those that live have started.
        refused: events that the database refused.
        gaps: how often events were lost before they were written.
    """

    historians: int
    lag_s: float | None
    written: int
    refused: int
    gaps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """The clients of one process.

    Attributes:
        open: connections now.
        held_bytes: bytes held of unfinished requests and unread answers.
        faults: connections that ended otherwise than by answered requests, by reason.
    """

    open: int
    held_bytes: int
    faults: Mapping[str, int]


def exposition(
    counted: CollectorRegistry, measured: Measured, shared: SharedMetrics | None = None
) -> bytes:
    """The text of a scrape.

    Args:
        counted: what this process counts.
        measured: what was measured for this scrape.
        shared: adds what the other processes of one port count.

    Raises:
        OSError: what the others count cannot be read.
    """
    own = process_metrics(counted, measured.connections, measured.copies)
    if shared is not None:
        shared.write(own)
        own = shared.merged()
    now = collectors(measured)
    now.register(Fixed(own))
    return generate_latest(now)


def collectors(measured: Measured) -> CollectorRegistry:
    """The metrics that are measured for one scrape, but for those of single processes."""
    now = CollectorRegistry()
    now.register(CompletionCollector(measured.completions))
    now.register(FleetCollector(measured.fleet))
    now.register(_Gauges(measured))
    return now


def process_metrics(
    counted: CollectorRegistry, connections: Connections, copies: Mapping[str, int] | None
) -> list[Metric]:
    """What one process counts and holds.

    Args:
        counted: its registry.
        connections: its clients.
        copies: its dual-write copies; None where there is no legacy queue.
    """
    found = [*collected(counted), *_connections(connections)]
    if copies is not None:
        family = GaugeMetricFamily(
            "shadow_copies", "Dual-write copies, by what became of them.", labels=["end"]
        )
        for end, count in copies.items():
            family.add_metric([end], count)
        found.append(family)
    return found


class _Gauges(Collector):
    def __init__(self, measured: Measured) -> None:
        self._measured = measured

    def collect(self) -> Iterator[Metric]:
        """Every gauge."""
        measured = self._measured
        for name, text, count in (
            ("claimed_messages", "Taken and not ended: running, prefetched and delayed.",
             measured.claimed),
            ("dead_letters", "Messages that could not be run.", measured.dead_letters),
            ("queue_server_memory_full",
             "1 while the queue server refuses messages for want of memory.", measured.memory_full),
        ):  # fmt: skip
            if count is not None:
                yield GaugeMetricFamily(name, text, value=count)
        workers = GaugeMetricFamily("workers", "Workers that live.", labels=["kind"])
        for kind, count in measured.workers.items():
            workers.add_metric([kind], count)
        yield workers
        yield from _executors(measured)
        yield from _circuits(measured.circuits)
        if measured.events is not None:
            yield from _events(measured.events)
        if measured.history is not None:
            yield from _history(measured.history)


def _executors(measured: Measured) -> Iterator[Metric]:
    for name, text, states in (
        ("sandboxes", "Containers of one program of the async workers", measured.sandboxes),
        ("lanes", "Lanes of the async workers", measured.lanes),
    ):
        family = GaugeMetricFamily(
            name, f"{text} by state; waiting: programs without one.", labels=["state"]
        )
        for state, count in states.items():
            family.add_metric([state], count)
        yield family
    yield GaugeMetricFamily(
        "compile_cache_bytes",
        "Bytes of compiled programs that the async workers keep.",
        value=measured.compile_cache_bytes,
    )


def _connections(connections: Connections) -> Iterator[Metric]:
    yield GaugeMetricFamily("http_connections", "Open now.", value=connections.open)
    yield GaugeMetricFamily(
        "http_held_bytes",
        "Bytes of unfinished requests and of answers that are not read.",
        value=connections.held_bytes,
    )
    faults = CounterMetricFamily(
        "http_connection_faults",
        "Connections that ended otherwise than by answered requests.",
        labels=["reason"],
    )
    for reason, count in sorted(connections.faults.items()):
        faults.add_metric([reason], count)
    yield faults


def _events(events: Events) -> Iterator[Metric]:
    yield CounterMetricFamily("events_written", "The event bus has them.", value=events.written)
    yield CounterMetricFamily(
        "events_dropped",
        "Lost: the event bus was away for too long, or refused them.",
        value=events.dropped,
    )
    for name, text, value in (
        ("events_waiting", "Not written to the event bus yet.", events.waiting),
        ("event_write_lag_seconds", "How long the oldest of those has waited.", events.write_lag_s),
        ("event_streams", "Clients that follow events.", events.streams),
        ("event_follow_lag_seconds", "Age of the last event when it was read.",
         events.follow_lag_s),
    ):  # fmt: skip
        yield GaugeMetricFamily(name, text, value=value)
    cut = CounterMetricFamily(
        "event_streams_cut",
        "Streams that were ended: slow (their clients did not read), gap (events were trimmed).",
        labels=["reason"],
    )
    for reason in ("slow", "gap"):
        cut.add_metric([reason], events.cut.get(reason, 0))
    yield cut


def _history(history: History) -> Iterator[Metric]:
    yield GaugeMetricFamily("historians", "Historians that live.", value=history.historians)
    if history.lag_s is not None:
        # Two names: the second one is that of the contract, the first one has users.
        for name in ("history_lag_seconds", "crucible_historian_lag_seconds"):
            yield GaugeMetricFamily(
                name, "Age of the oldest event not written yet.", value=history.lag_s
            )
    # Of processes that come and go, so they may go down: no counters.
    for name, text, value in (
        ("history_events_written", "Events in the database.", history.written),
        ("history_events_refused", "Events the database refused.", history.refused),
        ("history_gaps", "How often the bus dropped events before they were written.",
         history.gaps),
    ):  # fmt: skip
        yield GaugeMetricFamily(name, text, value=value)


def _circuits(circuits: Mapping[str, Circuit]) -> Iterator[Metric]:
    state = GaugeMetricFamily(
        "circuit_breaker_state", "0 closed, 1 half open, 2 open.", labels=["downstream"]
    )
    opened = GaugeMetricFamily(
        "circuit_breaker_opened", "How often it opened.", labels=["downstream"]
    )
    for name, circuit in circuits.items():
        state.add_metric([name], _STATES[circuit.state])
        opened.add_metric([name], circuit.opened_total)
    yield state
    yield opened
