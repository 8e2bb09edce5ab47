"""``crucible api``, one process, with what is told to observe it: historian, scraper, traces."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from command import Command, free_port
from processes import run, start, teardown

from benchmarks.budget_paths import FREE_RATES, key_fields

__all__ = ["run", "setup", "teardown"]


async def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start them; ``features`` of the job names those besides the api."""
    features, directory = job["features"], Path(job["directory"])
    environment = {
        "CELERY_BROKER_URL": job["redis"],
        "CRUCIBLE_EVENT_BUS_URL": "off",
        "CRUCIBLE_QUEUE_LIMIT": "100000000",
        "CRUCIBLE_LOG_LEVEL": "warning",
    }
    python, crucible = sys.executable, (sys.executable, "-m", "crucible")
    port = free_port()
    fields: dict[str, str] = {}
    if "keys" in features:
        environment["CRUCIBLE_TIERS"] = FREE_RATES
        fields = await key_fields(job["redis"])
    if "events" in features:
        environment["CRUCIBLE_EVENT_BUS_URL"] = job["redis"]
    if "history" in features:
        environment["CRUCIBLE_HISTORY_URL"] = f"sqlite:///{directory}/{port}.sqlite"
    if "traces" in features:
        receiver = free_port()
        environment["CRUCIBLE_OTLP_ENDPOINT"] = f"http://127.0.0.1:{receiver}"
        environment["CRUCIBLE_TRACE_SAMPLE_RATE"] = "0.01"
        sink = Path(__file__).parent / "trace_sink.py"
        start(python, str(sink), str(receiver)).wait_for_port(receiver)
    if "history" in features:
        migration = Command(*crucible, "historian", "migrate", **environment)
        migration.wait(60.0)
        start(*crucible, "historian", **environment)
    api = start(*crucible, "api", "--port", str(port), **environment)
    api.wait_for_port(port)
    return {"port": port, "pid": api.pid, "fields": fields, "redis": job["redis"]}
