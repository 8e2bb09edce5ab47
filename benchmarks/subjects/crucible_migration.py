"""One api process in a mode of a migration, with both queues and workers of each.

The job's ``environment`` holds the switches; ``legacy`` is false for an installation without a
legacy queue; ``workers`` is the number of worker processes of each side.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from command import free_port
from crucible_processes import crucible, environment_of, serving
from processes import run, start, teardown

__all__ = ["run", "setup", "teardown"]


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start the queue first, then the api, then the workers.

    They are stopped in the same order: the workers last, so that nothing waits for them in vain.
    """
    environment = environment_of(job)
    workers = job.get("workers", 1)
    facts: dict[str, Any] = {"port": free_port()}
    if job.get("legacy", True):
        legacy_port = free_port()
        environment["QUEUE_SERVICE_URL"] = url = f"http://127.0.0.1:{legacy_port}"
        queue = crucible(environment, "legacy", "queue", "--port", str(legacy_port))
        queue.wait_for_port(legacy_port)
        worker = str(Path(__file__).parent / "noop_legacy_worker.py")
        for _ in range(workers):
            start(sys.executable, worker, url)
    api = crucible(environment, "api", "--port", str(facts["port"]))
    api.wait_for_port(facts["port"])
    for number in range(workers):
        name = ("--name", f"w{number}@bench")
        crucible(environment, "worker", *name, *serving("noop_eval:registry"))
    return {**facts, "pid": api.pid}
