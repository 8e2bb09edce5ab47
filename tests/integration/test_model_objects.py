"""Models from an S3 object store."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from support.object_server import ObjectServer

from crucible.breaker import BreakerPolicy
from crucible.errors import InputError, NotFound
from crucible.objects.store import ObjectStore
from crucible.pipelines.cache import ModelCache
from crucible.pipelines.download import fetch
from crucible.pipelines.sources import source_of
from crucible.webhooks.addresses import AddressPolicy

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(400)
MODEL = bytes(range(256)) * 8192


async def test_a_model_comes_from_the_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name; what was received stays, and what is wrong is said."""
    (tmp_path / "server").mkdir()
    cache, seen = ModelCache(tmp_path / "models"), []

    async def on_bytes(at: int, total: int | None) -> None:
        seen.append((at, total))

    async with ObjectServer(tmp_path / "server") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        await ObjectStore(server.url, BreakerPolicy()).put("models/toy.bin", MODEL)

        async def fetched(name: str, sha256: str | None = None, most: int = 1 << 30) -> bytes:
            source = source_of(name, server.url, "")
            artifact = await fetch(
                source, cache, AddressPolicy(()), sha256=sha256, most=most, on_bytes=on_bytes
            )
            return cache.path(artifact.sha256).read_bytes()

        url = f"{server.url}/models/toy.bin"
        async with cache.part(url) as part:
            part.write(MODEL[:1000])
        assert await fetched("models/toy.bin") == MODEL
        assert seen[-1] == (len(MODEL), len(MODEL))
        assert await fetched(url, hashlib.sha256(MODEL).hexdigest()) == MODEL
        with pytest.raises(NotFound, match="no such model"):
            await fetched("models/none.bin")
        with pytest.raises(InputError, match="more than 1 MiB"):
            await fetched("models/toy.bin", most=1 << 20)
        with pytest.raises(InputError, match="checksum"):
            await fetched("models/toy.bin", "0" * 64)


def test_no_other_bucket_is_opened() -> None:
    """Nor what lies beside the prefix."""
    for name in ("s3://other/x", "s3://bucket/models-of-others/x", "s3://bucket/models/../x"):
        with pytest.raises(InputError, match="outside"):
            source_of(name, "s3://bucket/models", "")
    assert source_of("x", "s3://bucket/models", "").url == "s3://bucket/models/x"
