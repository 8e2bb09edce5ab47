"""``/assessments/{assessment_id}/events``: the progress of one assessment as server-sent events.

Assessments have no entries on the event bus: what is sent is what ``GET /assessments/{id}`` shows,
whenever it has changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from crucible.api.app_keys import EVENT_HUB
from crucible.api.assessments import ASSESSMENTS
from crucible.api.callers import caller_of
from crucible.api.events.frames import HEARTBEAT, opening
from crucible.api.events.handlers import last_event_id, plain_answer
from crucible.api.events.stream import HEARTBEAT_S, Stream
from crucible.assessments.record import OVER, Stage, task_id_of
from crucible.assessments.view import info_of
from crucible.errors import BrokerError, NotFound
from crucible.evaluation.record import public_id
from crucible.events.position import START, Position

if TYPE_CHECKING:
    from crucible.assessments.record import Head
    from crucible.assessments.service import AssessmentService
    from crucible.identity.principal import Principal

#: Seconds between two looks: as often as a running assessment stores its progress.
_LOOK_S = 0.5

_encode = msgspec.json.Encoder().encode


class AssessmentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an ``assessment`` event.

    Attributes:
        assessment_id: which assessment.
        task_id: its task.
        status: its status from then on.
        verdict: ``passed`` or ``failed`` once it has completed; null before.
        progress: percent; it never falls.
        current_step: what it does now.
        message: the same in one sentence.
        updated_at: when that was last true.
        at: the same, milliseconds since the epoch.
        seq: its order among the events of the assessment: higher is later.
    """

    assessment_id: str
    task_id: str
    status: str
    verdict: str | None
    progress: float
    current_step: str
    message: str
    updated_at: str
    at: int
    seq: int


def seq_of(head: Head) -> int:
    """What grows with every change that an assessment goes through."""
    if head.stage in OVER:
        return head.runs + 5
    if head.stage is Stage.RUNNING:
        # Between the last run and the end it writes its reports.
        return 3 + head.ended + (head.step == "writing reports")
    return 1 if head.stage is Stage.CREATED else 2


def position_of(head: Head) -> Position:
    """The id of the event that an assessment is now."""
    return Position(head.updated_ms, seq_of(head))


def event_of(head: Head) -> AssessmentEvent:
    """The event that an assessment is now, with its public ids."""
    info = info_of(head)
    verdict = None if head.passed is None else "passed" if head.passed else "failed"
    return AssessmentEvent(
        assessment_id=public_id(head.id),
        task_id=task_id_of(public_id(head.id)),
        status=head.stage,
        verdict=verdict,
        progress=info.progress,
        current_step=info.current_step,
        message=info.message,
        updated_at=info.updated_at,
        at=head.updated_ms,
        seq=seq_of(head),
    )


def assessment_frame(head: Head) -> bytes:
    """The event that an assessment is now, as bytes."""
    position = str(position_of(head)).encode()
    return b"event: assessment\nid: %s\ndata: %s\n\n" % (position, _encode(event_of(head)))


async def follow_assessment(request: web.Request) -> web.StreamResponse:
    """``GET /assessments/{assessment_id}/events``: its changes, from what it is now to its end.

    204 where a client that has seen the end asks again, as browsers do: that makes them stop.
    """
    caller, service = caller_of(request), request.app[ASSESSMENTS]
    head = await service.look_up(caller, request.match_info["assessment_id"])
    resumed = last_event_id(request)
    hub = request.app.get(EVENT_HUB)
    if (answer := plain_answer(request, hub, caller.tenant)) is not None:
        return answer
    assert hub is not None
    if resumed is not None and head.stage in OVER and resumed == position_of(head):
        return web.Response(status=204)
    with hub.serving(caller.tenant):
        stream = Stream(request, hub)
        await stream.open()
        if resumed is None:
            await stream.send(opening(START))
        # Nothing comes of it but its end: the client leaves, its key ends, the api stops.
        subscription = hub.subscribe(after=START, eval_id=head.task_id)
        with stream.ending(subscription):
            follower = _Follower(stream, service, caller, head, resumed)
            while not subscription.cut and await follower.send_change():
                await subscription.take(_LOOK_S)
            if subscription.cut:
                await stream.say_cut(subscription)
    return stream.response


class _Follower:
    def __init__(
        self,
        stream: Stream,
        service: AssessmentService,
        caller: Principal,
        head: Head,
        resumed: Position | None,
    ) -> None:
        self._stream = stream
        self._service = service
        self._caller = caller
        self._id = public_id(head.id)
        self._sent = 0 if resumed is None else resumed.number
        self._silent_s = 0.0

    async def send_change(self) -> bool:
        """Send the assessment if it has changed; False once it has ended or is gone."""
        try:
            head = await self._service.look_up(self._caller, self._id)
        except NotFound:
            return False
        except BrokerError:
            return True  # the server may be back at the next look
        if seq_of(head) > self._sent:
            self._sent, self._silent_s = seq_of(head), 0.0
            await self._stream.send(assessment_frame(head))
        else:
            self._silent_s += _LOOK_S
            if self._silent_s >= HEARTBEAT_S:
                self._silent_s = 0.0
                await self._stream.send(HEARTBEAT)
        return head.stage not in OVER
