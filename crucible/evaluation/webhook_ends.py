"""Ends of evaluations as the deliveries of webhooks that they cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.canvas.effects import Push
from crucible.broker.wire.encode import encode_call
from crucible.broker.wire.ids import new_id
from crucible.broker.wire.priority import step_of
from crucible.evaluation.record import public_id, tenant_of
from crucible.evaluation.transitions import is_scoped, now_ms
from crucible.models import Status, Verdict
from crucible.webhooks.planning import End, call_of, deliveries_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from crucible.broker.wire.call import TaskCall
    from crucible.evaluation.completion_store import Completion
    from crucible.evaluation.record import Record
    from crucible.redis_keys import Keys
    from crucible.webhooks.subscriptions import Subscriptions


def end_of(
    eval_id: str,
    status: Status | str,
    verdict: Verdict | str | None,
    *,
    attempt: int = 0,
    url: str | None = None,
) -> End | None:
    """An end that is reported now; None where no evaluation can have the id.

    Args:
        eval_id: the scoped id.
        status: its last.
        verdict: how the program ended.
        attempt: how often it was started anew after it had ended.
        url: ``webhook_url`` of its submission.
    """
    if not is_scoped(eval_id):
        return None
    return End(
        tenant=tenant_of(eval_id),
        eval_id=public_id(eval_id),
        status=str(status),
        verdict=None if verdict is None else str(verdict),
        ended_ms=now_ms(),
        attempt=attempt,
        url=url,
    )


def calls_of(
    ends: Iterable[End | None], subscriptions: Subscriptions, traceparent: str = ""
) -> list[TaskCall]:
    """The tasks that deliver these ends; traced where what ended is."""
    return [
        call_of(delivery, traceparent)
        for end in ends
        if end is not None
        for delivery in deliveries_of(end, subscriptions.of(end.tenant))
    ]


def push_of(call: TaskCall, keys: Keys) -> Push:
    """A task as a message for its list."""
    raw = encode_call(call, call.task_id or new_id())
    return Push(keys.step_list(call.queue, step_of(call.priority)), raw)


def pushes_of(
    subscriptions: Subscriptions, keys: Keys
) -> Callable[[Completion, Record], list[Push]]:
    """Makes the messages that completions cause which no worker saw (see ``CompletionStore``).

    Args:
        subscriptions: the webhooks there are.
        keys: key names.
    """

    def pushes(completion: Completion, record: Record) -> list[Push]:
        if record.purged:
            return []
        verdict = Verdict.INTERNAL_ERROR
        if completion.status == Status.CANCELLED:
            verdict = Verdict.CANCELLED
        end = end_of(completion.eval_id, completion.status, verdict, url=record.webhook_url)
        return [push_of(call, keys) for call in calls_of([end], subscriptions)]

    return pushes


def url_in(arguments: Mapping[str, Any]) -> str | None:
    """``webhook_url`` among the arguments of a task, where it is text."""
    url = arguments.get("webhook_url")
    return url if isinstance(url, str) and url else None
