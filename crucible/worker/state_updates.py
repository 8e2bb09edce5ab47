"""States that are stored while a task runs: STARTED, and states of its own such as PROGRESS."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import Settlement
from crucible.broker.results.meta import STARTED
from crucible.worker.hooks import notify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.wire.decode import Message
    from crucible.redis_keys import Keys
    from crucible.worker.hooks import TaskHooks
    from crucible.worker.result_encoder import ResultEncoder
    from crucible.worker.settlement_writer import SettlementWriter


class StateUpdates:
    """Stores the states of running tasks.

    Args:
        writer: writes them, in order with the settlements.
        encoder: encodes them.
        keys: key names.
        hostname: node name of the worker.
        hooks: notified of states of their own.
    """

    def __init__(
        self,
        writer: SettlementWriter,
        encoder: ResultEncoder,
        keys: Keys,
        hostname: str,
        hooks: Sequence[TaskHooks] = (),
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._keys = keys
        self._hostname = hostname
        self._hooks = hooks

    def started(self, message: Message) -> None:
        """Store STARTED with process and node, a few milliseconds from now at the latest.

        The task does not wait for it: a round trip before each one is much of a short one's time,
        and its end is mostly there before anybody could read that it runs. Whatever the task stores
        later is stored, and published, later.
        """
        meta = self._encoder.state(
            message, STARTED, {"pid": os.getpid(), "hostname": self._hostname}
        )
        self._writer.put_patient(Settlement(None, self._keys.result(message.id), meta))

    async def store(
        self, message: Message, state: str, result: Any, task_id: str | None = None
    ) -> None:
        """Store a state of a task that goes on; returns when it is stored.

        Args:
            message: of the task that runs.
            state: which.
            result: what the state carries.
            task_id: the task whose state it is, where it is not the one that runs.

        Raises:
            TypeError: ``result`` is of a kind JSON cannot carry.
            ValueError: ``result`` is circular.
        """
        meta = self._encoder.state(message, state, result, task_id=task_id)
        # Without a claim: the task keeps it.
        await self._writer.write(Settlement(None, self._keys.result(task_id or message.id), meta))
        if state != STARTED and task_id is None:
            notify(self._hooks, lambda hook: hook.updated(message, state, result))
