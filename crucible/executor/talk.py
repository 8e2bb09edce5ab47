"""What a program says and is told while it runs, and the processor time it has used meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from crucible.executor import frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: Most bytes of one piece; the supervisor takes another when it has passed on about so many.
PIECE_BYTES = 32 << 10


class Talk:
    """One side of a conversation: a program, and whoever listens to it here.

    Args:
        said: called with what the program writes on standard output.
        used: called with the seconds of processor time it has used, a few times a second.
        started: called when it begins.
        kept_bytes: most that is kept of what it writes, beside handing it to ``said``; None keeps
            as much as any program's.
    """

    def __init__(
        self,
        said: Callable[[bytes], None],
        used: Callable[[float], None],
        started: Callable[[], None],
        kept_bytes: int | None = None,
    ) -> None:
        self.said = said
        self.used = used
        self.started = started
        self.kept_bytes = kept_bytes
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._ended = False

    def tell(self, data: bytes) -> None:
        """Have the program read something on standard input."""
        if self._ended:
            return
        for start in range(0, len(data), PIECE_BYTES):
            self._inbox.put_nowait(frames.encode_piece(data[start : start + PIECE_BYTES]))

    def end(self) -> None:
        """Close the program's standard input, after what it is still to read."""
        if not self._ended:
            self._ended = True
            self._inbox.put_nowait(frames.encode_piece(b""))

    def stop(self) -> None:
        """Stop the program; its verdict is ``timeout``."""
        self._ended = True
        self._inbox.put_nowait(frames.STOP_PIECE)

    def close(self) -> None:
        """The program has ended: nothing is passed on any more."""
        self._ended = True
        self._inbox.put_nowait(frames.DONE_PIECE)

    async def pass_on(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write what the program is told, until it has ended."""
        piece = b""
        while piece != frames.DONE_PIECE:
            piece = await self._inbox.get()
            await write(piece)
