"""Removes containers that a dead process left, and only those.

The label ``crucible`` on a container is its owner's name, ``host:pid:start time``. A process of
this host with that pid and that start time is running; any other owner of this host is dead.
Containers of other hosts, and of owners with names of another form, are left alone.

Executors of one process have one name. What any of them knows is no orphan, and one that closes
leaves what it does not know to those that are still open: it may be what they are just creating.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Self

from crucible.errors import ExecutorError
from crucible.executor.engine import ContainerNotRemoved
from crucible.executor.hooks import SandboxRetired, Trouble
from crucible.executor.sandbox_options import LABEL

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.nested.pool import LanePool
    from crucible.executor.pool import Pool

#: Seconds between sweeps.
SWEEP_S = 30.0
#: Sweeps at the end, at most, and seconds between them.
CLOSING_SWEEPS = 3
CLOSING_PAUSE_S = 1.0
#: Of this process, those that sweep.
_open: set[Reaper] = set()


def is_dead(owner: str, host: str, proc: Path = Path("/proc")) -> bool:
    """Whether a label names a process of this host that is no more."""
    name, _, rest = owner.rpartition(":")[0].rpartition(":")
    pid, started = rest, owner.rpartition(":")[2]
    if name != host or not pid.isdigit() or not started.isdigit():
        return False
    try:
        stat = (proc / pid / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False
    fields = stat[stat.rindex(b")") + 2 :].split()
    return fields[0] in (b"Z", b"X") or fields[19].decode() != started


class Reaper:
    """Sweeps at the start, at times, and once more at the end for what this process left."""

    def __init__(self, engine: Engine, config: ExecutorConfig, hooks: ExecutorHooks) -> None:
        self._engine = engine
        #: Whose containers it sweeps: reapers that have this in common see the same ones.
        self.scope = config.owner, config.docker_url
        self._owner = config.owner
        self._hooks = hooks
        self.pools: tuple[Pool | LanePool, ...] = ()
        self._suspects: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        _open.add(self)
        self._task = asyncio.create_task(self._keep(), name="sandbox-reaper")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        _open.discard(self)
        if not self._namesakes():
            # The pool is closed by now: whatever still carries our name was left by accident. There
            # is no later sweep for what the engine, busy with ending others, fails to remove now.
            sweeps = 1
            while not await self._sweep(closing=True) and sweeps < CLOSING_SWEEPS:
                await asyncio.sleep(CLOSING_PAUSE_S)
                sweeps += 1

    def watch(self, *pools: Pool | LanePool) -> None:
        """Containers of our own name that none of ``pools`` knows are orphans too."""
        self.pools = pools

    def _namesakes(self) -> list[Reaper]:
        """The open ones that see the same containers under the same name, without this one."""
        return [one for one in _open - {self} if one.scope == self.scope]

    async def _keep(self) -> None:
        while True:
            await self._sweep(closing=False)
            await asyncio.sleep(SWEEP_S)

    async def _sweep(self, *, closing: bool) -> bool:
        """Remove orphans; a sweep that fails is tried again at the next.

        Returns:
            Whether the engine did not answer, or removed all: False is worth another sweep.
        """
        done = True
        try:
            found = await self._engine.labelled(LABEL)
            mine = {key for key, owner in found.items() if owner == self._owner}
            host = socket.gethostname()
            dead = {key for key, owner in found.items() if is_dead(owner, host)} - mine
            for container_id in dead | (mine if closing else self._strays(mine)):
                try:
                    await self._engine.remove(container_id)
                except ContainerNotRemoved as error:
                    # It must not stand in the way of the others.
                    self._hooks.trouble(Trouble(doing="sweep", error=error))
                    done = False
                    continue
                self._hooks.sandbox_retired(SandboxRetired(isolation=None, reason="orphan", uses=0))
        except ExecutorError as error:
            self._hooks.trouble(Trouble(doing="sweep", error=error))
        return done

    def _strays(self, mine: set[str]) -> set[str]:
        """Containers of this process that were unknown to it at two sweeps in a row.

        An engine that answers a creation too late leaves one. Between two sweeps lies more than
        the engine's deadline, so one that is just being created is never taken for a stray.
        """
        if not self.pools:
            return set()
        pools = [pool for one in (self, *self._namesakes()) for pool in one.pools]
        unknown = mine.difference(*(pool.container_ids for pool in pools))
        strays, self._suspects = unknown & self._suspects, unknown
        return strays
