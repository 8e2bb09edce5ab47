"""Keys for tests of the API."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from crucible.broker.redis.connection import open_client
from crucible.identity.key_store import KeyStore
from crucible.identity.keys import checked_request
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Made(NamedTuple):
    """A key and its secret."""

    id: str
    secret: str

    @property
    def headers(self) -> dict[str, str]:
        """What a request with it carries."""
        return {"Authorization": f"Bearer {self.secret}"}


@asynccontextmanager
async def key_store(redis_url: str) -> AsyncIterator[KeyStore]:
    """The keys of a server, as the command line has them."""
    async with open_client(redis_url, name="keys") as client:
        yield KeyStore(client, Keys())


async def make_key(
    redis_url: str, tenant: str, *scopes: str, tier: str = "standard", name: str = "test"
) -> Made:
    """Make a key; without scopes it may submit and read."""
    fields = {"name": name, "tenant": tenant, "tier": tier, "scopes": scopes or ("submit", "read")}
    async with key_store(redis_url) as store:
        key, secret = await store.create(checked_request(fields))
    return Made(key.id, secret)
