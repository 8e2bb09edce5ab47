"""FastAPI and Celery under uvicorn: one process, uvloop and httptools, no access log.

With ``worker`` in the job a stock worker, prefork 2, stands behind it.
"""

from __future__ import annotations

from typing import Any

from command import Command, free_port, script

_commands: list[Command] = []


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start uvicorn, and the worker where one is wanted."""
    port = free_port()
    environment = {"QUEUE_URL": job["redis"], "PYTHONPATH": "."}
    server = Command(
        *(script("uvicorn"), "fastapi_app:app", "--port", str(port), "--no-access-log"),
        *("--loop", "uvloop", "--http", "httptools", "--log-level", "warning"),
        **environment,
    )
    _commands.append(server)
    if job.get("worker"):
        _commands.append(
            Command(
                *(script("celery"), "-A", "fastapi_app:celery", "worker", "-l", "warning"),
                *("-P", "prefork", "-c", "2", "-Q", "evaluation", "-n", "stock@bench"),
                **environment,
            )
        )
    server.wait_for_port(port)
    return {"port": port, "pid": server.pid, "pids": [command.pid for command in _commands]}


def run(job: dict[str, Any]) -> None:
    """The load comes from outside; only what runs is checked."""
    for command in _commands:
        command.check()


def teardown(job: dict[str, Any]) -> None:
    """Stop them."""
    for command in _commands:
        command.stop()
