"""Tasks and evaluations run where they are called, without a queue server and without a worker."""

from __future__ import annotations

import inspect
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, Unpack

import msgspec

from crucible.broker.canvas.signature import Signature, as_signature, merged, signature
from crucible.broker.wire.decode import decode
from crucible.broker.wire.encode import encode_task
from crucible.broker.wire.ids import new_id
from crucible.evaluation.executor_settings import breaker_policy, executor_config
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.request import EvalRequest, options_of
from crucible.evaluation.tasks import Platform, run_program
from crucible.evaluation.webhook_outlet import open_outlet
from crucible.executor import open_executor
from crucible.executor.served import ServedEnvironments
from crucible.redis_keys import Keys
from crucible.settings import load_settings
from crucible.webhooks.addresses import AddressPolicy
from crucible.webhooks.breakers import HostBreakers
from crucible.worker.exceptions import NotRegistered, Replaced, Retry
from crucible.worker.message_fields import MessageFields
from crucible.worker.registry import TaskRegistry
from crucible.worker.retries import retry_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
    from types import TracebackType

    from crucible.evaluation.result import EvalResult
    from crucible.settings import Settings
    from crucible.worker.retries import RetryArguments
    from crucible.worker.task import Task

#: Node name that tasks see.
HOSTNAME = "eager@localhost"


class EagerContext(MessageFields):
    """The context of one run; attributes as in ``worker.TaskContext``.

    Attributes:
        states: what ``update_state`` was called with, in order.
    """

    def __init__(
        self, eager: Eager, task: Task, raw: bytes, retries: int, state: Any, parent: str | None
    ) -> None:
        self._eager = eager
        self._task = task
        self._message = message = decode(raw)
        self.args, self.kwargs, _ = message.decode_body()
        self.id = message.id
        self.name = task.name
        self.retries = retries
        self.headers: Mapping[str, Any] = message.headers
        self.hostname = HOSTNAME
        self.root_id = parent or message.id
        self.parent_id = parent
        self.group: str | None = None
        self.state = state
        self.time_limit: float | None = task.time_limit
        self.soft_time_limit: float | None = task.soft_time_limit
        self.retry_limit: int | None = None
        self.states: list[tuple[str, Any]] = []

    async def update_state(
        self, state: str, meta: Any = None, *, task_id: str | None = None
    ) -> None:
        """Keep a state of the task's own; one of another task is not kept."""
        if task_id is None:
            self.states.append((state, meta))

    def leave(self, value: Any) -> None:
        """Does nothing: nobody terminates it."""

    def keep_result(self, seconds: int) -> None:
        """Does nothing: no result is stored."""

    def retry(
        self,
        *,
        exc: BaseException | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Unpack[RetryArguments],
    ) -> BaseException:
        """The exception to raise to run again, which it does at once."""
        if max_retries is not None:
            self.retry_limit = max_retries
        return retry_of(self, self._task, exc, countdown, max_retries, options)

    def replace(self, work: Mapping[str, Any]) -> BaseException:
        """The exception to raise to have another signature run in its place."""
        return Replaced(work)

    async def send(
        self, work: str | Mapping[str, Any], args: Sequence[Any] = (), **options: Any
    ) -> str:
        """Run a task or a signature now; its id."""
        if isinstance(work, str):
            work = signature(work, kwargs=options.pop("kwargs", None))
        task_id = new_id()
        self._eager.results[task_id] = await self._eager.run_canvas(work, args)
        return task_id

    async def add_to_chord(self, work: Mapping[str, Any]) -> str:
        """Refused: nothing here is part of a chord while it runs.

        Raises:
            ValueError: always.
        """
        raise ValueError("the task is not part of a chord")


