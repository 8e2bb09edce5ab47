"""Reporting ends that no worker's hooks saw: a task of both kinds of worker.

What the main process of a stock worker ends (a child that it or somebody else killed, a revoked
message) it stores by itself, without an event loop and without what tasks have open. It sends this
task instead, which reports what the stored result says. An end that is reported twice has the same
ids.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.translation import translated
from crucible.broker.results.lookup import read_meta
from crucible.broker.wire.call import TaskCall
from crucible.broker.wire.retry import attempt_of
from crucible.errors import BrokerError, InputError
from crucible.evaluation.completion_store import open_servers
from crucible.evaluation.record import decode_record, once_name, task_id_of, tenant_of
from crucible.evaluation.schedule import QUEUE
from crucible.evaluation.transitions import as_read, is_scoped, scoped_of
from crucible.evaluation.view import evaluation_of
from crucible.evaluation.webhook_ends import calls_of, end_of, push_of, url_in
from crucible.events.event import terminal_sequence
from crucible.models import Status
from crucible.tracing import TRACEPARENT, onward
from crucible.validation import input_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from redis.asyncio import Redis

    from crucible.evaluation.completions import CompletionCounter
    from crucible.evaluation.record import Record
    from crucible.events.writer import EventSink
    from crucible.models import Evaluation
    from crucible.redis_keys import Keys
    from crucible.settings import Settings
    from crucible.webhooks.subscriptions import Subscriptions
    from crucible.worker import TaskContext

TASK = "tasks.report_end"
#: Seconds until a report is made again that a server was away for.
_AWAY_S = 5.0


class Unreported(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the message of an evaluation said whose end is to be reported.

    Attributes:
        eval_id: the scoped id.
        queue: the queue it came from.
        attempt: how often it was started anew after it had ended.
        worker: node name of the worker whose main process saw the end.
        url: ``webhook_url`` of its submission.
    """

    eval_id: str
    queue: str = ""
    attempt: int = 0
    worker: str | None = None
    url: str | None = None


def report_call(
    task_id: str,
    kwargs: Mapping[str, Any],
    headers: Mapping[str, Any],
    *,
    queue: str,
    worker: str | None,
) -> TaskCall | None:
    """The task that reports the end of another one; None where that is no evaluation.

    Args:
        task_id: of the evaluation's task.
        kwargs: of its message.
        headers: of its message.
        queue: the queue it came from.
        worker: node name.
    """
    eval_id = scoped_of(task_id)
    if not eval_id:
        return None
    attempt, url = attempt_of(headers), url_in(kwargs)
    end = Unreported(eval_id=eval_id, queue=queue, attempt=attempt, worker=worker, url=url)
    traceparent = onward(headers)
    return TaskCall(
        TASK,
        kwargs={"end": msgspec.to_builtins(end)},
        queue=QUEUE,
        ignore_result=True,
        options={"headers": {TRACEPARENT: traceparent}} if traceparent else None,
    )


async def report_end(ctx: TaskContext, end: dict[str, Any]) -> None:
    """Report the end of an evaluation, if it has ended and was not forgotten.

    Args:
        ctx: the task.
        end: an ``Unreported`` as plain JSON types.

    Raises:
        InputError: the message is of no evaluation.
    """
    try:
        unreported = msgspec.convert(end, Unreported)
    except msgspec.ValidationError as error:
        raise input_error(error) from None
    if not is_scoped(unreported.eval_id):
        raise InputError("eval_id", "is not that of an evaluation")
    try:
        await ctx.state.ends.report(unreported, onward(ctx.headers))
    except BrokerError as error:
        raise ctx.retry(countdown=_AWAY_S, exc=error) from error


class EndReporter:
    """Reports ends. Open one with ``open_reporter``.

    Args:
        queue: of the task queue server.
        results: of the result server.
        keys: key names.
        events: takes the events.
        subscriptions: the webhooks there are.
        completions: counts what did not return.
    """

    def __init__(
        self,
        queue: Redis,
        results: Redis,
        keys: Keys,
        *,
        events: EventSink,
        subscriptions: Subscriptions,
        completions: CompletionCounter,
    ) -> None:
        self._queue = queue
        self._results = results
        self._keys = keys
        self._events = events
        self._subscriptions = subscriptions
        self._completions = completions

    async def report(self, unreported: Unreported, traceparent: str = "") -> None:
        """Count an end, write its event, send its deliveries.

        Args:
            unreported: what is known of it.
            traceparent: of its trace; empty where it is not traced.

        Raises:
            BrokerError: a server does not answer; trying again is safe.
        """
        eval_id, attempt = unreported.eval_id, unreported.attempt
        record, found = await self._read(eval_id)
        seq = terminal_sequence(attempt)
        event = None if found is None else as_read(found, tenant_of(eval_id), seq)
        if found is None or event is None or (record is not None and record.purged):
            return
        url = unreported.url if record is None else record.webhook_url
        end = end_of(eval_id, found.status, found.verdict, attempt=attempt, url=url)
        if found.queue_system == "celery":  # of what the legacy queue runs this was the copy
            await self._send(calls_of([end], self._subscriptions, traceparent))
        self._events.add(
            msgspec.structs.replace(
                event,
                queue=unreported.queue or event.queue,
                queue_system="celery",
                attempt=attempt,
                worker=event.worker or unreported.worker,
                metadata=None,  # only of a submission does the history believe it
                traceparent=traceparent,
            )
        )
        if found.status is not Status.COMPLETED:
            # The child that returned has counted that.
            self._completions.note("celery", found.status, eval_id)

    async def _send(self, calls: Sequence[TaskCall]) -> None:
        """Queue deliveries, all or none."""
        if not calls:
            return
        with translated():
            async with self._queue.pipeline(transaction=True) as pipe:
                for push in (push_of(call, self._keys) for call in calls):
                    pipe.lpush(push.list_key, push.raw)
                await pipe.execute()

    async def _read(self, eval_id: str) -> tuple[Record | None, Evaluation | None]:
        """The record of an evaluation, and what its stored result says."""
        with translated():
            stored: Any = await self._queue.get(self._keys.idempotency(once_name(eval_id)))
            raw: Any = await self._results.get(self._keys.result(task_id_of(eval_id)))
        record = decode_record(stored) if stored else None
        if not raw:
            return record, None
        return record, evaluation_of(eval_id, record, read_meta(raw))


@asynccontextmanager
async def open_reporter(
    settings: Settings,
    keys: Keys,
    *,
    events: EventSink,
    subscriptions: Subscriptions,
    completions: CompletionCounter,
) -> AsyncIterator[EndReporter]:
    """A reporter with connections of its own.

    Args:
        settings: name the servers.
        keys: key names.
        events: as of ``EndReporter``.
        subscriptions: as of ``EndReporter``.
        completions: as of ``EndReporter``.
    """
    async with open_servers(settings.celery_broker_url, settings.result_url) as (queue, results):
        yield EndReporter(
            queue,
            results,
            keys,
            events=events,
            subscriptions=subscriptions,
            completions=completions,
        )
