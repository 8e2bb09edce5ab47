"""What the application carries for its handlers."""

from __future__ import annotations

from aiohttp import web

from crucible.api.gateway import Gateway
from crucible.api.meter import Meter
from crucible.api.readiness import Readiness
from crucible.broker.admin.operator import Admin
from crucible.settings import Settings

SETTINGS = web.AppKey("settings", Settings)
GATEWAY = web.AppKey("gateway", Gateway)
READINESS = web.AppKey("readiness", Readiness)
ADMIN = web.AppKey("admin", Admin)
METER = web.AppKey("meter", Meter)
