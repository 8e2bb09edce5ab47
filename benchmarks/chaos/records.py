"""What producers and workers write into the ledger, and what the battle itself did to them.

Times are seconds since the epoch; everything runs on one machine, so there is one clock, and it is
the queue server's too.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Expected(msgspec.Struct, frozen=True):
    """A task that a producer means to send.

    Attributes:
        id: its task id.
        eta: when it may start at the earliest; None at once.
        after: ids whose results it must be given, all of them and each once.
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
    """The queue server confirmed all of it: from now on none of it may be lost."""

    work: str
    at: float


class Refused(msgspec.Struct, tag=True, frozen=True):
    """The producer was told an error; some of it may have been sent all the same."""

    work: str
    error: str
    at: float


class Ready(msgspec.Struct, tag=True, frozen=True):
    """A worker process is up."""

    worker: str
    pid: int
    at: float


class Started(msgspec.Struct, tag=True, frozen=True):
    """A task began to run.

    Attributes:
        run: names this execution.
        attempt: retries before it; each attempt is a message of its own.
        eta: as the message had it.
    """

    run: str
    task: str
    attempt: int
    worker: str
    pid: int
    at: float
    eta: float | None = None


class Ended(msgspec.Struct, tag=True, frozen=True):
    """An execution came to its end.

    Attributes:
        retry: it ended in asking for another try.
        got: results it was given.
    """

    run: str
    at: float
    retry: bool = False
    got: tuple[str, ...] = ()


Record = Offered | Accepted | Refused | Ready | Started | Ended


class FaultKind(StrEnum):
    """What was done, the worst first."""

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
        worker: to whom; empty: to the queue server, and so to everybody.
        begin: when.
        end: when it was over; None for ever.
        held: executions that ran on the worker just then.
        claims: claims a killed worker left, as far as they were seen.
        back_s: seconds until the last of them was taken away from its name; None: not measured.
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
