"""The JSON between the legacy queue service, its workers and its clients.

Bytes inside a program or an outcome (stdin, stdout, stderr, files) are base64.
"""

from __future__ import annotations

import enum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from crucible.breaker import Circuit
from crucible.models import Outcome, Program  # noqa: TC001 - msgspec reads annotations at run time

#: The one id no task can have: ``GET /tasks/next`` takes a task.
RESERVED_ID = "next"
#: Ids are part of URLs. An evaluation of another tenant than ``local`` has its tenant in front.
_ID = r"^(?!next\Z)([A-Za-z0-9][A-Za-z0-9_.-]{0,63}:)?[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z"
TaskId = Annotated[str, Meta(pattern=_ID)]
Message = Annotated[str, Meta(max_length=2000)]


class TaskState(enum.StrEnum):
    """Where a legacy task stands."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: A task in one of these does not change any more.
ENDED_STATES = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})


class Submission(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /tasks``."""

    id: TaskId
    program: Program


class TakenTask(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``GET /tasks/next``."""

    id: str
    program: Program


class StatusChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /tasks/{id}/status``: a worker runs it, or could not."""

    status: Literal["running", "failed"]
    message: Message = ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /tasks/find``: ids of the tasks to return."""

    ids: Annotated[list[str], Meta(max_length=1000)]


#: The circuit breakers that a worker sends when it asks for a task.
Circuits = Annotated[dict[str, Circuit], Meta(max_length=100)]


class Drain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``PUT /drain`` and its answer."""

    draining: bool


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task without its program and result.

    Attributes:
        id: the evaluation's id.
        status: where it stands.
        worker: name of the worker that took it; empty while it waits.
        message: why it failed; empty otherwise.
        created_at: UTC, ISO 8601, as the other two.
        started_at: when a worker took it.
        finished_at: when it ended.
    """

    id: str
    status: TaskState
    worker: str = ""
    message: str = ""
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None


class TaskResult(TaskView, frozen=True, kw_only=True):
    """A task with its result.

    Attributes:
        outcome: how its program ended; None unless ``status`` is ``completed``.
    """

    outcome: Outcome | None = None


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``GET /tasks``, oldest first."""

    tasks: list[TaskView]


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of ``GET /stats``.

    Attributes:
        queued: tasks waiting.
        running: tasks taken and not ended.
        ended: tasks whose result is still kept.
        ended_bytes: memory their results take, as far as output and files go.
        submitted_total: accepted since the service started, as the other totals count.
        completed_total: ended with an outcome.
        failed_total: could not be run.
        cancelled_total: cancelled while they waited.
        forgotten_total: ended tasks dropped to make room.
        draining: new tasks are refused.
        oldest_queued_s: seconds the first in line has waited; 0 when none waits.
        idle_poll_s: seconds since a worker last asked for a task; None when none ever did.
        uptime_s: seconds since the service started.
        circuits: circuit breakers of the workers that asked for a task lately, by downstream.
    """

    queued: int
    running: int
    ended: int
    ended_bytes: int
    submitted_total: int
    completed_total: int
    failed_total: int
    cancelled_total: int
    forgotten_total: int
    draining: bool
    oldest_queued_s: float
    idle_poll_s: float | None
    uptime_s: float
    circuits: dict[str, Circuit] = {}
