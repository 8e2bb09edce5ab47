"""``crucible up``: everything on this machine, in the foreground."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
import typer

from crucible.cli.client import Api, api_of, ask_api
from crucible.cli.flags import with_settings
from crucible.cli.running import StopSignals, run
from crucible.cli.services.api import SECTIONS as API_SECTIONS
from crucible.cli.services.worker import SECTIONS as WORKER_SECTIONS
from crucible.evaluation.executor_settings import executor_config
from crucible.settings import Settings
from crucible.settings.sections import Section

#: The program whose result ``--sample`` prints.
SAMPLE = {"code": "print(6*7)", "language": "python"}


@with_settings(*API_SECTIONS, *WORKER_SECTIONS, Section.PROCESS)
def command(
    settings: Settings,
    context: typer.Context,
    sample: Annotated[
        bool, typer.Option("--sample", help="Run a sample program first and print its result.")
    ] = False,
) -> None:
    """Start servers, api, worker and historian; Ctrl-C drains and stops them. Data is kept.

    A server is started for each of --celery-broker-url and --event-bus-url that is not given.
    """
    own_queue, own_bus = (
        context.params[url] is None for url in ("celery_broker_url", "event_bus_url")
    )
    own_bus = own_bus and settings.event_bus is not None
    run(_up(settings, own_queue, own_bus, sample), settings)


def _write(name: str, line: str) -> None:
    # What is JSON stays JSON.
    typer.echo(line if line.startswith("{") else f"{name:<7}| {line}")


async def _up(settings: Settings, own_queue: bool, own_bus: bool, sample: bool) -> None:
    signals = StopSignals()
    running = asyncio.create_task(_run(settings, own_queue, own_bus, sample, signals.stop))
    stopped = asyncio.create_task(signals.hurry.wait())
    await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not running.done():
        typer.echo("crucible: stopping now", err=True)
        running.cancel()
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()


async def _run(
    settings: Settings, own_queue: bool, own_bus: bool, sample: bool, stop: asyncio.Event
) -> None:
    # Imported here so that other commands do not load what only this one needs.
    from crucible.compat.facades import served_facades
    from crucible.pipelines.tasks import Pipeline
    from crucible.up.stack import (
        check_engine,
        describe,
        offered,
        run_stack,
        with_history,
        with_objects,
    )

    # What the parts would refuse, each in a log of its own, is refused before any starts.
    served_facades(settings.compat)
    Pipeline(settings)
    if not settings.executor_urls:
        config = executor_config(settings)
        await check_engine(config)
        settings = await offered(settings, config)
    settings = with_objects(await with_history(settings))
    async with run_stack(
        settings, own_queue=own_queue, own_event_bus=own_bus, write=_write
    ) as stack:
        if sample:
            typer.echo(await _sample(api_of(stack.url, settings)))
        for line in describe(stack):
            typer.echo(line)
        await stop.wait()


async def _sample(where: Api) -> str:
    answer = await ask_api(where, "POST", "/api/eval?wait=30", SAMPLE, wait_s=30)
    shown = msgspec.json.format(msgspec.json.encode(answer)).decode()
    return f"sample     {SAMPLE['code']}\n{shown}"
