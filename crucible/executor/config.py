"""The configuration of an executor."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from crucible.breaker import BreakerPolicy
from crucible.environments import DEFAULT, DEFAULT_NAME, LATEST, Environment
from crucible.executor.admission import CEILING
from crucible.models import Isolation, Limits  # noqa: TC001 - msgspec reads the annotations


def own_name() -> str:
    """This process, so that others can find out whether it is running: host:pid:start time."""
    stat = Path("/proc/self/stat").read_bytes()
    started = stat[stat.rindex(b")") + 2 :].split()[19].decode()
    return f"{socket.gethostname()}:{os.getpid()}:{started}"


class ExecutorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How programs are run.

    Attributes:
        urls: executors to send programs to instead of running them here; ``http://host:port``
            or ``unix:///path``. Empty: this process starts containers itself.
        token: bearer token for those, or None.
        breaker: when the circuit of one of those opens.
        docker_url: engine, such as ``unix:///var/run/docker.sock``; None finds it as the
            ``docker`` command would.
        runtime: OCI runtime by the name the engine knows it under; None is the engine's default.
        gpus: devices that sandboxes get, see ``executor.gpus``.
        image: image of the default environment, by tag or digest.
        environments: those that programs may ask for.
        owner: value of the label ``crucible`` on every container of this process.
        pool_min: sandboxes of an environment kept waiting when nothing happens; 0 starts every one
            on demand. Those of environments other than the first are made from the first use on.
        pool_max: sandboxes of an environment in existence at once, running ones included.
        max_waiting: programs that may wait for a sandbox before more are turned away.
        acquire_s: longest wait for a sandbox, in seconds.
        max_age_s: seconds after which a waiting sandbox is replaced.
        max_uses: programs a container may serve, each after a restart, before it is replaced.
        refill: sandboxes made ready at once.
        cpus: processors a sandbox may use at once.
        file_mb: MiB of output files handed back at most, per program.
        compile_cache_mb: MiB of compiled programs kept for the next time; 0 keeps none.
        isolation: of programs that name none; lanes are kept ready for ``nested``.
        lanes_max: lanes, each of one tenant, in existence at once.
        lane_programs: programs a lane serves before it is restarted.
        lane_idle_s: seconds after which an unused lane is removed.
        engine_s: longest wait for one answer of the engine, in seconds.
        ceiling: most that a program's limits may ask for.
        grace_s: seconds past the wall limit after which the container is killed from outside.
    """

    urls: tuple[str, ...] = ()
    token: str | None = None
    breaker: BreakerPolicy = BreakerPolicy()
    docker_url: str | None = None
    runtime: str | None = None
    gpus: tuple[str, ...] = ()
    image: str = LATEST
    environments: tuple[Environment, ...] = (DEFAULT,)
    owner: str = msgspec.field(default_factory=own_name)
    pool_min: int = 2
    pool_max: int = 8
    max_waiting: int = 256
    acquire_s: float = 30.0
    max_age_s: float = 600.0
    max_uses: int = 1000
    refill: int = 2
    cpus: float = 1.0
    file_mb: int = 16
    compile_cache_mb: int = 256
    isolation: Isolation = "container"
    lanes_max: int = 8
    lane_programs: int = 64
    lane_idle_s: float = 60.0
    engine_s: float = 15.0
    ceiling: Limits = CEILING
    grace_s: float = 0.4

    def image_of(self, environment: Environment) -> str:
        """The name of an environment's image in the engine."""
        return self.image if environment.name == DEFAULT_NAME else environment.reference
