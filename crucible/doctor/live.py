"""Whether a process of this machine serves: what a container's health check asks.

A process answers for itself where it listens; one that does not is known by what it writes: the
heartbeat of a worker, the report of a historian. Nothing else is examined, so that a server that is
away does not make an orchestrator restart what waits for it.
"""

from __future__ import annotations

import asyncio
import enum
import http.client
import socket
from typing import TYPE_CHECKING

from crucible.broker.claiming.liveness import read_heartbeats
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.doctor.check import Check, failed, passed
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


#: Seconds a process or a server may take to answer.
ANSWER_S = 3.0
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
            return await _answers("api", settings, settings.port)
        case Process.EXECUTOR:
            return await _answers("executor", settings, EXECUTOR_PORT)
        case Process.WORKER:
            return await _beats(settings)
        case Process.HISTORIAN:
            return await _reports(settings)


async def _answers(name: str, settings: Settings, port: int) -> Check:
    # An address for every interface is none to ask.
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    url = http_url(host, port)
    try:
        # The standard library's client: a check runs often, and is a process of its own each time.
        status = await asyncio.to_thread(_status_of, host, port)
    except (http.client.HTTPException, OSError):
        found = f"{url} does not answer"
    else:
        if status == 200:
            return passed(name, f"answers at {url}")
        found = f"{url}/health answers {status}"
    return failed(name, found, f"look at its log, or start it: crucible {name}")


def _status_of(host: str, port: int) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


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
