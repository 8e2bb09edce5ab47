"""redis-py's connection with deadlines that leave cancellation alone."""

from __future__ import annotations

import asyncio
from typing import Any

from redis import exceptions as redis_errors
from redis.asyncio.connection import AbstractConnection


class DeadlinedConnection(AbstractConnection):
    """A connection that can be cancelled, and reports a reset as a ConnectionError on uvloop too.

    So it does when it could not be made in time: nothing was sent, as after a refusal.

    With a ``socket_timeout`` redis-py sends inside ``asyncio.wait_for``, which before Python 3.12
    may swallow the cancellation of the sending task: a loop that is cancelled then never stops. So
    the timeout is kept here, and redis-py gets none.
    """

    def __init__(self, *, socket_timeout: float | None = None, **options: Any) -> None:
        super().__init__(socket_timeout=None, **options)
        self._deadline_s = socket_timeout

    async def _connect(self) -> None:
        try:
            await super()._connect()  # type: ignore[no-untyped-call,safe-super]
        except TimeoutError as error:
            # As for a refusal nothing was sent; redis-py's word for this is that of a late reply.
            raise redis_errors.ConnectionError(
                f"no connection to {self._place()} within {self.socket_connect_timeout:g} s"
            ) from error

    def _place(self) -> str:
        pieces: dict[str, Any] = dict(self.repr_pieces())  # type: ignore[no-untyped-call]
        return ":".join(str(pieces[name]) for name in ("host", "port", "path") if name in pieces)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send; see redis-py."""
        try:
            if self._deadline_s is None:
                await super().send_packed_command(command, check_health)
                return
            async with asyncio.timeout(self._deadline_s):
                await super().send_packed_command(command, check_health)
        except TimeoutError as error:
            raise redis_errors.TimeoutError("the server takes no command") from error
        except RuntimeError as error:
            # uvloop refuses to write to a connection that the other side has reset; asyncio's
            # own loop takes the bytes, and the read that follows tells.
            raise redis_errors.ConnectionError(str(error)) from error

    async def read_response(
        self, disable_decoding: bool = False, timeout: float | None = None, **options: Any
    ) -> Any:
        """Read; see redis-py. Without a ``timeout`` of its own a read has the connection's."""
        if timeout is not None or self._deadline_s is None:
            return await super().read_response(disable_decoding, timeout, **options)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await super().read_response(disable_decoding, **options)
        except TimeoutError as error:
            raise redis_errors.TimeoutError("the server did not answer in time") from error
