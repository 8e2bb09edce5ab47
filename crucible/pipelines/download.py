"""Fetching models into the cache: bounded in size, checked, and resumed where it broke off."""

from __future__ import annotations

import asyncio
import shutil
from typing import IO, TYPE_CHECKING

import aiohttp
from yarl import URL

from crucible.errors import InputError, NotFound
from crucible.webhooks.connector import AddressRefused, check_literal, open_session

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from crucible.pipelines.cache import Artifact, ModelCache
    from crucible.pipelines.sources import Source
    from crucible.webhooks.addresses import AddressPolicy

    #: Called with bytes so far, and of how many; None where that is not known.
    OnBytes = Callable[[int, int | None], Awaitable[None]]

#: Tries, and seconds before another; seconds without a byte after which one has failed.
_TRIES, _PAUSE_S, _SILENCE_S = 5, 0.5, 30.0
_BLOCK = 1 << 20
_GONE = frozenset({404, 410})


class DownloadFailed(InputError):  # noqa: N818 - what became of it
    """A model that is there could not be fetched."""


async def fetch(
    source: Source,
    cache: ModelCache,
    policy: AddressPolicy,
    *,
    sha256: str | None,
    most: int,
    on_bytes: OnBytes,
) -> Artifact:
    """A model in the cache; one that is there by its checksum is not fetched again.

    Args:
        source: where it is.
        cache: where it goes.
        policy: which addresses may be called.
        sha256: what it must be; None takes what it is.
        most: bytes it may have.
        on_bytes: called now and then.

    Raises:
        NotFound: it is not there.
        InputError: it is too large, has another checksum, or could not be fetched.
    """
    if sha256 is not None and (found := cache.find(sha256)) is not None:
        return found
    async with cache.part(source.url or str(source.path)) as part:
        if sha256 is not None and (found := cache.find(sha256)) is not None:
            return found  # another process fetched it meanwhile
        if source.path is not None:
            await asyncio.to_thread(_copy, source.path, part, most)
        elif source.url.startswith("s3://"):
            await _download_object(source.url, part, most, on_bytes)
        else:
            await _download(URL(source.url), part, policy, most, on_bytes)
        return await asyncio.to_thread(cache.keep, part, sha256)


def _copy(path: Path, part: IO[bytes], most: int) -> None:
    part.truncate(0)
    try:
        with path.open("rb") as content:
            size = path.stat().st_size
            if size > most:
                raise _too_large(most)
            shutil.copyfileobj(content, part, _BLOCK)
    except FileNotFoundError:
        raise NotFound(f"model_id: there is no file {path.name}") from None
    except OSError as error:
        raise DownloadFailed("model_id", f"{path.name}: {error.strerror}") from None


async def _download(
    url: URL, part: IO[bytes], policy: AddressPolicy, most: int, on_bytes: OnBytes
) -> None:
    """Append what is missing; what was received stays when a connection breaks."""
    try:
        check_literal(policy, url)
    except AddressRefused as error:
        raise InputError("model_id", str(error)) from None
    reason = ""
    async with open_session(policy) as session:
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(_PAUSE_S * attempt)
            try:
                if await _receive(session, url, part, most, on_bytes):
                    return
                reason = "the connection ended early"
            except AddressRefused as error:
                raise InputError("model_id", str(error)) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                cause = error.__cause__ or getattr(error, "os_error", None)
                if isinstance(cause, AddressRefused):
                    raise InputError("model_id", str(cause)) from None
                reason = str(error) or type(error).__name__
    raise DownloadFailed("model_id", f"{url.host} does not answer: {reason}")


async def _download_object(url: str, part: IO[bytes], most: int, on_bytes: OnBytes) -> None:
    """The same from the object store, whose address is the deployment's own."""
    try:
        # Its library is an extra: only deployments with a store have it.
        from crucible.pipelines.objects import receive_object
    except ImportError:
        raise DownloadFailed("model_id", "s3:// needs crucible[objects] on the worker") from None
    reason = ""
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_S * attempt)
        try:
            if await receive_object(url, part, most, on_bytes):
                return
            reason = "the content ended early"
        except OSError as error:
            reason = str(error)
    raise DownloadFailed("model_id", f"the object store does not answer: {reason}")


async def _receive(
    session: aiohttp.ClientSession, url: URL, part: IO[bytes], most: int, on_bytes: OnBytes
) -> bool:
    """Whether everything was received."""
    at = part.seek(0, 2)
    headers = {"Range": f"bytes={at}-", "Accept-Encoding": "identity"} if at else {}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=_SILENCE_S)
    async with session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as answer:
        if answer.status in _GONE:
            raise NotFound(f"model_id: {url.host} has no such model ({answer.status})")
        if answer.status == 416 and _total(answer) == at:
            return True  # everything was there already
        if answer.status == 200 and at:
            part.truncate(0)  # it does not resume
            at = 0
        elif answer.status not in (200, 206):
            if answer.status in (408, 425, 429) or answer.status >= 500:
                return False
            raise DownloadFailed("model_id", f"{url.host} answered {answer.status}")
        total = _total(answer, at)
        if total is not None and total > most:
            raise _too_large(most)
        try:
            async for block in answer.content.iter_chunked(_BLOCK):
                at += len(block)
                if at > most:
                    part.truncate(0)
                    raise _too_large(most)
                await asyncio.to_thread(part.write, block)
                await on_bytes(at, total)
        finally:
            await asyncio.to_thread(part.flush)
    return total is None or at == total


def _total(answer: aiohttp.ClientResponse, at: int = 0) -> int | None:
    """Bytes of the whole model, as far as the answer says."""
    _, _, total = answer.headers.get("Content-Range", "").rpartition("/")
    if total.isascii() and total.isdecimal():
        return int(total)
    length = answer.content_length
    return None if length is None else at + length


def _too_large(most: int) -> InputError:
    return InputError("model_id", f"the model must not have more than {most >> 20} MiB")
