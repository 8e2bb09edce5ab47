"""Whether a process of this machine serves: what a container's health check asks.

A process answers for itself where it listens; one that does not is known by what it writes: the
heartbeat of a worker, the report of a historian. Nothing else is examined, so that a server that is
away does not make an orchestrator restart what waits for it.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from typing import TYPE_CHECKING

import aiohttp

from crucible.broker.claiming.liveness import read_heartbeats
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.doctor.check import Check, failed, passed
from crucible.doctor.machine import ANSWER_S
from crucible.errors import BrokerError
from crucible.redis_keys import Keys
from crucible.settings import http_url

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crucible.settings import Settings


class Process(enum.StrEnum):
    """A process that can be asked for."""

    API = "api"
    WORKER = "worker"
    EXECUTOR = "executor"
    HISTORIAN = "historian"


#: Port that ``crucible executor`` listens on unless it is given another.
EXECUTOR_PORT = 8003


async def check_live(settings: Settings, process: Process) -> Check:
    """Whether a process of this kind lives here.

    Args:
        settings: as the process was given them.
        process: which.
    """
    match process:
        case Process.API:
            return await _answers("api", _own_url(settings, settings.port))
        case Process.EXECUTOR:
            return await _answers("executor", _own_url(settings, EXECUTOR_PORT))
        case Process.WORKER:
            return await _beats(settings)
        case Process.HISTORIAN:
            return await _reports(settings)


def _own_url(settings: Settings, port: int) -> str:
    """Where it is reached from this machine; an address for every interface is none to ask."""
    everywhere = settings.host in ("0.0.0.0", "::")
    return http_url("127.0.0.1" if everywhere else settings.host, port)


async def _answers(name: str, url: str) -> Check:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as session,
            session.get(f"{url}/health") as response,
        ):
            if response.status == 200:
                return passed(name, f"answers at {url}")
            found = f"{url}/health answers {response.status}"
    except (aiohttp.ClientError, TimeoutError, OSError):
        found = f"{url} does not answer"
    return failed(name, found, f"look at its log, or start it: crucible {name}")


async def _beats(settings: Settings) -> Check:
    keys = Keys(settings.global_keyprefix)
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            open_client(settings.celery_broker_url, name="doctor") as client,
        ):
            with translated():
                nodes = [one.node for one in await read_heartbeats(client, keys)]
    except (BrokerError, TimeoutError) as error:
        return _unknown("worker", "queue server", error)
    return _judge("worker", [node for node in nodes if node.partition("@")[2] == _host()])


async def _reports(settings: Settings) -> Check:
    # Imported here: the history is an extra, and only a historian's container has it.
    from crucible.history.state import read_states

    if settings.event_bus is None:
        return failed("historian", "there is no event bus", "set CRUCIBLE_EVENT_BUS_URL")
    try:
        async with (
            asyncio.timeout(ANSWER_S),
            open_client(settings.event_bus, name="doctor") as client,
        ):
            states = await read_states(client, Keys(settings.global_keyprefix))
    except (BrokerError, TimeoutError) as error:
        return _unknown("historian", "event bus", error)
    return _judge("historian", [state.host for state in states if state.host == _host()])


def _judge(name: str, alive: Iterable[str]) -> Check:
    found = ", ".join(sorted(set(alive)))
    if found:
        return passed(name, f"{found} is alive")
    return failed(
        name,
        f"none of this machine ({_host()}) has shown life lately",
        f"look at its log, or start it: crucible {name}",
    )


def _unknown(name: str, server: str, error: Exception) -> Check:
    """A process is not to be restarted since a server is away: it waits for it, and goes on."""
    return passed(name, f"not known: the {server} does not answer ({error})")


def _host() -> str:
    return socket.gethostname()
