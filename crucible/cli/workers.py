"""``crucible workers``: which workers are connected, and what they do."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.settings import Settings
from crucible.settings.sections import Section


@with_settings(Section.TASK_QUEUE)
def command(
    settings: Settings,
    timeout: Annotated[float, typer.Option(help="Seconds workers have to reply.", min=0.1)] = 1.0,
    as_json: Json = False,
) -> None:
    """Print the workers of the task queue, async and stock, and what they do."""
    # Imported here so that other commands do not load what only this one needs.
    from crucible.broker.admin.fleet import list_workers

    workers = asyncio.run(
        list_workers(
            settings.celery_broker_url,
            global_keyprefix=settings.global_keyprefix,
            scripting=settings.claim == "atomic",
            timeout_s=timeout,
        )
    )
    if as_json:
        print_json(workers)
        return
    if not workers:
        typer.echo("no worker is connected")
        return
    columns = ("name", "kind", "status", "concurrency", "active", "queues")
    table = Table(*columns, box=None, header_style="bold")
    for worker in workers:
        status = f"{worker.status}: {worker.detail}" if worker.detail else worker.status
        counts = [
            "?" if count is None else str(count) for count in (worker.concurrency, worker.active)
        ]
        table.add_row(worker.name, worker.kind, status, *counts, ", ".join(worker.queues))
    Console().print(table)
