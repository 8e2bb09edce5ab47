"""A stream of events, taken up again where it was cut."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from crucible.client.models import Event, Resync
from crucible.client.retrying import BUSY
from crucible.client.sse import MessageReader
from crucible.errors import ApiError, ApiRefused, ApiUnreached

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from crucible.client.transport import Transport

#: Seconds before a stream that was cut is opened again, and of silence after which it counts as
#: cut; the API sends a comment every 15 s.
REOPEN_S, SILENT_S = 0.2, 45.0
EVENT_STREAM = "text/event-stream"


async def followed(
    transport: Transport, path: str, after: str | None
) -> AsyncGenerator[Event | Resync, None]:
    """Events until the API ends the stream.

    Args:
        transport: the way to the API.
        path: of the stream.
        after: ``event_id`` of the last event that was seen.

    Raises:
        ApiError: the stream was refused, or cannot be opened again.
    """
    given_up = time.monotonic() + transport.retry_for_s
    while True:
        headers = {"Accept": EVENT_STREAM} | ({"Last-Event-ID": after} if after else {})
        try:
            reader = MessageReader()
            async with transport.sent("GET", path, headers=headers, wait_s=SILENT_S) as response:
                _check_stream(response, path)
                async for line in response.content:
                    message = reader.take(line.decode().rstrip("\r\n"))
                    if message is None:
                        continue
                    given_up = time.monotonic() + transport.retry_for_s
                    after = message.event_id or after
                    if message.kind == "resync":
                        yield Resync(message.event_id)
                    elif message.kind == "evaluation":
                        event = msgspec.json.decode(message.data, type=Event)
                        event.event_id = message.event_id
                        yield event
            return
        except ApiRefused as error:
            if error.status not in BUSY or time.monotonic() > given_up:
                raise
        except (aiohttp.ClientError, TimeoutError) as error:
            if time.monotonic() > given_up:
                reason = str(error) or type(error).__name__
                raise ApiUnreached(f"the stream of events was cut: {reason}") from None
        await asyncio.sleep(REOPEN_S)


def _check_stream(response: aiohttp.ClientResponse, path: str) -> None:
    """Refuse the answer of another service, which would be read as a stream without events.

    Raises:
        ApiError: it is no stream.
    """
    if response.content_type != EVENT_STREAM:
        raise ApiError(f"what answers at {path} is no stream of events")
