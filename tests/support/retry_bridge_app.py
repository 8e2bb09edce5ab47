"""``retry_tasks`` in a stock worker: ``celery -A support.retry_bridge_app worker``."""

from __future__ import annotations

import os

from celery import Celery

from crucible.stock.bridge import Bridge
from support.retry_tasks import registry

_url = os.environ.get("RIG_BROKER_URL", "memory://")
app = Celery("retries", broker=_url, backend=_url)
bridge = Bridge(app, registry)
