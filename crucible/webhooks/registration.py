"""The webhooks of tenants, in one hash of the task queue server."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from crucible.broker.redis.transactions import executed
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerUnavailable, ConflictError, InputError, NotFound
from crucible.redis_keys import WEBHOOKS_OF_TENANT
from crucible.validation import quoted
from crucible.webhooks.signing import new_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

AlertType = Literal["dead_letters.growing"]
EventType = Literal["evaluation.completed", "evaluation.failed", "evaluation.cancelled"] | AlertType
#: The types that are delivered where none is named: ends of the tenant's evaluations.
EVENT_TYPES: tuple[EventType, ...] = (
    "evaluation.completed",
    "evaluation.failed",
    "evaluation.cancelled",
)
#: Types for operators, since they are of all tenants.
DEAD_LETTERS: AlertType = "dead_letters.growing"
ALERT_TYPES: tuple[AlertType, ...] = (DEAD_LETTERS,)
#: Id of the webhook whose secrets sign what goes to the ``webhook_url`` of a submission.
DEFAULT = "default"
#: Milliseconds that a rotated secret goes on signing beside its successor, and most that do.
OVERLAP_MS, _MAX_SECRETS = 86_400_000, 5
#: Tries of a change that others make at the same time.
_TRIES = 20


class Secret(msgspec.Struct, frozen=True):
    """One secret.

    Attributes:
        value: ``whsec_`` and base64.
        expires_ms: until when it signs, milliseconds since the epoch; None without an end.
    """

    value: str
    expires_ms: int | None = None


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook.

    Attributes:
        tenant: whose it is.
        id: its id.
        url: where deliveries go; empty for ``DEFAULT``, whose deliveries carry their own.
        secrets: the newest first.
        events: the types that are delivered.
        created_ms: milliseconds since the epoch.
        disabled: why nothing is delivered any more; None while it is.
    """

    tenant: str
    id: str
    url: str
    secrets: tuple[Secret, ...]
    events: tuple[EventType, ...] = EVENT_TYPES
    created_ms: int
    disabled: str | None = None

    def signing_secrets(self, now_ms: int) -> list[str]:
        """The secrets to sign with now."""
        return [one.value for one in self.secrets if _signs(one, now_ms)]

    def rotated(self, secret: str, now_ms: int) -> Registration:
        """With a new secret; those before it go on signing for ``OVERLAP_MS``."""
        until = now_ms + OVERLAP_MS
        older = [
            Secret(one.value, min(until, one.expires_ms or until))
            for one in self.secrets
            if _signs(one, now_ms)
        ]
        kept = (Secret(secret), *older[: _MAX_SECRETS - 1])
        return msgspec.structs.replace(self, secrets=kept)


def _signs(secret: Secret, now_ms: int) -> bool:
    return secret.expires_ms is None or secret.expires_ms > now_ms


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Registration).decode


def checked_events(names: Iterable[str] | None) -> tuple[EventType, ...]:
    """The event types a client named, each once and in their own order; all where it named none.

    Raises:
        InputError: one is unknown, or the list is empty.
    """
    if names is None:
        return EVENT_TYPES
    wanted = set(names)
    known = (*EVENT_TYPES, *ALERT_TYPES)
    if not wanted or not wanted <= set(known):
        raise InputError("events", f"must name some of {', '.join(known)}")
    return tuple(name for name in known if name in wanted)


