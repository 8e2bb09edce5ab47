"""Checks the query of a server URL by handing it to redis-py, which defines the fields."""

from __future__ import annotations

import asyncio

from crucible.errors import SettingsError
from crucible.settings import Settings, env_name, mask_url

_FIELDS = ("celery_broker_url", "celery_result_backend", "event_bus_url")


def check_queries(settings: Settings) -> None:
    """Refuse a query with a field that redis-py's connections do not accept, or a bad value.

    Raises:
        SettingsError: naming the setting.
    """
    for field in _FIELDS:
        url = getattr(settings, field)
        if "?" in url:
            _check(field, url)


def _check(field: str, url: str) -> None:
    from redis.exceptions import RedisError

    try:
        asyncio.run(_make_connection(url))
    except (ValueError, TypeError, RedisError) as error:
        # redis-py's message names the field, never its value, so no secret is printed.
        detail = f"{mask_url(url)!r}: its query cannot be used: {error}"
        raise SettingsError(env_name(field), detail) from None


async def _make_connection(url: str) -> None:
    """Create a connection object, which checks the fields; nothing is sent."""
    from crucible.broker.redis.connection import open_client

    async with open_client(url) as client:
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
