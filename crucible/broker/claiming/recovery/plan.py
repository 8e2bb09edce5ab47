"""What a claim without an owner becomes: a message for its list again, or a dead letter.

Any consumer of the server may have made the claim, with any message of kombu's, so only what cannot
be restored at all becomes a dead letter; whether it is a task matters only where its deliveries are
counted.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.recovery_store import RestoreRow
from crucible.broker.results.meta import FAILURE, encode_meta
from crucible.broker.wire import claim_value
from crucible.broker.wire.bindings import bound_queues
from crucible.broker.wire.decode import Message, decode
from crucible.broker.wire.jsontypes import dumps
from crucible.broker.wire.priority import priority_of, step_of
from crucible.broker.wire.retry import deliveries_of, redelivered
from crucible.errors import BrokerError, BrokerUnavailable, MessageError, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.commands import Commands
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LostClaim:
    """A claim that may have no owner any more.

    Attributes:
        field: its field in ``unacked``.
        score: its score in ``unacked_index``, as the server wrote it.
        owner: id of its worker, which has no heartbeat; empty: found by its age.
    """

    field: str
    score: str
    owner: str

    @property
    def age_order(self) -> tuple[float, int]:
        """Sorts the oldest first; claims of one moment by their number."""
        number = self.field.rpartition("|")[2]
        return float(self.score), int(number) if self.owner and number.isdecimal() else 0


class RestorePlanner:
    """Plans what lost claims become.

    Args:
        store: commands on the queue server.
        keys: key names.
        max_deliveries: deliveries of one message that ended with their worker before it becomes
            a dead letter and its task a failure.
    """

    def __init__(self, store: Commands, keys: Keys, max_deliveries: int) -> None:
        self._store = store
        self._keys = keys
        self._max_deliveries = max_deliveries

    async def plan(self, claim: LostClaim, value: bytes) -> RestoreRow:
        """What becomes of a claim.

        Only deliveries that ended with their worker are counted: a claim without an owner was
        only too old.

        Args:
            claim: the claim.
            value: as it stands in ``unacked``.

        Raises:
            BrokerUnavailable: the bindings of its exchange could not be read.
        """
        try:
            envelope, exchange, routing_key = claim_value.read(value)
        except ValueError as error:
            detail = f"a claim that cannot be read: {error}"
            return self._dead_letter(claim, value, "", "unreadable", detail)
        if not isinstance(envelope, dict):
            raw = claim_value.cut_out(value)
            queue = _text(routing_key)
            return self._dead_letter(claim, raw, queue, "unreadable", "not a JSON object")
        queues = await self._queues_of(exchange, routing_key)
        if not queues:
            raw, detail = claim_value.cut_out(value), f"exchange {exchange!r} leads to no queue"
            return self._dead_letter(claim, raw, _text(routing_key), "undeliverable", detail)
        if not claim.owner:
            return self._requeue(claim, envelope, queues, redelivered(envelope))
        deliveries = deliveries_of(envelope) + 1
        if deliveries < self._max_deliveries:
            return self._requeue(claim, envelope, queues, redelivered(envelope, deliveries))
        detail = f"{deliveries} deliveries ended with their worker"
        message = _task_in(envelope)
        if deliveries == self._max_deliveries and message is not None and _is_awaited(message):
            # The next worker makes it a dead letter without running it, and notifies who waits.
            raw = redelivered(envelope, deliveries, detail)
            return self._requeue(claim, envelope, queues, raw)
        return self._give_up(claim, envelope, message, queues[0], detail, deliveries)

    def _requeue(
        self, claim: LostClaim, envelope: dict[str, Any], queues: Sequence[str], raw: bytes
    ) -> RestoreRow:
        step = step_of(priority_of(envelope))
        target, *others = [self._keys.step_list(queue, step) for queue in queues]
        headers = envelope.get("headers")
        task_id = _text(headers.get("id")) if isinstance(headers, dict) else ""
        return RestoreRow(
            claim.field, claim.score, claim.owner, target, raw, others=others, task_id=task_id
        )

    def _give_up(
        self,
        claim: LostClaim,
        envelope: dict[str, Any],
        message: Message | None,
        queue: str,
        detail: str,
        deliveries: int,
    ) -> RestoreRow:
        raw = redelivered(envelope)
        more = ["attempts", str(deliveries)]
        if message is None:
            logger.error("a message of %s was lost with its worker too often: dead letter", queue)
            return self._dead_letter(claim, raw, queue, "undeliverable", detail, more)
        logger.error(
            "task %s was lost with its worker %d times: dead letter", message.id, deliveries
        )
        more += ["task_id", message.id, "task", message.task]
        row = self._dead_letter(claim, raw, queue, "undeliverable", detail, more)
        if message.headers.get("ignore_result") is True:
            return row
        meta = _lost_meta(message, detail)
        return row._replace(result_key=self._keys.result(message.id), meta=meta)

    def _dead_letter(
        self,
        claim: LostClaim,
        raw: bytes,
        queue: str,
        reason: str,
        detail: str,
        more: Sequence[str] = (),
    ) -> RestoreRow:
        letter = ["queue", queue, "reason", reason, "detail", detail, "at", f"{time.time():.6f}"]
        return RestoreRow(
            claim.field, claim.score, claim.owner, self._keys.dlq, raw, [*letter, *more]
        )

    async def _queues_of(self, exchange: Any, routing_key: Any) -> list[str]:
        """The queues a message was published to; a named exchange has its bindings in a set.

        Stock destroys a message whose exchange has no binding any more; its routing key is the
        better guess.
        """
        key = _text(routing_key)
        if key != routing_key:
            return []
        if exchange:
            name = self._keys.binding(_text(exchange))
            try:
                members = await self._store.command("SMEMBERS", name)
            except BrokerError as error:
                if isinstance(error, BrokerUnavailable) and not isinstance(error, NotPermitted):
                    raise
                logger.warning("%s is not a set of bindings: %s", name, error)
                members = []
            if members:
                return bound_queues(members, key)
        return [key] if key else []


def _text(value: Any) -> str:
    """Text a key can hold: the JSON of other producers may have anything, lone surrogates too."""
    return str(value or "").encode(errors="backslashreplace").decode()


def _task_in(envelope: dict[str, Any]) -> Message | None:
    """The message as a task's, or None where it is not one that can be read."""
    try:
        return decode(dumps(envelope).encode(), body=False)
    except MessageError:
        return None


def _is_awaited(message: Message) -> bool:
    """Whether a chord, later steps of a chain or errbacks wait for the task."""
    try:
        embed = message.embed
    except MessageError:
        return False
    return bool(embed["errbacks"] or embed["chain"] or embed["chord"])


def _lost_meta(message: Message, detail: str) -> bytes:
    """FAILURE WorkerLostError, as stock stores it for a lost worker."""
    result = {
        "exc_type": "WorkerLostError",
        "exc_message": [detail],
        "exc_module": "billiard.exceptions",
    }
    return encode_meta(
        message.id, FAILURE, result, group_id=message.group, parent_id=message.parent_id
    )
