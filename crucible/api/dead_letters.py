"""The handlers of ``/api/v1/dlq``: messages that could not be run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from crucible.api.app_keys import ADMIN, EVENTS
from crucible.api.callers import caller_of
from crucible.broker.claiming.deadletters import DeadLetter, is_letter_id, shown
from crucible.errors import NotFound, ParameterError
from crucible.evaluation.record import TASK_ID_PREFIX
from crucible.evaluation.task_directory import is_visible
from crucible.evaluation.transitions import queued_again, replayed, scoped_of
from crucible.http.answers import json_answer
from crucible.http.query import limit_of
from crucible.validation import quoted

if TYPE_CHECKING:
    from crucible.identity.principal import Principal

#: Dead letters in one answer, by default and at most.
PAGE, LARGEST_PAGE = 50, 1000
#: Pages that are looked through for letters of one tenant.
_LOOKS = 20


class LetterShown(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dead letter as ``deadletters.shown`` has it.

    Attributes:
        id: its id.
        queue: the queue it came from.
        reason: unreadable, unregistered, rejected, undeliverable, unsettled, failed.
        detail: one sentence for people.
        task_id: id of the task, empty where it could not be read.
        task: name of the task, empty where it could not be read.
        attempts: tries or deliveries made; null where it was never run.
        at: when, seconds since the epoch.
        message: the message, as JSON where it is JSON, else as text.
    """

    id: str
    queue: str
    reason: str
    detail: str
    task_id: str
    task: str
    attempts: int | None
    at: float | None
    message: Any


class LetterPage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``GET /api/v1/dlq``.

    Attributes:
        dead_letters: the newest first.
        before: value of ``before`` for the next page; null after the last.
    """

    dead_letters: list[LetterShown]
    before: str | None


class Replayed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a 202: a dead letter's message is in its queue again.

    Attributes:
        id: id of the dead letter that is no more.
        queue: the queue its message was put back into.
    """

    id: str
    queue: str


async def list_(request: web.Request) -> web.Response:
    """``GET /api/v1/dlq[?limit=&before=]``: the newest dead letters first."""
    limit, caller = limit_of(request, PAGE, LARGEST_PAGE), caller_of(request)
    before = _checked_id("before", request.query.get("before", ""))
    found: list[DeadLetter] = []
    # Letters of others are passed over; a page may have fewer than asked for, or none.
    for _ in range(1 if "admin" in caller.scopes else _LOOKS):
        letters = await request.app[ADMIN].dead_letters.page(limit - len(found), before)
        more = len(letters) == limit - len(found)
        found += [letter for letter in letters if _is_visible(caller, letter)]
        if letters:
            before = letters[-1].letter_id
        if not more or len(found) == limit:
            break
    following = before if more else None
    return json_answer({"dead_letters": [shown(one) for one in found], "before": following})


def _is_visible(caller: Principal, letter: DeadLetter) -> bool:
    """Whether a caller may know of a letter: that of an evaluation of its own, or an admin any."""
    if "admin" in caller.scopes:
        return True
    return letter.task_id.startswith(TASK_ID_PREFIX) and is_visible(caller, letter.task_id)


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/dlq/{letter_id}``: one of them."""
    return json_answer(shown(await _letter_of(request)))


async def replay(request: web.Request) -> web.Response:
    """``POST /api/v1/dlq/{letter_id}/replay``: put its message back into its queue."""
    letter = await _letter_of(request)
    eval_id = scoped_of(letter.task_id)
    if not await request.app[ADMIN].dead_letters.replay(letter, count_attempt=bool(eval_id)):
        raise NotFound(f"the dead letter {letter.letter_id} is no longer there")
    if eval_id:
        request.app[EVENTS].add(queued_again(replayed(eval_id, letter.queue, letter.raw)))
    return json_answer(Replayed(id=letter.letter_id, queue=letter.queue), status=202)


async def delete(request: web.Request) -> web.Response:
    """``DELETE /api/v1/dlq/{letter_id}``: delete it for good."""
    letter = await _letter_of(request)
    await request.app[ADMIN].dead_letters.purge([letter.letter_id])
    return web.Response(status=204)


async def _letter_of(request: web.Request) -> DeadLetter:
    letter_id = request.match_info["letter_id"]
    letters = request.app[ADMIN].dead_letters
    letter = await letters.get(letter_id)
    if letter is None or not _is_visible(caller_of(request), letter):
        raise NotFound(f"no dead letter has the id {quoted(letter_id)}")
    return letter


def _checked_id(field: str, text: str) -> str:
    if text and not is_letter_id(text):
        raise ParameterError(field, "must be the id of a dead letter")
    return text
