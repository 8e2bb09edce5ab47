"""Claims: messages taken from the lists and recorded in ``unacked``.

The life of a claim:

1. claim: ``Claims.take`` moves messages from their lists into ``unacked`` under the fields
   ``crucible|<worker id>|<number>`` (``lua/claim.lua``). Calls whose replies were lost are looked
   for before anything more is claimed: ``lost_replies.py``.
2. renew: ``Claims.renew`` writes the worker's heartbeat (``liveness.py``) and extends the leases of
   its claims every third of ``WORKER_TTL_S`` (``lua/renew.lua``).
3. settle: ``Claims.settle`` ends claims as ``settlement.py`` describes. Acknowledged with a result:
   ``lua/settle_results.lua``. Requeued, delayed for a retry or dead-lettered:
   ``lua/settle_message.lua``. With callbacks, chains or chords: ``effects_writer.py``. What was not
   started goes back with ``Claims.requeue``.
4. delay: a message that is not due yet stays in ``unacked`` under a field of no worker:
   ``Claims.delay``; ``delayed.py`` puts it back into its list when it is due.
5. recover: the claims of a worker without a heartbeat are given back by another worker's sweep:
   ``recovery/``. Dead letters: ``deadletters.py``.

Every change is one atomic operation (``redis/store.py``), so a process may die at any instant: a
message is in its list, or in ``unacked``, or settled.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING

from crucible.broker.claiming.effects_writer import EffectsWriter
from crucible.broker.claiming.lost_replies import LostReplies, read_value
from crucible.broker.claiming.settlement import (
    Claim,
    Destination,
    Disposition,
    Settlement,
    by_lifetime,
)
from crucible.broker.redis.claim_store import DelayedEntry, DelayRow, MessageSettlement
from crucible.broker.redis.clock import ServerClock
from crucible.broker.wire.jsontypes import quote
from crucible.broker.wire.priority import STEPS
from crucible.errors import BrokerUnavailable, MemoryFull, NothingStored
from crucible.redis_keys import CLAIM_PREFIX, DELAYED_PREFIX, Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.store import RedisStore

__all__ = [
    "RESULT_TTL_S",
    "VISIBILITY_TIMEOUT_S",
    "Claim",
    "Claims",
    "Destination",
    "Disposition",
    "Settlement",
    "new_worker_id",
]

logger = logging.getLogger(__name__)

#: Seconds after which stock workers give a claim to another worker (kombu's default).
VISIBILITY_TIMEOUT_S = 3600.0
#: Seconds results are kept (celery's ``result_expires`` default: one day).
RESULT_TTL_S = 86_400
#: More claims than this go in several script calls: Lua's ``unpack`` takes about 8000 values.
MAX_BATCH = 1000
#: Claims of lost replies that are looked for by one command.
_LOOK_BATCH = 100


def new_worker_id() -> str:
    """A random id for one worker process; it never equals the marker of delayed messages."""
    return f"w{secrets.token_hex(8)}"


class Claims:
    """One worker's claims on the lists of some queues.

    Args:
        store: atomic operations on the queue server.
        worker_id: from ``new_worker_id``.
        queues: in the order of service.
        keys: key names.
        results: operations on the result server where that is another; a result is stored there
            before its claim is dropped.
        visibility_timeout_s: as stock workers on the same server have it.
        result_ttl_s: seconds results are kept, 0 for ever.
        priority_steps: as stock workers on the same server have them.

    Attributes:
        is_full: the server's memory was full at the last call of ``take``.
    """

    def __init__(
        self,
        store: RedisStore,
        worker_id: str,
        queues: Sequence[str],
        *,
        keys: Keys | None = None,
        results: RedisStore | None = None,
        visibility_timeout_s: float = VISIBILITY_TIMEOUT_S,
        result_ttl_s: int = RESULT_TTL_S,
        priority_steps: Sequence[int] = STEPS,
    ) -> None:
        self.keys = keys or Keys()
        self.worker_id = worker_id
        self.visibility_timeout_s = visibility_timeout_s
        self.result_ttl_s = result_ttl_s
        self.clock = ServerClock()
        self.effects = EffectsWriter(store, results, self.keys, result_ttl_s)
        self._store = store
        self._results = results
        self._priority_steps = tuple(priority_steps)
        self._prefix = f"{CLAIM_PREFIX}{worker_id}|"
        self._number = 0
        self._lost_replies = LostReplies()
        self.is_full = False
        self.serve(queues)

    def serve(self, queues: Sequence[str]) -> None:
        """Claim from these queues from now on, in this order."""
        self.queues = tuple(queues)
        self._lists = [(queue, step) for queue in self.queues for step in self._priority_steps]
        self.list_keys = [self.keys.step_list(queue, step) for queue, step in self._lists]
        self._queue_names = [quote(queue) for queue, _ in self._lists]

    async def take(self, limit: int, limit_when_full: int = 0) -> list[Claim]:
        """Claim up to ``limit`` messages, the most urgent first; garbage becomes dead letters.

        Messages claimed by an earlier call whose reply was lost come first, and nothing is
        claimed before they were looked for. Large messages are claimed fewer at once.

        Args:
            limit: messages at most.
            limit_when_full: the same while the server's memory is full. What is claimed then must
                be settled before anything else is claimed: that is what gives memory back.

        Raises:
            BrokerError: nothing is known to be claimed; what was is returned by a later call.
        """
        if self._lost_replies and (found := await self._find_lost()):
            return found
        if not self._lists:
            return []
        first = self._number
        # Counted before the reply: a call that times out may still be executed, even later.
        self._number += min(limit, MAX_BATCH)
        lists = self._lists
        try:
            reply = await self._store.claim(
                self.keys,
                field_prefix=self._prefix,
                last_number=first,
                limit=self._number - first,
                limit_when_full=limit_when_full,
                lists=self.list_keys,
                queue_names=self._queue_names,
            )
        except NothingStored as error:
            self._number = first
            self._note_full(isinstance(error, MemoryFull))
            raise
        except BaseException:
            # Cancelled or failed alike: whether it was executed is not known.
            self._lost_replies.add(first + 1, self._number)
            raise
        self.clock.observe(reply.server_time)
        if reply.dead_letters:
            logger.warning("%d unreadable messages become dead letters", reply.dead_letters)
        self._note_full(reply.is_full)
        claims = []
        for number, raw in zip(reply.lists, reply.messages, strict=True):
            queue, step = lists[number - 1]
            first += 1
            claims.append(Claim(f"{self._prefix}{first}", queue, step, raw))
        return claims

    def _note_full(self, is_full: bool) -> None:
        """Say it once when the server's memory fills, and once when it has room again."""
        if is_full and not self.is_full:
            logger.error(
                "the memory of the queue server is full: messages are claimed one at a time, and "
                "new ones refused; raise maxmemory, or let the queues drain"
            )
        elif self.is_full and not is_full:
            logger.warning("the queue server has memory again")
        self.is_full = is_full

    async def _find_lost(self) -> list[Claim]:
        """Some of the claims that are ours on the server and whose replies were lost."""
        began = time.monotonic()
        fields = self._lost_replies.fields(self._prefix)
        if not fields:
            return []
        for start in range(0, len(fields), _LOOK_BATCH):
            # A part of them at a time: the link that lost the reply may be a slow one.
            if claims := await self._look_for(fields[start : start + _LOOK_BATCH]):
                return claims
        self._lost_replies.looked(began)
        return []

    async def _look_for(self, fields: Sequence[str]) -> list[Claim]:
        values = await self._store.command("HMGET", self.keys.unacked, *fields, long_reply=True)
        claims = []
        for field, value in zip(fields, values, strict=True):
            if value is not None:
                self._lost_replies.found(field)
                raw, queue, step = read_value(value)
                claims.append(Claim(field, queue, step, raw))
        return claims

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        """End claims; returns how many of them were still ours.

        Raises:
            BrokerError: nothing is known to have happened; doing it again is safe.
        """
        ours = 0
        for ttl_s, part in by_lifetime(settlements, self.result_ttl_s):
            ours += await self._settle(part, ttl_s)
        return ours

    async def _settle(self, settlements: Sequence[Settlement], ttl_s: int) -> int:
        """End claims whose results are all kept for ``ttl_s`` seconds."""
        ours = 0
        with_effects = [item for item in settlements if item.effects is not None]
        if with_effects:
            settlements = [item for item in settlements if item.effects is None]
            # States first: the next may be the end of the same task, over which none is stored.
            if states := [item for item in settlements if item.claim is None]:
                await self._settle(states, ttl_s)
                settlements = [item for item in settlements if item.claim is not None]
            ours += await self.effects.settle(with_effects, ttl_s)
        if self._results is not None:
            # Another server: the result first, so that a crash in between repeats the task.
            await self._store_results(self._results, settlements, ttl_s)
        acknowledged = [item for item in settlements if item.disposition is None]
        for start in range(0, len(acknowledged), MAX_BATCH):
            ours += await self._acknowledge(acknowledged[start : start + MAX_BATCH], ttl_s)
        for item in settlements:
            if item.disposition is not None:
                ours += await self._settle_message(item, item.disposition, ttl_s)
        return ours

    async def _store_results(
        self, results: RedisStore, settlements: Sequence[Settlement], ttl_s: int
    ) -> None:
        stored = [item for item in settlements if item.result_key]
        for start in range(0, len(stored), MAX_BATCH):
            part = stored[start : start + MAX_BATCH]
            result_keys = [item.result_key for item in part]
            metas = [item.meta for item in part]
            await results.settle_results(self.keys, (), result_keys, metas, ttl_s)

    async def _acknowledge(self, settlements: Sequence[Settlement], ttl_s: int) -> int:
        fields: list[str] = []
        result_keys: list[str] = []
        metas: list[bytes] = []
        store = self._results is None
        for item in settlements:
            if item.claim is not None:
                fields.append(item.claim.field)
            if store and item.result_key:
                result_keys.append(item.result_key)
                metas.append(item.meta)
        if not fields and not metas:
            return 0
        settled = await self._store.settle_results(self.keys, fields, result_keys, metas, ttl_s)
        return settled.ours

    async def _settle_message(
        self, settlement: Settlement, disposition: Disposition, ttl_s: int
    ) -> int:
        claim = settlement.claim
        if claim is None:
            raise ValueError("only a claimed message can go anywhere")
        queue = disposition.queue or claim.queue
        target = self.keys.step_list(queue, claim.step)
        delayed: DelayedEntry | None = None
        letter: list[str] = []
        if disposition.to is Destination.DELAYED:
            delayed = DelayedEntry(_delayed_field(claim.step), disposition.eta, quote(queue))
        elif disposition.to is Destination.DEAD_LETTERS:
            target = self.keys.dlq
            for name, value in (disposition.letter or {}).items():
                letter += (name, value)
        stored = self._results is None and bool(settlement.result_key)
        message = MessageSettlement(
            claim.field,
            disposition.to,
            target,
            disposition.raw,
            settlement.result_key if stored else "",
            settlement.meta if stored else b"",
            delayed,
            letter,
        )
        return await self._store.settle_message(
            self.keys, message, self.visibility_timeout_s, ttl_s
        )

    async def delay(self, claims: Sequence[tuple[Claim, float]]) -> list[Claim]:
        """Delay claims until their eta (seconds since the epoch); returns those already due."""
        rows = [DelayRow(claim.field, _delayed_field(claim.step), eta) for claim, eta in claims]
        reply = await self._store.delay(self.keys, rows, self.visibility_timeout_s)
        self.clock.observe(reply.server_time)
        due = set(reply.due)
        return [claim for claim, _ in claims if claim.field in due]

    async def requeue(self, claims: Sequence[Claim]) -> int:
        """Return claims that were not started, oldest first in ``claims``; how many were ours."""
        returned = 0
        # Newest first: the list's end they go to is the end messages are taken from.
        rows = [
            (claim.field, self.keys.step_list(claim.queue, claim.step))
            for claim in reversed(claims)
        ]
        for start in range(0, len(rows), MAX_BATCH):
            returned += await self._store.requeue(self.keys, rows[start : start + MAX_BATCH])
        return returned

    async def renew(self, claims: Sequence[Claim], heartbeat: str) -> list[Claim]:
        """Write the heartbeat and renew claims; returns those that recovery has taken away.

        A claim that vanished without a fence (a server that lost its last writes) is not among
        them: its task is better run to its end.
        """
        lost: set[str] = set()
        fenced = False
        for start in range(0, max(1, len(claims)), MAX_BATCH):
            fields = [claim.field for claim in claims[start : start + MAX_BATCH]]
            reply = await self._store.renew(self.keys, self.worker_id, heartbeat, fields)
            self.clock.observe(reply.server_time)
            fenced = fenced or reply.fenced
            lost.update(reply.missing)
        return [claim for claim in claims if claim.field in lost] if fenced else []

    async def is_served(self) -> bool:
        """Whether the servers, of claims and of results, answer at all."""
        try:
            for store in (self._store, self._results or self._store):
                await store.command("PING")
        except BrokerUnavailable:
            return False
        return True

    async def leave(self) -> None:
        """Delete the heartbeat: this worker has no claims any more."""
        await self._store.command("DEL", self.keys.worker(self.worker_id))
        await self._store.command("ZREM", self.keys.workers, self.worker_id)


def _delayed_field(step: int) -> str:
    return f"{DELAYED_PREFIX}{step}|{secrets.token_hex(16)}"
