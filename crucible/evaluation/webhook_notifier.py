"""Sending the deliveries of webhooks for ends that no worker may have seen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.broker import IdempotencyRecord
from crucible.broker.wire.encode import encode_call
from crucible.broker.wire.ids import new_id
from crucible.evaluation.webhook_ends import calls_of
from crucible.redis_keys import WEBHOOK_DELIVERED_TTL_S

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crucible.broker import Publisher
    from crucible.broker.wire.call import TaskCall
    from crucible.webhooks.planning import End
    from crucible.webhooks.subscriptions import Subscriptions


class WebhookNotifier:
    """Sends deliveries; of an end that was reported before, nothing.

    Args:
        publisher: publishes messages.
        subscriptions: the webhooks there are.
    """

    def __init__(self, publisher: Publisher, subscriptions: Subscriptions) -> None:
        self._publisher = publisher
        self._subscriptions = subscriptions

    async def notify(self, ends: Iterable[End | None]) -> None:
        """Send the deliveries of these ends.

        Raises:
            BrokerError: they may or may not have been sent.
        """
        await asyncio.gather(*map(self._send, calls_of(ends, self._subscriptions)))

    async def _send(self, call: TaskCall) -> None:
        task_id = call.task_id or new_id()
        key = self._publisher.keys.idempotency(task_id)
        once = IdempotencyRecord(key, b"1", WEBHOOK_DELIVERED_TTL_S)
        await self._publisher.publish(
            encode_call(call, task_id), queue=call.queue, idempotency=once
        )
