"""Which tasks were revoked: in memory to be looked up before each run, on the server for restarts.

Stock remembers in memory (or in a file of pickles, ``--statedb``) and asks its peers at start.
The bounds are stock's: 50 000 ids, three hours (celery ``worker/state.py``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import MAX_BATCH
from crucible.broker.results.lookup import read_meta
from crucible.broker.results.meta import PENDING, RETRY, REVOKED, encode_meta, revoked_result
from crucible.redis_keys import REVOKED_LIMIT, REVOKED_TTL_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from crucible.broker.redis.claim_store import ClaimStore
    from crucible.broker.redis.commands import Commands
    from crucible.redis_keys import Keys


class RevokedTasks:
    """Ids in the order they were revoked, bounded in number and age."""

    def __init__(self, limit: int = REVOKED_LIMIT, keep_s: float = REVOKED_TTL_S) -> None:
        self._limit = limit
        self._keep_s = keep_s
        self._since: dict[str, float] = {}

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._since

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._since))

    def update(self, task_ids: Iterable[object]) -> None:
        """Remember ids from now on; what is no id is passed over."""
        now, since = time.monotonic(), self._since
        for task_id in task_ids:
            if isinstance(task_id, str) and task_id:
                since.pop(task_id, None)
                since[task_id] = now
        self.purge()

    def purge(self) -> None:
        """Forget what is too old or too much."""
        since, oldest = self._since, time.monotonic() - self._keep_s
        for task_id in list(since):
            if len(since) <= self._limit and since[task_id] >= oldest:
                break
            del since[task_id]


class RevokedKey:
    """The same on the server, for workers that start or connect anew.

    Args:
        store: commands on the queue server.
        keys: key names.
    """

    def __init__(self, store: Commands, keys: Keys) -> None:
        self._store = store
        self._key = keys.revoked

    async def add(self, task_ids: Iterable[str]) -> None:
        """Keep ids.

        Raises:
            BrokerError: they are not known to be kept.
        """
        ids = list(task_ids)
        now = f"{time.time():.3f}"
        for start in range(0, len(ids), MAX_BATCH):
            pairs: list[Any] = []
            for task_id in ids[start : start + MAX_BATCH]:
                pairs += [now, task_id]
            await self._store.command("ZADD", self._key, *pairs)
        await self._store.command("EXPIRE", self._key, REVOKED_TTL_S)
        await self._store.command(
            "ZREMRANGEBYSCORE", self._key, "-inf", f"{time.time() - REVOKED_TTL_S:.3f}"
        )
        await self._store.command("ZREMRANGEBYRANK", self._key, 0, -REVOKED_LIMIT - 1)

    async def load(self) -> list[str]:
        """Every id kept, oldest first.

        Raises:
            BrokerError: the server could not be asked.
        """
        oldest = f"{time.time() - REVOKED_TTL_S:.3f}"
        ids: list[bytes] = await self._store.command("ZRANGEBYSCORE", self._key, oldest, "+inf")
        return [task_id.decode(errors="replace") for task_id in ids]


#: States a task has before a worker starts on it.
_NOT_STARTED = frozenset({PENDING, "RECEIVED", RETRY, "REJECTED"})


async def store_revoked(
    store: ClaimStore,
    keys: Keys,
    result_ttl_s: int,
    task_ids: Sequence[str],
    *,
    final: bool = False,
) -> None:
    """Store REVOKED for tasks that nobody has started, so that nobody waits for their turn.

    Those that run are left to their workers, and a terminal result stays. Source: celery
    ``worker/control.py`` ``_revoke`` from 5.6.2 on. A task that does not track its start may be
    running; its own result then replaces REVOKED, unless that is ``final``.

    Args:
        store: operations on the result server.
        keys: key names.
        result_ttl_s: seconds results are kept, 0 for ever.
        task_ids: the revoked tasks.
        final: REVOKED stays, whatever their own results may be.

    Raises:
        BrokerError: it is not known for which it happened.
    """
    children: Sequence[Any] | None = () if final else None
    for start in range(0, len(task_ids), MAX_BATCH):
        part = task_ids[start : start + MAX_BATCH]
        stored = await store.command("MGET", *map(keys.result, part))
        waiting = [
            task_id for task_id, raw in zip(part, stored, strict=True) if _is_not_started(raw)
        ]
        if waiting:
            metas = [
                encode_meta(task_id, REVOKED, revoked_result("revoked"), children=children)
                for task_id in waiting
            ]
            result_keys = [keys.result(task_id) for task_id in waiting]
            await store.settle_results(keys, (), result_keys, metas, result_ttl_s)


def _is_not_started(raw: bytes | None) -> bool:
    meta = None if raw is None else read_meta(raw)
    return meta is None or meta.status in _NOT_STARTED
