"""A disk of a run's own, which can be full or slow: an ext4 image behind a loop device.

It is full while a file takes all that is free, and slow while the kernel freezes it for a moment
again and again (``FIFREEZE``): every write and ``fsync`` waits for the thaw, and nothing of what
runs knows. A delay of the device mapper would do the same where the kernel has one; a preloaded
library would not reach what is linked statically.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

#: Bytes of the image; it takes room only where something was written.
_SIZE = 4 << 30
#: Seconds that a slow disk stands still, and that it works in between.
_FROZEN_S, _THAWED_S = 0.3, 0.2
#: Seconds between looks whether a full disk is still full: others delete and compact.
_FILL_S = 0.2
_TOOLS = ("mkfs.ext4", "mount", "umount", "fsfreeze")
#: Freezes and thaws in one process: whoever kills its parent leaves no frozen disk behind.
_FREEZE = f'fsfreeze -f "$0" && sleep {_FROZEN_S}; fsfreeze -u "$0"'


def possible() -> bool:
    """Whether this process may make such a disk."""
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in _TOOLS)


class Disk:
    """One disk. An async context manager: mounted while it is open.

    Args:
        image: the file of its content.
        directory: where it is mounted.
    """

    def __init__(self, image: Path, directory: Path) -> None:
        self.directory = directory
        self._image = image
        self._ballast = directory / "ballast"

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(_SIZE)
        await _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", str(self._image))
        await _run("mount", "-o", "loop", str(self._image), str(self.directory))
        return self

    async def __aexit__(self, *_: object) -> None:
        # Lazily: a process that was killed may still be on its way out.
        await _run("umount", "--lazy", str(self.directory))
        self._image.unlink()

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Nothing can be written while the context is open."""
        freed = asyncio.Event()
        self._fill()
        filling = asyncio.create_task(self._keep_full(freed))
        try:
            yield
        finally:
            freed.set()
            await filling
            self._ballast.unlink()

    async def _keep_full(self, freed: asyncio.Event) -> None:
        while not freed.is_set():
            self._fill()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FILL_S):
                    await freed.wait()

    def _fill(self) -> None:
        """Take whole blocks without writing them, down to the last one."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT)
        try:
            step = _SIZE
            while step >= os.statvfs(self.directory).f_frsize:
                try:
                    os.posix_fallocate(file, os.fstat(file).st_size, step)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    step //= 2
        finally:
            os.close(file)

    @contextlib.asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        """It stands still more than half of the time while the context is open."""
        quick = asyncio.Event()
        freezing = asyncio.create_task(self._keep_slow(quick))
        try:
            yield
        finally:
            quick.set()
            await freezing

    async def _keep_slow(self, quick: asyncio.Event) -> None:
        while not quick.is_set():
            await _run("sh", "-c", _FREEZE, str(self.directory))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_THAWED_S):
                    await quick.wait()


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {output.decode().strip()}")
