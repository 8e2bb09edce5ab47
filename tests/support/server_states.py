"""States in which a queue server answers and does not serve, each brought about on a real one."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from crucible.embedded.server import free_port
from support.servers import KindOfServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: The user whose commands are refused; the default user stays in control.
USER, PASSWORD = "tested", "right"
#: Cluster nodes talk on their port + 10000, which must be a port as well.
_HIGHEST_CLUSTER_PORT = 55_000
#: Values that make loading last: so many, of so many bytes, each held up for so long.
_FILLERS, _FILLER_BYTES, _DELAY_US = 600, 128 * 1024, 8_000


class State(enum.Enum):
    """What a server says, and why."""

    #: ``maxmemory`` is reached and nothing may be evicted.
    OOM = "OOM"
    #: It was the master, and is a replica now.
    READONLY = "READONLY"
    #: A replica without its master that may not serve old data.
    MASTERDOWN = "MASTERDOWN"
    #: It reads its file.
    LOADING = "LOADING"
    #: A script of somebody else's does not end.
    BUSY = "BUSY"
    #: Its data cannot be written to disk.
    MISCONF = "MISCONF"
    #: Too few replicas follow it.
    NOREPLICAS = "NOREPLICAS"
    #: The user lost the right to write.
    NOPERM = "NOPERM"
    #: The password was changed.
    WRONGPASS = "WRONGPASS"
    #: It is a node of a cluster, where keys of one script must be in one slot.
    CROSSSLOT = "CROSSSLOT"


@dataclass(frozen=True, slots=True)
class Stage:
    """A server that can be brought into a state.

    Attributes:
        server: the server.
        admin: the default user's client.
        url: of the user who is affected.
        state: the state.
    """

    server: KindOfServer
    admin: Any
    url: str
    state: State


@asynccontextmanager
async def stage(directory: Path, kind: str, state: State) -> AsyncIterator[Stage]:
    """A server of some kind that can be brought into ``state`` with ``provoked``."""
    data = directory / "data"
    options: list[str] = []
    port = 0
    if state is State.MISCONF:
        options += ["--logfile", str(directory / "server.log")]
    if state is State.LOADING and kind != "redis-6.2":
        options += ["--enable-debug-command", "yes"]
    if state is State.CROSSSLOT:
        options += ["--cluster-enabled", "yes"]
        port = free_port()
        while port > _HIGHEST_CLUSTER_PORT:
            port = free_port()
    async with KindOfServer(data, kind, *options, port=port) as server:
        # Some of what it asks for takes seconds.
        admin: Any = Redis.from_url(server.url, socket_timeout=None)
        async with admin:
            await admin.acl_setuser(
                USER, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["*"],
                categories=["+@all"],
            )  # fmt: skip
            if state is State.CROSSSLOT:
                await admin.execute_command("CLUSTER ADDSLOTS", *range(16384))
                while (await admin.cluster("INFO"))["cluster_state"] != "ok":
                    await asyncio.sleep(0.05)
            yield Stage(
                server, admin, f"redis://{USER}:{PASSWORD}@127.0.0.1:{server.port}/0", state
            )


@asynccontextmanager
async def provoked(on: Stage) -> AsyncIterator[None]:
    """The server is in its state inside, and serves again afterwards."""
    async with _WAYS[on.state](on):
        yield


@asynccontextmanager
async def _full(on: Stage) -> AsyncIterator[None]:
    await on.admin.config_set("maxmemory", 1)
    yield
    await on.admin.config_set("maxmemory", 0)


@asynccontextmanager
async def _demoted(on: Stage) -> AsyncIterator[None]:
    await on.admin.replicaof("127.0.0.1", free_port())
    yield
    await on.admin.replicaof("NO", "ONE")


@asynccontextmanager
async def _without_master(on: Stage) -> AsyncIterator[None]:
    await on.admin.config_set("replica-serve-stale-data", "no")
    async with _demoted(on):
        yield


@asynccontextmanager
async def _loading(on: Stage) -> AsyncIterator[None]:
    async with on.admin.pipeline(transaction=False) as pipe:
        for number in range(_FILLERS):
            pipe.set(f"filler{number}", os.urandom(_FILLER_BYTES))
        await pipe.execute()
    async with Redis.from_url(on.server.url, socket_timeout=None) as other:
        control: Any = other
        await control.config_set("key-load-delay", _DELAY_US)
        reloading = asyncio.create_task(on.admin.execute_command("DEBUG", "RELOAD"))
        while not (await control.info("persistence"))["loading"]:
            await asyncio.sleep(0.02)
        yield
        # Refused while it loads on some servers; the delay ends with the file at the latest.
        with contextlib.suppress(RedisError):
            await control.config_set("key-load-delay", 0)
    await reloading
    await on.admin.config_set("key-load-delay", 0)
    await on.admin.delete(*(f"filler{number}" for number in range(_FILLERS)))


@asynccontextmanager
async def _busy(on: Stage) -> AsyncIterator[None]:
    await on.admin.config_set("lua-time-limit", 1)
    async with Redis.from_url(on.server.url) as other:
        client: Any = other
        endless = asyncio.create_task(client.eval("while true do end", 0))
        while True:
            try:
                await on.admin.ping()
            except RedisError as error:
                if "BUSY" in repr(error) or "busy" in str(error).lower():
                    break
                raise
        yield
        await on.admin.script_kill()
        await asyncio.gather(endless, return_exceptions=True)


@asynccontextmanager
async def _without_disk(on: Stage) -> AsyncIterator[None]:
    # Writing is refused only where snapshots are configured and the last one failed.
    await on.admin.config_set("save", "3600 1")
    shutil.rmtree(on.server.directory)
    await on.admin.bgsave()
    while (await on.admin.info("persistence"))["rdb_last_bgsave_status"] != "err":
        await asyncio.sleep(0.02)
    yield
    await on.admin.config_set("stop-writes-on-bgsave-error", "no")


@asynccontextmanager
async def _without_replicas(on: Stage) -> AsyncIterator[None]:
    await on.admin.config_set("min-replicas-to-write", 1)
    yield
    await on.admin.config_set("min-replicas-to-write", 0)


@asynccontextmanager
async def _without_rights(on: Stage) -> AsyncIterator[None]:
    await on.admin.execute_command("ACL", "SETUSER", USER, "-@write", "+eval", "+evalsha")
    yield
    await on.admin.execute_command("ACL", "SETUSER", USER, "+@all")


@asynccontextmanager
async def _rotated(on: Stage) -> AsyncIterator[None]:
    await on.admin.execute_command("ACL", "SETUSER", USER, "resetpass", ">another")
    await on.admin.execute_command("CLIENT", "KILL", "USER", USER)
    yield
    await on.admin.execute_command("ACL", "SETUSER", USER, "resetpass", f">{PASSWORD}")


@asynccontextmanager
async def _in_cluster(on: Stage) -> AsyncIterator[None]:
    yield


_WAYS = {
    State.OOM: _full,
    State.READONLY: _demoted,
    State.MASTERDOWN: _without_master,
    State.LOADING: _loading,
    State.BUSY: _busy,
    State.MISCONF: _without_disk,
    State.NOREPLICAS: _without_replicas,
    State.NOPERM: _without_rights,
    State.WRONGPASS: _rotated,
    State.CROSSSLOT: _in_cluster,
}
