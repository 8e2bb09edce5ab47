"""Starts servers, worker and api in order, keeps them running, stops them in reverse order."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from crucible.broker.redis.connection import open_client
from crucible.embedded.server import EmbeddedServer, free_port
from crucible.errors import ExecutorError, RequirementError
from crucible.executor.engine import Engine
from crucible.executor.nested.probe import not_met, probe_nested
from crucible.identity.key_store import KeyStore
from crucible.redis_keys import Keys
from crucible.settings import check_exposure, child_environ, http_url, is_loopback, mask_url
from crucible.up.server import Server
from crucible.up.service import Service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from crucible.executor import ExecutorConfig
    from crucible.settings import Settings

log = logging.getLogger(__name__)

QUEUE_PORT = 6380
EVENT_BUS_PORT = 6379
#: Seconds until the api must answer and a worker must be connected.
READY_S = 60.0
#: Seconds the api may take to exit. A worker gets its drain time and 10 s more.
API_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Stack:
    """Addresses of what is running.

    Attributes:
        url: the HTTP API.
        queue_url: the task queue server.
        event_bus_url: the event bus server.
    """

    url: str
    queue_url: str
    event_bus_url: str


@asynccontextmanager
async def run_stack(
    settings: Settings,
    *,
    own_queue: bool,
    own_event_bus: bool,
    write: Callable[[str, str], None],
) -> AsyncIterator[Stack]:
    """Run servers, api and worker while the context is open; entered once they are ready.

    Args:
        settings: the settings of all of them.
        own_queue: start a task queue server here instead of using the configured one.
        own_event_bus: the same for the event bus.
        write: called with the name and each log line of a child.

    Raises:
        RequirementError: the port or the data directory is in use, or a child did not start.
        SettingsError: the address must not be served.
    """
    port = free_address(settings.host, settings.port)
    async with AsyncExitStack() as stack:
        stack.enter_context(_locked(settings.data_dir))
        queue_url, bus_url = settings.celery_broker_url, settings.event_bus_url
        if own_queue and not (settings.data_dir / "queue").exists():
            # A server without data has no keys: it need not be started to be asked for them.
            check_exposure(settings.host, keyed=False)
        if own_queue:
            queue_url = await _server(stack, settings.data_dir, "queue", QUEUE_PORT)
        await _check_exposure(settings, queue_url)
        if own_event_bus:
            bus_url = await _server(stack, settings.data_dir, "event-bus", EVENT_BUS_PORT)
        environ = _environ(settings, port, queue_url, bus_url)
        if settings.history is not None and settings.event_bus is not None:
            # Before the worker, so that it is stopped after the last event of one.
            historian = Service("historian", ["historian"], environ, write, stop_s=API_STOP_S)
            await stack.enter_async_context(historian)
        # The worker is entered first and left last: the api stops before the worker drains.
        worker_s = settings.drain_s + 10.0
        worker = Service("worker", ["worker"], environ, write, stop_s=worker_s)
        await stack.enter_async_context(worker)
        api = Service("api", ["api"], environ, write, stop_s=API_STOP_S)
        await stack.enter_async_context(api)
        url = http_url(settings.host, port)
        await _ready(url, worker, api)
        yield Stack(url, queue_url, bus_url)
        log.info("stopping the api, then the worker, then the historian and the servers")


async def _check_exposure(settings: Settings, queue_url: str) -> None:
    """Refuse an address that may not be served; the queue server says whether there are keys."""
    if is_loopback(settings.host):
        return
    async with open_client(queue_url, name="keys") as client:
        names = Keys(settings.global_keyprefix, settings.result_prefix)
        check_exposure(settings.host, keyed=await KeyStore(client, names).version() > 0)


async def check_engine(config: ExecutorConfig) -> None:
    """Fail early where no program could run.

    Raises:
        RequirementError: no engine answers, or it has not the image of an environment served.
    """
    async with Engine(config.docker_url) as engine:
        try:
            await engine.version()
        except ExecutorError as error:
            raise RequirementError(f"no Docker engine answers: {error}", "make setup") from None
        for environment in config.environments:
            image = config.image_of(environment)
            try:
                await engine.image_id(image)
            except ExecutorError:
                raise RequirementError(
                    f"the engine has no image {image}",
                    f"crucible environments build {environment.name}",
                ) from None


async def with_history(settings: Settings) -> Settings:
    """The settings with a history in the data directory where none is named and it is not off.

    Raises:
        RequirementError: the database there is of a newer version, or cannot be used.
    """
    if settings.history_url:
        return settings
    try:
        # Imported here: without the extra ``history`` all but the history works.
        from crucible.history.own import own_url, prepare_own
    except ImportError as error:
        log.info(
            "no history is kept: %s is missing; pip install 'crucible-sandbox[history]'", error.name
        )
        return settings
    url = own_url(settings.data_dir)
    await prepare_own(url)
    return msgspec.structs.replace(settings, history_url=url)


async def offered(settings: Settings, config: ExecutorConfig) -> Settings:
    """The settings without ``nested`` where this machine cannot have it.

    Who asks for it is refused then, rather than given a weaker wall or kept waiting.

    Raises:
        SettingsError: it is what programs get that name none.
    """
    if "nested" not in settings.isolations:
        return settings
    async with Engine(config.docker_url) as engine:
        try:
            await probe_nested(engine, config)
        except RequirementError as missing:
            if settings.isolation == "nested":
                raise not_met(missing) from missing
            log.info(
                "isolation nested is not offered: %s; crucible doctor says more", missing.message
            )
            others = tuple(name for name in settings.isolations if name != "nested")
            return msgspec.structs.replace(settings, isolations=others)
        except ExecutorError as error:
            log.warning("isolation nested could not be tried: %s", error)
    return settings


async def _server(stack: AsyncExitStack, data_dir: Path, name: str, preferred: int) -> str:
    port = free_port(preferred)
    if port != preferred:
        log.warning("port %d is taken, the %s server listens on %d", preferred, name, port)
    server = EmbeddedServer(data_dir / name, port)
    await stack.enter_async_context(Server(f"the {name} server", server))
    return server.url


def _environ(settings: Settings, port: int, queue_url: str, bus_url: str) -> dict[str, str]:
    """The children's environment: ours, plus every setting with the ports chosen here.

    The settings are read once, in this process, and passed on in full. ``CRUCIBLE_CONFIG`` is
    ``/dev/null`` so that no file overrides a setting that is empty here.
    """
    decided = msgspec.structs.replace(
        settings, schedule=True, port=port, celery_broker_url=queue_url, event_bus_url=bus_url
    )
    return child_environ(decided)


def free_address(host: str, port: int) -> int:
    """The api's port, which must be known before it starts; for port 0 any free one.

    Raises:
        RequirementError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise RequirementError(
                f"port {port} on {host} is taken", "choose another with --port"
            ) from None
        return int(probe.getsockname()[1])


