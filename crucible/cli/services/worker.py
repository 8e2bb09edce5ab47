"""What ``crucible worker`` runs."""

from __future__ import annotations

import asyncio
import difflib
import importlib
import logging
import re
import sys
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from crucible.cli.running import StopSignals, run
from crucible.cli.services.service import Service
from crucible.errors import SettingsError
from crucible.settings.fields import KNOWN_QUEUES, QUEUES
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.settings import Settings
    from crucible.worker import TaskRegistry

logger = logging.getLogger(__name__)

#: Served by workers with GPUs.
GPU_QUEUE = "gpu_queue"
#: What tasks of other registries are sent to unless their senders name a queue, as in Celery.
LIBRARY_QUEUES = ("celery",)
#: Tasks of other registries mostly wait for I/O; this many may at once.
LIBRARY_CONCURRENCY = 100
#: What a worker reads; ``crucible up`` starts one.
SECTIONS = (
    Section.TASK_QUEUE,
    "event_bus_url",
    "event_limit",
    Section.WORKER,
    Section.AUTOSCALING,
    Section.EXECUTORS,
    Section.SANDBOXES,
    Section.CEILINGS,
    Section.BREAKERS,
    Section.TRACING,
    "environments",
)


def run_worker(
    settings: Settings,
    tasks: str | None = None,
    name: str | None = None,
    autoscale: tuple[int, int] | None = None,
) -> None:
    """Run tasks until it is asked to stop.

    Args:
        settings: of it, and of each process.
        tasks: ``MODULE:REGISTRY`` to serve instead of evaluations.
        name: node name.
        autoscale: processes at least and at most; None for this one alone.
    """
    if autoscale is None and (settings.worker_max_tasks or settings.worker_max_memory_mb):
        autoscale = 1, 1  # who replaces a process has to outlive it
    if autoscale is not None:
        from crucible.cli import scaled

        scaled.command(settings, tasks, name, autoscale)
        return
    registry = None if tasks is None else _load(tasks)
    run(_serve(settings, registry, name), settings)


def full_name(text: str) -> str:
    """A node name as it is typed, in full. Raises ValueError."""
    from crucible.worker.control.node_name import node_name

    return node_name(text)


def bounds(text: str) -> tuple[int, int]:
    """``MIN,MAX`` as it is typed. Raises ValueError."""
    if not re.fullmatch(r"\d{1,4},\d{1,4}", text):
        raise ValueError(f"{text!r} is not MIN,MAX")
    least, most = (int(part) for part in text.split(","))
    if most < max(1, least):
        raise ValueError("MAX must be at least MIN, and at least 1")
    return least, most


def _load(place: str) -> TaskRegistry:
    from crucible.worker import TaskRegistry

    module_name, _, attribute = place.partition(":")
    # As with python -m and celery -A: what lies in the working directory can be named.
    sys.path.insert(0, str(Path.cwd()))
    try:
        registry = getattr(importlib.import_module(module_name), attribute or "registry")
    except Exception as error:  # noqa: BLE001 - a user's module may raise anything
        raise SettingsError("--tasks", f"{place!r}: {_reason(error)}") from None
    if not isinstance(registry, TaskRegistry):
        raise SettingsError("--tasks", f"{place!r} is not a TaskRegistry")
    return registry


def _reason(error: Exception) -> str:
    """What was raised, and where in the module named."""
    raised = f"{type(error).__name__}: {error}"
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return f"{raised} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else raised


def _queues(settings: Settings, registry: TaskRegistry | None) -> tuple[str, ...]:
    """The queues to serve. Those of evaluations are the default for evaluations only."""
    # A value that was given is another tuple, even if it names the same queues.
    if registry is not None and settings.queues is QUEUES:
        return LIBRARY_QUEUES
    if registry is None:
        for queue in settings.queues:
            if queue not in KNOWN_QUEUES:
                _warn_of_unknown(queue)
        if settings.gpus and settings.queues is QUEUES:
            # In its place among the others, which are served strictly in this order.
            return tuple(one for one in KNOWN_QUEUES if one in (*QUEUES, GPU_QUEUE))
    return settings.queues


def _default_queue(registry: TaskRegistry | None) -> str:
    """Where a task goes that is sent from a task and names no queue."""
    return "evaluation" if registry is None else LIBRARY_QUEUES[0]


def _warn_of_unknown(queue: str) -> None:
    """Served all the same: a stock producer may send evaluations to any queue."""
    near = difflib.get_close_matches(queue, KNOWN_QUEUES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    logger.warning("nothing of Crucible sends to the queue %r%s", queue, hint)


async def _serve(settings: Settings, registry: TaskRegistry | None, name: str | None) -> None:
    from crucible.evaluation.executor_settings import concurrency_of
    from crucible.evaluation.schedule import scheduling
    from crucible.platform_tasks import build_registry
    from crucible.telemetry.traces import start_tracing
    from crucible.worker.worker import Worker

    signals = StopSignals()
    concurrency = concurrency_of(settings)
    queues = _queues(settings, registry)
    default_queue = settings.default_queue or _default_queue(registry)
    evaluating = registry is None
    tracing = start_tracing(settings, "crucible-worker")
    if registry is None:
        registry = build_registry(settings, () if tracing is None else (tracing.sandboxes,))
    else:
        concurrency = settings.concurrency or LIBRARY_CONCURRENCY
    worker = Worker(
        registry,
        hooks=None if tracing is None else tracing.tasks,
        broker_url=settings.celery_broker_url,
        result_url=settings.celery_result_backend or None,
        queues=queues,
        concurrency=concurrency,
        name=name,
        key_prefix=settings.global_keyprefix,
        result_prefix=settings.result_prefix,
        visibility_timeout_s=settings.visibility_timeout_s,
        result_ttl_s=settings.result_ttl_s,
        result_extended=settings.result_extended,
        drain_s=settings.drain_s,
        claim=settings.claim,
        max_deliveries=settings.max_deliveries,
        events=settings.events,
        default_queue=default_queue,
    )
    async with AsyncExitStack() as stack:
        if tracing is not None:
            stack.push_async_callback(asyncio.to_thread, tracing.close)
        await stack.enter_async_context(worker)
        if evaluating and settings.schedule:
            await stack.enter_async_context(scheduling(settings, worker.hostname))
        await worker.run(signals.stop, signals.hurry)


SERVICE = Service(
    (*SECTIONS, "log_level", "log_format"),
    run_worker,
    {"tasks": str, "name": full_name, "autoscale": bounds},
)
