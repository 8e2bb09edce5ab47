"""A server that leaves connections out: its queue of those not yet accepted is full."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: More connections than a queue of length 0 takes.
_ENOUGH = 4


@contextlib.contextmanager
def filled(listening: socket.socket) -> Iterator[None]:
    """Listen with a bound socket; while nobody accepts, the kernel leaves out further connections.

    The first packet of each is lost so, and sent again after a second.
    """
    listening.listen(0)
    with contextlib.ExitStack() as waiting:
        for _ in range(_ENOUGH):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield
