"""The object store, behind a circuit breaker.

An object is whole or not there: a directory gets it by renaming, S3 by one request or by completing
a multipart upload. Its name is never used again, so that whoever has the name has the content.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as NoSuchObject
from obstore.store import LocalStore, from_url

from crucible.breaker import CircuitBreaker
from crucible.errors import NotFound, ObjectStoreError, SettingsError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from datetime import datetime

    from crucible.breaker import BreakerPolicy

#: Name of its circuit.
OBJECTS = "objects"
#: Seconds for a whole object to be stored, and for anything else.
_PUT_S, _CALL_S = 60.0, 10.0
#: Bytes that are read at once.
_CHUNK = 1 << 20
CLIENT: Any = {"connect_timeout": "2s", "timeout": "30s", "allow_http": True}
RETRIES: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=10)}


class Stored(NamedTuple):
    """One object of a listing.

    Attributes:
        name: its name.
        modified: when it was stored.
    """

    name: str
    modified: datetime


class ObjectStore:
    """Puts, reads, lists and deletes objects.

    Every method raises ``ObjectStoreError`` where the store does not do it, and at once while its
    circuit is open.

    Args:
        url: ``file:///DIRECTORY`` or ``s3://BUCKET[/PREFIX]``; credentials, region and endpoint of
            S3 come from the environment (``AWS_*``).
        policy: when its circuit opens.

    Raises:
        SettingsError: the URL cannot be used.
    """

    def __init__(self, url: str, policy: BreakerPolicy) -> None:
        self.breaker = CircuitBreaker(OBJECTS, ObjectStoreError, policy=policy)
        scheme, _, path = url.partition("://")
        try:
            self._store: Any = (
                LocalStore(path, mkdir=True)
                if scheme == "file"
                else from_url(url, client_options=CLIENT, retry_config=RETRIES)
            )
        except (BaseError, ValueError, OSError) as error:
            raise SettingsError("CRUCIBLE_OBJECT_STORE_URL", _first_line(error)) from None

    async def put(self, name: str, content: bytes) -> None:
        """Store an object; where this raises, there is none, or a whole one that nobody knows."""
        with self._attempt():
            async with asyncio.timeout(_PUT_S):
                await obstore.put_async(self._store, name, content)

    async def open(self, name: str) -> tuple[int, AsyncIterator[bytes]]:
        """The size of an object, and its content in parts.

        Raises:
            NotFound: there is none.
        """
        with self._attempt():
            async with asyncio.timeout(_CALL_S):
                found = await obstore.get_async(self._store, name)
        return found.meta["size"], self._parts(found)

    async def _parts(self, found: Any) -> AsyncIterator[bytes]:
        with self._attempt():
            async for part in found.stream(min_chunk_size=_CHUNK):
                yield bytes(part)

    async def names(self, prefix: str = "") -> AsyncIterator[list[Stored]]:
        """Objects whose names begin with whole segments ``prefix``, some at a time."""
        with self._attempt():
            async for page in obstore.list(self._store, prefix or None, chunk_size=500):
                yield [Stored(one["path"], one["last_modified"]) for one in page]

    async def delete(self, names: list[str]) -> None:
        """Delete objects; those that are not there are passed over."""
        with self._attempt():
            async with asyncio.timeout(_CALL_S):
                for name in names:
                    try:
                        await obstore.delete_async(self._store, name)
                    except (NoSuchObject, FileNotFoundError):
                        continue

    @contextmanager
    def _attempt(self) -> Iterator[None]:
        permit = self.breaker.permit()
        if permit is None:
            raise ObjectStoreError("the object store has not answered lately")
        with permit:
            try:
                yield
            except (NoSuchObject, FileNotFoundError):
                raise NotFound("the object store has no such object") from None
            except (BaseError, TimeoutError, OSError) as error:
                raise ObjectStoreError(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
