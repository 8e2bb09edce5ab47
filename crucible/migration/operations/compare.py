"""Running the same programs in both queue systems and comparing their outcomes."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import BrokerError, InputError, LegacyError, SettingsError, TaskError
from crucible.evaluation.messages import EvalMessages
from crucible.evaluation.record import Record
from crucible.evaluation.request import celery_priority, queue_of
from crucible.evaluation.view import evaluation_of
from crucible.executor.languages import compiled_language
from crucible.migration.comparison import Comparison, Kind, judge
from crucible.migration.legacy_results import LEGACY_QUEUE, meta_of_task

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from crucible.broker import Publisher
    from crucible.evaluation.limits import LimitsRequest
    from crucible.evaluation.request import EvalRequest
    from crucible.migration.operations.programs import Named
    from crucible.migration.operations.sides import Sides
    from crucible.models import Evaluation

#: Programs compared at once, and further runs of one that differed.
AT_ONCE, AGAIN = 4, 2
#: Seconds past a program's own limit that one queue system may take.
MARGIN_S = 120.0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison found.

    Attributes:
        counts: programs by the result of their comparison.
        programs: each of them, in the order they were given.
    """

    counts: dict[str, int]
    programs: list[Comparison]

    @property
    def agreed(self) -> bool:
        """Everything ran in both queue systems, with equal outcomes."""
        return not (self.counts[Kind.MISMATCH] or self.counts[Kind.NOT_RUN])


class ProgramComparer:
    """Runs programs in both queue systems.

    Args:
        sides: both queue systems.
        publisher: publishes to Celery.

    Raises:
        SettingsError: there is no legacy queue.
    """

    def __init__(self, sides: Sides, publisher: Publisher) -> None:
        if sides.legacy is None:
            raise SettingsError("QUEUE_SERVICE_URL", "is missing; comparing needs a legacy queue")
        self._legacy = sides.legacy
        self._sides = sides
        self._publisher = publisher
        self._messages = EvalMessages()
        # Of this run: results of an earlier one must not be found.
        self._run = f"compare-{secrets.token_hex(4)}"

    async def compare(
        self, programs: Sequence[Named], report: Callable[[Comparison], None]
    ) -> Report:
        """Run each program in both queue systems.

        Args:
            programs: what to run.
            report: called with each comparison once it is made.

        Raises:
            BrokerError: the task queue server does not answer.
        """
        await self._sides.note_comparison(self._run)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, program: Named) -> Comparison:
            async with room:
                found = await self._compare(f"{self._run}-{number}", program)
            report(found)
            return found

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(n, program)) for n, program in enumerate(programs)]
        found = [task.result() for task in tasks]
        counts = {kind.value: sum(one.kind is kind for one in found) for kind in Kind}
        return Report(counts=counts, programs=found)

    async def _compare(self, eval_id: str, program: Named) -> Comparison:
        try:
            legacy, celery = await asyncio.gather(
                self._on_legacy(eval_id, program.asked),
                self._on_celery(eval_id, program.asked),
            )
            first = judge(program.name, legacy, celery)
            if first.kind is not Kind.MISMATCH:
                return first
            again = [
                await self._on_celery(f"{eval_id}-again{n}", program.asked) for n in range(AGAIN)
            ]
            return judge(program.name, legacy, celery, again)
        except (LegacyError, BrokerError, TaskError, InputError) as error:
            return Comparison(name=program.name, kind=Kind.NOT_RUN, detail=str(error))

    async def _on_legacy(self, eval_id: str, asked: EvalRequest) -> Evaluation:
        await self._legacy.submit(eval_id, self._sides.program(eval_id, asked))
        task = await self._legacy.wait(eval_id, self._deadline_s(asked))
        record = Record(b"", 0, LEGACY_QUEUE, asked.language, "legacy")
        return evaluation_of(eval_id, record, meta_of_task(task))

    async def _on_celery(self, eval_id: str, asked: EvalRequest) -> Evaluation:
        task_id = f"eval-{eval_id}"
        await self._publisher.publish(
            self._messages.render(eval_id, asked),
            queue=queue_of(asked.priority),
            priority=celery_priority(asked.priority),
        )
        meta = await self._publisher.results.wait(task_id, self._deadline_s(asked))
        return evaluation_of(eval_id, None, meta)

    def _deadline_s(self, asked: EvalRequest) -> float:
        compile_s = 0.0
        if compiled_language(asked.language) is not None:
            compile_s = self._time_s(asked.compile_limits)
        return self._time_s(asked.limits) + compile_s + MARGIN_S

    def _time_s(self, limits: LimitsRequest | None) -> float:
        named_s = limits.wall_time_s if limits is not None else None
        return named_s or self._sides.settings.max_wall_time_s
