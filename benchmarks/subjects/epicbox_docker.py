"""epicbox: a container is created, started and removed for each program, a volume with it."""

from __future__ import annotations

import logging
from typing import Any

import epicbox
import structlog
from lanes import PROGRAM, sent_in

#: As its documentation has them, with the memory of the other subjects.
LIMITS = {"cputime": 1, "memory": 256}
FILES = [{"name": "main.py", "content": PROGRAM.encode()}]
_job: dict[str, Any] = {}


def setup(job: dict[str, Any]) -> None:
    """Name the image; a line of log for each step is not what is measured."""
    _job.update(job)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    image = job.get("image", "crucible-sandbox:latest")
    epicbox.configure(profiles=[epicbox.Profile("python", image, user="nobody")])


def _program() -> str:
    result = epicbox.run("python", "python3 main.py", files=FILES, limits=LIMITS)
    return str(result["stdout"].decode())


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run programs for some seconds."""
    answer: dict[str, Any] = sent_in(job["seconds"], _job.get("at_once", 2), _program)
    return answer


def teardown(job: dict[str, Any]) -> None:
    """Nothing stays: epicbox removes each container with its program."""
