"""Writes ``deploy/grafana/crucible.json``: ``python scripts/dashboard.py`` after a change here.

Figures of the whole installation are the same in every api process, hence ``max`` over instances;
what an api counts of itself is added up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "deploy" / "grafana" / "crucible.json"

#: Rows of panels: title, unit, and the expressions with their legends.
ROWS: dict[str, list[tuple[str, str, list[tuple[str, str]]]]] = {
    "Queues": [
        ("Messages waiting", "short", [
            ("max by (queue_system, queue) (queue_depth)", "{{queue}} ({{queue_system}})")]),
        ("Waiting by priority step", "short", [
            ("max by (queue, step) (queue_depth_by_step) > 0", "{{queue}} step {{step}}")]),
        ("Age of the next message", "s", [
            ("max by (queue_system, queue) (queue_oldest_age_seconds)", "{{queue}}")]),
        ("Claimed, dead letters", "short", [
            ("max(claimed_messages)", "claimed"), ("max(dead_letters)", "dead letters")]),
    ],
    "Rates": [
        ("Submitted a second", "reqps", [
            ("sum by (queue_system) (rate(tasks_submitted_total[1m]))", "{{queue_system}}")]),
        ("Completed a second by status", "reqps", [
            ("max by (queue_system, status) (rate(tasks_completed_total[1m]))", "{{status}}")]),
        ("Refused because of keys", "reqps", [
            ("sum by (reason) (rate(key_refusals_total[5m]))", "{{reason}}")]),
        ("Share that failed", "percentunit", [
            ('sum(rate(tasks_completed_total{status="failed"}[5m]))'
             " / sum(rate(tasks_completed_total[5m]))", "failed")]),
    ],
    "Latency": [
        ("Submission to end", "s", [
            (f"histogram_quantile({share}, max by (le)"
             " (rate(task_duration_seconds_bucket[5m])))", f"p{share * 100:g}")
            for share in (0.5, 0.95, 0.99)]),
        ("A task in its slot", "s", [("max(worker_service_seconds)", "mean")]),
        ("Waiting for a sandbox, mean", "s", [
            ("max(rate(sandbox_wait_seconds_total[5m]))"
             ' / max(rate(sandboxes_taken_total{outcome="miss"}[5m]))', "of those that waited")]),
        ("Choosing a queue system, p99", "s", [
            ("histogram_quantile(0.99, sum by (le)"
             " (rate(queue_selection_duration_seconds_bucket[5m])))", "p99")]),
    ],
    "Workers": [
        ("Workers", "short", [
            ("max by (kind) (workers)", "{{kind}}"),
            ("max(crucible_desired_workers)", "desired")]),
        ("Slots", "short", [("max by (state) (worker_slots)", "{{state}}")]),
        ("Claimed by async workers", "short", [("max(worker_claimed_messages)", "claimed")]),
    ],
    "Sandboxes": [
        ("Containers", "short", [("max by (state) (sandboxes)", "{{state}}")]),
        ("Lanes", "short", [("max by (state) (lanes)", "{{state}}")]),
        ("Found ready", "percentunit", [
            ('max(rate(sandboxes_taken_total{outcome="hit"}[5m]))'
             " / sum(max by (outcome) (rate(sandboxes_taken_total[5m])))", "hit")]),
        ("Lanes found ready", "percentunit", [
            ('max(rate(lanes_taken_total{outcome="hit"}[5m]))'
             " / sum(max by (outcome) (rate(lanes_taken_total[5m])))", "hit")]),
    ],
    "Migration": [
        ("Queue lengths, both sides", "short", [
            ("sum(max by (queue) (celery_queue_length))", "celery"),
            ("max(legacy_queue_length)", "legacy")]),
        ("Submitted a second, both sides", "reqps", [
            ("sum(rate(celery_tasks_submitted_total[1m]))", "celery"),
            ("sum(rate(legacy_tasks_submitted_total[1m]))", "legacy")]),
        ("p99, both sides", "s", [
            ("histogram_quantile(0.99, max by (queue_system, le)"
             " (rate(task_duration_seconds_bucket[5m])))", "{{queue_system}}")]),
        ("Copies of the dual write", "short", [("sum by (end) (shadow_copies)", "{{end}}")]),
    ],
    "Health": [
        ("Circuits: 1 half open, 2 open", "short", [
            ("max by (downstream) (circuit_breaker_state)", "{{downstream}}")]),
        ("Events", "s", [
            ("max(event_write_lag_seconds)", "write lag"),
            ("max(event_follow_lag_seconds)", "follow lag")]),
        ("History", "s", [
            ("max(history_lag_seconds)", "lag"), ("max(historians)", "historians")]),
        ("Append-only file", "bytes", [("max(queue_server_append_only_bytes)", "size")]),
        ("Connections", "short", [
            ("sum(http_connections)", "open"), ("sum(event_streams)", "event streams")]),
    ],
}  # fmt: skip
_HEIGHT, _WIDTH = 8, 24
_SOURCE = {"type": "prometheus", "uid": "${source}"}


def expressions() -> list[str]:
    """Those of all panels."""
    return [
        expression
        for panels in ROWS.values()
        for _, _, targets in panels
        for expression, _ in targets
    ]


def dashboard() -> str:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, shown in ROWS.items():
        place = {"h": 1, "w": _WIDTH, "x": 0, "y": top}
        panels.append({"type": "row", "title": row, "gridPos": place, "collapsed": False})
        width = _WIDTH // len(shown)
        for number, (title, unit, targets) in enumerate(shown):
            place = {"h": _HEIGHT, "w": width, "x": number * width, "y": top + 1}
            panels.append(_panel(title, unit, targets, place))
        top += _HEIGHT + 1
    for number, panel in enumerate(panels, 1):
        panel["id"] = number
    source = {"name": "source", "type": "datasource", "query": "prometheus", "label": "Source"}
    made = {
        "uid": "crucible",
        "title": "Crucible",
        "tags": ["crucible"],
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [source]},
        "panels": panels,
    }
    return json.dumps(made, indent=1) + "\n"


def _panel(
    title: str, unit: str, targets: list[tuple[str, str]], place: dict[str, int]
) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(65 + number), "expr": expression, "legendFormat": legend,
             "datasource": _SOURCE}
            for number, (expression, legend) in enumerate(targets)
        ],
    }  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(dashboard())
