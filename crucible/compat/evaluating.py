"""One program from a facade's request to its end."""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.compat.context import CONTEXT
from crucible.errors import BrokerError, CrucibleError, InputError, LegacyError
from crucible.evaluation.limits import LimitsRequest
from crucible.evaluation.request import EvalRequest
from crucible.evaluation.result import bytes_of
from crucible.models import ENDED, LIMIT_FLOORS, Evaluation, Limits, Verdict
from crucible.validation import input_error

if TYPE_CHECKING:
    from aiohttp import web

#: Verdicts that say nothing about the program.
PLATFORM = frozenset({Verdict.INTERNAL_ERROR, Verdict.CANCELLED, Verdict.EXPIRED})
#: Verdicts by which a program was stopped for time.
TIMED_OUT = frozenset({Verdict.TIMEOUT, Verdict.CPU_LIMIT})


class OverloadedError(CrucibleError):
    """The program was not run in the time the client waits for it."""


def clamped(value: float, least: float, most: float) -> float:
    """A number, or the nearest that is allowed; no number at all is the least."""
    return min(max(value, least), most) if value == value else least


def limits_within(ceilings: Limits, **asked: float | None) -> LimitsRequest:
    """Limits as other systems take them: what is too much or too little is the nearest allowed.

    Args:
        ceilings: the most a program may ask for.
        asked: by the names of ``models.Limits``; None and negative values take the most.
    """
    found: dict[str, Any] = {}
    for name, value in asked.items():
        most, least = getattr(ceilings, name), getattr(LIMIT_FLOORS, name)
        wanted = most if value is None or value < 0 else value
        found[name] = type(most)(min(max(wanted, least), most))
    return LimitsRequest(**found)


async def evaluate(
    request: web.Request, fields: dict[str, Any], patience_s: float, eval_id: str = ""
) -> Evaluation:
    """Run a program and return it ended.

    Args:
        request: the facade's.
        fields: of ``POST /api/eval``.
        patience_s: seconds that the client waits for an answer.
        eval_id: its id, where the caller has to know it meanwhile.

    Raises:
        InputError: it could never run.
        OverloadedError: it was not queued, or has not ended in time; it is cancelled then.
    """
    context = request.app[CONTEXT]
    caller, service = context.caller_of(request), context.service
    eval_id = eval_id or uuid.uuid4().hex
    asked = request_of({**fields, "eval_id": eval_id})
    until = time.monotonic() + patience_s
    try:
        submitted, ended = await service.submit_and_wait(caller, asked, None, patience_s)
        while ended is None:
            left = until - time.monotonic()
            if left <= 0:
                await service.cancel(caller, submitted.eval_id)
                raise OverloadedError(f"it did not end within {patience_s:g} s")
            await service.wait(caller, submitted.eval_id, left)
            found = await service.look_up(caller, submitted.eval_id)
            ended = found if found.status in ENDED else None
    except (BrokerError, LegacyError) as error:
        raise OverloadedError(str(error)) from error
    except asyncio.CancelledError:
        # Nobody waits for it any more.
        with suppress(CrucibleError):
            await service.cancel(caller, eval_id)
        raise
    return ended


def request_of(fields: dict[str, Any]) -> EvalRequest:
    """The request for a program.

    Raises:
        InputError: a field is of the wrong shape.
    """
    try:
        return msgspec.convert(fields, EvalRequest)
    except msgspec.ValidationError as error:
        raise input_error(error, EvalRequest) from None


def texts(evaluation: Evaluation) -> tuple[str, str]:
    """Standard output and standard error; bytes that are not UTF-8 are replaced."""
    return (
        bytes_of(evaluation.output, evaluation.output_encoding).decode(errors="replace"),
        bytes_of(evaluation.error, evaluation.error_encoding).decode(errors="replace"),
    )


def seconds_of(evaluation: Evaluation) -> float:
    """Wall time of the program."""
    return (evaluation.usage.wall_time_ms if evaluation.usage else 0) / 1000


def language_of(names: dict[str, str], name: str) -> str:
    """A language by our name.

    Args:
        names: ours by those of the facade.
        name: as the client calls it.

    Raises:
        InputError: the facade has no such language.
    """
    found = names.get(name)
    if found is None:
        known = ", ".join(sorted(names))
        raise InputError("language", f"is unknown here; known are {known}")
    return found
