"""Outputs that are too large for a result: whole behind a link, and never half of one."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from celery.result import AsyncResult
from support.api_rig import running_api
from support.keyed import make_key
from support.migration_rig import celery_worker, completed, submit, until
from support.object_server import ObjectServer
from support.patience import PATIENCE_S

from crucible.breaker import BreakerPolicy
from crucible.errors import NotFound, ObjectStoreError
from crucible.evaluation.large_outputs import HEAD_BYTES, LargeOutputs, Orphans
from crucible.models import Outcome, Verdict
from crucible.objects.store import ObjectStore
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import aiohttp
    from redis.asyncio import Redis

LINES = 100_000
#: 1 MB of output: more than the rig's threshold.
PROGRAM = f"for i in range({LINES}): print(f'{{i:09}}')"
WHOLE = "".join(f"{i:09}\n" for i in range(LINES)).encode()
POLICY = BreakerPolicy(failures=2, open_s=0.2)


@asynccontextmanager
async def service(redis_url: str, url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """API and worker with an object store."""
    async with (
        running_api(redis_url, object_store_url=url) as client,
        celery_worker(redis_url, object_store_url=url),
    ):
        yield client


async def names_in(store: ObjectStore) -> list[str]:
    """Every object."""
    return [one.name async for page in store.names() for one in page]


async def whole(parts: AsyncIterator[bytes]) -> bytes:
    """An object's content."""
    return b"".join([part async for part in parts])


async def test_a_large_output_is_behind_a_link(redis_url: str, tmp_path: Path) -> None:
    """The result has its beginning; the link has every byte, for each kind of client."""
    url = f"file://{tmp_path}/objects"
    async with service(redis_url, url) as client:
        await submit(client, PROGRAM, eval_id="large")
        await submit(client, "print(1)", eval_id="small")
        found = await completed(client, "large")
        assert "output_href" not in await completed(client, "small")
        assert found["output"].encode() == WHOLE[:HEAD_BYTES]
        assert found["output_truncated"] is False
        for accepted, encoding in (("identity", None), ("zstd;q=0", None), ("gzip, zstd", "zstd")):
            headers = {"Accept-Encoding": accepted}
            async with client.get(
                found["output_href"], headers=headers, auto_decompress=False
            ) as r:
                body = await r.read()
                assert r.headers.get("Content-Encoding") == encoding
                assert r.headers["Content-Type"] == "application/octet-stream"
            if encoding:
                body = zstandard.ZstdDecompressor().decompress(body)
            assert body == WHOLE
        for path in ("/api/eval/large/output/nothing", "/api/eval/small/output/x"):
            async with client.get(path) as response:
                assert response.status == 404
        async with client.get("/ready") as response:
            assert (await response.json())["circuits"]["objects"] == "closed"
        async with client.delete("/api/eval/large?purge=true") as response:
            assert response.status == 200
        async with client.get(found["output_href"]) as response:
            assert response.status == 404
    assert await names_in(ObjectStore(url, POLICY)) == []


async def test_another_tenant_cannot_follow_the_link(redis_url: str, tmp_path: Path) -> None:
    """It is 404, as the evaluation is."""
    mine = await make_key(redis_url, "acme", "read", "submit")
    other = await make_key(redis_url, "other", "read")
    async with service(redis_url, f"file://{tmp_path}/objects") as client:
        body = {"code": PROGRAM, "eval_id": "large"}
        async with client.post("/api/eval?wait=30", json=body, headers=mine.headers) as response:
            found = await response.json()
        for key, status in ((mine, 200), (other, 404)):
            async with client.get(found["output_href"], headers=key.headers) as response:
                assert response.status == status


async def test_stock_clients_read_the_result(redis_url: str, tmp_path: Path) -> None:
    """Nothing in Redis is compressed: which readers a result has nobody knows."""
    from crucible.celery_app import app

    async with service(redis_url, f"file://{tmp_path}/objects") as client:
        await submit(client, PROGRAM, eval_id="large")
        await completed(client, "large")
        with app.connection_or_acquire():
            backend = app._get_backend().__class__(app=app, url=redis_url)
            result: Any = await asyncio.to_thread(
                AsyncResult("eval-large", backend=backend).get, timeout=PATIENCE_S
            )
    assert result["output"].encode() == WHOLE[:HEAD_BYTES]
    assert result["output_object"].endswith("-stdout.zst")


async def test_orphans_are_swept(redis: Redis, tmp_path: Path) -> None:
    """What a result names stays; what no result names goes, once it is old enough."""
    store = ObjectStore(f"file://{tmp_path}/objects", POLICY)
    outputs = LargeOutputs(store, 10)
    outcome = Outcome(verdict=Verdict.OK, stdout=b"x" * 100, stderr=b"y" * 100)
    moved, names = await outputs.moved("acme:kept", outcome)
    assert (moved.stdout, set(names)) == (b"x" * 100, {"stdout", "stderr"})
    await outputs.moved("acme:kept", outcome)  # by a run before, whose worker was killed
    await outputs.moved("gone", outcome)
    await redis.set(Keys().result("eval-acme:kept"), " ".join(names.values()))
    orphans = Orphans(store, redis, Keys())
    assert await orphans.sweep() == 0
    assert await orphans.sweep(timedelta(0)) == 4
    assert {name.rpartition("/")[2] for name in await names_in(store)} == set(names.values())


async def test_a_store_that_is_killed_during_uploads(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each output is behind a link or still in its outcome, whole; and the circuit opens."""
    async with ObjectServer(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = ObjectStore(server.url, POLICY)
        outputs = LargeOutputs(store, 1000)
        content = b"".join(b"%d," % (i * i) for i in range(200_000))
        outcome = Outcome(verdict=Verdict.OK, stdout=content)

        async def one(number: int) -> tuple[Outcome, dict[str, str]]:
            return await outputs.moved(f"e{number}", outcome)

        uploads = [asyncio.create_task(one(number)) for number in range(24)]
        await asyncio.wait(uploads, return_when=asyncio.FIRST_COMPLETED)
        await server.kill()
        done = await asyncio.gather(*uploads)
        while store.breaker.circuit.state != "open":
            with pytest.raises(ObjectStoreError):
                await store.put("probe", b"1")
        assert outputs.circuits()["objects"].opened_total >= 1
        await server.start()
        await until(lambda: store.breaker.circuit.state != "open")
        for number, (left, names) in enumerate(done):
            if not names:
                assert left.stdout == content
                continue
            _, parts = await store.open(f"outputs/local/e{number}/{names['stdout']}")
            assert zstandard.ZstdDecompressor().decompress(await whole(parts)) == content
        named = {name for _, names in done for name in names.values()}
        for stored in await names_in(store):
            # Also those whose answer was lost: there is no half of one.
            if stored.rpartition("/")[2] not in named and stored != "probe":
                _, parts = await store.open(stored)
                assert zstandard.ZstdDecompressor().decompress(await whole(parts)) == content
        with pytest.raises(NotFound):
            await store.open("outputs/local/e0/none")
