"""``crucible legacy queue`` and ``crucible legacy worker``: the system being left behind."""

from __future__ import annotations

from typing import Annotated

import typer

from crucible.cli.options import Host, LogLevel
from crucible.cli.running import StopSignals, run
from crucible.errors import SettingsError
from crucible.settings import Settings, load_settings

app = typer.Typer(
    help="The in-memory queue that Crucible replaces; it loses its tasks when it ends.",
    no_args_is_help=True,
)

#: Where the original listened.
PORT = 8002

QueuePort = Annotated[int, typer.Option(help="Port to listen on; 0: any.", min=0, max=65535)]
ServiceUrl = Annotated[
    str | None,
    typer.Option(help="The legacy queue service (QUEUE_SERVICE_URL).", show_default=False),
]
ExecutorUrl = Annotated[
    list[str] | None,
    typer.Option(
        help="An executor service (CRUCIBLE_EXECUTOR_URLS); repeat. Without one, containers are "
        "started here.",
        show_default=False,
    ),
]


@app.command("queue")
def queue(host: Host = None, port: QueuePort = PORT, log_level: LogLevel = None) -> None:
    """Serve the queue; what it holds is gone when it ends."""
    settings = load_settings(flags={"host": host, "log_level": log_level})
    run(_serve_queue(settings, port), settings.log_level)


async def _serve_queue(settings: Settings, port: int) -> None:
    from crucible.legacy import serve

    stop = StopSignals().stop
    await serve(settings.host, port, stop, token=settings.queue_service_token)


@app.command("worker")
def worker(
    queue_service_url: ServiceUrl = None,
    executor_url: ExecutorUrl = None,
    name: Annotated[
        str, typer.Option(help="What the queue calls this worker; host and pid by default.")
    ] = "",
    log_level: LogLevel = None,
) -> None:
    """Poll the queue and run its programs, one at a time, each once."""
    flags = {
        "queue_service_url": queue_service_url,
        "executor_urls": executor_url,
        "log_level": log_level,
    }
    settings = load_settings(flags=flags)
    if not settings.queue_service_url:
        raise SettingsError("QUEUE_SERVICE_URL", "is missing; a worker needs a queue to poll")
    run(_work(settings, name), settings.log_level)


async def _work(settings: Settings, name: str) -> None:
    from crucible.evaluation.sandboxes import executor_config
    from crucible.executor import circuits_of, open_executor
    from crucible.legacy import work

    stop = StopSignals().stop
    async with open_executor(executor_config(settings)) as executor:
        await work(
            settings.queue_service_url,
            executor.run,
            stop,
            name=name,
            token=settings.queue_service_token,
            circuits=lambda: circuits_of(executor),
        )
