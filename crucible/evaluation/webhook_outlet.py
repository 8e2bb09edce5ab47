"""Making the deliveries of webhooks: the body of each, and its attempts."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.broker.results.lookup import read_meta
from crucible.evaluation.judge0_form import callback_of
from crucible.evaluation.kept_results import decode_kept
from crucible.evaluation.record import decode_record, once_name, scoped_id, task_id_of
from crucible.evaluation.view import evaluation_of, shown
from crucible.models import ENDED
from crucible.webhooks.delivery import open_deliverer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from redis.asyncio import Redis

    from crucible.models import Evaluation
    from crucible.redis_keys import Keys
    from crucible.settings import Settings
    from crucible.webhooks.addresses import AddressPolicy
    from crucible.webhooks.breakers import HostBreakers
    from crucible.webhooks.delivery import Deliverer
    from crucible.webhooks.log import Outcome
    from crucible.webhooks.planning import Delivery, End

#: Characters of ``output`` and of ``error`` in a body; a multiple of four, for those in base64.
MAX_OUTPUT = 4096
_encode = msgspec.json.Encoder().encode


class Again(NamedTuple):
    """An attempt to be made later.

    Attributes:
        delivery: what to deliver.
        body: as sent before; None where nothing was.
        delay_s: seconds until then.
    """

    delivery: Delivery
    body: str | None
    delay_s: float


class WebhookOutlet:
    """Makes deliveries. Open one with ``open_outlet``.

    Args:
        deliverer: makes attempts.
        queue: of the task queue server.
        results: of the result server.
        keys: key names.
    """

    def __init__(self, deliverer: Deliverer, queue: Redis, results: Redis, keys: Keys) -> None:
        self._deliverer = deliverer
        self._queue = queue
        self._results = results
        self._keys = keys

    async def deliver(self, delivery: Delivery, body: str | None) -> Again | None:
        """Make one attempt.

        Args:
            delivery: what to deliver.
            body: of the attempts before; None before the first one.

        Returns:
            The next attempt; None where there is none.

        Raises:
            BrokerError: the task queue server does not answer; trying again is safe.
        """
        turn = await self._deliverer.take(delivery)
        if turn == "over":
            return None
        if turn == "later":
            return Again(delivery, body, self._deliverer.lease_s)
        if delivery.end.alert is None and await self._is_forgotten(delivery.end):
            return None
        if body is None:
            delivery, body = await self._first(delivery)
        delay_s = await self._deliverer.attempt(delivery, body.encode())
        if delay_s is None:
            return None
        tried = msgspec.structs.replace(delivery, tries=delivery.tries + 1)
        return Again(tried, body, delay_s)

    async def _first(self, delivery: Delivery) -> tuple[Delivery, str]:
        """A delivery and its body before the first attempt.

        What Judge0's clients have asked for is as Judge0 sends it.
        """
        end = delivery.end
        evaluation = None if end.alert is not None else await self._evaluation(end)
        callback = callback_of(evaluation) if evaluation and delivery.url else None
        if callback is not None:
            return msgspec.structs.replace(delivery, method="PUT"), callback.decode()
        return delivery, body_of(end, evaluation).decode()

    async def _is_forgotten(self, end: End) -> bool:
        """Whether the evaluation was forgotten on request, perhaps between two attempts."""
        scoped = scoped_id(end.tenant, end.eval_id)
        with translated():
            stored: Any = await self._queue.get(self._keys.idempotency(once_name(scoped)))
        return bool(stored) and decode_record(stored).purged

    async def _evaluation(self, end: End) -> Evaluation | None:
        """The evaluation as its result says; None where that is gone, or of a later attempt."""
        scoped = scoped_id(end.tenant, end.eval_id)
        with translated():
            stored: Any = await self._queue.get(self._keys.idempotency(once_name(scoped)))
            raw: Any = await self._results.get(self._keys.result(task_id_of(scoped)))
        record = decode_record(stored) if stored else None
        if record is not None and record.queue_system == "legacy":
            with translated():  # what else there is may be the result of its copy
                raw = await self._queue.get(self._keys.legacy_result(scoped))
            meta = decode_kept(raw) if raw else None
        else:
            meta = read_meta(raw) if raw else None
        if record is None and meta is None:
            return None
        found = shown(evaluation_of(scoped, record, meta))
        return found if found.status in ENDED else None


def body_of(end: End, evaluation: Evaluation | None) -> bytes:
    """The body of a delivery.

    Args:
        end: what is reported.
        evaluation: as clients see it; None where only its end is known.
    """
    ended_at = datetime.fromtimestamp(end.ended_ms / 1000, UTC)
    timestamp = ended_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if end.alert is not None:
        return _encode({"type": end.type, "timestamp": timestamp, "data": end.facts or {}})
    if evaluation is None:
        data: dict[str, Any] = {
            "eval_id": end.eval_id,
            "status": end.status,
            "verdict": end.verdict,
            "finished_at": timestamp,
        }
    else:
        data = msgspec.to_builtins(evaluation)
        # Of any size; whoever wants them asks for the evaluation.
        for name in ("files", "tests"):
            data.pop(name, None)
        for name in ("output", "error"):
            text = data.get(name) or ""
            if len(text) > MAX_OUTPUT:
                data[name], data[f"{name}_cut"] = text[:MAX_OUTPUT], True
    data["href"] = f"/api/eval/{end.eval_id}"
    return _encode({"type": end.type, "timestamp": timestamp, "data": data})


@asynccontextmanager
async def open_outlet(
    settings: Settings,
    keys: Keys,
    policy: AddressPolicy,
    breakers: HostBreakers,
    noted: Callable[[Outcome], None] = lambda outcome: None,
) -> AsyncIterator[WebhookOutlet]:
    """An outlet with connections of its own.

    Args:
        settings: of the installation.
        keys: key names.
        policy: says which addresses may be called.
        breakers: before the receivers' hosts.
        noted: called with what became of each attempt.
    """
    broker_url = settings.celery_broker_url
    async with (
        open_client(broker_url, name="webhooks") as queue,
        open_client(settings.result_url, name="webhooks") as results,
        open_deliverer(
            broker_url,
            keys,
            policy,
            breakers,
            disable_after_s=settings.webhook_disable_after_s,
            timeout_s=settings.webhook_timeout_s,
            noted=noted,
        ) as deliverer,
    ):
        yield WebhookOutlet(deliverer, queue, results, keys)
