"""llm-sandbox: a pool of running containers, each reused for the next program.

Without a pool it is not measured: stopping a container takes Docker's default of ten seconds.
"""

from __future__ import annotations

import io
from typing import Any

import docker
from lanes import PROGRAM, sent_in
from llm_sandbox.pool import PoolConfig, PooledSandboxSession, create_pool_manager

IMAGE = "crucible-bench-llm-sandbox"
#: A pooled session uses a virtual environment that it creates in each container. It needs pip and a
#: network, which the sandbox does not have, so the path of its interpreter is a link.
DOCKERFILE = """\
FROM {image}
USER root
RUN mkdir -p /sandbox/.sandbox-venv/bin && ln -s /usr/bin/python3 /sandbox/.sandbox-venv/bin/python
"""
_job: dict[str, Any] = {}
_pool: Any = None


def setup(job: dict[str, Any]) -> None:
    """Make the image and fill the pool."""
    global _pool
    _job.update(job)
    text = DOCKERFILE.format(image=job.get("image", "crucible-sandbox:latest"))
    docker.from_env().images.build(
        fileobj=io.BytesIO(text.encode()), tag=IMAGE, network_mode="none", rm=True, forcerm=True
    )
    at_once = job.get("at_once", 2)
    _pool = create_pool_manager(
        config=PoolConfig(min_pool_size=at_once, max_pool_size=at_once),
        lang="python",
        image=IMAGE,
        skip_environment_setup=True,
        runtime_configs={"network_mode": "none", "mem_limit": "256m"},
    )
    _program()


def _program() -> str:
    with PooledSandboxSession(pool_manager=_pool) as session:
        return str(session.run(PROGRAM).stdout).replace("\r\n", "\n")


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run programs for some seconds."""
    answer: dict[str, Any] = sent_in(job["seconds"], _job.get("at_once", 2), _program)
    return answer


def teardown(job: dict[str, Any]) -> None:
    """Remove the containers, which would take ten seconds each to stop, and the image."""
    engine = docker.from_env()
    for container in engine.containers.list(filters={"ancestor": IMAGE}):
        container.kill()
    _pool.close()
    engine.images.remove(IMAGE, force=True)