@contextmanager
def _locked(data_dir: Path) -> Iterator[None]:
    """Hold the directory's lock: two servers appending to one file would corrupt it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        handle = (data_dir / "up.lock").open("w")
    except OSError as error:
        raise RequirementError(f"cannot use {data_dir}: {error.strerror}") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RequirementError(
                f"{data_dir} is in use by another crucible up", "choose another with --data-dir"
            ) from None
        yield


async def _ready(url: str, *services: Service) -> None:
    """Wait until the api answers and a worker is connected."""
    try:
        async with asyncio.timeout(READY_S), aiohttp.ClientSession() as session:
            while not await _is_ready(session, url):
                for service in services:
                    if not service.running:
                        raise RequirementError(f"{service.name} did not start; its log says why")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise RequirementError(f"not ready within {READY_S:.0f} s; the log says why") from None


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/ready") as response:
            report = await response.json()
            return bool(report["ready"] and report["workers_connected"])
    except (aiohttp.ClientError, KeyError, ValueError):
        return False


def describe(stack: Stack) -> list[str]:
    """The lines printed once everything runs."""
    return [
        f"api        {stack.url}   (docs at {stack.url}/docs)",
        f"queue      {mask_url(stack.queue_url)}",
        f"event bus  {mask_url(stack.event_bus_url)}",
        f"try        curl -s '{stack.url}/api/eval?wait=20' -H 'content-type: application/json'"
        ' -d \'{"code":"print(6*7)"}\'',
        "stop       Ctrl-C",
    ]
