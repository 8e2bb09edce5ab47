"""Compressed bodies, under the names and types kombu gives them, with a bound on what comes out.

Source: kombu ``compression.py``. What kombu calls gzip is a zlib stream.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import TYPE_CHECKING, Protocol

from crucible.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes a body may have once it is decompressed, unless the caller says otherwise.
MAX_BODY_BYTES = 64 * 1024 * 1024

_GZIP = "application/x-gzip"
_BZIP2 = "application/x-bz2"
_LZMA = "application/x-lzma"

_CONTENT_TYPES = {
    "gzip": _GZIP,
    "zlib": _GZIP,
    "bzip2": _BZIP2,
    "bzip": _BZIP2,
    "lzma": _LZMA,
    "xz": _LZMA,
}
_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    _GZIP: zlib.compress,
    _BZIP2: bz2.compress,
    _LZMA: lzma.compress,
}


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    _GZIP: zlib.decompressobj,
    _BZIP2: bz2.BZ2Decompressor,
    _LZMA: lzma.LZMADecompressor,
}


def compress(data: bytes, method: str) -> tuple[bytes, str]:
    """Compress with a method given by alias or content type.

    Returns:
        The compressed bytes and the value of the ``compression`` header.

    Raises:
        ValueError: the method is unknown.
    """
    content_type = _CONTENT_TYPES.get(method, method)
    compressor = _COMPRESSORS.get(content_type)
    if compressor is None:
        raise ValueError(f"unknown compression {method!r}")
    return compressor(data), content_type


def decompress(data: bytes, method: str, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Decompress, never holding more than ``max_bytes`` + 1 of output.

    Raises:
        MessageError: unknown method, broken stream, or more output than allowed.
    """
    factory = _DECOMPRESSORS.get(_CONTENT_TYPES.get(method, method))
    if factory is None:
        raise MessageError(f"compression {method!r} is not supported")
    decompressor = factory()
    try:
        output = decompressor.decompress(data, max_bytes + 1)
    except (zlib.error, OSError, lzma.LZMAError, EOFError, ValueError) as error:
        raise MessageError(f"body is not {method}: {error}") from error
    if len(output) > max_bytes:
        raise MessageError(f"body is larger than {max_bytes} bytes once decompressed")
    if not decompressor.eof:
        raise MessageError(f"body is a {method} stream cut short")
    return output
