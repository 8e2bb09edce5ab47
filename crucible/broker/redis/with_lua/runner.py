"""Runs scripts within a deadline."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.commands import CommandClient

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.link import Argument
    from crucible.broker.redis.scripts import Script


class ScriptRunner(CommandClient):
    """A client of a server that has scripting."""

    async def _run(
        self,
        script: Script,
        keys: Sequence[Argument],
        args: Sequence[Argument],
        *,
        long_reply: bool = False,
    ) -> Any:
        async with self._bounded(long_reply=long_reply) as deadline:
            return await script.run(partial(self._link.call, deadline=deadline), keys, args)


def server_time(reply: Sequence[Any]) -> float:
    """Seconds since the epoch, of a reply that starts with TIME."""
    return int(reply[0]) + int(reply[1]) / 1e6
