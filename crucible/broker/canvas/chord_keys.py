"""The keys of a chord that its producer writes before the header's last task.

Source: celery ``backends/redis.py`` ``set_chord_size`` and ``apply_chord`` (5.7).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.translation import translated
from crucible.broker.wire.jsontypes import dumps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.link import Argument, Link
    from crucible.redis_keys import Keys


class ChordKeys:
    """Writes chord keys.

    Args:
        link: to the result server.
        keys: key names.
        deadline_s: seconds the server has to answer.
        expires_s: seconds the keys are kept, 0 for ever.
    """

    def __init__(self, link: Link, keys: Keys, deadline_s: float, expires_s: float) -> None:
        self._link = link
        self._keys = keys
        self._deadline_s = deadline_s
        self._lifetime = ("EX", max(1, int(expires_s))) if expires_s else ()

    async def set_size(self, group_id: str, size: int) -> None:
        """Set how many parts a chord waits for, and forget that it ended before.

        Raises:
            BrokerUnavailable: no answer within the deadline.
        """
        chord = self._keys.chord(group_id)
        await self._run(("DEL", chord.mark), ("SET", chord.size, size, *self._lifetime))

    async def save_group(self, group_id: str, result: list[Any]) -> None:
        """Keep the shape of a header with groups in it.

        Raises:
            BrokerUnavailable: no answer within the deadline.
        """
        value = dumps({"result": result})
        await self._run(("SET", self._keys.chord(group_id).structure, value, *self._lifetime))

    async def _run(self, *commands: Sequence[Argument]) -> None:
        with translated():
            async with asyncio.timeout(self._deadline_s), self._link.connection() as held:
                await self._link.calls(held, commands)
