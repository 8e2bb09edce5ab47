"""``canvas_tasks`` as a stock Celery application: ``celery -A canvas_stock_app worker``."""

from __future__ import annotations

import os

from canvas_tasks import registry
from celery import Celery

from crucible.stock.bridge import Bridge

_url = os.environ.get("RIG_BROKER_URL", "memory://")
app = Celery("canvas", broker=_url, backend=_url)
bridge = Bridge(app, registry)
