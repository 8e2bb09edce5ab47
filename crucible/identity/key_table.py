"""The keys as one process knows them, so that a request is identified without a round trip.

Changes are published; a poll every half second finds those whose publication was missed. A key that
is well formed and unknown here may have been made a moment ago, so it is looked for on the server,
but never more often than every ``LOOK_UP_S``, whatever is sent.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Self

import msgspec

from crucible.broker.redis.translation import FOREIGN
from crucible.errors import BrokerError, BrokerUnavailable
from crucible.fail_fast_lock import FailFastLock
from crucible.identity.key_store import KeyStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio import Redis

    from crucible.identity.key_store import Snapshot
    from crucible.identity.principal import Principal
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Seconds between two polls, and what reading may take.
POLL_S, READ_TIMEOUT_S = 0.5, 0.4
#: The same for the first time, when everything else starts as well.
FIRST_READ_S = 1.0
#: Seconds until a broken subscription is opened anew.
RESUBSCRIBE_S = 0.5
#: Seconds between two look-ups of unknown keys, and how long one stays unknown after its own.
LOOK_UP_S, UNKNOWN_S = 0.05, 1.0
#: Unknown keys that are remembered.
UNKNOWN_LIMIT = 4096
#: Seconds between two writes of which keys were used.
USED_S = 30.0


class _Known:
    """A valid secret: whose it is, until when (monotonic seconds)."""

    __slots__ = ("principal", "until")

    def __init__(self, principal: Principal, until: float) -> None:
        self.principal = principal
        self.until = until


class KeyTable:
    """Identifies by key. Open it with ``async with``.

    Args:
        client: of the task queue server.
        keys: key names.

    Attributes:
        known: the keys were read at least once; before that nobody can be identified.
        made: a key was made once, whether or not it is revoked by now.
        watchers: called after each change, and with every poll: a key may have expired since.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.store = KeyStore(client, keys)
        self.known = self.made = False
        self._client = client
        self._version = -1
        self._by_digest: dict[bytes, _Known] = {}
        self._unknown: OrderedDict[bytes, float] = OrderedDict()
        self._looked_at = -math.inf
        self._reading = FailFastLock()
        self._used: set[str] = set()
        self._read_once = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.watchers: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        await self._try_refreshing(FIRST_READ_S)
        self._tasks = [
            asyncio.create_task(self._keep_polling(), name="crucible-keys"),
            asyncio.create_task(self._keep_listening(), name="crucible-keys-news"),
            asyncio.create_task(self._keep_noting(), name="crucible-keys-used"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def wait_known(self, timeout: float) -> bool:
        """Whether the keys are known, at the latest after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                return await self._read_once.wait()
        except TimeoutError:
            return False

    def find(self, digest: bytes) -> Principal | None:
        """Who has the secret of this hash, as far as is known here."""
        found = self._by_digest.get(digest)
        if found is None or found.until < time.monotonic():
            return None
        self._used.add(found.principal.key_id)
        return found.principal

    async def look_up(self, digest: bytes) -> Principal | None:
        """The same, after a look at the server where the hash is unknown here.

        Raises:
            BrokerError: it is unknown here and the server does not answer.
        """
        found = self.find(digest)
        if found is not None or self._is_unknown(digest):
            return found
        wait_s = self._looked_at + LOOK_UP_S - time.monotonic()
        if wait_s > 0:
            # Those that come meanwhile share the next look-up.
            await asyncio.sleep(wait_s)
        async with self._reading.hold():
            if self.find(digest) is None and self._looked_at + LOOK_UP_S <= time.monotonic():
                self._looked_at = time.monotonic()
                await self._refresh()
        found = self.find(digest)
        if found is None:
            self._note_unknown(digest)
        return found

    def _is_unknown(self, digest: bytes) -> bool:
        return self._unknown.get(digest, -math.inf) > time.monotonic()

    def _note_unknown(self, digest: bytes) -> None:
        self._unknown[digest] = time.monotonic() + UNKNOWN_S
        self._unknown.move_to_end(digest)
        while len(self._unknown) > UNKNOWN_LIMIT:
            self._unknown.popitem(last=False)

    async def refresh(self) -> None:
        """Read what changed. For whoever changed it in this process.

        What was changed is changed where this cannot read it, and a secret is shown only once: so
        it raises nothing, and the next poll reads it.
        """
        await self._try_refreshing(FIRST_READ_S)

    async def _refresh(self, timeout: float = READ_TIMEOUT_S) -> None:
        try:
            async with asyncio.timeout(timeout):
                if self._version == await self.store.version():
                    return
                self._adopt(await self.store.read())
        except TimeoutError:
            raise BrokerUnavailable("the keys could not be read in time") from None

    def _adopt(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        self._by_digest = {
            secret.digest: _Known(
                key.principal,
                now + (secret.until_ms - snapshot.now_ms) / 1000 if secret.until_ms else math.inf,
            )
            for key in snapshot.keys.values()
            for secret in key.secrets
        }
        self._unknown.clear()
        self._version = snapshot.version
        self.made = snapshot.version > 0
        self.known = True
        self._read_once.set()
        self._call_watchers()

    def _call_watchers(self) -> None:
        for watcher in self.watchers:
            watcher()

    async def _try_refreshing(self, timeout: float = READ_TIMEOUT_S) -> None:
        try:
            async with self._reading.hold():
                await self._refresh(timeout)
        except BrokerError as error:
            log.debug("the keys cannot be read now: %s", error)
        except msgspec.DecodeError as error:
            log.error("the stored keys cannot be decoded, those known before stay: %s", error)

    async def _keep_polling(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await self._try_refreshing()
            self._call_watchers()

    async def _keep_listening(self) -> None:
        while True:
            try:
                async with self._client.pubsub() as news:
                    await news.subscribe(self.store.channel)
                    while True:
                        message = await news.get_message(
                            ignore_subscribe_messages=True, timeout=60.0
                        )
                        if message is not None:
                            await self._try_refreshing()
            except FOREIGN as error:
                log.debug("the subscription to changes of keys failed: %s", error)
            await asyncio.sleep(RESUBSCRIBE_S)

    async def _keep_noting(self) -> None:
        while True:
            await asyncio.sleep(USED_S)
            used, self._used = self._used, set()
            try:
                if used:
                    await self.store.note_used(used)
            except BrokerError as error:
                self._used |= used
                log.debug("which keys were used cannot be written now: %s", error)
