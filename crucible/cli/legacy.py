"""``crucible legacy queue`` and ``crucible legacy worker``: the system Crucible replaces."""

from __future__ import annotations

from typing import Annotated

import typer

from crucible.cli.flags import with_settings
from crucible.cli.running import StopSignals, run
from crucible.errors import SettingsError
from crucible.settings import Settings
from crucible.settings.sections import Section

app = typer.Typer(
    help="The in-memory queue that Crucible replaces; it loses its tasks when it stops.",
    no_args_is_help=True,
)

#: The port the original service used.
PORT = 8002

QueuePort = Annotated[int, typer.Option(help="Port to listen on; 0: any.", min=0, max=65535)]


@app.command("queue")
@with_settings("host", "allowed_hosts", "log_level", "log_format")
def queue(settings: Settings, port: QueuePort = PORT) -> None:
    """Serve the queue; its contents are lost when it stops."""
    run(_serve_queue(settings, port), settings)


async def _serve_queue(settings: Settings, port: int) -> None:
    from crucible.legacy import serve

    stop = StopSignals().stop
    await serve(
        settings.host,
        port,
        stop,
        token=settings.queue_service_token,
        allowed_hosts=settings.allowed_hosts,
    )


@app.command("worker")
@with_settings(
    Section.LEGACY_QUEUE,
    Section.EXECUTORS,
    Section.SANDBOXES,
    Section.CEILINGS,
    Section.BREAKERS,
    "environments",
    "log_level",
    "log_format",
)
def worker(
    settings: Settings,
    name: Annotated[
        str, typer.Option(help="This worker's name at the queue; host and pid by default.")
    ] = "",
) -> None:
    """Poll the queue and run its programs one at a time, without retries."""
    if not settings.queue_service_url:
        raise SettingsError("QUEUE_SERVICE_URL", "is missing; a worker needs a queue to poll")
    run(_work(settings, name), settings)


async def _work(settings: Settings, name: str) -> None:
    from crucible.evaluation.executor_settings import executor_config
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
