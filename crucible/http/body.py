"""The body of a request, whole and decoded."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from aiohttp import web

from crucible.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from aiohttp.web_request import BaseRequest

#: Bytes of a coded body that are decoded in one step, at most.
_STEP = 1 << 16
#: gzip allows several members, one after the other (RFC 1952, 2.2). Each costs a copy of the rest.
_MEMBERS = 16
_GZIP, _DEFLATE, _RAW_DEFLATE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


class BodyTooLarge(web.HTTPRequestEntityTooLarge):
    """More bytes than the service takes, as sent or decoded."""

    def __init__(self, max_bytes: int, setting: str) -> None:
        named = f" ({setting})" if setting else ""
        super().__init__(
            max_size=max_bytes,
            actual_size=max_bytes + 1,
            text=f"must not have more than {max_bytes // 1024} KiB{named}",
        )


async def read_body(request: web.Request, setting: str = "") -> bytes:
    """The body, with its content coding undone.

    Args:
        request: of which nothing was read.
        setting: environment name of the bound on it, where there is one.

    Raises:
        InputError: it is not in the coding it claims, or ends before that does.
        BodyTooLarge: it is.
        RequestPayloadError: it cannot be read.
    """
    most = request.client_max_size
    if (request.content_length or 0) > most:
        raise BodyTooLarge(most, setting)
    body = await _received(request, most, setting)
    coding = _coding_of(request)
    if coding == "identity" or not body:
        return body
    decoded = _decoded(body, coding, most)
    if len(decoded) > most:
        raise BodyTooLarge(most, setting)
    return decoded


async def body_parts(request: web.Request, most: int, setting: str = "") -> AsyncIterator[bytes]:
    """The body part by part as it arrives, with its content coding undone.

    Args:
        request: of which nothing was read.
        most: bytes it may have, as sent and decoded.
        setting: environment name of the bound on it, where there is one.

    Raises:
        InputError: it is not in the coding it claims, or ends before that does.
        BodyTooLarge: it is.
        RequestPayloadError: it cannot be read.
    """
    if (request.content_length or 0) > most:
        raise BodyTooLarge(most, setting)
    coding = _coding_of(request)
    decoder = None if coding == "identity" else _PartDecoder(coding)
    sent = decoded = 0
    while chunk := await request.content.readany():
        sent += len(chunk)
        for part in (chunk,) if decoder is None else decoder.parts(chunk):
            decoded += len(part)
            if max(sent, decoded) > most:
                raise BodyTooLarge(most, setting)
            yield part
    if decoder is not None and sent:
        decoder.finish()


class _PartDecoder:
    """Undoes a content coding of bytes as they come."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._stream: Any = None
        self._members = _MEMBERS

    def parts(self, data: bytes) -> Iterator[bytes]:
        """What some more bytes decode to, in pieces of a bounded size."""
        part = b""
        # A full step may leave something to come out though all was put in.
        while data or len(part) == _STEP:
            if data and (self._stream is None or self._stream.eof):
                self._begin(data)
            try:
                part = self._stream.decompress(data, _STEP)
            except zlib.error:
                raise self._cut() from None
            yield part
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail

    def _begin(self, data: bytes) -> None:
        """Begin a member; only gzip may have several."""
        if self._stream is not None and (self._coding == "deflate" or self._members <= 1):
            raise self._cut()
        self._members -= 1 if self._stream is not None else 0
        self._stream = _stream_of(data, self._coding)

    def finish(self) -> None:
        """The body is over. Raises InputError where the coding is not."""
        if not self._stream.eof:
            raise self._cut()

    def _cut(self) -> InputError:
        return InputError("", f"the body is not {self._coding}, or is cut short")


async def _received(request: web.Request, most: int, setting: str) -> bytes:
    """The body as sent. ``request.read`` would keep it for as long as the request lives."""
    body = bytearray()
    try:
        while chunk := await request.content.readany():
            body += chunk
            if len(body) > most:
                raise BodyTooLarge(most, setting)
        return bytes(body)
    finally:
        # aiohttp keeps an error with the request, and its traceback would keep what was read:
        # megabytes in a cycle that only a collection of the oldest generation frees.
        body.clear()


def _coding_of(request: BaseRequest) -> str:
    # Others were refused, see ``http.problems``.
    return request.headers.get("Content-Encoding", "").lower() or "identity"


def _decoded(body: bytes, coding: str, most: int) -> bytes:
    """A gzip or deflate body, of which one byte more than ``most`` is decoded at most."""
    cut = InputError("", f"the body is not {coding}, or is cut short")
    decoded: bytes = b""
    members = _MEMBERS
    try:
        while body:
            stream = _stream_of(body, coding)
            decoded += stream.decompress(body, most + 1 - len(decoded))
            if len(decoded) > most:
                return decoded
            if not stream.eof:
                raise cut
            body, members = stream.unused_data, members - 1
            if body and (coding == "deflate" or not members):
                raise cut
    except zlib.error:
        raise cut from None
    return decoded


def _stream_of(body: bytes, coding: str) -> Any:
    if coding == "gzip":
        return zlib.decompressobj(_GZIP)
    # Some clients send deflate without the zlib header it should have (RFC 1950: CM is 8).
    return zlib.decompressobj(_DEFLATE if body[0] & 0xF == 8 else _RAW_DEFLATE)
