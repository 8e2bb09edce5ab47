"""The attempts of deliveries: a bounded stream for each tenant.

``DeliveryLog`` is the seam for a log that is kept longer elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from crucible.broker.redis.translation import translated
from crucible.redis_keys import WEBHOOK_LOG_LIMIT, WEBHOOK_LOG_TTL_S
from crucible.webhooks.planning import Delivery  # noqa: TC001 - msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

Outcome = Literal["delivered", "retrying", "failed"]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt.

    Attributes:
        delivery: what was to be delivered.
        at_ms: when it began, milliseconds since the epoch.
        number: 1 for the first.
        url: where to.
        outcome: whether the receiver has it, it is tried again, or it is given up.
        status_code: HTTP status of the answer; null where there was none.
        detail: what went wrong, or the beginning of the answer.
        duration_ms: milliseconds it took.
        next_at_ms: when it is tried again.
    """

    delivery: Delivery
    at_ms: int
    number: int
    url: str
    outcome: Outcome
    status_code: int | None
    detail: str
    duration_ms: int
    next_at_ms: int | None = None


class DeliveryLog(Protocol):
    """Keeps attempts; raises BrokerError where it cannot."""

    async def add(self, tenant: str, attempt: Attempt) -> None:
        """Keep one attempt."""

    async def of_tenant(self, tenant: str) -> list[Attempt]:
        """The attempts of one tenant, the newest first."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Attempt).decode


class StreamLog:
    """The log in Redis.

    Args:
        client: of the task queue server.
        keys: key names.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def add(self, tenant: str, attempt: Attempt) -> None:
        """See ``DeliveryLog``."""
        key = self._keys.webhook_log(tenant)
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.xadd(key, {"attempt": _encode(attempt)}, maxlen=WEBHOOK_LOG_LIMIT)
                pipe.expire(key, WEBHOOK_LOG_TTL_S)
                await pipe.execute()

    async def of_tenant(self, tenant: str) -> list[Attempt]:
        """See ``DeliveryLog``."""
        with translated():
            rows: Any = await self._client.xrevrange(self._keys.webhook_log(tenant))
        return [attempt for _, attempt in _attempts(rows)]

    async def forget(self, tenant: str, eval_id: str) -> None:
        """Delete the attempts that were made for one evaluation; raises BrokerError."""
        key = self._keys.webhook_log(tenant)
        with translated():
            rows: Any = await self._client.xrange(key)
            own = [i for i, one in _attempts(rows) if one.delivery.end.eval_id == eval_id]
            if own:
                await self._client.xdel(key, *own)


def _attempts(rows: Iterable[Any]) -> Iterator[tuple[bytes, Attempt]]:
    for entry_id, fields in rows:
        try:
            yield entry_id, _decode(fields[b"attempt"])
        except (msgspec.DecodeError, KeyError):
            continue  # of another version
