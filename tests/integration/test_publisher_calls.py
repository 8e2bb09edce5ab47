"""What a caller of the publisher may get wrong, or wants to say twice."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.patience import PATIENCE_S

from crucible.broker import Publisher, chain, group, signature

if TYPE_CHECKING:
    from redis.asyncio import Redis


async def test_misspelt_options_are_refused(redis: Redis, redis_url: str) -> None:
    """``countdwon=`` is a TypeError and sends nothing."""
    misspelt: Any = {"countdwon": 5}
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        with pytest.raises(TypeError, match="'countdwon'; did you mean 'countdown'"):
            await publisher.send_task("p.add", **misspelt)
        assert not await redis.llen("celery")


async def test_a_task_is_sent_once_under_a_key(redis: Redis, redis_url: str) -> None:
    """A repetition returns the first one's handle and sends nothing."""
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        first = await publisher.send_task("p.add", [1], idempotency_key="order-17")
        again = await publisher.send_task("p.add", [1], idempotency_key="order-17")
        other = await publisher.send_task("p.add", [1], idempotency_key="order-18")
        assert first.id == again.id != other.id
    assert await redis.llen("celery") == 2


async def test_members_come_one_by_one_or_as_a_list(redis: Redis, redis_url: str) -> None:
    """Chains and groups are called in the same two ways, and so are their builders."""
    parts = [signature("p.add", [1, 1]), signature("p.add", [2])]
    assert chain(parts) == chain(*parts)
    assert group(parts) == group(*parts)
    assert chain(parts[0]).parts == parts[:1]
    async with Publisher.connect(redis_url, deadline_s=PATIENCE_S) as publisher:
        for send in (publisher.send_chain, publisher.send_group):
            await send(parts)
            await send(*parts)
    tasks = [json.loads(raw)["headers"]["task"] for raw in await redis.lrange("celery", 0, -1)]
    assert tasks == ["p.add"] * 6
