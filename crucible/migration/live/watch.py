"""The switches in force in one process, kept up to date while it runs.

Changes are published; a poll every half second finds those whose publication was missed. The poll
is also the trial that closes the circuit to the queue server again, so that no client's request is.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Self

import msgspec

from crucible.broker.redis.translation import FOREIGN
from crucible.errors import BrokerError, SettingsError
from crucible.migration.state import (
    Change,
    State,
    SwitchStore,
    decode_state,
    effective,
    initial_state,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.breaker import CircuitBreaker
    from crucible.migration.routing import Switches
    from crucible.redis_keys import Keys
    from crucible.settings import Settings

log = logging.getLogger(__name__)

#: Seconds between two polls, and what one may take.
POLL_S, POLL_TIMEOUT_S = 0.5, 0.4
#: Seconds until a broken subscription is opened anew.
RESUBSCRIBE_S = 0.5


class SwitchWatch:
    """Knows the switches at any time without I/O. Open it with ``async with``.

    Attributes:
        switches: in force now.
        state: where they come from.
        stored: False while a rollback is in force here that is not stored yet.
    """

    def __init__(
        self, client: Redis, keys: Keys, settings: Settings, breaker: CircuitBreaker
    ) -> None:
        self.state = initial_state(settings)
        self.switches: Switches = effective(self.state, settings)
        self.stored = True
        self.store = SwitchStore(client, keys, settings)
        self._client = client
        self._channel = keys.migration
        self._settings = settings
        self._breaker = breaker
        self._held: Change | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._poll()
        if self.state.revision:
            log.info(
                "mode %s, revision %d of the switches", self.switches.mode, self.state.revision
            )
        else:
            # Whoever only names the legacy queue may expect it to go on as before.
            log.info(
                "mode %s by the settings (CELERY_PERCENTAGE %s); no switches are stored yet",
                self.switches.mode,
                self.switches.celery_percentage,
            )
        self._tasks = [
            asyncio.create_task(self._keep_polling(), name="crucible-switches"),
            asyncio.create_task(self._keep_listening(), name="crucible-switches-news"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def change(self, change: Change) -> State:
        """Store a change; it is in force here at once and elsewhere within a second.

        A rollback is in force here even when the server is away; it is stored once it is back.

        Raises:
            SettingsError: the switches would contradict each other.
            BrokerError: the server does not answer, and the change is no rollback.
        """
        try:
            state = await self.store.change(change)
        except BrokerError:
            if not change.force_legacy_queue:
                raise
            self._held, self.stored = change, False
            state = change.applied_to(self.state)
            log.warning("rolled back in this process only: the queue server does not answer")
        else:
            self._held, self.stored = None, True
        self._adopt(state)
        return state

    def _adopt(self, state: State) -> None:
        if self._held is not None and not state.force_legacy_queue:
            return
        if state == self.state:
            return
        try:
            switches = effective(state, self._settings)
        except SettingsError as error:
            log.error("the stored switches cannot be used here, the previous ones stay: %s", error)
            return
        if switches != self.switches:
            log.warning(
                "switches changed: %s -> %s (by %s: %s)",
                self.switches.mode,
                switches.mode,
                state.by or "?",
                state.reason or "no reason given",
            )
        self.state, self.switches = state, switches

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._poll()

    async def _poll(self) -> None:
        permit = self._breaker.permit()
        if permit is None:
            return
        try:
            with permit:
                state = await self._read()
        except (BrokerError, TimeoutError):
            return
        except msgspec.DecodeError as error:
            log.error("the stored switches cannot be decoded: %s", error)
            return
        self._adopt(state)

    async def _read(self) -> State:
        async with asyncio.timeout(POLL_TIMEOUT_S):
            if self._held is not None:
                state = await self.store.change(self._held)
                self._held, self.stored = None, True
                return state
            return await self.store.read()

    async def _keep_listening(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as news:
                    await news.subscribe(self._channel)
                    while True:
                        message = await news.get_message(
                            ignore_subscribe_messages=True, timeout=60.0
                        )
                        if message is not None:
                            self._adopt(decode_state(message["data"]))
            except FOREIGN as error:
                log.debug("the subscription to the switches failed: %s", error)
            except msgspec.DecodeError as error:
                log.error("published switches cannot be decoded: %s", error)
            await asyncio.sleep(RESUBSCRIBE_S)
