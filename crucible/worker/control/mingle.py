"""Meeting the other workers: what they know to be revoked, and their logical clocks.

Source: celery ``worker/consumer/mingle.py``. Stock waits for this before it serves; here it goes
on beside, since revoked ids also come from the server before the first message is claimed.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from crucible.errors import BrokerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.broker.control.client import ControlClient
    from crucible.broker.control.lamport import LamportClock
    from crucible.broker.control.revoked import RevokedTasks

logger = logging.getLogger(__name__)

#: Seconds replies are waited for, as by stock workers.
WAIT_S = 1.0


class Mingle:
    """Sends ``hello`` after every connection.

    Args:
        control: asks the others.
        node: this worker's name.
        clock: its logical clock.
        revoked: what it knows to be revoked.
    """

    def __init__(
        self, control: ControlClient, node: str, clock: LamportClock, revoked: RevokedTasks
    ) -> None:
        self._control = control
        self._node = node
        self._clock = clock
        self._revoked = revoked
        self._connected = asyncio.Event()

    def connected(self) -> None:
        """Send hello again: the connection is new."""
        self._connected.set()

    async def run(self, beat: Callable[[], None]) -> None:
        """Greet until cancelled.

        Raises:
            BrokerError: the server is gone or refuses; run again.
        """
        while True:
            beat()
            await self._connected.wait()
            self._connected.clear()
            try:
                await self.greet()
            except BrokerError:
                self._connected.set()
                raise

    async def greet(self) -> None:
        """Ask all workers once and take over what they know.

        Raises:
            BrokerError: the server is gone or refuses.
        """
        arguments = {"from_node": self._node, "revoked": list(self._revoked)}
        replies = await self._control.ask("hello", arguments, timeout_s=WAIT_S)
        replies.pop(self._node, None)
        met = [reply for reply in replies.values() if isinstance(reply, dict)]
        for reply in met:
            self._clock.adjust(reply.get("clock"))
            self._revoked.update(ids_of(reply.get("revoked")))
        logger.info("met %d other workers", len(met))


def ids_of(revoked: Any) -> list[Any]:
    """Revoked ids as peers send them: a list, from 5.3 a mapping with their times."""
    return list(revoked) if isinstance(revoked, (list, dict)) else []
