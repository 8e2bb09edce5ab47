"""The tasks of the model evaluation pipeline: the same in async and stock workers.

``tasks.evaluate_ai_model`` lets the chain of the other four take its place, under its own id and
with ids that follow from it. What they hand on is small: the order is kept on the server.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from crucible.assessments.recommendations import Limited, recommend
from crucible.assessments.record import Plan, Run
from crucible.assessments.report import summary_of
from crucible.assessments.suite import (
    CaseRules,
    check_ids,
    checked_case,
    decode_assessment,
    shared_options,
)
from crucible.broker.canvas.signature import Signature, chain, signature
from crucible.broker.redis.connection import open_client
from crucible.errors import BrokerError, ExecutorUnavailable, InputError, SettingsError
from crucible.evaluation.allowance import allowances
from crucible.evaluation.limits import checked_limits
from crucible.evaluation.record import tenant_of
from crucible.evaluation.view import now_text
from crucible.executor.served import ServedEnvironments
from crucible.models import LOCAL_TENANT
from crucible.pipelines.cache import ModelCache
from crucible.pipelines.desk import ReservationDesk
from crucible.pipelines.download import fetch
from crucible.pipelines.progress import WAITING, PipelineProgress
from crucible.pipelines.record import Order, PipelineStore, pipeline_id_of
from crucible.pipelines.resources import check_amounts, parse_resources
from crucible.pipelines.safety import SafetyTests, artifact_file, suite_of
from crucible.pipelines.sources import source_of
from crucible.redis_keys import Keys
from crucible.webhooks.addresses import AddressPolicy
from crucible.worker import Ignore, Retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from crucible.assessments.suite import Case
    from crucible.settings import Settings
    from crucible.worker import TaskContext, TaskRegistry

EVALUATE = "tasks.evaluate_ai_model"
RESERVE, DOWNLOAD = "tasks.reserve_resources", "tasks.download_model"
TEST, CLEAN_UP = "tasks.run_safety_tests", "tasks.cleanup_resources"
QUEUE, GPU_QUEUE = "assessments", "gpu_queue"
#: Seconds a step may take, as the user's configuration has it; then it has a minute to clean up.
TIME_LIMIT_S = 3600.0
#: Seconds a step waits for resources before it queues itself again, and until then.
_WAIT_S, _AGAIN_S = 2.0, 1.0
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Tools:
    """What the tasks work with.

    Attributes:
        store: keeps pipelines.
        desk: lends resources.
        cache: keeps models.
        settings: of the installation.
    """

    store: PipelineStore
    desk: ReservationDesk
    cache: ModelCache
    settings: Settings

    def progress(self, ctx: TaskContext, order: Order) -> PipelineProgress:
        """Stores how far a step and its pipeline are."""
        return PipelineProgress(ctx, self.store, order)


def register(registry: TaskRegistry, settings: Settings) -> None:
    """Add the tasks to the registry of evaluations, whose executor runs the safety tests.

    Raises:
        SettingsError: resources are not NAME=NUMBER.
    """
    pipeline = Pipeline(settings)
    options: dict[str, Any] = {
        "max_retries": None,
        "resumes": True,
        "soft_time_limit": TIME_LIMIT_S,
        "time_limit": TIME_LIMIT_S + 60,
    }
    registry.task(EVALUATE, **options)(pipeline.evaluate_ai_model)
    registry.task(RESERVE, **options)(pipeline.reserve_resources)
    registry.task(DOWNLOAD, **options)(pipeline.download_model)
    registry.task(TEST, **options)(pipeline.run_safety_tests)
    registry.task(CLEAN_UP, **options)(pipeline.cleanup_resources)


def steps(task_id: str, pipeline_id: str, gpus: bool) -> Signature:
    """The chain of one pipeline; ids follow from its task's, so a redelivery starts no second."""

    def step(name: str, *args: Any, queue: str = QUEUE) -> Signature:
        own = f"{task_id}-{name.removeprefix('tasks.')}"
        return signature(name, args, task_id=own, queue=queue)

    return chain(
        step(RESERVE, pipeline_id),
        step(DOWNLOAD),
        step(TEST, queue=GPU_QUEUE if gpus else QUEUE),
        # The last has the id of the whole, by the worker's rules of replacement.
        signature(CLEAN_UP, (), queue=QUEUE),
    )


