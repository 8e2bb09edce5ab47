"""What is said of each item of a batch, as JSON text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crucible.api.problems import not_submitted
from crucible.evaluation.record import task_id_of
from crucible.http.problems import document_of

if TYPE_CHECKING:
    from crucible.errors import CrucibleError
    from crucible.evaluation.service import Submitted
    from crucible.models import Evaluation

_encode = msgspec.json.Encoder().encode


class ItemAccepted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item that is durably queued, or was before.

    Attributes:
        eval_id: its id.
        task_id: id of its Celery task.
        status: ``queued``, or what has become of it where its id was known.
        queue: the queue its message is in.
        queue_system: ``celery`` or ``legacy``.
        href: path of the evaluation.
        custom_id: the item's own.
    """

    eval_id: str
    task_id: str
    status: str
    queue: str
    queue_system: str
    href: str
    custom_id: str | None = None


class ItemError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why an item was not queued: a problem document as one request would have got it.

    Attributes:
        status: the HTTP status a request of its own would have got.
        title: the kind of problem.
        detail: this occurrence, for people.
        field: path of the offending field.
        errors: the same with a pointer into the item.
        retry_after: seconds after which to try again, where that may help.
    """

    status: int
    title: str
    detail: str = ""
    field: str = ""
    errors: list[dict[str, str]] = []
    retry_after: int | None = None


class ItemRejected(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An item that was not queued.

    Attributes:
        status: ``rejected``.
        error: why.
        custom_id: the item's own.
    """

    status: Literal["rejected"]
    error: ItemError
    custom_id: str | None = None


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many items a batch had.

    Attributes:
        total: all of them.
        accepted: queued, now or before.
        rejected: not queued.
    """

    total: int
    accepted: int
    rejected: int


class BatchAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a 202 to a batch.

    Attributes:
        items: an ``ItemAccepted`` or an ``ItemRejected`` each, in the order of the request.
        request_counts: how many.
    """

    items: list[Any]
    request_counts: RequestCounts


def _named(custom_id: str | None) -> str:
    return "" if custom_id is None else f',"custom_id":{_encode(custom_id).decode()}'


def accepted(submitted: Submitted, custom_id: str | None) -> str:
    """An ``ItemAccepted`` of an evaluation that is new."""
    eval_id = submitted.eval_id
    # Neither an id (see ``ID_PATTERN``) nor the name of a queue has a character that JSON escapes.
    return (
        f'{{"eval_id":"{eval_id}","task_id":"eval-{eval_id}","status":"queued",'
        f'"queue":"{submitted.queue}","queue_system":"{submitted.queue_system}",'
        f'"href":"/api/eval/{eval_id}"{_named(custom_id)}}}'
    )


def known(evaluation: Evaluation, custom_id: str | None) -> str:
    """An ``ItemAccepted`` of an evaluation that was there before."""
    eval_id = evaluation.eval_id
    answer = ItemAccepted(
        eval_id=eval_id,
        task_id=task_id_of(eval_id),
        status=evaluation.status.value,
        queue=evaluation.queue,
        queue_system=evaluation.queue_system,
        href=f"/api/eval/{eval_id}",
        custom_id=custom_id,
    )
    return _encode(answer).decode()


def rejected(error: CrucibleError, custom_id: str | None, *, named: bool) -> str:
    """An ``ItemRejected``.

    Args:
        error: why.
        custom_id: the item's own.
        named: it has an id, so that submitting the same again finds the first.
    """
    response = not_submitted(error, named=named)
    document: dict[str, Any] = document_of(response)
    document.pop("type", None)
    retry_after = response.headers.get("Retry-After")
    if retry_after is not None:
        document["retry_after"] = int(retry_after)
    text = _encode(document).decode()
    return f'{{"status":"rejected","error":{text}{_named(custom_id)}}}'
