"""Claims nobody will end any more: found by walking the claims themselves, then given back.

A dead worker is one whose sign of life has run out. Its claims are found by their field names, so
no index of who holds what can be wrong or lost. Every step checks again, in the server, what it
relies on, so any number of workers may sweep at the same time.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import DLQ_LIMIT, RESULT_TTL_S
from crucible.broker.keys import CLAIM_PREFIX
from crucible.broker.results.meta import FAILURE, encode_meta
from crucible.broker.wire.jsontypes import dumps
from crucible.broker.wire.message import decode
from crucible.broker.wire.priority import step_of
from crucible.broker.wire.redelivery import deliveries_of, redelivered
from crucible.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from crucible.broker.claiming.claims import Claims
    from crucible.broker.keys import Keys
    from crucible.broker.servers.atomic import Steps

logger = logging.getLogger(__name__)

#: Seconds between sweeps of the whole fleet: whoever is first holds the mark for that long.
SWEEP_S = 2.0
#: Rows of one ZSCAN step, and steps of one sweep: about 20 ms of the server's time.
_SCAN_ROWS, _SCAN_STEPS = 1000, 20
#: Claims restored by one round of reads.
_CHUNK = 100
#: A message that may go out again this often after its worker died.
MAX_DELIVERIES = 5

_WORKER_FIELDS = f"{CLAIM_PREFIX}w*"


@dataclass(slots=True)
class Swept:
    """What one sweep did.

    Attributes:
        restored: claims that went back to their lists.
        buried: claims that became dead letters.
    """

    restored: int = 0
    buried: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    field: str
    score: str
    owner: str  # worker id; empty: taken because of its age

    @property
    def age_order(self) -> tuple[float, int]:
        number = self.field.rpartition("|")[2]
        return float(self.score), int(number) if self.owner and number.isdecimal() else 0


class Sweeper:
    """Gives back what dead workers held.

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
        self._max_deliveries = max_deliveries
        self._result_ttl_s = result_ttl_s
        self._cursor: Any = 0

    @classmethod
    def beside(
        cls, claims: Claims, steps: Steps, results: Steps | None, max_deliveries: int
    ) -> Sweeper:
        """The sweeper of a worker that holds ``claims``."""
        return cls(
            steps,
            claims.keys,
            results=results,
            max_deliveries=max_deliveries,
            result_ttl_s=claims.result_ttl_s,
        )

    async def sweep(self) -> Swept:
        """Give back the claims of dead workers, unless another sweeper was here just now.

        Raises:
            BrokerError: the server did not answer; claims not yet seen wait for the next sweep.
        """
        mark = self._keys.sweep
        if not await self._steps.command("SET", mark, 1, "NX", "PX", round(SWEEP_S * 900)):
            return Swept()
        dead = await self._dead_workers()
        await self._index_strays()
        found = await self._walk(everything=bool(dead))
        swept = await self._restore(found)
        # Only now: until its claims are back a dead worker makes every sweep look at everything.
        for worker_id in dead:
            await self._steps.command("ZREM", self._keys.workers, worker_id)
        return swept

    async def restore_old(self, rows: Iterable[tuple[str, str]]) -> Swept:
        """Give back claims that are older than the visibility timeout, as a stock sweep would.

        Args:
            rows: field and score, as the index had them.

        Raises:
            BrokerError: the server did not answer.
        """
        return await self._restore([_Found(field, score, "") for field, score in rows])

    async def _dead_workers(self) -> list[str]:
        known = [row.decode() for row in await self._steps.command(
            "ZRANGE", self._keys.workers, 0, -1)]  # fmt: skip
        alive = await self._alive(known)
        return [worker_id for worker_id in known if worker_id not in alive]

    async def _alive(self, worker_ids: Sequence[str]) -> set[str]:
        if not worker_ids:
            return set()
        keys = [self._keys.worker(worker_id) for worker_id in worker_ids]
        values = await self._steps.command("MGET", *keys)
        return {
            worker_id
            for worker_id, value in zip(worker_ids, values, strict=True)
            if value is not None
        }

    async def _index_strays(self) -> None:
        """Claims without a row in the index are invisible to every sweep; give them one."""
        claims = await self._steps.command("HLEN", self._keys.unacked)
        if claims > await self._steps.command("ZCARD", self._keys.unacked_index):
            strays = await self._steps.run(
                "strays", [self._keys.unacked, self._keys.unacked_index], [_SCAN_ROWS]
            )
            if strays:
                logger.warning("%d claims were in no index", strays)

    async def _walk(self, *, everything: bool) -> list[_Found]:
        """Claims of dead workers among the next rows of the index, or among all of them."""
        found: list[_Found] = []
        if everything:
            self._cursor = 0
        steps = 0
        while True:
            self._cursor, flat = await self._steps.command(
                "ZSCAN", self._keys.unacked_index, self._cursor,
                "MATCH", _WORKER_FIELDS, "COUNT", _SCAN_ROWS,
            )  # fmt: skip
            steps += 1
            rows = [value.decode() for value in flat]
            for field, score in zip(rows[::2], rows[1::2], strict=True):
                owner = field.split("|", 2)[1]
                found.append(_Found(field, score, owner))
            if int(self._cursor) == 0 or (steps >= _SCAN_STEPS and not everything):
                break
        alive = await self._alive(list({row.owner for row in found}))
        return [row for row in found if row.owner not in alive]

    async def _restore(self, found: Sequence[_Found]) -> Swept:
        swept = Swept()
        # The newest first: the end of the list they go to is the end messages are taken from.
        rows = sorted({row.field: row for row in found}.values(), key=lambda row: row.age_order)
        rows.reverse()
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            values = await self._steps.command(
                "HMGET", self._keys.unacked, *[row.field for row in part]
            )
            for row, value in zip(part, values, strict=True):
                await self._restore_one(row, value, swept)
        if swept.restored or swept.buried:
            logger.warning(
                "gave back %d claims of workers that are gone, %d became dead letters",
                swept.restored, swept.buried,
            )  # fmt: skip
        return swept

    async def _restore_one(self, row: _Found, value: bytes | None, swept: Swept) -> None:
        if value is None:
            await self._steps.command("ZREM", self._keys.unacked_index, row.field)
            return
        parcel = await self._pack(row, value)
        keys = [
            self._keys.unacked,
            self._keys.unacked_index,
            self._keys.worker(row.owner),
            self._keys.fence(row.owner),
            parcel.where,
        ]
        meta = parcel.meta
        if meta and self._results is None:
            keys.append(parcel.result_key)
        elif meta and self._results is not None:
            await self._results.run(
                "finish", ["", "", parcel.result_key], [self._result_ttl_s, 0, meta]
            )
            meta = b""
        taken = await self._steps.run("restore", keys, [
            row.field, value, row.score, "owner" if row.owner else "age",
            "bury" if parcel.letter else "list", parcel.raw, meta, self._result_ttl_s,
            DLQ_LIMIT, *parcel.letter,
        ])  # fmt: skip
        if taken and parcel.letter:
            swept.buried += 1
        elif taken:
            swept.restored += 1

    async def _pack(self, row: _Found, value: bytes) -> _Parcel:
        """Where a claim goes, and as what."""
        try:
            envelope, exchange, routing_key = json.loads(value)
            headers, properties = envelope["headers"], envelope["properties"]
            priority = int(properties.get("priority") or 0)
            task_id = str(headers["id"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            letter = ["reason", "unreadable", "detail", f"a claim that cannot be read: {error}"]
            return _Parcel(self._keys.dlq, value, letter)
        queue = await self._queue_of(exchange, routing_key)
        where = self._keys.step_list(queue, step_of(priority))
        if not row.owner:
            return _Parcel(where, redelivered(envelope))
        deliveries = deliveries_of(envelope) + 1
        if deliveries < self._max_deliveries:
            return _Parcel(where, redelivered(envelope, deliveries))
        detail = f"{deliveries} deliveries ended with their worker"
        if deliveries == self._max_deliveries and _is_awaited(envelope):
            # Whoever takes it next buries it without running it, and tells those who wait.
            return _Parcel(where, redelivered(envelope, deliveries, detail))
        logger.error("task %s was lost with its worker %d times: buried", task_id, deliveries)
        letter = ["queue", queue, "reason", "undeliverable", "detail", detail,
                  "task_id", task_id, "task", str(headers.get("task")),
                  "attempts", str(deliveries)]  # fmt: skip
        meta = _lost_meta(task_id, headers, detail)
        return _Parcel(
            self._keys.dlq, redelivered(envelope), letter, self._keys.result(task_id), meta
        )

    async def _queue_of(self, exchange: Any, routing_key: Any) -> str:
        """The queue a message was published to; a named exchange has its bindings in a set.

        Stock destroys a message whose exchange has no binding; its routing key is the better
        guess.
        """
        if exchange:
            key = f"{self._keys.prefix}_kombu.binding.{exchange}"
            for member in await self._steps.command("SMEMBERS", key):
                bound_key, _, queue = member.decode(errors="replace").split("\x06\x16")
                if bound_key == routing_key:
                    return str(queue)
        return str(routing_key)


@dataclass(frozen=True, slots=True)
class _Parcel:
    where: str
    raw: bytes
    letter: Sequence[str] = ()
    result_key: str = ""
    meta: bytes = b""


def _is_awaited(envelope: dict[str, Any]) -> bool:
    """Whether a chord, the rest of a chain or errbacks wait for the task's end."""
    try:
        embed = decode(dumps(envelope).encode()).embed
    except MessageError:
        return False
    return bool(embed["errbacks"] or embed["chain"] or embed["chord"])


def _lost_meta(task_id: str, headers: dict[str, Any], detail: str) -> bytes:
    """FAILURE WorkerLostError, as stock stores it for a lost worker."""
    if headers.get("ignore_result") is True:
        return b""
    result = {
        "exc_type": "WorkerLostError",
        "exc_message": [detail],
        "exc_module": "billiard.exceptions",
    }
    return encode_meta(
        task_id,
        FAILURE,
        result,
        group_id=headers.get("group"),
        parent_id=headers.get("parent_id"),
    )
