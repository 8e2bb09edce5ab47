"""The tasks of the platform: one definition each, served by async and stock workers alike."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crucible.breaker import worst
from crucible.errors import ExecutorError
from crucible.evaluation import maintenance, transitions
from crucible.evaluation.announcements import announcing
from crucible.evaluation.completion_hooks import CompletionHooks, SandboxHooks
from crucible.evaluation.completions import CompletionCounter
from crucible.evaluation.end_report import TASK as REPORT_END
from crucible.evaluation.end_report import EndReporter, open_reporter, report_end
from crucible.evaluation.event_hooks import EventHooks
from crucible.evaluation.executor_health import ExecutorHealth
from crucible.evaluation.executor_settings import breaker_policy, executor_config
from crucible.evaluation.grading import grade
from crucible.evaluation.kept_requests import kept_request
from crucible.evaluation.large_outputs import LargeOutputs, large_outputs
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.live_output import showing_output
from crucible.evaluation.request import job_from
from crucible.evaluation.result import EvalResult, plain, result_of
from crucible.evaluation.retry_policy import MAX_RETRIES, RETRIED, retry_delay_s
from crucible.evaluation.view import now_text
from crucible.evaluation.webhook_ends import pushes_of
from crucible.evaluation.webhook_hooks import WebhookHooks
from crucible.evaluation.webhook_outlet import WebhookOutlet, open_outlet
from crucible.evaluation.webhook_task import deliver_webhook
from crucible.events.writer import LateSink, open_events
from crucible.executor import circuits_of, gauges_of, open_executor
from crucible.executor.gpus import count_of
from crucible.executor.hooks import HookGroup
from crucible.executor.interrupted import Interrupted
from crucible.executor.served import ServedEnvironments
from crucible.redis_keys import Keys
from crucible.sessions.host import serving_sessions
from crucible.webhooks.addresses import AddressPolicy
from crucible.webhooks.breakers import HostBreakers
from crucible.webhooks.planning import TASK as DELIVER_WEBHOOK
from crucible.webhooks.subscriptions import Subscriptions
from crucible.worker import TaskRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from crucible.breaker import Circuit
    from crucible.evaluation.completion_store import Completion
    from crucible.events.writer import EventSink
    from crucible.executor import Executor
    from crucible.executor.hooks import ExecutorHooks
    from crucible.models import Isolation, Limits, Outcome
    from crucible.settings import Settings
    from crucible.worker import TaskContext


@dataclass(frozen=True, slots=True)
class Platform:
    """What the tasks need while a worker lives.

    Attributes:
        executor: runs programs.
        served: the environments they may run in.
        ceilings: the most a program may ask for.
        isolation: what a program gets that names none.
        webhooks: makes deliveries.
        outputs: moves large outputs out of results.
        running: called with the task and the scoped id of an evaluation that is about to run.
        ends: reports ends that no hooks saw; None where no worker serves that task.
    """

    executor: Executor
    served: ServedEnvironments
    ceilings: Limits
    isolation: Isolation
    webhooks: WebhookOutlet
    outputs: LargeOutputs = field(default_factory=LargeOutputs)
    running: Callable[[TaskContext, str], None] = lambda ctx, eval_id: None
    ends: EndReporter | None = None


def build_registry(settings: Settings, observers: Sequence[ExecutorHooks] = ()) -> TaskRegistry:
    """The registry that workers serve, with its executor opened and closed beside the worker.

    Args:
        settings: of the worker.
        observers: notified of what its executor does, where that is in this process.
    """
    health, completions = ExecutorHealth(), CompletionCounter()
    sandboxes = HookGroup(SandboxHooks(completions), *observers)
    opened: list[Executor] = []
    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    sink = LateSink()
    events = EventHooks(sink, EVALUATING)
    served = ServedEnvironments(settings.served_environments)
    subscriptions, hosts = Subscriptions(), HostBreakers(breaker_policy(settings))
    policy = AddressPolicy(settings.webhook_networks)

    outputs = large_outputs(settings)

    def circuits() -> dict[str, Circuit]:
        return worst([*map(circuits_of, opened), hosts.circuits(), outputs.circuits()])

    def gauges() -> dict[str, int]:
        found: Counter[str] = Counter()
        for executor in opened:
            found.update(gauges_of(executor))
        if settings.gpus:
            found["gpus"] = count_of(settings.gpus)
        return dict(found)

    @asynccontextmanager
    async def platform() -> AsyncIterator[Platform]:
        broker_url = settings.celery_broker_url
        async with (
            open_events(settings.event_bus, keys, settings.event_limit) as writer,
            open_executor(executor_config(settings), sandboxes) as executor,
            health.watching(executor),
            completions.writing(
                broker_url,
                keys,
                settings.result_ttl_s,
                settings.result_url,
                _lost_to(sink),
                pushes_of(subscriptions, keys),
            ),
            announcing(executor, settings.isolations, broker_url, keys),
            subscriptions.watching(broker_url, keys),
            serving_sessions(executor, broker_url, keys, settings.sessions),
            open_outlet(settings, keys, policy, hosts, completions.webhook_attempted) as webhooks,
            open_reporter(
                settings, keys, events=sink, subscriptions=subscriptions, completions=completions
            ) as ends,
        ):
            opened.append(executor)
            try:
                with sink.writing_to(writer):
                    yield Platform(
                        executor,
                        served,
                        ceilings_of(settings),
                        settings.isolation,
                        webhooks,
                        outputs,
                        events.running,
                        ends,
                    )
            finally:
                opened.remove(executor)

    registry = TaskRegistry(
        platform,
        lambda: health.trouble,
        circuits,
        (
            CompletionHooks(completions, EVALUATING),
            events,
            WebhookHooks(subscriptions, EVALUATING),
        ),
        gauges=gauges,
    )
    for name, function in EVALUATING.items():
        # Kept as a dead letter after the last retry: an operator may replay it.
        registry.task(name, track_started=True, max_retries=MAX_RETRIES, keep_failed=True)(function)
    registry.task("tasks.health_check")(health_check)
    # It counts its attempts itself: the schedule has an end, a server that is away does not count.
    registry.task(DELIVER_WEBHOOK, ignore_result=True, max_retries=None)(deliver_webhook)
    registry.task(REPORT_END, ignore_result=True, max_retries=None, resumes=True)(report_end)
    maintenance.register(registry, settings)
    return registry


def _lost_to(sink: EventSink) -> Callable[[Completion, str], None]:
    """Writes events of evaluations that became dead letters because their workers died."""
    return lambda lost, detail: sink.add(transitions.lost(lost.eval_id, detail))


async def evaluate_code(
    ctx: TaskContext, eval_id: str, code: str, language: str = "python", **options: Any
) -> dict[str, Any]:
    """Run one program in a sandbox of its own.

    Returns:
        An ``EvalResult`` as plain JSON types, and what was run (``kept_requests``).

    Raises:
        InputError: the message asks for something that cannot run.
        ExecutorError: a platform fault that no retry mended. While retries are left, the task is
            retried instead; neither is a verdict on the program.
    """
    if ctx.retries:
        # In the place of STARTED, which does not say that it is a further try.
        await ctx.update_state("STARTED", {"hostname": ctx.hostname, "retries": ctx.retries})
    try:
        ended = await run_program(ctx, ctx.state, eval_id, code, language, options)
    except RETRIED as error:
        raise _retry(ctx, error) from error
    except ExecutorError as error:
        raise error.after(ctx.retries) from error
    priority = int(ctx.delivery_info.get("priority") or 0)
    return plain(ended) | kept_request(code, language, options, priority)


def _retry(ctx: TaskContext, error: ExecutorError) -> BaseException:
    """The exception that has the worker retry the task (see ``retry_policy``)."""
    delay = retry_delay_s(ctx.retries, random.random())  # noqa: S311 - spreads load
    told = error.after(min(ctx.retries + 1, MAX_RETRIES))
    return ctx.retry(countdown=delay, exc=told, max_retries=MAX_RETRIES)


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
        return plain(await run_program(ctx, ctx.state, eval_id, code, language, options))

    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(one(arguments)) for arguments in evaluations]
    except ExceptionGroup as errors:
        # A Celery client would only see "ExceptionGroup"; the first error says what went wrong.
        first = errors.exceptions[0]
        if not isinstance(first, RETRIED):
            raise first from None
        raise _retry(ctx, first) from first
    return [task.result() for task in running]


async def health_check(ctx: TaskContext) -> dict[str, Any]:
    """Whether this worker could run a program now."""
    await ctx.state.executor.check()
    return {"status": "healthy", "worker": ctx.hostname, "checked_at": now_text()}


async def run_program(
    ctx: TaskContext,
    platform: Platform,
    eval_id: str,
    code: str,
    language: str,
    options: Mapping[str, Any],
) -> EvalResult:
    """Run one program, or grade it where it has tests.

    Args:
        ctx: the task.
        platform: what runs it.
        eval_id: its scoped id.
        code: source text.
        language: its name.
        options: what came with it.

    Raises:
        InputError: it cannot run.
        ExecutorError: a platform fault.
    """
    program, grading = job_from(
        eval_id,
        code,
        language,
        options,
        served=platform.served,
        ceilings=platform.ceilings,
        isolation=platform.isolation,
    )
    started_at = now_text()
    ttl_s = options.get("result_ttl_s")
    if ttl_s is not None:
        ctx.keep_result(ttl_s)
    platform.running(ctx, eval_id)
    if grading is not None:
        return await grade(ctx, platform.executor, eval_id, grading, started_at)

    async def ended(outcome: Outcome) -> EvalResult:
        outcome, objects = await platform.outputs.moved(eval_id, outcome)
        return result_of(
            eval_id,
            outcome,
            worker=ctx.hostname,
            retry_count=ctx.retries,
            started_at=started_at,
            finished_at=now_text(),
            objects=objects,
        )

    try:
        async with showing_output(ctx):
            return await ended(await platform.executor.run(program))
    except Interrupted as cut:
        priority = int(ctx.delivery_info.get("priority") or 0)
        left = plain(await ended(cut.outcome))
        ctx.leave(left | kept_request(code, language, options, priority))
        raise


#: Tasks that run programs, by the names of the contract.
EVALUATING: dict[str, Callable[..., Awaitable[Any]]] = {
    "tasks.evaluate_code": evaluate_code,
    "tasks.high_priority_eval": evaluate_code,
    "tasks.batch_evaluation": batch_evaluation,
}
