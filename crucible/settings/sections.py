"""Groups of settings: order and headings of their flags in ``--help``."""

from __future__ import annotations

import enum
import inspect
import re

from crucible.settings.fields import Settings


class Section(enum.StrEnum):
    """A heading; its settings are adjacent in ``Settings``."""

    LISTENING = "Listening"
    CONNECTIONS = "Connections"
    TASK_QUEUE = "Task queue"
    EVENT_BUS = "Event bus"
    HISTORY = "History"
    SUBMISSIONS = "Submissions"
    WEBHOOKS = "Webhooks"
    MODELS = "Models"
    MIGRATION = "Migration"
    LEGACY_QUEUE = "Legacy queue"
    BREAKERS = "Circuit breakers"
    WORKER = "Worker"
    AUTOSCALING = "Autoscaling"
    EXECUTORS = "Executor services"
    SANDBOXES = "Sandboxes"
    CEILINGS = "Ceilings of a program's limits"
    IMAGE = "Environments"
    TRACING = "Tracing"
    PROCESS = "Process"


#: The first setting of each section, which ends before the first one of the next.
_FIRST = {
    "host": Section.LISTENING,
    "head_timeout_s": Section.CONNECTIONS,
    "celery_broker_url": Section.TASK_QUEUE,
    "event_bus_url": Section.EVENT_BUS,
    "history_url": Section.HISTORY,
    "queue_limit": Section.SUBMISSIONS,
    "webhook_networks": Section.WEBHOOKS,
    "object_store_url": Section.MODELS,
    "celery_enabled": Section.MIGRATION,
    "queue_service_url": Section.LEGACY_QUEUE,
    "breaker_failures": Section.BREAKERS,
    "queues": Section.WORKER,
    "autoscale_min": Section.AUTOSCALING,
    "executor_urls": Section.EXECUTORS,
    "docker_url": Section.SANDBOXES,
    "max_wall_time_s": Section.CEILINGS,
    "environments": Section.IMAGE,
    "otlp_endpoint": Section.TRACING,
    "data_dir": Section.PROCESS,
}


def sections() -> dict[str, Section]:
    """The section of every setting, in the order of ``Settings``."""
    found: dict[str, Section] = {}
    section = Section.LISTENING
    for field in Settings.__struct_fields__:
        section = _FIRST.get(field, section)
        found[field] = section
    return found


def descriptions() -> dict[str, str]:
    """Each setting's description in the docstring of ``Settings``; empty under ``python -OO``."""
    _, _, attributes = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:\n")
    entries = re.split(r"^    (\w+): ", attributes, flags=re.MULTILINE)[1:]
    return {
        field: " ".join(text.split())
        for field, text in zip(entries[::2], entries[1::2], strict=True)
    }
