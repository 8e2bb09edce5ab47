"""What is kept of a submission beside its message: its content's fingerprint, when, and where."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from crucible.errors import InputError, NotFound
from crucible.models import LOCAL_TENANT, TENANT_PATTERN
from crucible.validation import quoted

#: Ids of Celery tasks of evaluations begin with this.
TASK_ID_PREFIX = "eval-"
#: Between a tenant and the id its client knows. No tenant and no such id has it.
_SCOPE = ":"
_tenant = re.compile(TENANT_PATTERN)
#: Seconds a submission is remembered at least while it has not completed: its message may wait or
#: be retried for longer than results are kept.
_UNENDED_S = 7 * 86_400
#: As good as for ever, where results are kept so: what is published under a name has some TTL.
_FOR_EVER_S = 100 * 365 * 86_400


class Record(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """The value of an evaluation's idempotency record. Small: there is one for each queued message.

    Attributes:
        digest: fingerprint of the content, to distinguish a repetition from a different request.
        created_ms: when the submission was accepted, milliseconds since the epoch.
        queue: where its message went.
        language: of the program.
        queue_system: which queue system took it.
        metadata: the client's own, returned as it came.
        shadow: Celery was sent a copy of what the legacy queue runs.
        retry_of: id of the evaluation it repeats, as clients know it.
        webhook_url: where to report the end; None where the submission named none.
        result_ttl_s: seconds its result is kept; None where the submission named none.
        purged: it was forgotten on request; no other field but ``result_ttl_s`` says anything then.
    """

    digest: bytes
    created_ms: int
    queue: str
    language: str
    queue_system: Literal["celery", "legacy"] = "celery"
    metadata: dict[str, Any] | None = None
    shadow: bool = False
    retry_of: str = ""
    webhook_url: str | None = None
    result_ttl_s: int | None = None
    purged: bool = False


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


def scoped_id(tenant: str, eval_id: str) -> str:
    """The id under which everything inside knows an evaluation.

    Each tenant has ids of its own, so that no tenant can find out which ids another one uses.
    Those of the tenant ``local`` are the same inside as outside.

    Args:
        tenant: whose it is.
        eval_id: its id as clients know it.

    Raises:
        NotFound: no evaluation can have this id.
    """
    if _SCOPE in eval_id:
        # Only scoped ids have it: a client must not reach another tenant's through one.
        raise unknown(eval_id)
    return eval_id if tenant == LOCAL_TENANT else f"{tenant}{_SCOPE}{eval_id}"


def public_id(scoped: str) -> str:
    """The id by which clients know an evaluation."""
    return scoped.rpartition(_SCOPE)[2]


def tenant_of(scoped: str) -> str:
    """Whose evaluation it is.

    Raises:
        InputError: no tenant has such a name.
    """
    tenant, scope, _ = scoped.partition(_SCOPE)
    if not scope:
        return LOCAL_TENANT
    if not _tenant.match(tenant) or tenant == LOCAL_TENANT:
        raise InputError("eval_id", "names no tenant")
    return tenant


def unknown(eval_id: str) -> NotFound:
    """The error for an id that no evaluation of the caller's tenant has."""
    return NotFound(f"no evaluation has the id {quoted(eval_id, 128)}")


def task_id_of(eval_id: str) -> str:
    """The id of an evaluation's Celery task."""
    return f"{TASK_ID_PREFIX}{eval_id}"


def once_name(eval_id: str) -> str:
    """The name under which a submission is remembered."""
    return f"eval:{eval_id}"