class Eager:
    """Runs the tasks of a registry where they are called; open it with ``async with``.

    Retries come at once, whatever their countdown. Time limits, rates, expiry and callbacks are the
    queue's business and do not apply.

    Args:
        registry: the tasks; its lifespan is entered and left with this.

    Attributes:
        contexts: of every run, in order: their ``states``, ``retries`` and so on.
        results: of what tasks sent, by the id they were told.
    """

    def __init__(self, registry: TaskRegistry) -> None:
        self._registry = registry
        self._stack = AsyncExitStack()
        self._states: dict[Hashable, Any] = {}
        self.contexts: list[EagerContext] = []
        self.results: dict[str, Any] = {}

    async def __aenter__(self) -> Self:
        self._states = await self._registry.open(self._stack)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def run(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        task_id: str | None = None,
        parent: str | None = None,
    ) -> Any:
        """What a task returns, or what takes its place.

        Args:
            name: of the task.
            args: its positional arguments; as in a message, they must be of kinds JSON has.
            kwargs: its keyword arguments.
            task_id: its id; None makes a new one.
            parent: id of the task that sent it.

        Raises:
            NotRegistered: the registry has no such task.
            Exception: what the task raises.
        """
        task = self._registry.get(name)
        if task is None:
            raise NotRegistered(name)
        raw = encode_task(name, args, dict(kwargs or {}), task_id=task_id or new_id())
        retries = 0
        while True:
            state = self._states.get(task.home)
            context = EagerContext(self, task, raw, retries, state, parent)
            self.contexts.append(context)
            try:
                result = task.function(context, *context.args, **context.kwargs)
                return await result if inspect.isawaitable(result) else result
            except Retry:
                # ``ctx.retry`` gives another exception once none is left.
                retries += 1
            except Replaced as replaced:
                return await self.run_canvas(replaced.work)

    async def run_canvas(self, work: Mapping[str, Any], args: Sequence[Any] = ()) -> Any:
        """What a signature comes to: of a chain the last result, of a group a list of all."""
        sig = as_signature(work)
        if sig.kind == "chain":
            result: Sequence[Any] = args
            value: Any = None
            for part in sig.parts:
                value = await self.run_canvas(part, result)
                result = [value]
            return value
        if sig.kind == "group":
            return [await self.run_canvas(part, args) for part in sig.parts]
        if sig.kind == "chord":
            return await self.run_canvas(
                sig.body, [[await self.run_canvas(part, args) for part in sig.parts]]
            )
        return await self._run_one(sig, args)

    async def _run_one(self, sig: Signature, args: Sequence[Any]) -> Any:
        own_args, own_kwargs, options = merged(sig, args, {}, {})
        return await self.run(sig["task"], own_args, own_kwargs, task_id=options.get("task_id"))


class EagerEvaluations:
    """Runs programs in sandboxes of this process's own executor. Made by ``eager_evaluations``."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._registry = TaskRegistry()
        self._registry.task("tasks.evaluate_code")(self._evaluate)
        self._eager = Eager(self._registry)

    async def _evaluate(
        self, ctx: EagerContext, eval_id: str, code: str, language: str, **options: Any
    ) -> EvalResult:
        return await run_program(ctx, self._platform, eval_id, code, language, options)

    async def evaluate(self, code: str, language: str = "python", **options: Any) -> EvalResult:
        """Run one program; options are those of ``POST /api/eval``.

        Raises:
            InputError: it cannot run.
            ExecutorError: a platform fault.
        """
        eval_id = options.pop("eval_id", None) or new_id()
        asked = msgspec.convert({"code": code, "language": language, **options}, EvalRequest)
        arguments = [eval_id, asked.code, asked.language]
        result: EvalResult = await self._eager.run(
            "tasks.evaluate_code", arguments, options_of(asked)
        )
        return result


@asynccontextmanager
async def eager_evaluations(settings: Settings | None = None) -> AsyncIterator[EagerEvaluations]:
    """Evaluations without a queue: in sandboxes, but of this process.

    Args:
        settings: None reads those in force, as commands do.

    Raises:
        RequirementError: no container engine can be used.
    """
    settings = settings or load_settings()
    keys, policy = Keys(settings.global_keyprefix), AddressPolicy(settings.webhook_networks)
    async with (
        open_executor(executor_config(settings)) as executor,
        # Connects when a webhook is delivered, which nothing here does.
        open_outlet(settings, keys, policy, HostBreakers(breaker_policy(settings))) as webhooks,
    ):
        served = ServedEnvironments(settings.served_environments)
        yield EagerEvaluations(
            Platform(executor, served, ceilings_of(settings), settings.isolation, webhooks)
        )
