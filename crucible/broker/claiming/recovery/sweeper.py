"""Sweeps: find the claims of dead workers by walking the claims themselves, and give them back.

A dead worker is one whose heartbeat has expired while it could have been renewed: a sweep judges
nobody before it has seen the server without a gap for as long as a heartbeat lasts
(``continuity.py``). Its claims are found by their field names, so
that no index of who holds what can be wrong or lost. Every operation checks again, on the server,
what it relies on, so any number of workers may sweep at the same time. The times are in
``recovery/__init__.py``.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.recovery.continuity import Continuity, Sight
from crucible.broker.claiming.recovery.plan import LostClaim
from crucible.broker.claiming.recovery.restorer import Swept
from crucible.broker.redis.recovery_store import SweepMark
from crucible.redis_keys import CLAIM_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from crucible.broker.claiming.recovery.restorer import Restorer
    from crucible.broker.redis.recovery_store import RecoveryStore
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)

#: Seconds between sweeps of all workers together: the first holds the mark for nearly that long.
#: Short, because the worker that sweeps may die as well, and its mark must not outlast it by much.
SWEEP_S = 1.0
#: Rows of one ZSCAN call, and calls of one sweep: about 20 ms of the server's time.
_SCAN_ROWS, _SCAN_CALLS = 1000, 20
#: The same of a look for strays, which reads whole messages.
_STRAY_ROWS, _STRAY_CALLS = 200, 20

_WORKER_PREFIX = f"{CLAIM_PREFIX}w"


class Sweeper:
    """Gives back the claims of dead workers.

    Args:
        store: atomic operations on the queue server.
        keys: key names.
        restorer: takes away what it finds.
        continuity: what was seen of the server before; None is nothing.
        now: seconds on the monotonic clock.
    """

    def __init__(
        self,
        store: RecoveryStore,
        keys: Keys,
        restorer: Restorer,
        *,
        continuity: Continuity | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keys = keys
        self._restorer = restorer
        self._now = now
        self._continuity = continuity or Continuity()
        self._cursor: Any = 0
        self._stray_cursor = 0

    async def sweep(self) -> Swept:
        """Give back the claims of dead workers, unless another worker has just swept.

        Nobody is judged before the server was seen for as long as a heartbeat lasts; to be called
        every ``SWEEP_S``.

        Raises:
            BrokerError: the server did not answer; claims not yet seen wait for the next sweep.
        """
        # Whoever may not judge leaves the mark to those who may.
        mark = SweepMark.BEGIN if self.may_judge() else SweepMark.LOOK
        is_ours = await self._see_server(mark)
        if not (is_ours and self.may_judge()):
            return Swept()
        dead = await self._dead_workers()
        await self._index_strays()
        found = await self._walk(everything=bool(dead))
        if found or dead:
            # What was read counts only if the server, and this host, were there all the while.
            await self._see_server(SweepMark.RENEW)
            if not self.may_judge():
                return Swept()
        swept = await self._restorer.restore(found)
        # Only now: until its claims are back a dead worker makes every sweep look at everything.
        for worker_id in dead:
            await self._store.command("ZREM", self._keys.workers, worker_id)
        return swept

    def may_judge(self) -> bool:
        """Whether a heartbeat that is missing now means that its worker is dead."""
        return self._continuity.is_whole(self._now())

    async def _see_server(self, mark: SweepMark) -> bool:
        """Write to the server and take note of it; whether the mark is ours."""
        sent_at, broken = self._now(), self._continuity.breaks
        begun = await self._store.begin_sweep(self._keys, mark)
        self._continuity.saw(Sight(sent_at, self._now(), begun.server_time, begun.server_id))
        if self._continuity.breaks != broken:
            # The outage itself is reported by the loops that it stops.
            logger.info("%s: no worker is declared dead for a while", self._continuity.last_break)
        return begun.is_ours

    async def restore_old(self, rows: Iterable[tuple[str, str]]) -> Swept:
        """Give back claims that are older than the visibility timeout, as a stock sweep would.

        Async workers renew theirs, so one of theirs is old only where its worker is dead, which is
        a lost delivery, where it was forgotten, or where nobody could renew it.

        Args:
            rows: field and score, as the index had them.

        Raises:
            BrokerError: the server did not answer.
        """
        old: list[LostClaim] = []
        of_workers: list[LostClaim] = []
        for field, score in rows:
            is_ours = field.startswith(_WORKER_PREFIX)
            claim = LostClaim(field, score, field.split("|", 2)[1] if is_ours else "")
            (of_workers if is_ours else old).append(claim)
        if of_workers:
            alive = await self._alive(list({claim.owner for claim in of_workers}))
            await self._see_server(SweepMark.LOOK)
            if self.may_judge():
                old += [
                    replace(claim, owner="") if claim.owner in alive else claim
                    for claim in of_workers
                ]
        return await self._restorer.restore(old)

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
        if claims <= await self._store.command("ZCARD", self._keys.unacked_index):
            self._stray_cursor = 0
            return
        strays = 0
        for _ in range(_STRAY_CALLS):
            page = await self._store.index_strays(self._keys, self._stray_cursor, _STRAY_ROWS)
            self._stray_cursor = page.cursor
            strays += page.found
            if page.cursor == 0:
                break
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
                "MATCH", f"{_WORKER_PREFIX}*", "COUNT", _SCAN_ROWS,
            )  # fmt: skip
            calls += 1
            rows = [value.decode() for value in flat]
            for field, score in zip(rows[::2], rows[1::2], strict=True):
                owner = field.split("|", 2)[1]
                found.append(LostClaim(field, score, owner))
            if int(self._cursor) == 0 or (calls >= _SCAN_CALLS and not everything):
                break
            if calls % _SCAN_CALLS == 0:  # a long walk is still this sweep
                await self._see_server(SweepMark.RENEW)
        alive = await self._alive(list({row.owner for row in found}))
        return [row for row in found if row.owner not in alive]
