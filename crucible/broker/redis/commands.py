"""Plain commands, each bounded by a deadline and with its errors translated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from crucible.broker.redis.deadline import Pace, bounded
from crucible.broker.redis.link import Link

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from redis.asyncio import Redis

    from crucible.broker.redis.deadline import Deadline
    from crucible.broker.redis.link import Argument


class Commands(Protocol):
    """Plain Redis commands."""

    async def command(self, *command: Argument, long_reply: bool = False) -> Any:
        """The reply to one command.

        Args:
            command: its words.
            long_reply: wait for as long as the reply goes on arriving.

        Raises:
            BrokerUnavailable: no reply in time, or a server that cannot serve now; the command
                may have run or not.
            BrokerError: the server refused it.
        """

    async def commands(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The replies to several small commands, sent together.

        Raises:
            BrokerUnavailable: as with ``command``; each of them may have run or not.
            BrokerError: the server refused one of them; the others have run.
        """


class CommandClient:
    """What both kinds of stores are built on.

    Args:
        client: of the server; replies are bytes.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._link = Link(client)
        self._pace = Pace()

    def _bounded(self, *, long_reply: bool = False) -> AbstractAsyncContextManager[Deadline]:
        return bounded(self._client, self._pace, long_reply=long_reply)

    async def command(self, *command: Argument, long_reply: bool = False) -> Any:
        """The reply to one command; see ``Commands``."""
        async with self._bounded(long_reply=long_reply) as deadline:
            return await self._link.call(*command, deadline=deadline)

    async def commands(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """The replies to several commands; see ``Commands``."""
        async with self._bounded(), self._link.connection() as held:
            return await self._link.calls(held, commands)
