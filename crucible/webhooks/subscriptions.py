"""A process's copy of all webhooks: who is to be notified of an end is known without I/O.

Changes are published, and a poll finds those whose publication was missed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import FOREIGN
from crucible.errors import BrokerError
from crucible.webhooks.registration import RegistrationStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys
    from crucible.webhooks.registration import Registration

log = logging.getLogger(__name__)

#: Seconds between two polls, and until a broken subscription is opened anew.
POLL_S, RESUBSCRIBE_S = 5.0, 0.5


class Subscriptions:
    """The webhooks that are not disabled, by tenant; empty until ``watching``."""

    def __init__(self) -> None:
        self._by_tenant: Mapping[str, tuple[Registration, ...]] = {}

    def of(self, tenant: str) -> tuple[Registration, ...]:
        """Those of one tenant; from any thread."""
        return self._by_tenant.get(tenant, ())

    def adopt(self, registrations: Iterable[Registration]) -> None:
        """Take these for all there are."""
        found: dict[str, tuple[Registration, ...]] = {}
        for one in registrations:
            if one.disabled is None and one.url:
                found[one.tenant] = (*found.get(one.tenant, ()), one)
        self._by_tenant = found

    @asynccontextmanager
    async def watching(self, broker_url: str, keys: Keys) -> AsyncIterator[Subscriptions]:
        """Keep the copy up to date while the context is open.

        Args:
            broker_url: the task queue server.
            keys: key names.
        """
        async with open_client(broker_url, name="webhooks") as client:
            store = RegistrationStore(client, keys)
            await self._read(store)
            tasks = [
                asyncio.create_task(self._keep_polling(store), name="crucible-webhooks"),
                asyncio.create_task(
                    self._keep_listening(client, keys.webhooks, store),
                    name="crucible-webhooks-news",
                ),
            ]
            try:
                yield self
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, store: RegistrationStore) -> None:
        try:
            self.adopt(await store.all())
        except BrokerError as error:
            log.debug("webhooks cannot be read now: %s", error)

    async def _keep_polling(self, store: RegistrationStore) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._read(store)

    async def _keep_listening(self, client: Redis, channel: str, store: RegistrationStore) -> None:
        while True:
            try:
                async with client.pubsub() as news:
                    await news.subscribe(channel)
                    while True:
                        # The confirmation of the subscription is a reason to read as well: what was
                        # changed before it has not been heard of.
                        if await news.get_message(timeout=60.0) is not None:
                            await self._read(store)
            except FOREIGN as error:
                log.debug("the subscription to webhooks failed: %s", error)
            await asyncio.sleep(RESUBSCRIBE_S)
