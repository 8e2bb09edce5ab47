"""What the application carries for its handlers."""

from __future__ import annotations

from aiohttp import web

from crucible.broker.admin.operator import Admin
from crucible.evaluation.readiness import Readiness
from crucible.evaluation.service import EvaluationService
from crucible.executor.served import ServedEnvironments
from crucible.settings import Settings
from crucible.telemetry.submissions import Meter

SETTINGS = web.AppKey("settings", Settings)
SERVED = web.AppKey("served", ServedEnvironments)
SERVICE = web.AppKey("service", EvaluationService)
READINESS = web.AppKey("readiness", Readiness)
ADMIN = web.AppKey("admin", Admin)
METER = web.AppKey("meter", Meter)
