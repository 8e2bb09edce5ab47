"""Answers of the API that are no evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from crucible.models import Status, Verdict  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from crucible.errors import ApiError
    from crucible.models import Evaluation


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A submission that was accepted.

    Attributes:
        eval_id: its id.
        task_id: id of its Celery task.
        status: ``queued``; of a submission known before, where it stands.
        queue: the queue its message is in.
        queue_system: which queue system took it.
    """

    eval_id: str
    task_id: str
    status: Status
    queue: str = ""
    queue_system: Literal["celery", "legacy"] = "celery"


class BatchItem(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one program of a batch.

    Attributes:
        status: ``queued`` or ``rejected``; of one known before, where it stands.
        eval_id: its id, where it was accepted.
        task_id: id of its Celery task.
        queue: the queue its message is in.
        error: why it was rejected: a problem document.
    """

    status: str
    eval_id: str | None = None
    task_id: str | None = None
    queue: str | None = None
    error: dict[str, Any] | None = None


class Event(msgspec.Struct, kw_only=True):
    """Something that happened to an evaluation.

    Attributes:
        eval_id: its id.
        status: where it stands now.
        verdict: how its program ended, once it has.
        progress: as the task that runs it reports it.
        at: when, as the API writes times.
        seq: orders the events of one evaluation.
        event_id: where a stream that was cut is taken up again.
    """

    eval_id: str
    status: Status
    verdict: Verdict | None = None
    progress: Any = None
    at: Any = None
    seq: int = 0
    event_id: str = ""


class Resync(NamedTuple):
    """Events are missing here: the API does not keep them any more, or the reader was too slow.

    Attributes:
        event_id: where the stream goes on.
    """

    event_id: str


@dataclass(frozen=True, slots=True)
class Completed:
    """One of many programs, once it has ended or was refused.

    Attributes:
        index: its place among the programs.
        evaluation: how it ended; None where it was refused.
        error: why it was refused, or could not be sent.
    """

    index: int
    evaluation: Evaluation | None
    error: ApiError | None
