"""Every kind of link to a real server: socket, user, TLS, Sentinel with a failover."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from support.faults import FaultProxy
from support.full_backlog import filled

from crucible.broker import Publisher
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.embedded.server import find_binary, free_port
from crucible.errors import BrokerError, BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def server(directory: Path, *arguments: str, ready_url: str) -> AsyncIterator[None]:
    """A server with arguments of the test's own, until it answers on ``ready_url``."""
    process = await asyncio.create_subprocess_exec(
        str(find_binary()), *arguments, "--dir", str(directory), "--save", "",
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            while not await _answers(ready_url):
                await asyncio.sleep(0.02)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(url: str) -> bool:
    try:
        async with Redis.from_url(url) as client:
            return bool(await client.ping())
    except (OSError, RedisError):
        return False


async def _sends(url: str) -> None:
    """A task is sent and found by way of the URL."""
    async with Publisher.connect(url) as publisher:
        result = await publisher.send_task("a.b", [1])
        assert await result.state() == "PENDING"


async def test_unix_socket(tmp_path: Path) -> None:
    """A server is reached through its socket, in a database of one's choice."""
    path = tmp_path / "s"
    ready = f"unix://{path}"
    async with server(tmp_path, "--port", "0", "--unixsocket", str(path), ready_url=ready):
        await _sends(f"redis+socket://{path}?virtual_host=3")
        async with Redis.from_url(f"unix://{path}?db=3") as client:
            assert await client.llen("celery") == 1


async def test_acl_user(tmp_path: Path) -> None:
    """A user with no more rights than a producer needs can produce; another key is refused."""
    port = free_port()
    rules = "on >s3:cr@t ~q ~once:* ~celery-task-meta-* &* +@all -@admin -@dangerous"
    url = f"redis://maker:s3%3Acr%40t@127.0.0.1:{port}/0"
    (tmp_path / "acl").write_text(f"user maker {rules}\nuser default on nopass ~* &* +@all\n")
    arguments = ("--port", str(port), "--aclfile", str(tmp_path / "acl"))
    async with (
        server(tmp_path, *arguments, ready_url=f"redis://127.0.0.1:{port}"),
        Publisher.connect(url) as publisher,
    ):
        await publisher.send_task("a.b", queue="q")
        with pytest.raises(BrokerError, match=r"NOPERM|permission"):
            await publisher.send_task("a.b", queue="forbidden")


@asynccontextmanager
async def tls_front(directory: Path, target_port: int) -> AsyncIterator[tuple[int, Path]]:
    """TLS in front of a server; hands out its port and the certificate to trust."""
    openssl = shutil.which("openssl")
    assert openssl is not None
    key, certificate = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with FaultProxy("127.0.0.1", target_port, tls=context) as proxy:
        yield proxy.port, certificate


async def test_tls(tmp_path: Path, redis_url: str, redis: Redis) -> None:
    """A server behind TLS is reached with its certificate checked, and refused without."""
    parts = urlsplit(redis_url)
    async with tls_front(tmp_path, parts.port or 0) as (port, certificate):
        base = f"rediss://127.0.0.1:{port}{parts.path}?ssl_cert_reqs=CERT_REQUIRED"
        await _sends(f"{base}&ssl_ca_certs={certificate}")
        assert await redis.llen("celery") == 1
        async with Publisher.connect(base) as publisher:
            with pytest.raises(BrokerUnavailable):
                await publisher.send_task("a.b")
    assert await redis.llen("celery") == 1


async def test_sentinel_failover(tmp_path: Path) -> None:
    """The master is found through its sentinel, and the new one after a failover."""
    ports = free_port(), free_port(), free_port()
    urls = [f"redis://127.0.0.1:{port}" for port in ports]
    directories = [tmp_path / str(number) for number in range(3)]
    for directory in directories:
        directory.mkdir()
    configuration = directories[2] / "sentinel.conf"
    configuration.write_text(
        f"port {ports[2]}\nbind 127.0.0.1\n"
        f"sentinel monitor main 127.0.0.1 {ports[0]} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    )
    replica = ("--port", str(ports[1]), "--replicaof", "127.0.0.1", str(ports[0]))
    async with (
        server(directories[0], "--port", str(ports[0]), ready_url=urls[0]),
        server(directories[1], *replica, ready_url=urls[1]),
        server(directories[2], str(configuration), "--sentinel", ready_url=urls[2]),
        Redis.from_url(urls[2], decode_responses=True) as client,
        Publisher.connect(f"sentinel://127.0.0.1:{ports[2]}/0?master_name=main") as publisher,
    ):
        sentinel: Any = client
        await publisher.send_task("a.b")
        async with asyncio.timeout(30):
            while True:
                replies = await sentinel.execute_command("SENTINEL", "REPLICAS", "main")
                if replies and "master-link-status" in str(replies) and "err" not in str(replies):
                    break
                await asyncio.sleep(0.1)
            await sentinel.execute_command("SENTINEL", "FAILOVER", "main")
            while await _master_length(urls[1]) < 2:
                await _try_to_send(publisher)


async def test_a_replica_that_a_sentinel_names_is_not_used(tmp_path: Path) -> None:
    """As for a moment after a failover: it would answer reads without what was accepted."""
    ports = free_port(), free_port()
    directories = [tmp_path / str(number) for number in range(2)]
    for directory in directories:
        directory.mkdir()
    configuration = directories[1] / "sentinel.conf"
    configuration.write_text(
        f"port {ports[1]}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {ports[0]} 1\n"
    )
    replica = ("--port", str(ports[0]), "--replicaof", "127.0.0.1", str(free_port()))
    urls = [f"redis://127.0.0.1:{port}" for port in ports]
    async with (
        server(directories[0], *replica, ready_url=urls[0]),
        server(directories[1], str(configuration), "--sentinel", ready_url=urls[1]),
        open_client(f"sentinel://127.0.0.1:{ports[1]}/0?master_name=main") as client,
    ):
        with pytest.raises(RedisConnectionError, match="no master any more"):
            await client.get("a")


async def test_connections_to_a_living_server_that_is_no_master_any_more_are_closed(
    tmp_path: Path,
) -> None:
    """As after a failover that was none of its fault: also those that wait for a reply."""
    ports = free_port(), free_port(), free_port()
    urls = [f"redis://127.0.0.1:{port}" for port in ports]
    directories = [tmp_path / str(number) for number in range(3)]
    for directory in directories:
        directory.mkdir()
    configuration = directories[2] / "sentinel.conf"
    configuration.write_text(
        f"port {ports[2]}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {ports[0]} 1\n"
    )
    async with (
        server(directories[0], "--port", str(ports[0]), ready_url=urls[0]),
        server(directories[1], "--port", str(ports[1]), ready_url=urls[1]),
        server(directories[2], str(configuration), "--sentinel", ready_url=urls[2]),
        Redis.from_url(urls[2]) as sentinels,
        Redis.from_url(urls[1]) as other,
        open_client(
            f"sentinel://127.0.0.1:{ports[2]}/0?master_name=main", command_timeout_s=None
        ) as client,
    ):
        asked: Any = client
        assert await asked.set("a", 1)
        waiting = asyncio.ensure_future(asked.brpop("nothing", 0))
        sentinel: Any = sentinels
        await sentinel.execute_command("SENTINEL", "REMOVE", "main")
        await sentinel.execute_command("SENTINEL", "MONITOR", "main", "127.0.0.1", ports[1], 1)
        async with asyncio.timeout(60):
            with pytest.raises(RedisConnectionError):
                await waiting
        assert await asked.set("b", 1)
        assert await other.exists("b") == 1


async def _master_length(url: str) -> int:
    """Messages in the queue of a server that is the master; 0 of one that is not, or is busy."""
    try:
        async with Redis.from_url(url) as client:
            role = (await client.info("replication"))["role"]
            return await client.llen("celery") if role == "master" else 0
    except (ConnectionError, RedisConnectionError):
        # A server that changes its role closes its connections.
        return 0


async def _try_to_send(publisher: Publisher) -> None:
    try:
        await publisher.send_task("a.b")
    except BrokerError:
        await asyncio.sleep(0.05)


async def test_a_server_that_takes_no_connection_is_not_available() -> None:
    """A connection that is not made in time is no answer that is late: nothing was sent."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        host, port = full.getsockname()
        with filled(full):
            async with open_client(f"redis://{host}:{port}", connect_timeout_s=0.3) as client:
                with pytest.raises(BrokerUnavailable) as raised, translated():
                    await client.ping()
    assert str(raised.value) == (
        f"the queue server is not available: no connection to {host}:{port} within 0.3 s"
    )
