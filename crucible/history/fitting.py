"""Events made to fit the columns of the tables: anybody may write to the bus. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.history.lengths import EVAL_ID, NAME, TASK_ID, TENANT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.events.event import Event

_MESSAGE, _SHORT = 2000, 20
INT32, INT64 = 2**31 - 1, 2**63 - 1


def fitted(event: Event) -> Event:
    """The event itself, as nearly always; else what is too long or too large is cut."""
    texts = (
        event.eval_id
        + event.tenant
        + event.queue
        + event.status
        + event.language
        + (event.verdict or "")
        + (event.environment or "")
        + (event.isolation or "")
    )
    worker = event.worker or ""
    if (
        # Together as short as one of them may be, but for those that are looked at alone.
        len(texts) <= NAME
        and len(event.tenant) <= TENANT
        and len(worker) <= TASK_ID
        and len(event.status) <= _SHORT
        and (event.isolation is None or len(event.isolation) <= _SHORT)
        and "\0" not in texts
        and "\0" not in worker
        and event.message is None
        and 0 <= event.seq <= INT64
        and 0 <= event.at <= INT64
        and 0 <= event.retry_count <= INT32
        and 0 <= event.attempt <= INT32
        and 0 <= event.deliveries <= INT32
        and (event.priority is None or 0 <= event.priority <= INT32)
    ):
        return event
    return cut(event)


def cut(event: Event) -> Event:
    """An event that fits the columns."""
    return msgspec.structs.replace(
        event,
        eval_id=text(event.eval_id, EVAL_ID),
        seq=_whole(event.seq, INT64),
        at=_whole(event.at, INT64),
        status=text(event.status, _SHORT),
        tenant=text(event.tenant, TENANT),
        queue=text(event.queue, NAME),
        retry_count=_whole(event.retry_count, INT32),
        attempt=_whole(event.attempt, INT32),
        deliveries=_whole(event.deliveries, INT32),
        worker=_text_or_none(event.worker, TASK_ID),
        verdict=_text_or_none(event.verdict, NAME),
        message=_text_or_none(event.message, _MESSAGE),
        language=text(event.language, NAME),
        environment=_text_or_none(event.environment, NAME),
        priority=whole_or_none(event.priority, INT32),
        isolation=_text_or_none(event.isolation, _SHORT),
    )


def text(value: str, length: int) -> str:
    """A text that fits its column."""
    # PostgreSQL has no NUL in text.
    return value.replace("\0", "")[:length]


def _text_or_none(value: str | None, length: int) -> str | None:
    return None if value is None else text(value, length)


def _whole(value: int, most: int) -> int:
    return max(-most, min(value, most))


def whole_or_none(value: int | None, most: int = INT64) -> int | None:
    """A number that fits its column."""
    return None if value is None else _whole(value, most)


def fitted_numbers(*values: int | None) -> Sequence[int | None]:
    """Numbers that fit their columns: nearly always those that were given."""
    for value in values:
        if value is not None and not -INT64 <= value <= INT64:
            return [whole_or_none(one) for one in values]
    return values
