"""What the steps without scripting have in common: watched transactions, and storing a result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from redis.exceptions import WatchError

from crucible.broker.results.meta import is_final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence


async def watched(client: Any, key: Any, body: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run ``body`` on a pipeline that watches ``key``, again while others change it.

    ``body`` reads, calls ``multi``, queues its writes and returns the answer; where it does
    not call ``multi`` nothing is written.
    """
    while True:
        async with client.pipeline(transaction=True) as pipe:
            try:
                await pipe.watch(key)
                answer = await body(pipe)
                await pipe.execute()
            except WatchError:
                continue
            return answer


async def has_ended(client: Any, key: Any) -> bool:
    """Whether a result that ends its task is stored under ``key``."""
    stored = await client.get(key)
    if stored is None:
        return False
    try:
        meta = json.loads(stored)
    except ValueError:
        return False
    return isinstance(meta, dict) and is_final(meta)


def store_result(pipe: Any, key: Any, meta: Any, ttl: Any) -> None:
    """Queue storing and publishing a result."""
    pipe.set(key, meta, ex=int(ttl) or None)
    pipe.publish(key, meta)


def to_bytes(value: Any) -> bytes:
    """An argument as the server gives it back."""
    return value if isinstance(value, bytes) else str(value).encode()


def pairs(flat: Sequence[Any]) -> dict[Any, Any]:
    """Names and values in turn as a dictionary."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
