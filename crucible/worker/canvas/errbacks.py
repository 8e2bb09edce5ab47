"""Errbacks: called in this worker, or sent as tasks.

Source: celery 5.7 ``backends/base.py`` ``_call_task_errbacks``.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.effects import Effects
from crucible.broker.canvas.signature import as_signature, group, merged
from crucible.broker.wire.jsontypes import dumps
from crucible.worker.canvas.outgoing import Origin, child_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crucible.broker.canvas.signature import Signature
    from crucible.worker.canvas.outgoing import OutgoingEncoder
    from crucible.worker.registry import TaskRegistry
    from crucible.worker.run import Run
    from crucible.worker.run_context import Invoke
    from crucible.worker.task import Task

logger = logging.getLogger(__name__)

#: Seconds an errback without a time limit of its own may take in the worker that calls it.
_DEADLINE_S = 60.0


def fingerprint(errback: Any) -> str:
    """Tells errbacks apart, wherever in a canvas they are linked."""
    return hashlib.sha256(dumps(errback).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTask:
    """What an errback is given of the task that failed; stock passes its request.

    Attributes:
        id: the task's id.
        root_id: first task of its tree.
        task: its registered name; empty for the body of a chord that never ran.
        args: its positional arguments.
        kwargs: its keyword arguments.
        traceback: text of the traceback, or None.
        error: the exception.
    """

    id: str
    root_id: str
    error: BaseException
    traceback: str | None = None
    task: str = ""
    args: Sequence[Any] = ()
    kwargs: dict[str, Any] | None = None


class Errbacks:
    """Calls errbacks, or encodes them.

    Args:
        registry: tasks that can be called here.
        encoder: encodes the messages of the others.
        invoke: calls a task's function.
    """

    def __init__(self, registry: TaskRegistry, encoder: OutgoingEncoder, invoke: Invoke) -> None:
        self._registry = registry
        self._encoder = encoder
        self._invoke = invoke

    async def notify(self, run: Run, errbacks: Iterable[Any], failed: FailedTask) -> Effects:
        """Call those that take ``(request, exc, traceback)``; the messages for the others.

        An errback that raises, or is no signature, is logged; the others are notified all the same.
        """
        sent: list[Signature] = []
        for wire in errbacks:
            try:
                errback = as_signature(wire)
            except ValueError:
                logger.exception("an errback of task %s is no signature", failed.id)
                continue
            task = self._registry.get(errback["task"])
            if task is not None and _takes_three(task, errback):
                await self._call(run, task, errback, failed)
            else:
                sent.append(errback)
        if not sent:
            return Effects()
        root_id = failed.root_id or failed.id
        try:
            effects, node = self._encoder.encode(
                group(sent), (failed.id,), Origin(root_id, failed.id),
                parent_id=failed.id, root_id=root_id,
            )  # fmt: skip
        except (TypeError, ValueError):
            logger.exception("the errbacks of task %s cannot be sent", failed.id)
            return Effects()
        run.children.append(child_of(node))
        return effects

    async def _call(self, run: Run, task: Task, errback: Signature, failed: FailedTask) -> None:
        given = (failed, failed.error, failed.traceback)
        args, kwargs, _ = merged(errback, given, {}, {})
        try:
            async with asyncio.timeout(task.time_limit or _DEADLINE_S):
                await self._invoke(run, task, args, dict(kwargs))
        except Exception:  # an errback is the user's code, and stock logs whatever it raises
            logger.exception("errback %s raised", task.name)


def _takes_three(task: Task, errback: Signature) -> bool:
    """Whether it can be called with request, exception and traceback, rather than with an id.

    Stock calls whatever takes more than one argument, and logs that it could not be called.
    """
    args, kwargs, _ = merged(errback, (None, None, None), {}, {})
    try:
        inspect.signature(task.function).bind(None, *args, **kwargs)
    except (TypeError, ValueError):
        return False
    return True


def linked_errbacks(sig: Signature) -> list[Any]:
    """The errbacks a signature itself is linked to."""
    value = sig.options.get("link_error")
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def errbacks_of(sig: Signature) -> list[Any]:
    """The errbacks of what a member's result is the result of."""
    found: list[Any] = []
    while sig.kind == "chord":
        found += linked_errbacks(sig)
        sig = sig.body
    found += linked_errbacks(sig)
    if sig.kind == "group":
        for part in sig.parts:
            found += errbacks_of(part)
    return found
