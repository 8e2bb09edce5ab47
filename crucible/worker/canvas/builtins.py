"""The tasks every Celery worker has; stock clients' canvases send messages for them.

Source: celery 5.7 ``app/builtins.py``. They are served, but not listed as registered, as in stock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.signature import as_signature, chord, clone, group, signature
from crucible.broker.results.meta import FAILURE, REVOKED
from crucible.worker.exceptions import NotRegistered
from crucible.worker.registry import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from crucible.broker.results.meta import Meta
    from crucible.worker.canvas.duties import CanvasDuties
    from crucible.worker.run_context import RunContext
    from crucible.worker.task import Task

    ReadResults = Callable[[Sequence[str]], Awaitable[list[Meta | None]]]

#: Seconds between looks of ``celery.chord_unlock`` (``result_chord_retry_interval``).
_UNLOCK_PAUSE_S = 1.0


def builtin_tasks(
    registry: TaskRegistry, canvas: CanvasDuties, read_results: ReadResults
) -> TaskRegistry:
    """The built-in tasks.

    Args:
        registry: tasks that ``celery.map`` and its like can call.
        canvas: fails the bodies of chords that are polled.
        read_results: stored results, in the order of the ids; None where there is none.
    """
    tasks = TaskRegistry()
    _add_values(tasks)
    _add_maps(tasks, registry)
    _add_canvases(tasks)
    _add_unlock(tasks, canvas, read_results)
    return tasks


def _add_values(tasks: TaskRegistry) -> None:
    @tasks.task("celery.backend_cleanup")
    async def backend_cleanup(ctx: RunContext) -> None:
        """Results on Redis expire by themselves."""

    @tasks.task("celery.accumulate")
    async def accumulate(ctx: RunContext, *args: Any, index: int | None = None) -> Any:
        """What it was given: the end of a group that replaced a task."""
        return args if index is None else args[index]


def _add_maps(tasks: TaskRegistry, registry: TaskRegistry) -> None:
    def known(wire: Mapping[str, Any]) -> Task:
        name = as_signature(wire)["task"]
        task = registry.get(name) or tasks.get(name)
        if task is None:
            raise NotRegistered(name)
        return task

    @tasks.task("celery.map")
    async def xmap(ctx: RunContext, task: Mapping[str, Any], it: Sequence[Any]) -> list[Any]:
        """A task called here with each item, one after the other."""
        called = known(task)
        return [await ctx.call(called, [item]) for item in it]

    @tasks.task("celery.starmap")
    async def xstarmap(ctx: RunContext, task: Mapping[str, Any], it: Sequence[Any]) -> list[Any]:
        """A task called here with the arguments in each item, one after the other."""
        called = known(task)
        return [await ctx.call(called, item) for item in it]


def _add_canvases(tasks: TaskRegistry) -> None:
    @tasks.task("celery.chunks")
    async def chunks(ctx: RunContext, task: Mapping[str, Any], it: Sequence[Any], n: int) -> Any:
        """A group of starmaps over ``n`` items each; its result tuple."""
        kwargs = {"task": task, "it": list(it), "n": n}
        work = signature("celery.chunks", kwargs=kwargs, immutable=True)
        work["subtask_type"] = "chunks"
        return (await ctx.start(work)).as_tuple()

    @tasks.task("celery.group")
    async def start_group(
        ctx: RunContext,
        tasks: Sequence[Mapping[str, Any]],
        result: Any,
        group_id: str,
        partial_args: Sequence[Any],
        add_to_parent: bool = True,
    ) -> Any:
        """Members of a group, sent from here; what they were announced as."""
        members = [clone(as_signature(member), partial_args) for member in tasks]
        await ctx.start(group(members, task_id=group_id))
        return result

    @tasks.task("celery.chain")
    async def start_chain(ctx: RunContext, *args: Any, **kwargs: Any) -> None:
        """Never runs: a chain's steps do."""
        raise NotImplementedError("chain is not a real task")

    @tasks.task("celery.chord")
    async def start_chord(
        ctx: RunContext,
        header: Any,
        body: Mapping[str, Any],
        partial_args: Sequence[Any] = (),
        **_: Any,
    ) -> Any:
        """A chord, started from here; the result tuple of its body."""
        members = as_signature(header) if isinstance(header, dict) else header
        return (await ctx.start(chord(members, body), partial_args)).as_tuple()


def _add_unlock(tasks: TaskRegistry, canvas: CanvasDuties, read_results: ReadResults) -> None:
    @tasks.task(
        "celery.chord_unlock",
        max_retries=None,
        retry_delay_s=_UNLOCK_PAUSE_S,
        ignore_result=True,
    )
    async def chord_unlock(
        ctx: RunContext,
        group_id: str,
        callback: Mapping[str, Any],
        interval: float | None = None,
        max_retries: int | None = None,
        result: Sequence[Any] = (),
        **_: Any,
    ) -> None:
        """The body of a chord whose backend cannot count, once its header's results are there."""
        ids = [task_id for node in result for task_id in _leaves(node)]
        results = dict(zip(ids, await read_results(ids), strict=True))
        if not all(meta is not None and meta.ready for meta in results.values()):
            raise ctx.retry(countdown=interval, max_retries=max_retries)
        failed = next((meta for meta in results.values() if meta and _is_failed(meta)), None)
        if failed is not None:
            await canvas.fail_body(ctx.run, callback, failed)
            return
        await ctx.start(as_signature(callback), ([_value(node, results) for node in result],))


def _is_failed(meta: Meta) -> bool:
    return meta.status in (FAILURE, REVOKED)


def _leaves(node: Sequence[Any]) -> list[str]:
    (task_id, _), children = node
    if children is None:
        return [task_id]
    return [leaf for child in children for leaf in _leaves(child)]


def _value(node: Sequence[Any], results: Mapping[str, Meta | None]) -> Any:
    (task_id, _), children = node
    if children is not None:
        return [_value(child, results) for child in children]
    meta = results[task_id]
    return meta.result if meta is not None else None