class RegistrationStore:
    """Webhooks on the task queue server. Every method raises BrokerError if that does not answer.

    Args:
        client: of the task queue server.
        keys: key names.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def all(self) -> list[Registration]:
        """Every webhook of every tenant."""
        with translated():
            stored: Any = await self._client.hvals(self._keys.webhooks)
        found = []
        for value in stored:
            try:
                found.append(_decode(value))
            except msgspec.DecodeError:
                continue  # of another version
        return found

    async def of_tenant(self, tenant: str) -> list[Registration]:
        """The webhooks of one tenant, the oldest first."""
        found = [one for one in await self.all() if one.tenant == tenant]
        return sorted(found, key=lambda one: (one.created_ms, one.id))

    async def get(self, tenant: str, webhook_id: str) -> Registration:
        """One webhook.

        Raises:
            NotFound: the tenant has no such webhook.
        """
        with translated():
            stored: Any = await self._client.hget(self._keys.webhooks, _field(tenant, webhook_id))
        if stored is None:
            raise NotFound(f"no webhook has the id {quoted(webhook_id)}")
        return _decode(stored)

    async def create(self, tenant: str, url: str, events: tuple[EventType, ...]) -> Registration:
        """Register a webhook, with a secret of its own.

        Raises:
            ConflictError: the tenant has as many as it may.
        """
        mine = [one for one in await self.of_tenant(tenant) if one.id != DEFAULT]
        if len(mine) >= WEBHOOKS_OF_TENANT:
            raise ConflictError("url", f"there are {WEBHOOKS_OF_TENANT} webhooks already")
        made = _new(tenant, f"wh_{secrets.token_hex(10)}", url, events)
        await self._put(made)
        return made

    async def default_of(self, tenant: str) -> Registration:
        """The tenant's ``DEFAULT``, made where there is none yet."""
        made = _new(tenant, DEFAULT, "", EVENT_TYPES)
        with translated():
            new: Any = await self._client.hsetnx(
                self._keys.webhooks, _field(tenant, DEFAULT), _encode(made)
            )
        return made if new else await self.get(tenant, DEFAULT)

    async def delete(self, tenant: str, webhook_id: str) -> None:
        """Forget a webhook; deliveries under way end with their next attempt.

        Raises:
            NotFound: the tenant has no such webhook.
        """
        field = _field(tenant, webhook_id)
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hdel(self._keys.webhooks, field)
                pipe.hdel(self._keys.webhooks_failing, field)
                pipe.publish(self._keys.webhooks, field)
                answers = await pipe.execute()
        if not answers[0]:
            raise NotFound(f"no webhook has the id {quoted(webhook_id)}")

    async def rotate(self, tenant: str, webhook_id: str) -> Registration:
        """Give a webhook a new secret, and enable it if it was disabled.

        Raises:
            NotFound: the tenant has no such webhook.
        """
        if webhook_id == DEFAULT:
            await self.default_of(tenant)
        secret, now_ms = new_secret(), _now_ms()

        def change(before: Registration) -> Registration:
            return msgspec.structs.replace(before.rotated(secret, now_ms), disabled=None)

        # Before it: the new secret is shown once, whatever would fail afterwards.
        await self.succeeded(tenant, webhook_id)
        return await self._change(tenant, webhook_id, change)

    async def disable(self, tenant: str, webhook_id: str, reason: str) -> None:
        """Deliver nothing to it any more; nothing happens where there is no such webhook."""
        try:
            await self._change(
                tenant, webhook_id, lambda before: msgspec.structs.replace(before, disabled=reason)
            )
        except NotFound:
            return

    async def succeeded(self, tenant: str, webhook_id: str) -> None:
        """Note that a delivery was accepted."""
        with translated():
            await self._client.hdel(self._keys.webhooks_failing, _field(tenant, webhook_id))

    async def failed(self, tenant: str, webhook_id: str) -> float:
        """Note that an attempt failed; seconds since the first of those without a success."""
        field, now_ms = _field(tenant, webhook_id), _now_ms()
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hsetnx(self._keys.webhooks_failing, field, now_ms)
                pipe.hget(self._keys.webhooks_failing, field)
                answers = await pipe.execute()
        return max(0.0, (now_ms - int(answers[1])) / 1000)

    async def _put(self, registration: Registration) -> None:
        field = _field(registration.tenant, registration.id)
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hset(self._keys.webhooks, field, _encode(registration))
                pipe.publish(self._keys.webhooks, field)
                await pipe.execute()

    async def _change(
        self, tenant: str, webhook_id: str, change: Callable[[Registration], Registration]
    ) -> Registration:
        key, field = self._keys.webhooks, _field(tenant, webhook_id)
        for _ in range(_TRIES):
            with translated():
                async with self._client.pipeline(transaction=True) as pipe:
                    await pipe.watch(key)
                    stored: Any = await pipe.hget(key, field)
                    if stored is None:
                        raise NotFound(f"no webhook has the id {quoted(webhook_id)}")
                    changed = change(_decode(stored))
                    pipe.multi()  # type: ignore[no-untyped-call]  # redis-py left it unannotated
                    pipe.hset(key, field, _encode(changed))
                    pipe.publish(key, field)
                    if await executed(pipe) is not None:
                        return changed
        raise BrokerUnavailable("the webhooks are being changed by others all the time")


def _field(tenant: str, webhook_id: str) -> str:
    return f"{tenant}:{webhook_id}"


def _new(tenant: str, webhook_id: str, url: str, events: tuple[EventType, ...]) -> Registration:
    return Registration(
        tenant=tenant,
        id=webhook_id,
        url=url,
        secrets=(Secret(new_secret()),),
        events=events,
        created_ms=_now_ms(),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
