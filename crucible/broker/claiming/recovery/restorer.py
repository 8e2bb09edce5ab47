"""Gives back claims whose owners are gone: to their lists, or to the dead letters.

Claims go back in chunks, each one round of reads and one script, which checks every claim again:
the worker that restores may be killed or cut off as well, so a chunk must not take long, and any
number of workers may restore at the same time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crucible.broker.claiming.claims import RESULT_TTL_S
from crucible.broker.claiming.recovery.plan import LostClaim, RestorePlanner
from crucible.broker.redis.recovery_store import RestoreRow, RestoreStatus
from crucible.validation import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.broker.redis.claim_store import ClaimStore
    from crucible.broker.redis.recovery_store import RecoveryStore
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)

#: A message that may go out again this often after its worker died.
MAX_DELIVERIES = 5
#: Claims restored by one round of reads and one script.
_CHUNK = 100
#: Bytes of messages in one script, unless one alone has more.
_CHUNK_BYTES = 1024 * 1024
#: Tasks that are named in the log of one sweep, and characters of an id, which anybody may choose.
_NAMED, _ID_SHOWN = 10, 80


@dataclass(slots=True)
class Swept:
    """What one sweep did.

    Attributes:
        restored: claims that went back to their lists.
        dead_letters: claims that became dead letters.
        task_ids: of the first that went back.
    """

    restored: int = 0
    dead_letters: int = 0
    task_ids: list[str] = field(default_factory=list)

    @property
    def moved(self) -> int:
        """All claims that were taken away."""
        return self.restored + self.dead_letters


class Restorer:
    """Takes claims away from owners who are gone.

    Args:
        store: atomic operations on the queue server.
        keys: key names.
        results: operations on the result server where that is another.
        max_deliveries: deliveries of one message that ended with their worker before it becomes
            a dead letter and its task a failure.
        result_ttl_s: seconds results are kept, 0 for ever.
    """

    def __init__(
        self,
        store: RecoveryStore,
        keys: Keys,
        *,
        results: ClaimStore | None = None,
        max_deliveries: int = MAX_DELIVERIES,
        result_ttl_s: int = RESULT_TTL_S,
    ) -> None:
        self._store = store
        self._keys = keys
        self._results = results
        self._planner = RestorePlanner(store, keys, max_deliveries)
        self._result_ttl_s = result_ttl_s

    async def restore(self, found: Sequence[LostClaim]) -> Swept:
        """Take each claim away unless another worker holds it by now.

        Raises:
            BrokerError: the server did not answer; some chunks may be restored.
        """
        swept = Swept()
        # The newest first: the end of the list they go to is the end messages are taken from. Where
        # this worker dies in between, the next one puts the older ones in front of them.
        rows = sorted({row.field: row for row in found}.values(), key=lambda row: row.age_order)
        rows.reverse()
        for start in range(0, len(rows), _CHUNK):
            await self._restore_chunk(rows[start : start + _CHUNK], swept)
        if swept.moved:
            logger.warning(
                "recovered the claims of dead workers: %d back in their queues%s, %d dead letters",
                swept.restored, _named(swept), swept.dead_letters,
            )  # fmt: skip
        return swept

    async def _restore_chunk(self, claims: Sequence[LostClaim], swept: Swept) -> None:
        values = await self._store.command(
            "HMGET", self._keys.unacked, *[claim.field for claim in claims], long_reply=True
        )
        found = list(zip(claims, values, strict=True))
        gone = [claim.field for claim, value in found if value is None]
        if gone:
            await self._store.command("ZREM", self._keys.unacked_index, *gone)
        rows = [
            await self._planner.plan(claim, value) for claim, value in found if value is not None
        ]
        for part in _by_size(rows):
            await self._restore_part(part, swept)

    async def _restore_part(self, rows: Sequence[RestoreRow], swept: Swept) -> None:
        if self._results is not None:
            rows = await self._store_apart(self._results, rows)
        statuses = await self._store.restore(self._keys, rows, self._result_ttl_s)
        for row, status in zip(rows, statuses, strict=True):
            if status is RestoreStatus.REFUSED:
                logger.error("claim %s cannot go back: %r is not a list", row.field, row.target)
            elif status is RestoreStatus.TAKEN and row.letter:
                swept.dead_letters += 1
            elif status is RestoreStatus.TAKEN:
                swept.restored += 1
                if row.task_id and len(swept.task_ids) < _NAMED:
                    swept.task_ids.append(quoted(row.task_id, _ID_SHOWN))

    async def _store_apart(
        self, results: ClaimStore, rows: Sequence[RestoreRow]
    ) -> list[RestoreRow]:
        """Results on a server of their own come first: a claim that stays brings them again."""
        metas = {row.result_key: row.meta for row in rows if row.meta}
        if metas:
            await results.settle_results(
                self._keys, (), list(metas), list(metas.values()), self._result_ttl_s
            )
        return [row._replace(result_key="", meta=b"") for row in rows]


def _named(swept: Swept) -> str:
    """The first tasks that went back, in brackets."""
    if not swept.task_ids:
        return ""
    more = ", …" if len(swept.task_ids) < swept.restored else ""
    return f" ({', '.join(swept.task_ids)}{more})"


def _by_size(rows: Sequence[RestoreRow]) -> Iterator[list[RestoreRow]]:
    """Parts of a chunk, each small enough for a slow link or a single row."""
    part: list[RestoreRow] = []
    n_bytes = 0
    for row in rows:
        size = len(row.raw)
        if part and n_bytes + size > _CHUNK_BYTES:
            yield part
            part, n_bytes = [], 0
        part.append(row)
        n_bytes += size
    if part:
        yield part
