"""One attempt of a delivery, with all that follows from its answer."""

from __future__ import annotations

import logging
import math
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal

from crucible.breaker import BreakerPolicy
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.errors import NotFound
from crucible.redis_keys import WEBHOOK_DELIVERED_TTL_S
from crucible.webhooks.breakers import HostBreakers, HostIll
from crucible.webhooks.connector import TOTAL_S, open_session
from crucible.webhooks.log import Attempt, StreamLog
from crucible.webhooks.registration import DEFAULT, RegistrationStore
from crucible.webhooks.schedule import next_delay_s
from crucible.webhooks.sender import Answer, Sender

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp.abc import AbstractResolver
    from redis.asyncio import Redis

    from crucible.redis_keys import Keys
    from crucible.webhooks.addresses import AddressPolicy
    from crucible.webhooks.log import DeliveryLog, Outcome
    from crucible.webhooks.planning import Delivery
    from crucible.webhooks.registration import Registration

#: Whether an attempt is to be made: yes, no more, or perhaps later.
Turn = Literal["now", "over", "later"]
#: Values of a delivery's key, and seconds that writing down an answer may take.
_UNDER_WAY, _DELIVERED, _LEASE_MARGIN_S = b"under way", b"delivered", 5

log = logging.getLogger(__name__)


class Deliverer:
    """Makes attempts. Open one with ``open_deliverer``.

    Args:
        client: of the task queue server.
        keys: key names.
        sender: makes requests.
        breakers: before the hosts.
        disable_after_s: seconds of failures alone after which a webhook is disabled.
        timeout_s: seconds one request may take.
        attempts: keeps them.
        noted: called with what became of each.

    Attributes:
        lease_s: seconds an attempt may take before another one is made for it.
    """

    def __init__(
        self,
        client: Redis,
        keys: Keys,
        sender: Sender,
        breakers: HostBreakers,
        disable_after_s: float,
        timeout_s: float = TOTAL_S,
        attempts: DeliveryLog | None = None,
        noted: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        self.lease_s = math.ceil(timeout_s) + _LEASE_MARGIN_S
        self._client = client
        self._keys = keys
        self._sender = sender
        self._breakers = breakers
        self._disable_after_s = disable_after_s
        self._store = RegistrationStore(client, keys)
        self._noted = noted
        self._log = attempts or StreamLog(client, keys)

    async def take(self, delivery: Delivery) -> Turn:
        """Whether an attempt is to be made now.

        One end may be reported twice, by the api that cancelled it and by the worker that found it
        cancelled. The second message waits for what becomes of the first, which may die with its
        worker.

        Raises:
            BrokerError: the task queue server does not answer.
        """
        if await self._webhook(delivery) is None:
            return "over"
        if delivery.replayed:
            return "now"
        key = self._keys.webhook_delivered(delivery.id)
        with translated():
            if await self._client.set(key, _UNDER_WAY, nx=True, ex=self.lease_s):
                return "now"
            state: Any = await self._client.get(key)
        return "over" if state == _DELIVERED else "later"

    async def attempt(self, delivery: Delivery, body: bytes) -> float | None:
        """Try once.

        Returns:
            Seconds until the next try; None where there is none.

        Raises:
            BrokerError: the task queue server does not answer; trying again is safe.
        """
        webhook = await self._webhook(delivery)
        if webhook is None:
            return None
        url, at_ms = delivery.url or webhook.url, _now_ms()
        answer = await self._send(url, webhook.signing_secrets(at_ms), delivery, body)
        delay_s: float | None = None
        if not (answer.accepted or answer.gone or answer.refused):
            delay_s = next_delay_s(delivery.tries, random.random(), answer.retry_after_s)  # noqa: S311 - spreads load
        outcome: Outcome = "failed" if delay_s is None else "retrying"
        if answer.accepted:
            outcome = "delivered"
        attempt = Attempt(
            delivery=delivery,
            at_ms=at_ms,
            number=delivery.tries + 1,
            url=url,
            outcome=outcome,
            status_code=answer.status,
            detail=answer.detail,
            duration_ms=answer.duration_ms,
            next_at_ms=None if delay_s is None else _now_ms() + round(delay_s * 1000),
        )
        await self._note(webhook, delivery, answer)
        await self._log.add(webhook.tenant, attempt)
        self._noted(outcome)
        return delay_s

    async def _webhook(self, delivery: Delivery) -> Registration | None:
        tenant = delivery.end.tenant
        if delivery.webhook == DEFAULT:
            return await self._store.default_of(tenant)
        try:
            found = await self._store.get(tenant, delivery.webhook)
        except NotFound:
            return None
        return None if found.disabled else found

    async def _send(self, url: str, secrets: list[str], delivery: Delivery, body: bytes) -> Answer:
        breaker = self._breakers.of(url)
        permit = breaker.permit()
        if permit is None:
            return Answer(
                None, "not called: its host has failed several times", 0, breaker.retry_after_s
            )
        answer: Answer | None = None
        try:
            with permit:
                answer = await self._sender.send(url, secrets, delivery.id, body, delivery.method)
                if answer.ill and not answer.refused:
                    raise HostIll
        except HostIll:
            pass
        if answer is None:
            raise RuntimeError("an attempt ended without an answer")
        return answer

    async def _note(self, webhook: Registration, delivery: Delivery, answer: Answer) -> None:
        """What the answer means for the delivery and for the webhook."""
        tenant, webhook_id = webhook.tenant, webhook.id
        key = self._keys.webhook_delivered(delivery.id)
        with translated():
            if answer.accepted:
                await self._client.set(key, _DELIVERED, ex=WEBHOOK_DELIVERED_TTL_S)
            elif not delivery.replayed:
                await self._client.delete(key)
        if webhook_id == DEFAULT:
            return  # its receivers have nothing in common
        if answer.accepted:
            await self._store.succeeded(tenant, webhook_id)
        elif answer.gone:
            await self._disable(webhook, "the receiver answered 410 Gone")
        elif await self._store.failed(tenant, webhook_id) >= self._disable_after_s:
            days = self._disable_after_s / 86_400
            await self._disable(webhook, f"every attempt of {days:g} days has failed")

    async def _disable(self, webhook: Registration, reason: str) -> None:
        log.warning("webhook %s of tenant %s is disabled: %s", webhook.id, webhook.tenant, reason)
        await self._store.disable(webhook.tenant, webhook.id, reason)


@asynccontextmanager
async def open_deliverer(
    broker_url: str,
    keys: Keys,
    policy: AddressPolicy,
    breakers: HostBreakers | None = None,
    *,
    disable_after_s: float = 5 * 86_400.0,
    timeout_s: float = TOTAL_S,
    names: AbstractResolver | None = None,
    noted: Callable[[Outcome], None] = lambda outcome: None,
) -> AsyncIterator[Deliverer]:
    """A deliverer with connections of its own.

    Args:
        broker_url: the task queue server.
        keys: key names.
        policy: says which addresses may be called.
        breakers: before the hosts.
        disable_after_s: seconds of failures alone after which a webhook is disabled.
        timeout_s: seconds one request may take.
        names: resolves names; the system's resolver by default.
        noted: called with what became of each attempt.
    """
    async with (
        open_client(broker_url, name="webhooks") as client,
        open_session(policy, names) as session,
    ):
        sender = Sender(session, policy, timeout_s)
        yield Deliverer(
            client,
            keys,
            sender,
            breakers or HostBreakers(BreakerPolicy()),
            disable_after_s,
            timeout_s,
            noted=noted,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
