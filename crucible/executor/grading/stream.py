"""How judgements cross from an executor service to its client, each as soon as it is made.

The body of the answer is a sequence of messages: four bytes of length, then msgpack. The last is
``Ended``; an answer without it was cut short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from crucible.executor.artifact import Compilation  # noqa: TC001 - msgspec reads the annotations
from crucible.grading.models import Judgement  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Largest message: a judgement with what is shown of both outputs.
MAX_MESSAGE_BYTES = 1 << 20


class Judged(msgspec.Struct, frozen=True, tag=True):
    """One test was judged."""

    judgement: Judgement


class Ended(msgspec.Struct, frozen=True, tag=True):
    """No more will come.

    Attributes:
        failure: ``refused`` or ``lost`` where the service could not go on; empty where all is done.
        detail: why.
        compilation: how compiling ended, without what was made.
    """

    failure: Literal["", "refused", "lost"] = ""
    detail: str = ""
    compilation: Compilation | None = None


class StreamError(Exception):
    """Bytes that no service sends."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Judged | Ended).decode


def encode_message(message: Judged | Ended) -> bytes:
    """A message as it is sent."""
    body = _encode(message)
    return len(body).to_bytes(4, "big") + body


class MessageReader:
    """Cuts a byte stream into messages, whatever pieces it arrives in."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Judged | Ended]:
        """Take in bytes; yield every message they complete.

        Raises:
            StreamError: a message that is malformed or too large.
        """
        self._buffer += data
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > MAX_MESSAGE_BYTES:
                raise StreamError(f"a message of {size} bytes")
            if len(self._buffer) < 4 + size:
                return
            body = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            try:
                yield _decode(body)
            except msgspec.DecodeError as error:
                raise StreamError(f"not a judgement: {error}") from error
