"""``canvas_tasks`` as a stock application: ``celery -A support.canvas_stock_app worker``."""

from __future__ import annotations

import os

from celery import Celery

from crucible.stock.bridge import Bridge
from support.canvas_tasks import registry

_url = os.environ.get("RIG_BROKER_URL", "memory://")
app = Celery("canvas", broker=_url, backend=_url)
bridge = Bridge(app, registry)
