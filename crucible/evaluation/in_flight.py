"""Which evaluations of a tenant have not ended: the set that bounds how many may be.

The script that publishes an evaluation adds its record to the set. Whoever counts a completion
removes it, up to a second later (``completion_store``). A completion that nobody counted, because
its worker was killed in that second or because it was a stock worker that had it revoked, is found
when it matters: before a submission is refused because too many are in flight, the set is compared
with the stored results.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.translation import translated
from crucible.errors import InputError
from crucible.evaluation.record import once_name, task_id_of, tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from crucible.broker.results.task_result import Results
    from crucible.redis_keys import Keys

#: Evaluations compared at once, and pages of them before a submission is refused.
PAGE, PAGES = 500, 4
#: Seconds between the starts of two comparisons of one set; submissions that would be refused
#: meanwhile wait for the next one.
PERIOD_S = 0.1


@dataclass(slots=True)
class _Set:
    """What this process knows of one tenant's set.

    Attributes:
        comparing: held while it is compared.
        offset: where the next comparison begins.
        began_s: when the last one did, monotonic.
        released: that one made room.
        count: evaluations that were in the set after it.
    """

    comparing: asyncio.Lock = field(default_factory=asyncio.Lock)
    offset: int = 0
    began_s: float = -math.inf
    released: bool = False
    count: int = 0

    def has_room(self, limit: int) -> bool:
        """Whether fewer than ``limit`` are in flight, as far as the last comparison says."""
        # Without ends that it found there may be room all the same: whoever counts completions
        # may have removed some since the refusal.
        return self.released or self.count < limit


class InFlightSets:
    """Removes evaluations that have ended from the sets of their tenants.

    Args:
        client: of the task queue server.
        keys: key names.
        results: stored results.
    """

    def __init__(self, client: Redis, keys: Keys, results: Results) -> None:
        self._client = client
        self._keys = keys
        self._results = results
        self._start = keys.idempotency(once_name(""))
        self._sets: defaultdict[str, _Set] = defaultdict(_Set)

    async def release_ended(self, tenant: str, limit: int) -> bool:
        """Whether there is room again, as far as a look at some of the set says.

        Args:
            tenant: whose set.
            limit: how many may be in it.

        Raises:
            BrokerError: the server does not answer.
        """
        asked_s, found = time.monotonic(), self._sets[tenant]
        async with found.comparing:
            if found.began_s >= asked_s:
                # A comparison that began after this was asked serves it too.
                return found.has_room(limit)
            wait_s = found.began_s + PERIOD_S - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            found.began_s, found.released = time.monotonic(), False
            for _ in range(PAGES):
                if await self._release_page(tenant, found):
                    found.released = True
                    break
            with translated():
                found.count = await self._client.zcard(self._keys.in_flight(tenant))
            return found.has_room(limit)

    async def _release_page(self, tenant: str, found: _Set) -> int:
        name = self._keys.in_flight(tenant)
        with translated():
            stored: Any = await self._client.zrange(name, found.offset, found.offset + PAGE - 1)
        if not stored:
            found.offset = 0
            return 0
        records = [member.decode() for member in stored]
        ended = await self._ended(records)
        # Those that go make the others move up.
        found.offset += len(records) - len(ended)
        if ended:
            with translated():
                await self._client.zrem(name, *ended)
        return len(ended)

    async def _ended(self, records: list[str]) -> list[str]:
        ids = [record.removeprefix(self._start) for record in records]
        metas = await self._results.metas([task_id_of(eval_id) for eval_id in ids])
        # What the legacy queue ran has its result elsewhere.
        legacy = [self._keys.legacy_result(eval_id) for eval_id in ids]
        with translated():
            kept: Any = await self._client.mget(records)
            has_legacy: Any = await self._client.mget(legacy)
        found = zip(records, metas, kept, has_legacy, strict=True)
        return [
            record
            for record, meta, held, result in found
            if held is None or result is not None or (meta is not None and meta.ready)
        ]


def release(pipe: Pipeline, keys: Keys, eval_ids: Iterable[str]) -> None:
    """Remove evaluations that have ended from the sets of their tenants.

    Args:
        pipe: takes the commands.
        keys: key names.
        eval_ids: their scoped ids.
    """
    by_tenant: defaultdict[str, list[str]] = defaultdict(list)
    for eval_id in eval_ids:
        try:
            by_tenant[tenant_of(eval_id)].append(keys.idempotency(once_name(eval_id)))
        except InputError:
            continue  # anybody may write to a queue
    for tenant, records in by_tenant.items():
        pipe.zrem(keys.in_flight(tenant), *records)
