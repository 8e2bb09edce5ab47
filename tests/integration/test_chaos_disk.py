"""The disks of the battle are full and slow when they are to be."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.chaos.disk import Disk, possible

if TYPE_CHECKING:
    from pathlib import Path


def _write(path: Path) -> float:
    """Seconds that a durable write of 64 KiB takes."""
    began_s = time.perf_counter()
    with path.open("wb") as file:
        file.write(b"x" * 65536)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began_s


async def test_a_full_disk_takes_nothing_until_it_is_freed(tmp_path: Path) -> None:
    """Also where others delete meanwhile; afterwards there is room again."""
    assert possible(), "this takes root and loop devices"
    async with Disk(tmp_path / "image", tmp_path / "disk") as disk:
        old = disk.directory / "old"
        _write(old)
        async with disk.full():
            with pytest.raises(OSError, match="No space left"):
                _write(disk.directory / "new")
            old.unlink()
            async with asyncio.timeout(60):
                while os.statvfs(disk.directory).f_bavail:
                    await asyncio.sleep(0.02)
        _write(disk.directory / "new")
    assert not (tmp_path / "disk" / "new").exists()
    assert not (tmp_path / "image").exists()


async def test_a_slow_disk_stands_still_and_goes_on(tmp_path: Path) -> None:
    """A write waits for as long as it is frozen, and nothing of it is lost."""
    assert possible(), "this takes root and loop devices"
    async with Disk(tmp_path / "image", tmp_path / "disk") as disk:
        async with disk.slow():
            took_s = 0.0
            async with asyncio.timeout(60):
                while took_s < 0.1:
                    took_s = await asyncio.to_thread(_write, disk.directory / "one")
        _write(disk.directory / "two")
        assert {"one", "two"} <= {path.name for path in disk.directory.iterdir()}
