"""A submission that was checked and not yet sent to a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crucible.errors import ConflictError, NotReplicated
from crucible.evaluation.record import Record, public_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.errors import BrokerError
    from crucible.evaluation.request import EvalRequest
    from crucible.identity.rates import KeyRate
    from crucible.tracing import Publication


class Draft(msgspec.Struct):
    """A checked submission.

    Attributes:
        asked: what to run.
        eval_id: its scoped id.
        digest: fingerprint of the content.
        field: the request field that named the id; empty where the id was generated here.
        created_ms: when, milliseconds since the epoch.
        retry_of: id of the evaluation it repeats, as clients know it; empty for most.
        rate: bounds it; None where its caller has none.
        publication: its publication to a Celery queue, where it is traced.
        options: what ``options_of`` gives for what is asked; None where nobody looked yet.
    """

    asked: EvalRequest
    eval_id: str
    digest: bytes
    field: str
    created_ms: int
    retry_of: str = ""
    rate: KeyRate | None = None
    publication: Publication | None = None
    options: Mapping[str, Any] | None = None

    @property
    def traceparent(self) -> str:
        """What its message carries; empty where it is not traced."""
        return "" if self.publication is None else self.publication.traceparent

    def record(
        self, queue_system: Literal["celery", "legacy"], queue: str, *, shadow: bool = False
    ) -> Record:
        """The record that is kept of it when ``queue`` takes it."""
        asked = self.asked
        return Record(
            self.digest,
            self.created_ms,
            queue,
            asked.language,
            queue_system,
            asked.metadata,
            shadow,
            self.retry_of,
            asked.webhook_url,
            asked.result_ttl_s,
        )


def check_same(draft: Draft, first: Record) -> None:
    """Refuse an id that was used for something else.

    Args:
        draft: the submission.
        first: the record of the submission that used its id first.

    Raises:
        ConflictError: their contents differ, or the first one was forgotten.
    """
    if first.purged:
        raise ConflictError(draft.field or "eval_id", "was used before, and forgotten on request")
    if first.digest != draft.digest:
        raise ConflictError(draft.field or "eval_id", "was used before with different content")


def with_id(error: BrokerError, draft: Draft) -> BrokerError:
    """The error of a submission; one that may exist nevertheless is found again by its id."""
    if isinstance(error, NotReplicated):
        return NotReplicated(error.confirmed, error.wanted, public_id(draft.eval_id))
    return error
