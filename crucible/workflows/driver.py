"""Runs the steps of a workflow as evaluations, each once those it waits for have succeeded.

Ids of evaluations follow from the numbers of their steps, so whoever takes over from a worker that
died repeats nothing. Turns end as those of assessments do: see ``crucible.assessments.driver``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import (
    BrokerError,
    BrokerUnavailable,
    ConflictError,
    InputError,
    NotFound,
    QueueFull,
)
from crucible.evaluation.record import public_id, tenant_of
from crucible.identity.principal import SCOPES, Principal
from crucible.models import Verdict
from crucible.workflows.handing import program_of
from crucible.workflows.record import Stage, StepState, Workflow, eval_id_of, scoped_eval_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.evaluation.inner_service import InnerService
    from crucible.models import Evaluation
    from crucible.workflows.store import WorkflowStore

#: Seconds of one turn, and of silence after which it ends.
TURN_S, QUIET_S = 120.0, 2.0
#: Seconds of the lease, which ends before a dead worker's message comes back.
LEASE_S = 10
#: Seconds of one wait, and until what was refused is submitted again.
_TICK_S, _WAIT_S, _AGAIN_S = 0.5, 5.0, 1.0
_PASSED = frozenset({Verdict.OK, Verdict.ACCEPTED})


class Taken(Exception):  # noqa: N818 - a state of the workflow
    """Somebody else runs it, or it does not run any more."""


class Driver:
    """One turn of one workflow.

    Args:
        store: keeps it.
        inner: takes evaluations.
        workflow_id: its scoped id.
        holder: who has its lease.
    """

    def __init__(
        self, store: WorkflowStore, inner: InnerService, workflow_id: str, holder: str
    ) -> None:
        self._store = store
        self._service = inner.service
        self._id = workflow_id
        self._holder = holder
        self._caller = Principal("", tenant_of(workflow_id), frozenset(SCOPES))
        self._followed: dict[int, asyncio.Task[StepState | None]] = {}

    async def turn(self) -> bool:
        """Whether every step has ended when the turn does.

        Raises:
            Taken: the workflow was cancelled, or somebody else has the lease.
            BrokerError: the server does not answer.
        """
        now = asyncio.get_running_loop().time
        ends_at, quiet_at = now() + TURN_S, now() + QUIET_S
        try:
            while True:
                workflow = await self._running()
                if workflow.ended == len(workflow.plan.steps):
                    return True
                if await self._advance(workflow) or await self._collect():
                    quiet_at = now() + QUIET_S
                if now() >= min(ends_at, quiet_at):
                    return False
        finally:
            for task in self._followed.values():
                task.cancel()
            await asyncio.gather(*self._followed.values(), return_exceptions=True)

    async def _running(self) -> Workflow:
        if not await self._store.lease(self._id).take(self._holder, LEASE_S):
            raise Taken("another worker runs this workflow")
        workflow = await self._store.get(self._id)
        if workflow.stage is not Stage.RUNNING:
            raise Taken(f"the workflow is {workflow.stage}")
        return workflow

    async def _advance(self, workflow: Workflow) -> bool:
        """Submit what can run, skip what cannot any more; whether a step has ended so."""
        skipped = dict(_skipped(workflow))
        if skipped:
            await self._keep(skipped)
            return True
        ready = dict.fromkeys(_ready(workflow), StepState("submitted"))
        if ready:
            # Before anything is queued: whoever cancels finds every evaluation there may be.
            await self._keep(ready)
            workflow.states.update(ready)
        for number, state in workflow.states.items():
            if state.status == "submitted" and number not in self._followed:
                self._followed[number] = asyncio.create_task(
                    self._run(workflow, number), name=f"crucible-workflow-step-{number}"
                )
        return False

    async def _keep(self, states: dict[int, StepState]) -> None:
        _, made = await self._store.move(self._id, [Stage.RUNNING], states)
        if not made:
            raise Taken("the workflow does not run any more")

    async def _collect(self) -> bool:
        done, _ = await asyncio.wait(
            self._followed.values(), timeout=_TICK_S, return_when=asyncio.FIRST_COMPLETED
        )
        ended = {}
        for number in [number for number, task in self._followed.items() if task in done]:
            state = self._followed.pop(number).result()
            if state is not None:
                ended[number] = state
        if ended:
            await self._keep(ended)
        return bool(ended)

    async def _run(self, workflow: Workflow, number: int) -> StepState | None:
        """Submit a step and wait until it has ended; None where that has to be done again."""
        step, eval_id = workflow.plan.steps[number], scoped_eval_id(self._id, number)
        try:
            program = program_of(step, await self._sources(workflow, number))
            program = msgspec.structs.replace(
                program,
                eval_id=eval_id_of(self._id, number),
                metadata={"workflow": public_id(self._id), "step": step.id},
            )
            await self._service.submit(self._caller, program)
            while not await self._service.wait_for(eval_id, _WAIT_S):
                pass
            return _state_of(await self._service.find(eval_id))
        except (InputError, ConflictError) as error:
            return StepState("failed", Verdict.INTERNAL_ERROR, str(error))
        except (QueueFull, BrokerUnavailable):
            await asyncio.sleep(_AGAIN_S)
            return None
        except NotFound:
            return None
        except BrokerError as error:
            return StepState("failed", Verdict.INTERNAL_ERROR, str(error))

    async def _sources(self, workflow: Workflow, number: int) -> dict[str, Evaluation]:
        """The evaluations whose outputs a step is handed."""
        numbers = {step.id: at for at, step in enumerate(workflow.plan.steps)}
        wanted = {
            source for handed in workflow.plan.steps[number].inputs for source in handed.sources
        }
        found = {}
        for one in wanted:
            try:
                found[one] = await self._service.find(scoped_eval_id(self._id, numbers[one]))
            except NotFound:
                raise InputError(
                    "inputs", f"the output of step {one} is not kept any more"
                ) from None
        return found


def _ready(workflow: Workflow) -> Iterator[int]:
    """Steps that wait for nothing any more."""
    succeeded = _with_status(workflow, "completed")
    for number, step in enumerate(workflow.plan.steps):
        if number not in workflow.states and succeeded.issuperset(step.after):
            yield number


def _skipped(workflow: Workflow) -> Iterator[tuple[int, StepState]]:
    """Steps that wait for one that did not succeed."""
    lost = _with_status(workflow, "failed", "skipped")
    for number, step in enumerate(workflow.plan.steps):
        missing = [one for one in step.after if one in lost]
        if number not in workflow.states and missing:
            yield number, StepState("skipped", "", f"step {missing[0]} did not succeed")


def _with_status(workflow: Workflow, *statuses: str) -> set[str]:
    return {
        workflow.plan.steps[number].id
        for number, state in workflow.states.items()
        if state.status in statuses
    }


def _state_of(evaluation: Evaluation) -> StepState:
    verdict = evaluation.verdict or Verdict.INTERNAL_ERROR
    status = "completed" if verdict in _PASSED else "failed"
    return StepState(status, verdict, evaluation.message or "")
