"""Waiting for the end of a run: until everything has ended, or nothing moves any more."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

#: Stored states in which an evaluation stays.
ENDED = ("SUCCESS", "FAILURE")
#: Seconds without any progress after which nothing more is expected.
PATIENCE_S = 45.0
_LOOK_S = 0.25


async def settle(left: Callable[[], Awaitable[int]], patience_s: float = PATIENCE_S) -> int:
    """Wait until nothing is left, or what is left has not changed for ``patience_s``.

    Args:
        left: counts what has not ended.
        patience_s: seconds.

    Returns:
        What is left.
    """
    before, since = await left(), time.monotonic()
    while before and time.monotonic() - since < patience_s:
        await asyncio.sleep(_LOOK_S)
        now = await left()
        if now != before:
            before, since = now, time.monotonic()
    return before


async def results_of(client: Any, ids: Sequence[str]) -> dict[str, bytes | None]:
    """The stored result of each evaluation, None where there is none."""
    keys = [Keys().result(f"eval-{one}") for one in ids]
    values = await client.mget(keys) if keys else []
    return dict(zip(ids, values, strict=True))


async def statuses_of(client: Any, ids: Sequence[str]) -> dict[str, str]:
    """The stored status of each evaluation, empty where there is none."""
    stored = await results_of(client, ids)
    return {
        one: "" if value is None else str(msgspec.json.decode(value)["status"])
        for one, value in stored.items()
    }


async def settled(client: Any, ids: Sequence[str]) -> dict[str, str]:
    """The stored status of each evaluation, once all have ended or nothing moves any more."""

    async def left() -> int:
        statuses = await statuses_of(client, ids)
        return sum(status not in ENDED for status in statuses.values())

    await settle(left)
    return await statuses_of(client, ids)
