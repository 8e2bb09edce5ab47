"""Results of evaluations that a legacy queue ran, kept on the task queue server.

The legacy queue drops its results, and is switched off in the end. What it ran is looked up here
then, by services that know nothing of a legacy queue any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.broker.results.meta import Meta
from crucible.evaluation.view import evaluation_of

if TYPE_CHECKING:
    from crucible.evaluation.record import Record
    from crucible.models import Evaluation


def encode_kept(meta: Meta) -> bytes:
    """A result as it is kept (``redis_keys.Keys.legacy_result``)."""
    return msgspec.json.encode(meta)


def decode_kept(data: bytes) -> Meta:
    """The inverse of ``encode_kept``."""
    return msgspec.json.decode(data, type=Meta)


def lost_evaluation(eval_id: str, record: Record) -> Evaluation:
    """An evaluation whose record says ``legacy``, which that queue lost before it ended."""
    view = evaluation_of(eval_id, record, None)
    view.message = (
        "the legacy queue lost it; `crucible migration verify --repair` or submitting the same "
        "again queues it again"
    )
    return view
