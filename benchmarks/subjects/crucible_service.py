"""``crucible api`` and ``crucible worker``: the whole path of a submission.

The job's ``tasks`` is a registry to serve instead of real evaluations, ``workers`` the number of
worker processes, ``apis`` that of api processes.
"""

from __future__ import annotations

from typing import Any

from command import free_port
from crucible_processes import crucible, environment_of, serving
from processes import pids, run, teardown

__all__ = ["run", "setup", "teardown"]


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start the commands as an operator would; the api processes are stopped first."""
    environment = environment_of(job)
    ports = [free_port() for _ in range(job.get("apis", 1))]
    apis = [crucible(environment, "api", "--port", str(port)) for port in ports]
    tasks = serving(job["tasks"]) if job.get("tasks") else ()
    for number in range(job.get("workers", 1)):
        crucible(environment, "worker", "--name", f"w{number}@bench", *tasks)
    for api, port in zip(apis, ports, strict=True):
        api.wait_for_port(port)
    return {"port": ports[0], "ports": ports, "pids": pids()}
