"""``tasks.evaluate_with``: hands outputs on in canvases that Celery clients send.

::

    chain(
        signature("tasks.evaluate_code", ["a", "print(6)"]),
        signature("tasks.evaluate_with", ["b", "print(int(input()) * 7)"]),
    )
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.canvas.signature import signature
from crucible.errors import InputError
from crucible.evaluation.messages import TASK as EVALUATE
from crucible.evaluation.request import EvalRequest, options_of
from crucible.evaluation.result import EvalResult
from crucible.validation import input_error
from crucible.workflows.handing import program_of
from crucible.workflows.request import InputRequest, Step

if TYPE_CHECKING:
    from crucible.worker import TaskContext

HAND_ON = "tasks.evaluate_with"
_QUEUE = "evaluation"


async def evaluate_with(
    ctx: TaskContext,
    results: Any,
    eval_id: str,
    code: str,
    language: str = "python",
    into: str = "stdin",
    name: str | None = None,
    **options: Any,
) -> None:
    """Evaluate a program with the output of what came before it: ``tasks.evaluate_code`` runs it.

    Args:
        ctx: the task.
        results: what ``tasks.evaluate_code`` returned; of a chord's header a list of it.
        eval_id: as of ``tasks.evaluate_code``.
        code: the same.
        language: the same.
        into: ``stdin``, ``file``, ``arg`` or ``env``.
        name: of the file or variable.
        options: as of ``tasks.evaluate_code``.

    Raises:
        InputError: what came before is no evaluation, or did not succeed; or an option is wrong.
    """
    sources = results if isinstance(results, list) else [results]
    ended = {str(number): _succeeded(result) for number, result in enumerate(sources)}
    handed = {"from": list(ended), "as": into, "name": name}
    try:
        program = msgspec.convert({"code": code, "language": language, **options}, EvalRequest)
        inputs = [msgspec.convert(handed, InputRequest)]
    except msgspec.ValidationError as error:
        raise input_error(error) from None
    program = program_of(Step(id="-", program=program, inputs=inputs), ended)
    arguments = [eval_id, code, language]
    raise ctx.replace(signature(EVALUATE, arguments, options_of(program), queue=_QUEUE))


def _succeeded(result: Any) -> EvalResult:
    try:
        evaluation = msgspec.convert(result, EvalResult)
    except msgspec.ValidationError:
        raise InputError("results", "is not what an evaluation returns") from None
    if evaluation.verdict not in ("ok", "accepted"):
        raise InputError("results", f"{evaluation.eval_id} ended with {evaluation.verdict}")
    return evaluation
