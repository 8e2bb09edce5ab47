"""FastAPI and Celery under uvicorn: one process, uvloop and httptools, no access log.

With ``worker`` in the job, a stock worker (prefork, 2 processes) serves its queue.
"""

from __future__ import annotations

from typing import Any

from command import free_port, script
from processes import pids, run, start, teardown

__all__ = ["run", "setup", "teardown"]


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start uvicorn, and the worker if the job has one."""
    port = free_port()
    environment = {"QUEUE_URL": job["redis"], "PYTHONPATH": "."}
    server = start(
        *(script("uvicorn"), "fastapi_app:app", "--port", str(port), "--no-access-log"),
        *("--loop", "uvloop", "--http", "httptools", "--log-level", "warning"),
        **environment,
    )
    if job.get("worker"):
        start(
            *(script("celery"), "-A", "fastapi_app:celery", "worker", "-l", "warning"),
            *("-P", "prefork", "-c", "2", "-Q", "evaluation", "-n", "stock@bench"),
            **environment,
        )
    server.wait_for_port(port)
    return {"port": port, "pid": server.pid, "pids": pids()}
