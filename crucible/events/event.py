"""One transition of an evaluation, and how it is stored on the bus."""

from __future__ import annotations

import enum
from typing import Any, Literal

import msgspec

#: Name of the one field of a stream entry: the version of the format of its value. Fields may be
#: added at the end of ``Event`` within a version, since readers ignore what they do not know.
FORMAT = b"1"

#: ``seq`` is decimal, so that it can be read: attempt, retries, deliveries, step. The largest that
#: can occur is below 2**53, the end of what JavaScript's numbers hold.
ATTEMPT, RETRY, DELIVERY = 10**12, 10**8, 10**5
#: Steps of one delivery: QUEUED, RUNNING, then the reports of progress, RETRYING.
QUEUED, RUNNING, RETRYING = 0, 1, DELIVERY - 1
MAX_PROGRESS = RETRYING - RUNNING - 1
_MAX_ATTEMPT, _MAX_RETRIES, _MAX_DELIVERIES = 8_999, ATTEMPT // RETRY - 2, RETRY // DELIVERY - 1


class Transition(enum.StrEnum):
    """What happened to an evaluation."""

    QUEUED = "queued"
    RUNNING = "running"
    PROGRESS = "progress"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEAD_LETTER = "dead_letter"


#: Transitions after which nothing follows in the same attempt.
TERMINAL = frozenset(
    {
        Transition.COMPLETED,
        Transition.FAILED,
        Transition.CANCELLED,
        Transition.EXPIRED,
        Transition.DEAD_LETTER,
    }
)


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One transition. Stored as a msgpack array of the fields in this order.

    Fields that an event's transition does not know have their defaults.

    Attributes:
        eval_id: which evaluation.
        seq: its order among the events of the evaluation; see ``sequence``.
        at: when, milliseconds since the epoch by the clock of the process that saw it.
        transition: what happened.
        status: the evaluation's status from then on, as the HTTP API shows it.
        tenant: whose evaluation it is.
        queue: the queue of its message; empty where that is not known.
        queue_system: ``celery`` or ``legacy``.
        retry_count: how often it was tried before.
        attempt: 0, and one more for each time it was started anew after it had ended.
        deliveries: deliveries of this try that ended with their worker.
        worker: node name of the worker; None before one has it.
        verdict: how it ended; None before.
        progress: as its task reports it, in percent; None where it reports none.
        message: why it is retried or failed, shortened.
        language: of the program (of queued events only, as the next four).
        environment: that was asked for; None for the default.
        priority: of the user, 0 to 9.
        code_bytes: size of the program.
        metadata: the client's own.
        started_ms: when this try started, milliseconds since the epoch (of ended ones, as all that
            follow).
        sandbox_ms: waiting for and preparing a sandbox.
        run_ms: from handing the program over to its end.
        wall_time_ms: used by the program.
        cpu_time_ms: used by the program.
        memory_peak_kb: used by the program.
        exit_code: of the program.
        signal: that ended the program.
        isolation: that it had.
        output_bytes: size of its standard output.
        error_bytes: size of its standard error.
        output_truncated: some output was cut.
        traceparent: of its trace (W3C Trace Context); empty where it is not traced.
    """

    eval_id: str
    seq: int
    at: int
    transition: Transition
    status: str
    tenant: str = "local"
    queue: str = ""
    queue_system: Literal["celery", "legacy"] = "celery"
    retry_count: int = 0
    attempt: int = 0
    deliveries: int = 0
    worker: str | None = None
    verdict: str | None = None
    progress: float | None = None
    message: str | None = None
    language: str = ""
    environment: str | None = None
    priority: int | None = None
    code_bytes: int | None = None
    metadata: dict[str, Any] | None = None
    started_ms: int | None = None
    sandbox_ms: int | None = None
    run_ms: int | None = None
    wall_time_ms: int | None = None
    cpu_time_ms: int | None = None
    memory_peak_kb: int | None = None
    exit_code: int | None = None
    signal: int | None = None
    isolation: str | None = None
    output_bytes: int | None = None
    error_bytes: int | None = None
    output_truncated: bool = False
    traceparent: str = ""

    @property
    def terminal(self) -> bool:
        """Whether nothing follows in the same attempt."""
        return self.transition in TERMINAL


def sequence(step: int, *, attempt: int = 0, retries: int = 0, deliveries: int = 0) -> int:
    """The order of an event that is not terminal among those of its evaluation.

    Made of what the message itself carries, so that api and workers need not ask each other. A
    later attempt, retry, delivery or step has a higher number.

    Args:
        step: ``QUEUED``, ``RUNNING``, ``RUNNING`` plus the number of a progress report, or
            ``RETRYING``.
        attempt: how often it was started anew after it had ended.
        retries: how often it was tried before in this attempt.
        deliveries: deliveries of this try that ended with their worker.
    """
    return (
        min(attempt, _MAX_ATTEMPT) * ATTEMPT
        + min(retries, _MAX_RETRIES) * RETRY
        + min(deliveries, _MAX_DELIVERIES) * DELIVERY
        + min(step, RETRYING)
    )


def terminal_sequence(attempt: int = 0) -> int:
    """The order of the end of an attempt: above everything else in it.

    The same for every end: where two workers ran the same attempt, the first end counts, as the
    first result stays.
    """
    return (min(attempt, _MAX_ATTEMPT) + 1) * ATTEMPT - 1


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """As stored."""
    return _encoder.encode(event)


def decode_event(data: bytes) -> Event:
    """The inverse of ``encode_event``.

    Raises:
        msgspec.DecodeError: not an event of this version.
    """
    return _decoder.decode(data)
