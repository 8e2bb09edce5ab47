"""What a tenant asks of its webhooks: registered, listed, rotated, replayed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.wire.encode import encode_call
from crucible.broker.wire.ids import new_id
from crucible.errors import ConflictError, NotFound
from crucible.validation import quoted
from crucible.webhooks.addresses import check_url
from crucible.webhooks.log import StreamLog
from crucible.webhooks.planning import call_of
from crucible.webhooks.registration import DEFAULT, RegistrationStore, checked_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from crucible.broker import Publisher
    from crucible.redis_keys import Keys
    from crucible.webhooks.addresses import AddressPolicy
    from crucible.webhooks.log import Attempt, DeliveryLog
    from crucible.webhooks.planning import Delivery
    from crucible.webhooks.registration import Registration


class WebhookDesk:
    """Serves tenants. Every method raises BrokerError if the task queue server does not answer.

    Args:
        store: keeps webhooks.
        attempts: keeps the attempts of deliveries.
        publisher: sends deliveries that are asked for again.
        policy: says which addresses a URL may name.
    """

    def __init__(
        self,
        store: RegistrationStore,
        attempts: DeliveryLog,
        publisher: Publisher,
        policy: AddressPolicy,
    ) -> None:
        self._store = store
        self._attempts = attempts
        self._publisher = publisher
        self._policy = policy

    async def create(self, tenant: str, url: str, events: Sequence[str] | None) -> Registration:
        """Register a webhook.

        Raises:
            InputError: the URL may not be called, or an event type is unknown.
            ConflictError: the tenant has as many as it may.
        """
        checked = check_url(url, self._policy)
        return await self._store.create(tenant, checked, checked_events(events))

    async def of_tenant(self, tenant: str) -> list[Registration]:
        """The webhooks of one tenant, the oldest first."""
        return await self._store.of_tenant(tenant)

    async def delete(self, tenant: str, webhook_id: str) -> None:
        """Forget a webhook; raises NotFound where the tenant has no such."""
        await self._store.delete(tenant, webhook_id)

    async def rotate(self, tenant: str, webhook_id: str) -> Registration:
        """Give a webhook a new secret; raises NotFound where the tenant has no such."""
        return await self._store.rotate(tenant, webhook_id)

    async def deliveries(self, tenant: str, webhook_id: str) -> list[list[Attempt]]:
        """The latest deliveries of a webhook, each as its attempts; of both the newest first.

        Raises:
            NotFound: the tenant has no such webhook.
        """
        if webhook_id != DEFAULT:
            await self._store.get(tenant, webhook_id)
        found: dict[str, list[Attempt]] = {}
        for attempt in await self._attempts.of_tenant(tenant):
            if attempt.delivery.webhook == webhook_id:
                found.setdefault(attempt.delivery.id, []).append(attempt)
        return list(found.values())

    async def replay(self, tenant: str, delivery_id: str) -> Delivery:
        """Deliver once more, under the same id, whether it was accepted or not.

        Raises:
            NotFound: the log has no such delivery, or its webhook was deleted.
            ConflictError: its webhook is disabled.
        """
        attempts = await self._attempts.of_tenant(tenant)
        found = next((one.delivery for one in attempts if one.delivery.id == delivery_id), None)
        if found is None:
            raise NotFound(f"no delivery has the id {quoted(delivery_id)}")
        if found.webhook != DEFAULT and (await self._store.get(tenant, found.webhook)).disabled:
            raise ConflictError("webhook", "is disabled; rotating its secret enables it")
        again = msgspec.structs.replace(found, tries=0, replayed=True)
        call = call_of(again)
        await self._publisher.publish(encode_call(call, new_id()), queue=call.queue)
        return again


@asynccontextmanager
async def open_desk(
    broker_url: str, keys: Keys, publisher: Publisher, policy: AddressPolicy
) -> AsyncIterator[WebhookDesk]:
    """A desk with a connection of its own.

    Args:
        broker_url: the task queue server.
        keys: key names.
        publisher: sends deliveries that are asked for again.
        policy: says which addresses a URL may name.
    """
    async with open_client(broker_url, name="webhooks") as client:
        store, attempts = RegistrationStore(client, keys), StreamLog(client, keys)
        yield WebhookDesk(store, attempts, publisher, policy)
