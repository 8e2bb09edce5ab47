"""Sweeps: find the claims of dead workers by walking the claims themselves, and give them back.

A dead worker is one whose heartbeat has expired. Its claims are found by their field names, so
that no index of who holds what can be wrong or lost. Every operation checks again, on the server,
what it relies on, so any number of workers may sweep at the same time. The times are in
``recovery/__init__.py``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.recovery.plan import LostClaim
from crucible.broker.claiming.recovery.restorer import Swept
from crucible.redis_keys import CLAIM_PREFIX, SWEEP_TTL_MS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crucible.broker.claiming.recovery.restorer import Restorer
    from crucible.broker.redis.recovery_store import RecoveryStore
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)

#: Seconds between sweeps of all workers together: the first holds the mark for nearly that long.
#: Short, because the worker that sweeps may die as well, and its mark must not outlast it by much.
SWEEP_S = 1.0
#: Rows of one ZSCAN call, and calls of one sweep: about 20 ms of the server's time.
_SCAN_ROWS, _SCAN_CALLS = 1000, 20

_WORKER_FIELDS = f"{CLAIM_PREFIX}w*"


class Sweeper:
    """Gives back the claims of dead workers.

    Args:
        store: atomic operations on the queue server.
        keys: key names.
        restorer: takes away what it finds.
    """

    def __init__(self, store: RecoveryStore, keys: Keys, restorer: Restorer) -> None:
        self._store = store
        self._keys = keys
        self._restorer = restorer
        self._cursor: Any = 0

    async def sweep(self) -> Swept:
        """Give back the claims of dead workers, unless another worker has just swept.

        Raises:
            BrokerError: the server did not answer; claims not yet seen wait for the next sweep.
        """
        if not await self._store.command("SET", self._keys.sweep, 1, "NX", "PX", SWEEP_TTL_MS):
            return Swept()
        dead = await self._dead_workers()
        await self._index_strays()
        found = await self._walk(everything=bool(dead))
        swept = await self._restorer.restore(found)
        # Only now: until its claims are back a dead worker makes every sweep look at everything.
        for worker_id in dead:
            await self._store.command("ZREM", self._keys.workers, worker_id)
        return swept

    async def restore_old(self, rows: Iterable[tuple[str, str]]) -> Swept:
        """Give back claims that are older than the visibility timeout, as a stock sweep would.

        Args:
            rows: field and score, as the index had them.

        Raises:
            BrokerError: the server did not answer.
        """
        return await self._restorer.restore([LostClaim(field, score, "") for field, score in rows])

    async def _dead_workers(self) -> list[str]:
        known = [row.decode() for row in await self._store.command(
            "ZRANGE", self._keys.workers, 0, -1)]  # fmt: skip
        alive = await self._alive(known)
        return [worker_id for worker_id in known if worker_id not in alive]

    async def _alive(self, worker_ids: Sequence[str]) -> set[str]:
        if not worker_ids:
            return set()
        keys = [self._keys.worker(worker_id) for worker_id in worker_ids]
        values = await self._store.command("MGET", *keys)
        return {
            worker_id
            for worker_id, value in zip(worker_ids, values, strict=True)
            if value is not None
        }

    async def _index_strays(self) -> None:
        """Claims without a row in the index are invisible to every sweep; give them one."""
        claims = await self._store.command("HLEN", self._keys.unacked)
        if claims > await self._store.command("ZCARD", self._keys.unacked_index):
            strays = await self._store.index_strays(self._keys, _SCAN_ROWS)
            if strays:
                logger.warning("%d claims were in no index", strays)

    async def _walk(self, *, everything: bool) -> list[LostClaim]:
        """Claims of dead workers among the next rows of the index, or among all of them."""
        found: list[LostClaim] = []
        if everything:
            self._cursor = 0
        calls = 0
        while True:
            self._cursor, flat = await self._store.command(
                "ZSCAN", self._keys.unacked_index, self._cursor,
                "MATCH", _WORKER_FIELDS, "COUNT", _SCAN_ROWS,
            )  # fmt: skip
            calls += 1
            rows = [value.decode() for value in flat]
            for field, score in zip(rows[::2], rows[1::2], strict=True):
                owner = field.split("|", 2)[1]
                found.append(LostClaim(field, score, owner))
            if int(self._cursor) == 0 or (calls >= _SCAN_CALLS and not everything):
                break
            if calls % _SCAN_CALLS == 0:  # a long walk is still this sweep
                await self._store.command("SET", self._keys.sweep, 1, "PX", SWEEP_TTL_MS)
        alive = await self._alive(list({row.owner for row in found}))
        return [row for row in found if row.owner not in alive]
