"""The stored switches under several writers, and their audit."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.unhindered import unhindered_s

from crucible.breaker import CircuitBreaker
from crucible.errors import ConflictError, SettingsError
from crucible.migration.live.watch import SwitchWatch
from crucible.migration.state import Change, SwitchStore
from crucible.redis_keys import Keys
from crucible.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

SETTINGS = Settings(queue_service_url="http://127.0.0.1:8002")


async def test_what_is_in_force_is_no_change(redis: Redis) -> None:
    """No revision and no entry for what is stored already; what only the environment says is."""
    store = SwitchStore(redis, Keys(), SETTINGS)
    first = await store.change(Change(celery_percentage=1.0, reason="pin it"))
    assert first.revision == 1
    assert await store.change(Change(celery_percentage=1.0, reason="again")) == first
    assert await store.change(Change(dual_write=False, celery_enabled=True)) == first
    assert [entry.reason for entry in await store.audit()] == ["pin it"]
    with pytest.raises(ConflictError):
        await store.change(Change(celery_percentage=1.0, expected_revision=0))
    assert (await store.change(Change(celery_percentage=0.5))).revision == 2


async def test_writers_at_once_lose_no_change(redis: Redis) -> None:
    """Each change builds on the one before: five writers, five revisions, five audit entries."""
    store = SwitchStore(redis, Keys(), SETTINGS)
    changes = [Change(celery_percentage=share / 10, by=f"w{share}") for share in range(5)]
    states = await asyncio.gather(*map(store.change, changes))
    assert sorted(state.revision for state in states) == [1, 2, 3, 4, 5]
    audit = await store.audit()
    assert [entry.revision for entry in audit] == [5, 4, 3, 2, 1]
    assert audit[0].after == await store.read()
    assert [entry.before.revision for entry in audit] == [4, 3, 2, 1, 0]


async def test_a_refused_change_leaves_no_trace(redis: Redis) -> None:
    """Contradictory or out of date: nothing is stored, and nothing is audited."""
    store = SwitchStore(redis, Keys(), SETTINGS)
    with pytest.raises(SettingsError, match="CRUCIBLE_DUAL_WRITE"):
        await store.change(Change(dual_write=True, celery_percentage=0.5))
    with pytest.raises(ConflictError):
        await store.change(Change(celery_percentage=0.5, expected_revision=7))
    assert (await store.audit(), await redis.exists("crucible:migration")) == ([], 0)


async def test_the_audit_is_bounded(redis: Redis) -> None:
    """However often the switches change, about a thousand entries are kept."""
    store = SwitchStore(redis, Keys(), SETTINGS)
    for number in range(1300):
        await store.change(Change(celery_percentage=(number % 10) / 10))
    assert await redis.xlen("crucible:migration:audit") <= 1100


async def _soon(redis: Redis, reached: Callable[[], bool]) -> None:
    """Return once something is so, within a second in which this process and the server run."""
    server = (await redis.info("server"))["process_id"]
    began = unhindered_s(server)
    while not reached():
        assert unhindered_s(server) - began < 1.0
        await asyncio.sleep(0.01)


async def test_a_watch_finds_a_change_that_was_not_told(redis: Redis) -> None:
    """A lost publication costs half a second: the look finds what is stored."""
    keys, circuit = Keys(), CircuitBreaker("queue")
    async with SwitchWatch(redis, keys, SETTINGS, circuit) as watch:
        other = SwitchStore(redis, Keys(), SETTINGS)
        state = await other.change(Change(celery_percentage=0.5))
        stored: Any = await redis.get(keys.migration)
        await _soon(redis, lambda: watch.state == state)
        # Written by hand, without a word on the channel.
        silent = stored.replace(b'"celery_percentage":0.5', b'"celery_percentage":0.25')
        await redis.set(keys.migration, silent)
        await _soon(redis, lambda: watch.switches.celery_percentage == 0.25)


async def test_nonsense_in_the_store_keeps_the_old_switches(redis: Redis) -> None:
    """Whatever somebody wrote there, a process goes on with what it knew."""
    keys = Keys()
    async with SwitchWatch(redis, keys, SETTINGS, CircuitBreaker("queue")) as watch:
        await watch.change(Change(celery_percentage=0.5))
        await redis.set(keys.migration, b"\xff not json")
        await redis.publish(keys.migration, b"\xff not json")
        await redis.set(keys.migration, b'{"celery_percentage": 7}')
        await asyncio.sleep(0.7)
        assert watch.switches.celery_percentage == 0.5
