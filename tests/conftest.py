"""Fixtures shared by every tier: a real server, and an empty database of it for each test."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import shutil
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from redis.asyncio import Redis
from support.faults import FaultProxy

from crucible.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.postgres import PostgresServer

# A busy machine must not decide a test.
settings.register_profile(
    "crucible", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("crucible")

_databases = itertools.cycle(range(1, 16))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def redis_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedServer]:
    """One server for the session; tests take databases of it through ``redis_url``."""
    directory = tmp_path_factory.mktemp("redis")
    async with EmbeddedServer(directory, durable=False) as server:
        yield server


@pytest_asyncio.fixture
async def scratch_server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A durable server of the test's own, for tests that stop, restart or configure one."""
    async with EmbeddedServer(tmp_path / "server") as server:
        yield server


@pytest_asyncio.fixture
async def redis_url(redis_server: EmbeddedServer) -> AsyncIterator[str]:
    """URL of an empty database that no other running test uses."""
    url = f"redis://127.0.0.1:{redis_server.port}/{next(_databases)}"
    async with Redis.from_url(url) as client:
        await client.flushdb()
        yield url
        await client.flushdb()


@pytest_asyncio.fixture
async def proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    """A way to the test's server that fails as told."""
    async with FaultProxy("127.0.0.1", urlsplit(redis_url).port or 0) as proxy:
        yield proxy


@pytest.fixture
def proxied_url(redis_url: str, proxy: FaultProxy) -> str:
    """URL of the test's database on that way."""
    return proxy.url(int(urlsplit(redis_url).path[1:]))


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the test's database, for looking behind the scenes."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    """One PostgreSQL server for the session; tests make databases of it."""
    async with _postgres() as server:
        yield server


@pytest_asyncio.fixture
async def scratch_postgres() -> AsyncIterator[PostgresServer]:
    """A PostgreSQL server of the test's own, for tests that kill it."""
    async with _postgres() as server:
        yield server


@asynccontextmanager
async def _postgres() -> AsyncIterator[PostgresServer]:
    from benchmarks.postgres import PostgresServer

    # Not below pytest's own directory, which its user could not enter.
    directory = Path(tempfile.mkdtemp(prefix="crucible-postgres-"))
    try:
        async with PostgresServer(directory) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def history_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of the history, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.sqlite"
    server: PostgresServer = request.getfixturevalue("postgres")
    return asyncio.run(server.create(f"history_{secrets.token_hex(6)}"))
