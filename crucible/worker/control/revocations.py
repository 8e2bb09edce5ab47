"""What was revoked: ids, here and on the server, and stamps."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from crucible.broker.control.revoked import RevokedKey, RevokedTasks, store_revoked
from crucible.errors import BrokerError
from crucible.worker.control.stamps import is_stamped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crucible.broker.wire.decode import Message
    from crucible.worker.config import WorkerConfig
    from crucible.worker.connections import Connections

logger = logging.getLogger(__name__)


class Revocations:
    """The revoked tasks a worker knows of.

    Args:
        config: settings of the worker.
        connections: its connections.

    Attributes:
        ids: ids of revoked tasks.
        stamps: revoked stamps by header.
    """

    def __init__(self, config: WorkerConfig, connections: Connections) -> None:
        self.ids = RevokedTasks()
        self.stamps: dict[str, list[Any]] = {}
        self._config = config
        self._results = connections.results
        self._key = RevokedKey(connections.steps, config.keys)
        self._reload = asyncio.Event()

    def is_revoked(self, message: Message) -> bool:
        """Whether a message was revoked by its id or by one of its stamps."""
        if message.id in self.ids:
            return True
        return bool(self.stamps) and is_stamped(message, self.stamps)

    async def revoke(self, task_ids: Iterable[str]) -> None:
        """Remember ids here and on the server.

        Raises:
            BrokerError: they are remembered here only.
        """
        ids = list(task_ids)
        self.ids.update(ids)
        await self._key.add(ids)

    async def store(self, task_ids: Sequence[str]) -> None:
        """Store REVOKED for those of the tasks that no worker has started.

        Raises:
            BrokerError: it is not known for which it happened.
        """
        config = self._config
        await store_revoked(self._results, config.keys, config.result_ttl_s, task_ids)

    async def load(self) -> None:
        """Take over the ids kept on the server; what cannot be read is read by ``run``."""
        try:
            await self._load()
        except BrokerError as error:
            logger.warning("revoked tasks are not known yet: %s", error)

    def connected(self) -> None:
        """Load again: while there was no subscription, revocations were not received."""
        self._reload.set()

    async def run(self, beat: Callable[[], None]) -> None:
        """Load after every connection, until cancelled.

        Raises:
            BrokerError: the server is gone or refuses; run again.
        """
        while True:
            beat()
            await self._reload.wait()
            await self._load()
            self._reload.clear()

    async def _load(self) -> None:
        known = await self._key.load()
        self.ids.update(task_id for task_id in known if task_id not in self.ids)
