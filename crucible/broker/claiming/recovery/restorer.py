"""What becomes of a claim whose owner is gone: its list again, or the dead letters.

Claims go back in chunks, each one round of reads and one script, which checks every one again: who
restores may be killed or cut off as well, so it must not take long, and any number may do it at the
same time.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import DLQ_LIMIT, RESULT_TTL_S
from crucible.broker.claiming.recovery.parcels import Packer, Parcel
from crucible.broker.redis.key_positions import KeyPositions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from crucible.broker.redis.atomic import Steps
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)

#: A message that may go out again this often after its worker died.
MAX_DELIVERIES = 5
#: Claims restored by one round of reads and one script.
_CHUNK = 100
#: Bytes of messages in one script, unless one alone has more.
_CHUNK_BYTES = 1024 * 1024


@dataclass(slots=True)
class Swept:
    """What one sweep did.

    Attributes:
        restored: claims that went back to their lists.
        buried: claims that became dead letters.
    """

    restored: int = 0
    buried: int = 0

    @property
    def moved(self) -> int:
        """Claims that are claims no more."""
        return self.restored + self.buried


@dataclass(frozen=True, slots=True)
class Found:
    """A claim that may have no owner any more.

    Attributes:
        field: its field in ``unacked``.
        score: its score in ``unacked_index``, as the server wrote it.
        owner: worker id; empty: found by its age.
    """

    field: str
    score: str
    owner: str

    @property
    def age_order(self) -> tuple[float, int]:
        """Sorts the oldest first; claims of one moment by their number."""
        number = self.field.rpartition("|")[2]
        return float(self.score), int(number) if self.owner and number.isdecimal() else 0


class Restorer:
    """Takes claims away from owners who are gone.

    Args:
        steps: atomic steps on the queue server.
        keys: key names.
        results: steps on the result server where that is another.
        max_deliveries: deliveries of one message that ended with their worker before it becomes
            a dead letter and its task a failure.
        result_ttl_s: seconds results are kept, 0 for ever.
    """

    def __init__(
        self,
        steps: Steps,
        keys: Keys,
        *,
        results: Steps | None = None,
        max_deliveries: int = MAX_DELIVERIES,
        result_ttl_s: int = RESULT_TTL_S,
    ) -> None:
        self._steps = steps
        self._keys = keys
        self._results = results
        self._packer = Packer(steps, keys, max_deliveries)
        self._result_ttl_s = result_ttl_s

    async def restore(self, found: Sequence[Found]) -> Swept:
        """Take each claim away unless it is somebody else's by now.

        Raises:
            BrokerError: the server did not answer; some chunks may be restored.
        """
        swept = Swept()
        # The newest first: the end of the list they go to is the end messages are taken from. Who
        # comes after a death in between puts the older ones in front of them.
        rows = sorted({row.field: row for row in found}.values(), key=lambda row: row.age_order)
        rows.reverse()
        for start in range(0, len(rows), _CHUNK):
            await self._restore_chunk(rows[start : start + _CHUNK], swept)
        if swept.moved:
            logger.warning(
                "gave back %d claims of workers that are gone, %d became dead letters",
                swept.restored, swept.buried,
            )  # fmt: skip
        return swept

    async def _restore_chunk(self, rows: Sequence[Found], swept: Swept) -> None:
        values = await self._steps.command(
            "HMGET", self._keys.unacked, *[row.field for row in rows], long_answer=True
        )
        gone = [row.field for row, value in zip(rows, values, strict=True) if value is None]
        if gone:
            await self._steps.command("ZREM", self._keys.unacked_index, *gone)
        packed = [
            (row, await self._packer.pack(value, lost=bool(row.owner)))
            for row, value in zip(rows, values, strict=True)
            if value is not None
        ]
        for part in _by_size(packed):
            await self._restore_part(part, swept)

    async def _restore_part(self, packed: Sequence[tuple[Found, Parcel]], swept: Swept) -> None:
        if self._results is not None:
            packed = await self._store_apart(self._results, packed)
        call = _Call(self._keys, self._result_ttl_s)
        for row, parcel in packed:
            call.add(row, parcel)
        outcomes = await self._steps.run("restore", call.keys, call.args)
        for (row, parcel), outcome in zip(packed, outcomes, strict=True):
            if outcome < 0:
                logger.error("claim %s cannot go back: %r is no list", row.field, parcel.where)
            elif outcome and parcel.letter:
                swept.buried += 1
            elif outcome:
                swept.restored += 1

    async def _store_apart(
        self, results: Steps, packed: Sequence[tuple[Found, Parcel]]
    ) -> list[tuple[Found, Parcel]]:
        """Results on a server of their own come first: a claim that stays brings them again."""
        metas = {parcel.result_key: parcel.meta for _, parcel in packed if parcel.meta}
        if metas:
            await results.run("finish", ["", "", *metas], [self._result_ttl_s, 0, *metas.values()])
        return [(row, replace(parcel, result_key="", meta=b"")) for row, parcel in packed]


def _by_size(packed: Sequence[tuple[Found, Parcel]]) -> Iterator[list[tuple[Found, Parcel]]]:
    """Parts of a chunk, each small enough for a slow link or a single one."""
    part: list[tuple[Found, Parcel]] = []
    n_bytes = 0
    for item in packed:
        size = len(item[1].raw)
        if part and n_bytes + size > _CHUNK_BYTES:
            yield part
            part, n_bytes = [], 0
        part.append(item)
        n_bytes += size
    if part:
        yield part


class _Call:
    """Builds KEYS and ARGV of ``restore.lua``."""

    def __init__(self, keys: Keys, result_ttl_s: int) -> None:
        self._names = keys
        self._positions = KeyPositions(keys.unacked, keys.unacked_index)
        self.args: list[Any] = [result_ttl_s, DLQ_LIMIT]

    @property
    def keys(self) -> list[str]:
        return self._positions.keys

    def add(self, row: Found, parcel: Parcel) -> None:
        owner, at = row.owner, self._positions.at
        more: list[Any] = [*parcel.letter] or [at(where) for where in parcel.others]
        self.args += (
            row.field, row.score,
            at(self._names.worker(owner) if owner else ""),
            at(self._names.fence(owner) if owner else ""),
            "bury" if parcel.letter else "list", at(parcel.where), parcel.raw,
            at(parcel.result_key), parcel.meta, len(more), *more,
        )  # fmt: skip
