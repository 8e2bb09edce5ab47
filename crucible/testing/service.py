"""A whole service in this process: an embedded queue server, the api and a worker."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crucible.api.server import serve
from crucible.embedded.server import EmbeddedServer
from crucible.platform_tasks import build_registry
from crucible.settings import load_settings
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from crucible.settings import Settings
    from crucible.worker.registry import TaskRegistry

#: Tasks at once where nobody says otherwise.
_CONCURRENCY = 4


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that runs.

    Attributes:
        url: of its api.
        broker_url: of its queue server, which is its event bus as well.
        settings: it runs with.
    """

    url: str
    broker_url: str
    settings: Settings


@asynccontextmanager
async def running_service(
    registry: TaskRegistry | None = None, **settings: Any
) -> AsyncIterator[RunningService]:
    """A service on free ports of loopback, with nothing kept once the context is left.

    Args:
        registry: tasks its worker serves instead of the platform's; then no container engine is
            needed, and programs are what ``tasks.evaluate_code`` of it makes of them.
        settings: by their names, such as ``isolation="nested"``.

    Raises:
        RequirementError: there is no queue server's binary, or no container engine.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-")))
        server = await stack.enter_async_context(EmbeddedServer(folder, durable=False))
        broker_url = f"redis://127.0.0.1:{server.port}/0"
        given: Mapping[str, Any] = {
            "host": "127.0.0.1", "port": 0, "celery_broker_url": broker_url,
            "event_bus_url": broker_url, "history_url": "off", "data_dir": str(folder), **settings,
        }  # fmt: skip
        found = load_settings({}, flags=given)
        port = await _serving(stack, found)
        worker = Worker(
            registry or build_registry(found),
            broker_url=broker_url,
            queues=found.queues,
            concurrency=found.concurrency or _CONCURRENCY,
            default_queue="evaluation",
        )
        await stack.enter_async_context(worker)
        yield RunningService(f"http://127.0.0.1:{port}", broker_url, found)


async def _serving(stack: AsyncExitStack, settings: Settings) -> int:
    """Serve the api until the stack is left; its port."""
    stop = asyncio.Event()
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(
        serve(settings, stop, started=port.set_result), name="crucible-testing-api"
    )

    async def end() -> None:
        stop.set()
        await serving

    stack.push_async_callback(end)
    either: set[asyncio.Future[Any]] = {serving, port}
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()
    return port.result()
