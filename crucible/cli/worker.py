"""``crucible worker``: runs tasks from the queues."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crucible.cli.options import Concurrency, LogLevel, QueueUrl, ResultUrl
from crucible.cli.running import StopSignals, run
from crucible.errors import SettingsError
from crucible.settings import Settings, load_settings

if TYPE_CHECKING:
    from crucible.worker import TaskRegistry

#: Tasks of other people's registries mostly wait for something; this many may at once.
ANYBODYS_CONCURRENCY = 100


def command(
    tasks: Annotated[
        str | None,
        typer.Option(
            metavar="MODULE:REGISTRY",
            help="Serve these tasks, and only these, instead of evaluations.",
            show_default=False,
        ),
    ] = None,
    queues: Annotated[
        str | None,
        typer.Option(help="Queues in the order of service (CRUCIBLE_QUEUES).", show_default=False),
    ] = None,
    concurrency: Concurrency = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME@HOST", help="Node name.", show_default=False)
    ] = None,
    events: Annotated[
        bool,
        typer.Option("--events", "-E", help="Send task events from the start, for Flower."),
    ] = False,
    queue_url: QueueUrl = None,
    result_url: ResultUrl = None,
    log_level: LogLevel = None,
) -> None:
    """Run tasks until SIGTERM, which lets running ones end; a second one does not."""
    flags = {
        "queues": queues,
        "concurrency": concurrency,
        "celery_broker_url": queue_url,
        "celery_result_backend": result_url,
        "log_level": log_level,
    }
    settings = load_settings(flags=flags)
    registry = _load(tasks) if tasks else None
    run(_serve(settings, registry, name, events=events), settings.log_level)


def _load(place: str) -> TaskRegistry:
    from crucible.worker import TaskRegistry

    module_name, _, attribute = place.partition(":")
    # As with python -m and celery -A: what lies in the working directory can be named.
    sys.path.insert(0, str(Path.cwd()))
    try:
        registry = getattr(importlib.import_module(module_name), attribute or "registry")
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError("--tasks", f"{place!r}: {error}") from None
    if not isinstance(registry, TaskRegistry):
        raise SettingsError("--tasks", f"{place!r} is not a TaskRegistry")
    return registry


async def _serve(
    settings: Settings, registry: TaskRegistry | None, name: str | None, *, events: bool
) -> None:
    from crucible.evaluation.sandboxes import concurrency_of
    from crucible.evaluation.tasks import build_registry
    from crucible.worker.worker import Worker

    signals = StopSignals()
    concurrency = concurrency_of(settings)
    if registry is None:
        registry = build_registry(settings)
    else:
        concurrency = settings.concurrency or ANYBODYS_CONCURRENCY
    worker = Worker(
        registry,
        broker_url=settings.celery_broker_url,
        result_url=settings.celery_result_backend or None,
        queues=settings.queues,
        concurrency=concurrency,
        name=name,
        key_prefix=settings.global_keyprefix,
        visibility_timeout_s=settings.visibility_timeout_s,
        result_ttl_s=settings.result_ttl_s,
        drain_s=settings.drain_s,
        claim=settings.claim,
        max_deliveries=settings.max_deliveries,
        events=events,
    )
    async with worker:
        await worker.run(signals.stop, signals.hurry)
