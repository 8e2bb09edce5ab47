"""``crucible worker``: runs tasks from the queues."""

from __future__ import annotations

from typing import Annotated

import typer

from crucible.cli.flags import with_settings
from crucible.cli.services.worker import SERVICE, bounds, full_name, run_worker
from crucible.settings import Settings


def _node_name(name: str | None) -> str | None:
    try:
        return None if name is None else full_name(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--name") from None


def _bounds(text: str | None) -> tuple[int, int] | None:
    try:
        return None if text is None else bounds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--autoscale") from None


@with_settings(*SERVICE.settings)
def command(
    settings: Settings,
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:REGISTRY",
            help="Serve these tasks, and only these, instead of evaluations; "
            "from the queue celery unless --queues names others.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME@HOST",
            help="Node name; %h, %n and %d stand for this host, its short name and its domain.",
            callback=_node_name,
            show_default=False,
        ),
    ] = None,
    autoscale: Annotated[
        str | None,
        typer.Option(
            metavar="MIN,MAX",
            help="Run from MIN to MAX worker processes on this machine, by what waits; "
            "each runs --concurrency tasks at once.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run tasks until SIGTERM, which lets running tasks finish; a second SIGTERM stops them."""
    run_worker(settings, tasks, name, _bounds(autoscale))
