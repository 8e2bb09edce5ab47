"""Claims: messages taken from the lists and recorded in ``unacked``, each change one script.

A claim's field is ``crucible|<worker id>|<number>``. Every script is atomic, so a process may die
at any instant: a message is in its list, or in ``unacked``, or ended.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.lost_replies import DoubtfulTakes, read_value
from crucible.broker.claiming.settle_effects import DLQ_LIMIT, SettleEffects
from crucible.broker.claiming.settlement import Claim, Move, Onward, Settlement
from crucible.broker.redis.clock import ServerClock
from crucible.broker.wire.jsontypes import quote
from crucible.broker.wire.priority import STEPS
from crucible.redis_keys import CLAIM_PREFIX, WORKER_TTL_S, Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.atomic import Steps

__all__ = [
    "DELAYED_PREFIX",
    "DLQ_LIMIT",
    "RESULT_TTL_S",
    "VISIBILITY_TIMEOUT_S",
    "Claim",
    "Claims",
    "Move",
    "Onward",
    "Settlement",
    "new_worker_id",
]

#: Start of the fields of delayed messages; ``<step>|<random>`` follows. No worker has this id.
DELAYED_PREFIX = f"{CLAIM_PREFIX}delayed|"
#: Seconds after which stock workers hand a claim to somebody else (kombu's default).
VISIBILITY_TIMEOUT_S = 3600.0
#: Seconds results are kept (celery's ``result_expires`` default: one day).
RESULT_TTL_S = 86_400
#: More claims than this go in several script calls: Lua's ``unpack`` takes about 8000 values.
MAX_BATCH = 1000
#: Claims in doubt that are looked for by one command.
_LOOK_BATCH = 100


def new_worker_id() -> str:
    """A random id for one worker process; it never equals the marker of delayed messages."""
    return f"w{secrets.token_hex(8)}"


class Claims:
    """One worker's claims on the lists of some queues.

    Args:
        steps: atomic steps on the queue server.
        worker_id: from ``new_worker_id``.
        queues: in the order of service.
        keys: key names.
        results: steps on the result server where that is another; a result is stored there
            before its claim is dropped.
        visibility_timeout_s: as stock workers on the same server have it.
        result_ttl_s: seconds results are kept, 0 for ever.
        priority_steps: as stock workers on the same server have them.
    """

    def __init__(
        self,
        steps: Steps,
        worker_id: str,
        queues: Sequence[str],
        *,
        keys: Keys | None = None,
        results: Steps | None = None,
        visibility_timeout_s: float = VISIBILITY_TIMEOUT_S,
        result_ttl_s: int = RESULT_TTL_S,
        priority_steps: Sequence[int] = STEPS,
    ) -> None:
        self.keys = keys or Keys()
        self.worker_id = worker_id
        self.visibility_timeout_s = visibility_timeout_s
        self.result_ttl_s = result_ttl_s
        self.clock = ServerClock()
        self.conclude = SettleEffects(steps, results, self.keys, result_ttl_s)
        self._steps = steps
        self._results = results
        self._priority_steps = tuple(priority_steps)
        self._prefix = f"{CLAIM_PREFIX}{worker_id}|"
        self._number = 0
        self._doubtful = DoubtfulTakes()
        self.serve(queues)

    def serve(self, queues: Sequence[str]) -> None:
        """Take from these queues from now on, in this order."""
        self.queues = tuple(queues)
        self._lists = [(queue, step) for queue in self.queues for step in self._priority_steps]
        self.list_keys = [self.keys.step_list(queue, step) for queue, step in self._lists]
        self._queue_names = [quote(queue) for queue, _ in self._lists]

    async def take(self, limit: int) -> list[Claim]:
        """Claim up to ``limit`` messages, the most urgent first; garbage becomes dead letters.

        Messages claimed by an earlier call whose answer was lost come first, and nothing is
        claimed before they were looked for. Large messages are claimed fewer at once.

        Raises:
            BrokerError: nothing is known to be claimed; what was is returned by a later call.
        """
        if self._doubtful and (found := await self._recover()):
            return found
        if not self._lists:
            return []
        first = self._number
        # Counted on before the answer: a call that times out may still be executed, even later.
        self._number += min(limit, MAX_BATCH)
        lists = self._lists
        try:
            reply = await self._steps.run(
                "claim",
                [self.keys.unacked, self.keys.unacked_index, self.keys.dlq, *self.list_keys],
                [self._prefix, first, self._number - first, DLQ_LIMIT, *self._queue_names],
            )
        except BaseException:
            # Cancelled or failed alike: whether it was executed is not known.
            self._doubtful.add(first + 1, self._number)
            raise
        self.clock.observe(reply[0], reply[1])
        claims = []
        for at in range(3, len(reply), 2):
            queue, step = lists[reply[at] - 1]
            first += 1
            claims.append(Claim(f"{self._prefix}{first}", queue, step, reply[at + 1]))
        return claims

    async def _recover(self) -> list[Claim]:
        """Some of the claims that are ours in the server and that we were never told of."""
        began = time.monotonic()
        fields = self._doubtful.fields(self._prefix)
        if not fields:
            return []
        for start in range(0, len(fields), _LOOK_BATCH):
            # A part of them at a time: the link that lost the answer may be a slow one.
            if claims := await self._look_for(fields[start : start + _LOOK_BATCH]):
                return claims
        self._doubtful.looked(began)
        return []

    async def _look_for(self, fields: Sequence[str]) -> list[Claim]:
        values = await self._steps.command("HMGET", self.keys.unacked, *fields, long_answer=True)
        claims = []
        for field, value in zip(fields, values, strict=True):
            if value is not None:
                self._doubtful.found(field)
                raw, queue, step = read_value(value)
                claims.append(Claim(field, queue, step, raw))
        return claims

    async def finish(self, endings: Sequence[Settlement]) -> int:
        """End claims; returns how many of them were still ours.

        Raises:
            BrokerError: nothing is known to have happened; doing it again is safe.
        """
        ours = 0
        causing = [ending for ending in endings if ending.continuation is not None]
        if causing:
            ours += await self.conclude.finish(causing)
            endings = [ending for ending in endings if ending.continuation is None]
        if self._results is not None:
            # Another server: the result first, so that a crash in between repeats the task.
            await self._store_results(self._results, endings)
        plain = [ending for ending in endings if ending.onward is None]
        for start in range(0, len(plain), MAX_BATCH):
            ours += await self._drop(plain[start : start + MAX_BATCH])
        for ending in endings:
            if ending.onward is not None:
                ours += await self._settle(ending, ending.onward)
        return ours

    async def _store_results(self, results: Steps, endings: Sequence[Settlement]) -> None:
        stored = [ending for ending in endings if ending.result_key]
        for start in range(0, len(stored), MAX_BATCH):
            part = stored[start : start + MAX_BATCH]
            await results.run(
                "finish",
                keys=["", "", *[ending.result_key for ending in part]],
                args=[self.result_ttl_s, 0, *[ending.meta for ending in part]],
            )

    async def _drop(self, endings: Sequence[Settlement]) -> int:
        keys: list[str] = [self.keys.unacked, self.keys.unacked_index]
        fields: list[Any] = []
        metas: list[Any] = []
        store = self._results is None
        for ending in endings:
            if ending.claim is not None:
                fields.append(ending.claim.field)
            if store and ending.result_key:
                keys.append(ending.result_key)
                metas.append(ending.meta)
        if not fields and not metas:
            return 0
        reply = await self._steps.run(
            "finish", keys=keys, args=[self.result_ttl_s, len(fields), *fields, *metas]
        )
        return int(reply[0])

    async def _settle(self, ending: Settlement, onward: Onward) -> int:
        claim = ending.claim
        if claim is None:
            raise ValueError("only a claimed message can go on")
        where = self.keys.step_list(claim.queue, claim.step)
        extra: list[Any] = []
        if onward.move is Move.PARK:
            extra = [
                _delayed_field(claim.step),
                f"{onward.eta:.6f}",
                str(self.visibility_timeout_s),
                quote(claim.queue),
            ]
        elif onward.move is Move.BURY:
            where = self.keys.dlq
            extra = [DLQ_LIMIT]
            for name, value in (onward.letter or {}).items():
                extra += [name, value]
        keys = [self.keys.unacked, self.keys.unacked_index, where]
        meta: bytes = b""
        if self._results is None and ending.result_key:
            keys.append(ending.result_key)
            meta = ending.meta
        args = [claim.field, onward.move.value, onward.raw, meta, self.result_ttl_s, *extra]
        return int(await self._steps.run("settle", keys=keys, args=args))

    async def park(self, claims: Sequence[tuple[Claim, float]]) -> list[Claim]:
        """Delay claims until their eta (seconds since the epoch); returns those already due."""
        args: list[Any] = [str(self.visibility_timeout_s)]
        for claim, eta in claims:
            args += [claim.field, _delayed_field(claim.step), f"{eta:.6f}"]
        reply = await self._steps.run(
            "park", keys=[self.keys.unacked, self.keys.unacked_index], args=args
        )
        self.clock.observe(reply[0], reply[1])
        due = {field.decode() for field in reply[2:]}
        return [claim for claim, _ in claims if claim.field in due]

    async def give_back(self, claims: Sequence[Claim]) -> int:
        """Return claims that were not started, oldest first in ``claims``; how many were ours."""
        returned = 0
        # Newest first: the list's end they go to is the end messages are taken from.
        newest_first = list(reversed(claims))
        for start in range(0, len(newest_first), MAX_BATCH):
            part = newest_first[start : start + MAX_BATCH]
            lists = list(dict.fromkeys((claim.queue, claim.step) for claim in part))
            args: list[Any] = []
            for claim in part:
                args += [claim.field, lists.index((claim.queue, claim.step)) + 1]
            keys = [self.keys.step_list(queue, step) for queue, step in lists]
            returned += await self._steps.run(
                "give_back", keys=[self.keys.unacked, self.keys.unacked_index, *keys], args=args
            )
        return returned

    async def renew(self, claims: Sequence[Claim], sign: str) -> list[Claim]:
        """Show life and renew claims; returns those that somebody else has taken away.

        A claim that vanished without a trace of a sweep (a server that lost its last writes) is
        not among them: its task is better run to its end.
        """
        keys = [
            self.keys.unacked_index,
            self.keys.worker(self.worker_id),
            self.keys.fence(self.worker_id),
            self.keys.workers,
        ]
        lost: set[str] = set()
        fenced = False
        for start in range(0, max(1, len(claims)), MAX_BATCH):
            fields = [claim.field for claim in claims[start : start + MAX_BATCH]]
            args: list[Any] = [sign, round(WORKER_TTL_S), self.worker_id, *fields]
            reply = await self._steps.run("renew", keys=keys, args=args)
            self.clock.observe(reply[0], reply[1])
            fenced = fenced or reply[2] == 1
            lost.update(field.decode() for field in reply[3:])
        return [claim for claim in claims if claim.field in lost] if fenced else []

    async def leave(self) -> None:
        """Take back the sign of life: this worker has no claims any more."""
        await self._steps.command("DEL", self.keys.worker(self.worker_id))
        await self._steps.command("ZREM", self.keys.workers, self.worker_id)


def _delayed_field(step: int) -> str:
    return f"{DELAYED_PREFIX}{step}|{secrets.token_hex(16)}"
