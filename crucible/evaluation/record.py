"""What is kept of a submission beside its message: its content's fingerprint, when, and where."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

#: Ids of Celery tasks of evaluations begin with this.
TASK_ID_PREFIX = "eval-"
#: Seconds a submission is remembered at least while it has not completed: its message may wait or
#: be retried for longer than results are kept.
_UNENDED_S = 7 * 86_400
#: As good as for ever, where results are kept so: what is published under a name has some TTL.
_FOR_EVER_S = 100 * 365 * 86_400


class Record(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """The value of an evaluation's idempotency record. Small: there is one for each queued message.

    Attributes:
        digest: fingerprint of the content, to distinguish a repetition from a different request.
        created_ms: when the submission was accepted, milliseconds since the epoch.
        queue: where its message went.
        language: of the program.
        queue_system: which queue system took it.
        metadata: the client's own, returned as it came.
        shadow: Celery was sent a copy of what the legacy queue runs.
    """

    digest: bytes
    created_ms: int
    queue: str
    language: str
    queue_system: Literal["celery", "legacy"] = "celery"
    metadata: dict[str, Any] | None = None
    shadow: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """As stored."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> Record:
    """The inverse of ``encode_record``."""
    return _decoder.decode(data)


def unended_ttl_s(result_ttl_s: int) -> int:
    """Seconds a submission is remembered from its acceptance on.

    Once it has completed it is remembered for ``result_ttl_s`` more, as long as its result; see
    ``completions.CompletionCounter``. With 0 results are kept for ever.
    """
    return max(result_ttl_s, _UNENDED_S) if result_ttl_s else _FOR_EVER_S


def task_id_of(eval_id: str) -> str:
    """The id of an evaluation's Celery task."""
    return f"{TASK_ID_PREFIX}{eval_id}"


def once_name(eval_id: str) -> str:
    """The name under which a submission is remembered."""
    return f"eval:{eval_id}"
