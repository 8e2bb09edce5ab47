"""Atomic steps on claims: each is one Lua script of the same name.

``transactions`` has the same steps for servers without scripting, so whoever needs one asks for
``Steps`` and does not care.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Protocol

from crucible.broker.redis.connection import translated
from crucible.broker.redis.deadline import STEP_TIMEOUT_S, Deadline, Pace
from crucible.broker.redis.link import Link
from crucible.broker.redis.scripts import Script
from crucible.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from redis.asyncio import Redis

    Argument = bytes | str | int

_INCLUDE = "-- include: "
#: Steps whose answers hold messages.
_LONG_ANSWERS = frozenset({"claim"})


@asynccontextmanager
async def one_step(
    client: Redis, pace: Pace, *, long_answer: bool = False
) -> AsyncIterator[Deadline]:
    """Bounds and translates one step.

    Connections that lay idle when one failed are as likely dead as it; each would cost the next
    step a timeout of its own, so they are dropped together.

    Raises:
        BrokerError: the server refused the step, or is not available.
    """
    deadline: Deadline | None = None
    try:
        with translated():
            async with asyncio.timeout(STEP_TIMEOUT_S) as timeout:
                deadline = Deadline(timeout, pace, long_answer=long_answer)
                try:
                    yield deadline
                finally:
                    deadline.close()
    except BrokerUnavailable:
        if deadline is not None and deadline.is_large:
            pace.missed()
        await client.connection_pool.disconnect(inuse_connections=False)
        raise
    if deadline.is_large:
        pace.met()


@cache
def claim_script(name: str) -> Script:
    """The script ``lua/<name>.lua``; a file its first line includes is put in front of it."""
    folder = files("crucible.broker").joinpath("lua")
    text = folder.joinpath(f"{name}.lua").read_text("utf-8")
    first, _, rest = text.partition("\n")
    if first.startswith(_INCLUDE):
        text = folder.joinpath(first.removeprefix(_INCLUDE)).read_text("utf-8") + rest
    return Script(text)


class Steps(Protocol):
    """Runs named steps; their KEYS, ARGV and answers stand at the head of each script."""

    async def run(self, name: str, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """Run one step.

        Raises:
            BrokerError: the server refused it, or is not available; then it may have run or not.
        """

    async def command(self, *command: Argument, long_answer: bool = False) -> Any:
        """Run one plain command; raises the same.

        With a ``long_answer`` it may take as long as the answer goes on arriving.
        """


class LuaSteps:
    """Steps as scripts.

    Args:
        client: of the queue server; answers are bytes.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._link = Link(client)
        self._pace = Pace()

    async def run(self, name: str, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """Run one step; see ``Steps``."""
        async with one_step(
            self._client, self._pace, long_answer=name in _LONG_ANSWERS
        ) as deadline:
            call = partial(self._link.call, deadline=deadline)
            return await claim_script(name).run(call, keys, args)

    async def command(self, *command: Argument, long_answer: bool = False) -> Any:
        """Run one plain command; see ``Steps``."""
        async with one_step(self._client, self._pace, long_answer=long_answer) as deadline:
            return await self._link.call(*command, deadline=deadline)