class Pipeline:
    """The functions of the tasks.

    Args:
        settings: of the installation.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = Keys(settings.global_keyprefix, settings.result_prefix)
        try:
            self._capacities = parse_resources(settings.resources)
        except ValueError as error:
            raise SettingsError("CRUCIBLE_RESOURCES", str(error)) from None

    async def evaluate_ai_model(
        self,
        ctx: TaskContext,
        model_id: str,
        test_suite: Any,
        *,
        sha256: str | None = None,
        resources: dict[str, int] | None = None,
        max_mb: int | None = None,
        tenant: str = LOCAL_TENANT,
    ) -> dict[str, Any]:
        """Evaluate a model: the whole pipeline.

        Args:
            ctx: the task.
            model_id: an ``http``, ``https`` or ``file`` URL, or a name in the object store.
            test_suite: cases as of assessments, or an object with them as ``cases``.
            sha256: checksum the model must have.
            resources: what to reserve, such as ``{"gpu0": 1}``.
            max_mb: MiB the model may have.
            tenant: whose programs the tests are.

        Returns:
            The report, from the last step; or which task runs the same already.

        Raises:
            InputError: something of it could never run; its place is named.
        """
        order = self._order(ctx, model_id, test_suite, sha256, resources, max_mb, tenant)
        async with self._tools() as tools:
            try:
                kept = await tools.store.begin(order)
                if kept.task_id != ctx.id:
                    return _running_already(kept)
                # From here on the task can be looked up: stock stores nothing of a replaced one.
                await tools.progress(ctx, order).note(WAITING, "its first step is queued", 0.0)
            except BrokerError as error:
                raise ctx.retry(countdown=_AGAIN_S, exc=error) from error
        raise ctx.replace(steps(ctx.id, order.pipeline_id, _needs_gpu(order)))

    def _order(
        self,
        ctx: TaskContext,
        model_id: str,
        test_suite: Any,
        sha256: str | None,
        resources: dict[str, int] | None,
        max_mb: int | None,
        tenant: str,
    ) -> Order:
        settings = self._settings
        source_of(model_id, settings.model_url, settings.model_dir)
        if sha256 is not None and not (len(sha256) == 64 and sha256.isalnum()):
            raise InputError("sha256", "must be 64 hexadecimal digits")
        wanted = dict(resources or {})
        check_amounts(wanted, self._capacities)
        tenant_of(f"{tenant}:x" if tenant != LOCAL_TENANT else "x")
        most = min(max_mb or settings.model_max_mb, settings.model_max_mb)
        cases, pass_score = self._suite(test_suite)
        asked = (model_id, test_suite, sha256, wanted, most, tenant)
        return Order(
            pipeline_id=pipeline_id_of(*asked),
            task_id=ctx.id,
            model_id=model_id,
            sha256=sha256 and sha256.lower(),
            resources=wanted,
            max_mb=most,
            pass_score=pass_score,
            cases=cases,
            tenant=tenant,
        )

    def _suite(self, test_suite: Any) -> tuple[list[Case], float]:
        asked = decode_assessment(msgspec.json.encode(suite_of(test_suite)))
        rules = CaseRules(
            repetitions=asked.repetitions, priority=asked.priority, shared=shared_options(asked)
        )
        served = ServedEnvironments(self._settings.served_environments)
        allowed = allowances(self._settings, served)[None]
        cases = [checked_case(one, n, rules, allowed) for n, one in enumerate(asked.cases)]
        check_ids([case.id for case in cases])
        return cases, asked.pass_score

    async def reserve_resources(self, ctx: TaskContext, pipeline_id: str) -> dict[str, Any]:
        """Reserve what a pipeline needs, in fair order.

        Args:
            ctx: the task.
            pipeline_id: which.
        """

        async def reserve(tools: Tools, order: Order) -> dict[str, Any]:
            give_up_at = asyncio.get_running_loop().time() + _WAIT_S
            while True:
                decision = await tools.desk.ask(pipeline_id, order.resources)
                if decision.reservation.granted:
                    return {"pipeline_id": pipeline_id, "reserved": order.resources}
                message = f"{len(decision.before)} before it have or want the same resources"
                await tools.progress(ctx, order).note(WAITING, message, 0.0)
                if asyncio.get_running_loop().time() > give_up_at:
                    # Not in a slot: what would free the resources may need it.
                    again = signature(RESERVE, [pipeline_id], queue=QUEUE, countdown=_AGAIN_S)
                    raise ctx.replace(again)
                await asyncio.sleep(0.2)

        return await self._step(ctx, pipeline_id, reserve)

    async def download_model(self, ctx: TaskContext, before: dict[str, Any]) -> dict[str, Any]:
        """Fetch the model of a pipeline into this worker's cache.

        Args:
            ctx: the task.
            before: what the step before returned.

        Raises:
            NotFound: there is no such model.
            InputError: it is too large, has another checksum, or could not be fetched.
        """
        pipeline_id = str(before["pipeline_id"])

        async def download(tools: Tools, order: Order) -> dict[str, Any]:
            async with tools.desk.keeping(pipeline_id, order.resources):
                artifact = await _fetched(ctx, tools, order, order.sha256)
            return {**before, "artifact": {"sha256": artifact.sha256, "size": artifact.size}}

        return await self._step(ctx, pipeline_id, download)

    async def run_safety_tests(self, ctx: TaskContext, before: dict[str, Any]) -> dict[str, Any]:
        """Run the suite of a pipeline against its model.

        Args:
            ctx: the task.
            before: what the step before returned.
        """
        pipeline_id = str(before["pipeline_id"])

        async def test(tools: Tools, order: Order) -> dict[str, Any]:
            async with tools.desk.keeping(pipeline_id, order.resources):
                # Another machine may have downloaded it.
                artifact = await _fetched(ctx, tools, order, before["artifact"]["sha256"])
                source = source_of(
                    order.model_id, tools.settings.model_url, tools.settings.model_dir
                )
                path = tools.cache.path(artifact.sha256)
                file = await asyncio.to_thread(artifact_file, path, source.name)
                suite = SafetyTests(ctx, ctx.state, order.tenant, pipeline_id, order.cases)
                known = await tools.store.runs(pipeline_id)
                progress = tools.progress(ctx, order)

                async def keep(number: int, run: Run) -> None:
                    known[number] = run
                    await tools.store.keep_run(pipeline_id, number, run)
                    message = f"{len(known)} of {suite.total} runs have ended"
                    await progress.note("safety tests", message, 100 * len(known) / suite.total)

                await suite.run(file, dict(known), keep)
                return {**before, **self._report(order, suite, known)}

        return await self._step(ctx, pipeline_id, test)

    def _report(self, order: Order, suite: SafetyTests, known: dict[int, Run]) -> dict[str, Any]:
        outcomes = suite.outcomes(known)
        plan = Plan(name=order.model_id, digest=b"", created_ms=0, pass_score=order.pass_score)
        served = ServedEnvironments(self._settings.served_environments)
        allowed = allowances(self._settings, served)[None]
        limited = []
        for case, outcome in zip(order.cases, outcomes, strict=True):
            _, language = served.find(case.program.language, case.program.environment)
            limits = checked_limits(case.program.limits, allowed.ceilings, language.defaults)
            limited.append(Limited(outcome, limits))
        summary = summary_of(plan, outcomes)
        report: dict[str, Any] = msgspec.to_builtins(
            {
                "passed": summary.passed,
                "summary": summary,
                "recommendations": recommend(limited),
                "cases": outcomes,
            }
        )
        return report

    async def cleanup_resources(self, ctx: TaskContext, before: dict[str, Any]) -> dict[str, Any]:
        """Give back what a pipeline reserved, and end it.

        Args:
            ctx: the task.
            before: what the step before returned.

        Returns:
            The report of the pipeline.
        """
        pipeline_id = str(before["pipeline_id"])
        async with self._tools() as tools:
            try:
                order = await tools.store.order(pipeline_id)
                await tools.desk.release(pipeline_id)
                await tools.store.end(pipeline_id)
            except BrokerError as error:
                raise ctx.retry(countdown=_AGAIN_S, exc=error) from error
        model_id = order.model_id if order is not None else None
        return {"model_id": model_id, "status": "completed", **before, "finished_at": now_text()}

    @asynccontextmanager
    async def _tools(self) -> AsyncIterator[Tools]:
        settings = self._settings
        async with open_client(settings.celery_broker_url, name="pipelines") as client:
            yield Tools(
                PipelineStore(client, self._keys),
                ReservationDesk(client, self._keys, self._capacities),
                ModelCache(Path(settings.model_cache_dir or settings.data_dir / "models")),
                settings,
            )

    async def _step(
        self,
        ctx: TaskContext,
        pipeline_id: str,
        work: Callable[[Tools, Order], Awaitable[_Result]],
    ) -> _Result:
        """Do a step; whatever ends the pipeline in it gives its resources back."""
        async with self._tools() as tools:
            try:
                order = await tools.store.order(pipeline_id)
                if order is None:
                    raise Ignore("the pipeline has ended")
                return await work(tools, order)
            except (Ignore, Retry):
                raise
            except (BrokerError, ExecutorUnavailable) as error:
                raise ctx.retry(countdown=_AGAIN_S, exc=error) from error
            except asyncio.CancelledError:
                # Revoked, or the worker stops: what is redelivered asks for them anew.
                with suppress(BrokerError):
                    await tools.desk.release(pipeline_id)
                raise
            except Exception:
                # Whatever it is, the pipeline ends with it, and the same may be started again.
                with suppress(BrokerError):
                    await tools.desk.release(pipeline_id)
                    await tools.store.end(pipeline_id)
                raise


async def _fetched(ctx: TaskContext, tools: Tools, order: Order, sha256: str | None) -> Any:
    settings = tools.settings
    source = source_of(order.model_id, settings.model_url, settings.model_dir)

    progress = tools.progress(ctx, order)

    async def on_bytes(at: int, total: int | None) -> None:
        share = 100 * at / total if total else 0.0
        await progress.note("downloading", f"{at >> 20} MiB of the model are here", share)

    return await fetch(
        source,
        tools.cache,
        AddressPolicy(settings.model_networks),
        sha256=sha256,
        most=order.max_mb << 20,
        on_bytes=on_bytes,
    )


def _running_already(kept: Order) -> dict[str, Any]:
    """What a task returns whose order is another's already."""
    return {
        "pipeline_id": kept.pipeline_id,
        "task_id": kept.task_id,
        "status": "running",
        "message": "the same evaluation runs already under this task",
    }


def _needs_gpu(order: Order) -> bool:
    return any(name.startswith("gpu") for name in order.resources)
