"""``crucible api`` and ``crucible worker`` beside each other: the whole way of a submission.

The job's ``tasks`` is a registry to serve instead of real evaluations, ``workers`` the number of
worker processes, ``apis`` that of api processes.
"""

from __future__ import annotations

import sys
from typing import Any

from command import Command, free_port

_commands: list[Command] = []


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start both commands as an operator would."""
    environment = {
        "CELERY_BROKER_URL": job["redis"],
        "CRUCIBLE_EVENT_BUS_URL": job["redis"],
        "CRUCIBLE_QUEUE_LIMIT": "100000000",
        "CRUCIBLE_LOG_LEVEL": "warning",
        **job.get("environment", {}),
    }
    ports = []
    for _ in range(job.get("apis", 1)):
        ports.append(free_port())
        arguments = ("api", "--port", str(ports[-1]))
        _commands.append(Command(sys.executable, "-m", "crucible", *arguments, **environment))
    tasks = ["--tasks", job["tasks"]] if job.get("tasks") else []
    for number in range(job.get("workers", 1)):
        arguments = ("worker", "--name", f"w{number}@bench", *tasks)
        _commands.append(Command(sys.executable, "-m", "crucible", *arguments, **environment))
    for command, port in zip(_commands, ports, strict=False):
        command.wait_for_port(port)
    return {"port": ports[0], "ports": ports, "pids": [command.pid for command in _commands]}


def run(job: dict[str, Any]) -> None:
    """The load comes from outside; only what runs is checked."""
    for command in _commands:
        command.check()


def teardown(job: dict[str, Any]) -> None:
    """Stop them: those that take work in first."""
    for command in _commands:
        command.stop()
