"""Runs a suite against a model: every program finds the artifact beside it, as a copy of its own.

The artifact goes to the executor with each program, as one of its files. So it never is a folder of
the host, and what a program does to its copy is gone with its sandbox. That bounds its size.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.assessments.driver import run_of
from crucible.assessments.record import Run, Runs
from crucible.assessments.report import CaseOutcome, outcome_of
from crucible.broker.results.meta import SUCCESS, Meta
from crucible.errors import InputError
from crucible.evaluation.record import scoped_id
from crucible.evaluation.request import options_of
from crucible.evaluation.result import plain
from crucible.evaluation.tasks import run_program
from crucible.evaluation.view import evaluation_of
from crucible.executor.admission import MAX_FILES_BYTES
from crucible.models import SourceFile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from crucible.assessments.suite import Case
    from crucible.evaluation.request import EvalRequest
    from crucible.evaluation.tasks import Platform
    from crucible.worker import TaskContext

    #: Keeps how a run ended.
    Keep = Callable[[int, Run], Awaitable[None]]

#: Where programs find the artifact, and the variable that says so.
FOLDER, VARIABLE = "model", "MODEL_PATH"
#: Programs at once.
_AT_ONCE = 4
#: Bytes of an artifact, which has the room of all files of a program but a little.
MAX_ARTIFACT_BYTES = MAX_FILES_BYTES - (1 << 20)


def artifact_file(path: Path, name: str) -> SourceFile:
    """The artifact as a file beside programs.

    Raises:
        InputError: it is too large to be handed to programs.
    """
    size = path.stat().st_size
    if size > MAX_ARTIFACT_BYTES:
        most = MAX_ARTIFACT_BYTES >> 20
        raise InputError("model_id", f"programs can be handed models of at most {most} MiB")
    content = base64.b64encode(path.read_bytes()).decode()
    return SourceFile(name=f"{FOLDER}/{name}", content=content, encoding="base64")


def with_artifact(program: EvalRequest, file: SourceFile) -> EvalRequest:
    """A program that finds the artifact."""
    return msgspec.structs.replace(
        program,
        files=[*program.files, file],
        env={**program.env, VARIABLE: file.name},
    )


class SafetyTests:
    """The runs of a suite, in this worker's executor.

    Args:
        ctx: of the task.
        platform: what runs programs.
        tenant: whose they are.
        pipeline_id: names the runs.
        cases: the suite.
    """

    def __init__(
        self,
        ctx: TaskContext,
        platform: Platform,
        tenant: str,
        pipeline_id: str,
        cases: Sequence[Case],
    ) -> None:
        self._ctx = ctx
        # What runs here is no evaluation of its own, so nobody is told of one.
        self._platform = dataclasses.replace(platform, running=lambda ctx, eval_id: None)
        self._tenant = tenant
        self._pipeline_id = pipeline_id
        self._cases = cases
        self._places = Runs([case.repetitions for case in cases])

    @property
    def total(self) -> int:
        """How many runs there are."""
        return self._places.total

    def name(self, run: int) -> str:
        """What a run is called."""
        return f"pl-{self._pipeline_id}-{run}"

    async def run(self, file: SourceFile, known: Mapping[int, Run], keep: Keep) -> None:
        """Run what is not known yet.

        Args:
            file: the artifact.
            known: runs that have ended.
            keep: called with each that ends.

        Raises:
            ExecutorError: the platform could not run one.
        """
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with limit:
                await keep(number, await self._run(number, file))

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.total):
                    if number not in known:
                        group.create_task(one(number))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _run(self, number: int, file: SourceFile) -> Run:
        case = self._cases[self._places.place(number)[0]]
        program = with_artifact(case.program, file)
        eval_id = scoped_id(self._tenant, self.name(number))
        ended = await run_program(
            self._ctx, self._platform, eval_id, program.code, program.language, options_of(program)
        )
        # The same way as evaluations go, so that both count alike.
        meta = Meta(task_id=eval_id, status=SUCCESS, result=plain(ended))
        return run_of(evaluation_of(eval_id, None, meta))

    def outcomes(self, known: Mapping[int, Run]) -> list[CaseOutcome]:
        """What came of each case once every run is known."""
        found = []
        for number, case in enumerate(self._cases):
            first = self._places.first(number)
            runs = range(first, first + case.repetitions)
            found.append(
                outcome_of(number, case, [known[n] for n in runs], [self.name(n) for n in runs])
            )
        return found


def suite_of(test_suite: Any) -> dict[str, Any]:
    """A suite as ``tasks.evaluate_ai_model`` takes it: a list of cases, or an object with them.

    Raises:
        InputError: it is neither.
    """
    if isinstance(test_suite, list):
        return {"name": "safety", "cases": test_suite}
    if not isinstance(test_suite, dict):
        raise InputError("test_suite", "must be a list of cases, or an object with cases")
    return {"name": "safety", **test_suite}
