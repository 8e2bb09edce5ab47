"""Models of an S3 object store, with the store's settings of the deployment (``AWS_*``)."""

from __future__ import annotations

import asyncio
from typing import IO, TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as NoSuchObject
from obstore.store import from_url

from crucible.errors import InputError, NotFound
from crucible.objects.store import CLIENT, RETRIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: Bytes that are read at once.
_BLOCK = 1 << 20


async def receive_object(
    url: str,
    part: IO[bytes],
    most: int,
    on_bytes: Callable[[int, int | None], Awaitable[None]],
) -> bool:
    """Append what is missing of an object; whether everything is there.

    Args:
        url: ``s3://BUCKET/NAME``.
        part: what was received so far.
        most: bytes the object may have.
        on_bytes: called with bytes so far, and of how many.

    Raises:
        NotFound: there is no such object.
        InputError: it is too large.
        OSError: the store does not do it; another try may.
    """
    bucket, _, name = url.removeprefix("s3://").partition("/")
    try:
        store: Any = from_url(f"s3://{bucket}", client_options=CLIENT, retry_config=RETRIES)
        size = (await obstore.head_async(store, name))["size"]
        if size > most:
            raise InputError("model_id", f"the model must not have more than {most >> 20} MiB")
        at = part.seek(0, 2)
        if at > size:
            part.truncate(0)  # another object had this name
            at = part.seek(0)
        if at == size:
            return True
        found = await obstore.get_async(store, name, options={"range": {"offset": at}})
        async for block in found.stream(min_chunk_size=_BLOCK):
            at += await asyncio.to_thread(part.write, bytes(block))
            await on_bytes(at, size)
        await asyncio.to_thread(part.flush)
    except (NoSuchObject, FileNotFoundError):
        raise NotFound("model_id: the object store has no such model") from None
    except (BaseError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OSError(reason or type(error).__name__) from error
    return at == size
