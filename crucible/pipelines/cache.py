"""Models on disk, each once, under the SHA-256 of its content."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from crucible.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_BLOCK = 1 << 20
#: Seconds between two tries to get a file that another process downloads.
_LOCK_LOOK_S = 0.2


class Artifact(NamedTuple):
    """A model that was downloaded.

    Attributes:
        sha256: of its content, in hexadecimal.
        size: in bytes.
    """

    sha256: str
    size: int


class ModelCache:
    """A folder of models, and of parts of such that are under way.

    Several processes may use it: a part is locked by who writes it, and a whole model appears by
    a rename.

    Args:
        folder: made when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._whole = folder / "sha256"
        self._parts = folder / "parts"

    def path(self, sha256: str) -> Path:
        """Where the model with this content is, or would be."""
        return self._whole / sha256

    def find(self, sha256: str) -> Artifact | None:
        """A model that is there."""
        try:
            return Artifact(sha256, self.path(sha256).stat().st_size)
        except FileNotFoundError:
            return None

    @asynccontextmanager
    async def part(self, source: str) -> AsyncIterator[IO[bytes]]:
        """What there is of a model so far, to be appended to; nobody else appends meanwhile.

        Args:
            source: where it comes from.
        """
        await asyncio.to_thread(self._parts.mkdir, parents=True, exist_ok=True)
        path = self._parts / hashlib.sha256(source.encode()).hexdigest()
        while True:
            file = await asyncio.to_thread(path.open, "ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                await asyncio.sleep(_LOCK_LOOK_S)
                continue
            # It may have been renamed between being opened and being locked.
            if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.close()
                continue
            break
        try:
            yield file
        finally:
            file.close()

    def keep(self, file: IO[bytes], sha256: str | None) -> Artifact:
        """Take a part that is complete into the cache.

        Args:
            file: what ``part`` gave.
            sha256: what it must be; None takes what it is.

        Raises:
            InputError: it is something else; it is deleted then.
        """
        file.flush()
        path = Path(file.name)
        with path.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if sha256 is not None and found != sha256:
            path.unlink()
            raise InputError("sha256", f"the model has the checksum {found}")
        self._whole.mkdir(parents=True, exist_ok=True)
        size = path.stat().st_size
        path.chmod(0o444)
        path.replace(self.path(found))
        return Artifact(found, size)
