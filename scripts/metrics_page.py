"""Writes ``docs/metrics.md`` from the metrics that the api exposes.

``python scripts/metrics_page.py`` after a change of a metric; a unit test compares the two.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crucible.evaluation.completion_store import CompletionCounts
from crucible.telemetry.fleet import Fleet
from crucible.telemetry.scrape import (
    Connections,
    Events,
    Measured,
    collectors,
    process_metrics,
)
from crucible.telemetry.submissions import Meter

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"

_HEAD = """# Metrics

`GET /metrics` of any api process has them in Prometheus' format. What a whole installation has
(queues, dead letters, completions, workers with their sandboxes, lanes, slots and circuits) is read
from the task queue server at each scrape, so that one scrape of one api shows the fleet: workers
put their figures into their heartbeats, and one that died is gone with its heartbeat, after 9 s.
What is counted of submissions, connections and events is of the process that is scraped.

What cannot be read when it is scraped is absent: zero would be false. No label holds an id, a
tenant, or the name of a worker, so the number of series does not grow with load.

`queue_oldest_age_seconds` looks at the next message of each queue. Celery's messages do not say
when they were sent: the age of an evaluation is that of its record (a retried one counts from its
acceptance), the age of another task that of the `timestamp` property its producer may set.

`key_refusals_total` has the reasons `missing` (no key), `invalid`, `scope`, `rate` (of the key or
its tenant) and `in_flight`.

Besides ours, `prometheus-exporter-celery` reads a fleet of both kinds of workers from events and
remote control: its figures are the same (`tests/stock/test_exporter_beside.py`), except that its
`celery_queue_length` counts the first of the four lists of a queue only.

This page is made by `scripts/metrics_page.py`.
"""


def families() -> list[Metric]:
    """Every metric, with those that need a legacy queue or an event bus."""
    meter = Meter()
    meter.count_submissions(dict)
    meter.count_refusals(dict)
    measured = Measured(
        connections=Connections(open=0, held_bytes=0, faults={}),
        fleet=Fleet(),
        completions={"celery": CompletionCounts()},
        circuits={},
        memory_full=False,
        copies={},
        claimed=0,
        dead_letters=0,
        events=Events(
            written=0, dropped=0, waiting=0, write_lag_s=0, streams=0, cut={}, follow_lag_s=0
        ),
    )
    own = process_metrics(meter.registry, measured.connections, measured.copies)
    return [*own, *collectors(measured).collect()]


def exposed_name(family: Metric) -> str:
    """The name by which Prometheus knows it."""
    return f"{family.name}_total" if family.type == "counter" else family.name


def page() -> str:
    """The page as it is to be."""
    lines = ["| metric | type | labels | what |", "|---|---|---|---|"]
    for family in sorted(families(), key=exposed_name):
        names = getattr(family, "_labelnames", ())
        labels = ", ".join(f"`{name}`" for name in names)
        text = family.documentation
        lines.append(f"| `{exposed_name(family)}` | {family.type} | {labels} | {text} |")
    return f"{_HEAD}\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
