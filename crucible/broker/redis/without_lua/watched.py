"""What the operations without scripting share: watched transactions, and storing a result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.commands import CommandClient
from crucible.broker.redis.transactions import executed
from crucible.broker.wire.states import REVOKED, adds_left, is_final
from crucible.redis_keys import DEAD_LETTER_LIMIT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence


class TransactionClient(CommandClient):
    """A client of a server without scripting."""

    @property
    def _redis(self) -> Any:
        # Half of redis-py's commands have no usable annotations.
        return self._client


async def watched(client: Any, key: Any, body: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run ``body`` on a pipeline that watches ``key``, again while others change it.

    ``body`` reads, calls ``multi``, queues its writes and returns the reply; where it does
    not call ``multi`` nothing is written.
    """
    while True:
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch(key)
            reply = await body(pipe)
            if await executed(pipe) is not None:
                return reply


async def has_ended(client: Any, key: Any, meta: bytes) -> bool:
    """Whether a result that ends its task is stored under ``key``, and ``meta`` adds nothing."""
    stored = _decoded(await client.get(key))
    if not is_final(stored):
        return False
    return stored["status"] != REVOKED or not adds_left(_decoded(meta), stored)


def _decoded(stored: bytes | None) -> dict[str, Any]:
    try:
        meta = {} if stored is None else json.loads(stored)
    except ValueError:
        return {}
    return meta if isinstance(meta, dict) else {}


def store_result(pipe: Any, key: str, meta: bytes, ttl_s: int) -> None:
    """Queue storing and publishing a result."""
    pipe.set(key, meta, ex=ttl_s or None)
    pipe.publish(key, meta)


def add_dead_letter(pipe: Any, stream: str, fields: Mapping[Any, Any]) -> None:
    """Queue writing a dead letter."""
    pipe.xadd(stream, dict(fields), maxlen=DEAD_LETTER_LIMIT, approximate=True)


def seconds_of(time_reply: Sequence[int]) -> float:
    """Seconds since the epoch, of a reply to TIME."""
    return time_reply[0] + time_reply[1] / 1e6


def to_bytes(value: Any) -> bytes:
    """An argument as the server gives it back."""
    return value if isinstance(value, bytes) else str(value).encode()


def pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    """Names and values in turn as a dictionary."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
