"""What the application carries for its handlers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from crucible.broker.admin.fleet import Fleet
from crucible.broker.admin.operator import Admin
from crucible.evaluation.cancellation import Cancellation
from crucible.evaluation.celery_service import CeleryService
from crucible.evaluation.forgetting import Forgetter
from crucible.evaluation.readiness import Readiness
from crucible.evaluation.retries import Retries
from crucible.evaluation.session_service import SessionService
from crucible.evaluation.task_directory import TaskDirectory
from crucible.events.hub import EventHub
from crucible.events.writer import EventWriter
from crucible.executor.served import ServedEnvironments
from crucible.migration.live.migration import Migration
from crucible.scaling.policy import Autoscaler
from crucible.settings import Settings
from crucible.telemetry.shared import SharedMetrics
from crucible.telemetry.submissions import Meter
from crucible.webhooks.desk import WebhookDesk

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from crucible.evaluation.service import EvaluationService
    from crucible.events.writer import EventSink
    from crucible.history.reader import HistoryReader

SETTINGS = web.AppKey("settings", Settings)
SERVED = web.AppKey("served", ServedEnvironments)
SERVICE: web.AppKey[EvaluationService] = web.AppKey("service")
#: Takes submissions of the fast path; only where every evaluation goes to Celery queues.
FAST_PATH = web.AppKey("fast_path", CeleryService)
#: Only where there is a legacy queue.
MIGRATION = web.AppKey("migration", Migration)
READINESS = web.AppKey("readiness", Readiness)
ADMIN = web.AppKey("admin", Admin)
#: Called with the ids of tasks that were deleted from a queue.
PURGED: web.AppKey[Callable[[Sequence[str]], Awaitable[None]]] = web.AppKey("purged")
#: Takes events of this process.
EVENTS: web.AppKey[EventSink] = web.AppKey("events")
#: These two only where there is an event bus.
EVENT_WRITER = web.AppKey("event_writer", EventWriter)
EVENT_HUB = web.AppKey("event_hub", EventHub)
#: What the policy wanted lately.
AUTOSCALER = web.AppKey("autoscaler", Autoscaler)
SESSIONS = web.AppKey("sessions", SessionService)
WEBHOOKS = web.AppKey("webhooks", WebhookDesk)
#: Only where there is a history.
HISTORY: web.AppKey[HistoryReader] = web.AppKey("history")
METER = web.AppKey("meter", Meter)
TASKS = web.AppKey("tasks", TaskDirectory)
FLEET = web.AppKey("fleet", Fleet)
RETRIES = web.AppKey("retries", Retries)
FORGETTER = web.AppKey("forgetter", Forgetter)
CANCELLATION = web.AppKey("cancellation", Cancellation)
#: Only where several processes serve one port.
SHARED_METRICS = web.AppKey("shared_metrics", SharedMetrics)
