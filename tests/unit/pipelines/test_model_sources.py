"""What a model's id stands for, and the cache it goes into."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest

from crucible.errors import InputError, NotFound
from crucible.pipelines.cache import ModelCache
from crucible.pipelines.download import fetch
from crucible.pipelines.sources import Source, source_of
from crucible.webhooks.addresses import AddressPolicy

if TYPE_CHECKING:
    from pathlib import Path

STORE = "https://bucket.example/models/"


def test_ids_and_urls() -> None:
    """A name is looked for in the object store."""
    assert source_of("a/b.bin", STORE, "") == Source(
        "https://bucket.example/models/a/b.bin", None, "b.bin"
    )
    assert source_of("http://h.example/x%20y?v=1", "", "").name == "x y"


@pytest.mark.parametrize(
    "model_id",
    ["", "x", "ftp://h.example/x", "s3://bucket/x", "https://h.example/", "https://h.example/..",
     "\n", "file:///etc/passwd"],
)  # fmt: skip
def test_what_cannot_be_fetched(model_id: str) -> None:
    """Other schemes, no name, no store, no folder."""
    with pytest.raises(InputError, match="model_id"):
        source_of(model_id, "", "")


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x"])
def test_names_stay_within_the_store(name: str) -> None:
    """They cannot climb out of it."""
    with pytest.raises(InputError, match="within"):
        source_of(name, STORE, "")


def test_files_stay_within_their_folder(tmp_path: Path) -> None:
    """Links are followed before it is decided."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.write_text("secret")
    (inside / "link").symlink_to(outside)
    (inside / "model").write_text("m")
    found = source_of((inside / "model").as_uri(), "", str(inside))
    assert found.path == inside / "model"
    for path in (inside / "link", outside):
        with pytest.raises(InputError, match="CRUCIBLE_MODEL_DIR"):
            source_of(path.as_uri(), "", str(inside))


async def _quiet(at: int, total: int | None) -> None:
    """Nobody wants to know."""


async def test_the_cache_has_each_content_once(tmp_path: Path) -> None:
    """By its checksum, read-only, whoever fetched it from wherever, at the same time as well."""
    content = b"weights" * 1000
    names = [tmp_path / name for name in ("one", "two")]
    for name in names:
        name.write_bytes(content)
    cache, policy = ModelCache(tmp_path / "cache"), AddressPolicy()
    found = await asyncio.gather(
        *(
            fetch(Source("", name, "m"), cache, policy, sha256=None, most=10_000, on_bytes=_quiet)
            for name in names * 3
        )
    )
    sha256 = hashlib.sha256(content).hexdigest()
    assert {one.sha256 for one in found} == {sha256}
    assert cache.path(sha256).read_bytes() == content
    assert cache.path(sha256).stat().st_mode & 0o222 == 0
    assert [path.name for path in (tmp_path / "cache" / "sha256").iterdir()] == [sha256]


async def test_too_large_missing_and_other_content(tmp_path: Path) -> None:
    """Nothing of it stays in the cache."""
    cache, policy = ModelCache(tmp_path / "cache"), AddressPolicy()
    model = tmp_path / "m"
    model.write_bytes(b"x" * 100)
    with pytest.raises(InputError, match="MiB"):
        await fetch(Source("", model, "m"), cache, policy, sha256=None, most=99, on_bytes=_quiet)
    with pytest.raises(InputError, match="checksum"):
        await fetch(
            Source("", model, "m"), cache, policy, sha256="0" * 64, most=100, on_bytes=_quiet
        )
    with pytest.raises(NotFound, match="model_id"):
        await fetch(
            Source("", tmp_path / "none", "m"), cache, policy, sha256=None, most=9, on_bytes=_quiet
        )
    assert not list((tmp_path / "cache").glob("sha256/*"))
