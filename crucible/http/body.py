"""The body of a request, whole and decoded."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from aiohttp import web

from crucible.errors import InputError

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest

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
