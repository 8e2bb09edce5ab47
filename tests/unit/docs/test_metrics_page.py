from __future__ import annotations

from scripts.metrics_page import PAGE, exposed_name, families, page


def test_the_page_is_what_is_exposed() -> None:
    """docs/metrics.md has every metric, and no other."""
    assert PAGE.read_text() == page(), "run python scripts/metrics_page.py"


def test_names_that_others_rely_on_are_kept() -> None:
    """Dashboards of the system this one replaces go on working."""
    names = {exposed_name(family) for family in families()}
    assert names >= {
        "celery_tasks_submitted_total",
        "legacy_tasks_submitted_total",
        "queue_selection_duration_seconds",
        "tasks_submitted_total",
        "tasks_completed_total",
        "task_duration_seconds",
        "celery_queue_length",
        "legacy_queue_length",
    }


def test_no_metric_is_exposed_twice() -> None:
    """Prometheus refuses a scrape with a family in two places."""
    names = [family.name for family in families()]
    assert len(names) == len(set(names))
