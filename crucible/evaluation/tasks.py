"""The tasks of the platform: one definition each, served by async and stock workers alike."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.breaker import worst
from crucible.errors import ExecutorUnavailable
from crucible.evaluation.completion_hooks import CompletionHooks, SandboxHooks
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.executor_health import ExecutorHealth
from crucible.evaluation.executor_settings import executor_config
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.request import program_from
from crucible.evaluation.result import EvalResult, result_of
from crucible.evaluation.view import now_text
from crucible.executor import circuits_of, open_executor
from crucible.executor.interrupted import Interrupted
from crucible.executor.languages import LANGUAGES
from crucible.redis_keys import Keys
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from crucible.breaker import Circuit
    from crucible.executor import Executor
    from crucible.models import Isolation, Limits, Outcome
    from crucible.settings import Settings
    from crucible.worker import TaskContext

#: Retries after a fault of the platform. With the delays below they span about four minutes.
MAX_RETRIES = 8
#: Seconds: first delay, factor of each further one, and the longest.
RETRY_FIRST_S, RETRY_FACTOR, RETRY_LONGEST_S = 1.0, 2.0, 60.0


@dataclass(frozen=True, slots=True)
class Platform:
    """What the tasks need while a worker lives.

    Attributes:
        executor: runs programs.
        ceilings: the most a program may ask for.
        isolation: what a program gets that names none.
    """

    executor: Executor
    ceilings: Limits
    isolation: Isolation


def retry_delay_s(retries: int, spread: float) -> float:
    """Seconds until retry number ``retries`` (0 = the first): exponential, bounded, jittered.

    Args:
        retries: retries so far.
        spread: a number from 0 to 1; half of each delay is random, so that evaluations that
            failed together do not come back together.
    """
    delay = min(RETRY_LONGEST_S, RETRY_FIRST_S * RETRY_FACTOR**retries)
    return delay * (0.5 + 0.5 * spread)


def build_registry(settings: Settings) -> TaskRegistry:
    """The registry that workers serve, with its executor opened and closed beside the worker."""
    condition, tally = ExecutorHealth(), CompletionCounter()
    opened: list[Executor] = []

    def circuits() -> dict[str, Circuit]:
        return worst(map(circuits_of, opened))

    @asynccontextmanager
    async def platform() -> AsyncIterator[Platform]:
        async with (
            open_executor(executor_config(settings), SandboxHooks(tally)) as executor,
            condition.watching(executor),
            tally.writing(
                settings.celery_broker_url, Keys(settings.global_keyprefix), settings.result_ttl_s
            ),
        ):
            opened.append(executor)
            try:
                yield Platform(executor, ceilings_of(settings), settings.isolation)
            finally:
                opened.remove(executor)

    registry = TaskRegistry(
        platform, lambda: condition.trouble, circuits, CompletionHooks(tally, EVALUATING)
    )
    for name, function in EVALUATING.items():
        # What the platform could not run is kept: an operator may replay it once it can.
        registry.task(name, track_started=True, max_retries=MAX_RETRIES, keep_failed=True)(function)
    registry.task("tasks.health_check")(health_check)
    return registry


async def evaluate_code(
    ctx: TaskContext, eval_id: str, code: str, language: str = "python", **options: Any
) -> dict[str, Any]:
    """Run one program in a sandbox of its own.

    Returns:
        An ``EvalResult`` as plain JSON types.

    Raises:
        InputError: the message asks for something that cannot run.
        ExecutorError: the platform failed for good. While it fails for a time the task is
            retried; that is never a verdict on the program.
    """
    try:
        ended = await _evaluate(ctx, eval_id, code, language, options)
    except ExecutorUnavailable as error:
        raise _again(ctx, error) from error
    return plain(ended)


def _again(ctx: TaskContext, error: Exception) -> BaseException:
    delay = retry_delay_s(ctx.retries, random.random())  # noqa: S311 - spreads load
    return ctx.retry(countdown=delay, exc=error, max_retries=MAX_RETRIES)


async def batch_evaluation(
    ctx: TaskContext, evaluations: list[dict[str, Any]], **common: Any
) -> list[dict[str, Any]]:
    """Run several programs, each in a sandbox of its own, as many at once as the pool allows.

    Args:
        ctx: the task.
        evaluations: arguments of ``tasks.evaluate_code``, one object a program.
        common: options for those that do not give their own.
    """

    async def one(arguments: Mapping[str, Any]) -> dict[str, Any]:
        options = {**common, **arguments}
        eval_id, code = options.pop("eval_id", ctx.id), options.pop("code", "")
        language = options.pop("language", "python")
        return plain(await _evaluate(ctx, eval_id, code, language, options))

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(arguments)) for arguments in evaluations]
    except ExceptionGroup as errors:
        # A group would reach a Celery client as "ExceptionGroup"; the cause is what it can use.
        first = errors.exceptions[0]
        if not isinstance(first, ExecutorUnavailable):
            raise first from None
        raise _again(ctx, first) from first
    return [task.result() for task in running]


async def health_check(ctx: TaskContext) -> dict[str, Any]:
    """Whether this worker could run a program now."""
    await ctx.state.executor.check()
    return {"status": "healthy", "worker": ctx.hostname, "checked_at": now_text()}


async def _evaluate(
    ctx: TaskContext, eval_id: str, code: str, language: str, options: Mapping[str, Any]
) -> EvalResult:
    platform: Platform = ctx.state
    program = program_from(
        eval_id,
        code,
        language,
        options,
        languages=LANGUAGES,
        ceilings=platform.ceilings,
        isolation=platform.isolation,
    )
    started_at = now_text()

    def ended(outcome: Outcome) -> EvalResult:
        return result_of(
            eval_id,
            outcome,
            worker=ctx.hostname,
            retry_count=ctx.retries,
            started_at=started_at,
            finished_at=now_text(),
        )

    try:
        return ended(await platform.executor.run(program))
    except Interrupted as cut:
        ctx.leave(plain(ended(cut.outcome)))
        raise


def plain(ended: EvalResult) -> dict[str, Any]:
    """A result as the JSON types every Celery serializer carries."""
    converted: dict[str, Any] = msgspec.to_builtins(ended)
    return converted


#: Tasks that run programs, by the names of the contract.
EVALUATING: dict[str, Callable[..., Awaitable[Any]]] = {
    "tasks.evaluate_code": evaluate_code,
    "tasks.high_priority_eval": evaluate_code,
    "tasks.batch_evaluation": batch_evaluation,
}
