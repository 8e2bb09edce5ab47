"""epicbox: for each program a container and a volume are created and removed."""

from __future__ import annotations

import logging
from typing import Any

import epicbox
import structlog
from lanes import PROGRAM, sent_in

#: As in its documentation, with the memory limit of the other subjects.
LIMITS = {"cputime": 1, "memory": 256}
FILES = [{"name": "main.py", "content": PROGRAM.encode()}]
_job: dict[str, Any] = {}


def setup(job: dict[str, Any]) -> None:
    """Configure the image, and silence the log of each step."""
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
    """Nothing to do: epicbox removes each container after its program."""
