"""The records that producers and workers write to the ledger, and the faults injected.

Times are seconds since the epoch; everything runs on one machine, so there is one clock, and it is
the queue server's too.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Expected(msgspec.Struct, frozen=True):
    """A task that a producer is about to send.

    Attributes:
        id: its task id.
        eta: earliest start; None: at once.
        after: ids whose results it must be passed, each exactly once.
    """

    id: str
    eta: float | None = None
    after: tuple[str, ...] = ()


class Offered(msgspec.Struct, tag=True, frozen=True):
    """A producer is about to send a work: one task, or the tasks of one canvas."""

    work: str
    kind: str
    producer: str
    tasks: tuple[Expected, ...]
    at: float


class Accepted(msgspec.Struct, tag=True, frozen=True):
    """The queue server confirmed the whole work: from now on none of it may be lost."""

    work: str
    at: float


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The producer got an error; some of the work may have been sent nevertheless."""

    work: str
    error: str
    at: float


class Ready(msgspec.Struct, tag=True, frozen=True):
    """A worker process has started."""

    worker: str
    pid: int
    at: float


class Started(msgspec.Struct, tag=True, frozen=True):
    """An execution started.

    Attributes:
        run: id of this execution.
        attempt: number of retries before it; each attempt is a separate message.
        eta: the eta in the message.
    """

    run: str
    task: str
    attempt: int
    worker: str
    pid: int
    at: float
    eta: float | None = None


class Ended(msgspec.Struct, tag=True, frozen=True):
    """An execution finished.

    Attributes:
        retry: the task raised Retry.
        got: ids of the results it was passed.
    """

    run: str
    at: float
    retry: bool = False
    got: tuple[str, ...] = ()


Record = Offered | Accepted | Refused | Ready | Started | Ended


class FaultKind(StrEnum):
    """Kinds of faults, the most severe first."""

    KILL = "SIGKILL"
    TERM_TWICE = "SIGTERM twice"
    STOP = "SIGSTOP"
    STALL = "link stalled"
    BLACKHOLE = "link black hole"
    LOST_REPLIES = "replies lost"
    RESET = "link reset"
    RESTART = "queue server killed"
    TERM = "SIGTERM"


class Fault(msgspec.Struct):
    """One fault.

    Attributes:
        kind: what was done.
        worker: the affected worker; empty: the queue server, and so every worker.
        begin: when it started.
        end: when it was over; None: never.
        held: number of executions running on the worker at that time.
        claims: number of claims a killed worker left, as far as observed.
        back_s: seconds until the last of them was recovered; None: not measured.
    """

    kind: FaultKind
    worker: str
    begin: float
    end: float | None = None
    held: int = 0
    claims: int = 0
    back_s: float | None = None


_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def encode(record: Record) -> bytes:
    """The ledger's form of a record."""
    return _encoder.encode(record)


def decode(raw: bytes) -> Record:
    """The record of a ledger entry."""
    return _decoder.decode(raw)
