"""What a claim without an owner is made into: a message for its list again, or a dead letter.

Any consumer of the server may have claimed it, with any message of kombu's, so only what cannot be
restored at all becomes a dead letter; whether it is a task is asked where its deliveries count.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.results.meta import FAILURE, encode_meta
from crucible.broker.wire import claim_value
from crucible.broker.wire.bindings import bound_queues
from crucible.broker.wire.decode import Message, decode
from crucible.broker.wire.jsontypes import dumps
from crucible.broker.wire.priority import priority_of, step_of
from crucible.broker.wire.retry import deliveries_of, redelivered
from crucible.errors import BrokerError, BrokerUnavailable, MessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.atomic import Steps
    from crucible.redis_keys import Keys

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parcel:
    """Where a claim's message goes, and as what.

    Attributes:
        where: a list, or the stream of dead letters.
        raw: the message.
        letter: names and values of the dead letter, empty where it goes to a list.
        result_key: of its task, where a result is stored with it.
        meta: that result.
        others: further lists that get it: those of the other queues bound to its routing key.
    """

    where: str
    raw: bytes
    letter: Sequence[str] = ()
    result_key: str = ""
    meta: bytes = b""
    others: Sequence[str] = ()


class Packer:
    """Makes parcels.

    Args:
        steps: commands on the queue server.
        keys: key names.
        max_deliveries: deliveries of one message that ended with their worker before it becomes
            a dead letter and its task a failure.
    """

    def __init__(self, steps: Steps, keys: Keys, max_deliveries: int) -> None:
        self._steps = steps
        self._keys = keys
        self._max_deliveries = max_deliveries

    async def pack(self, value: bytes, *, lost: bool) -> Parcel:
        """The parcel for a claim.

        Args:
            value: as it stands in ``unacked``.
            lost: its worker is dead, so that this delivery counts; else it was only too old.

        Raises:
            BrokerUnavailable: the bindings of its exchange could not be read.
        """
        try:
            envelope, exchange, routing_key = claim_value.read(value)
        except ValueError as error:
            return self._bury(value, "", "unreadable", f"a claim that cannot be read: {error}")
        if not isinstance(envelope, dict):
            raw = claim_value.cut_out(value)
            return self._bury(raw, _text(routing_key), "unreadable", "not a JSON object")
        queues = await self._queues_of(exchange, routing_key)
        if not queues:
            raw, detail = claim_value.cut_out(value), f"exchange {exchange!r} leads to no queue"
            return self._bury(raw, _text(routing_key), "undeliverable", detail)
        step = step_of(priority_of(envelope))
        where, *others = [self._keys.step_list(queue, step) for queue in queues]
        if not lost:
            return Parcel(where, redelivered(envelope), others=others)
        deliveries = deliveries_of(envelope) + 1
        if deliveries < self._max_deliveries:
            return Parcel(where, redelivered(envelope, deliveries), others=others)
        detail = f"{deliveries} deliveries ended with their worker"
        message = _task_in(envelope)
        if deliveries == self._max_deliveries and message is not None and _is_awaited(message):
            # Whoever takes it next buries it without running it, and tells those who wait.
            return Parcel(where, redelivered(envelope, deliveries, detail), others=others)
        return self._give_up(envelope, message, queues[0], detail, deliveries)

    def _give_up(
        self,
        envelope: dict[str, Any],
        message: Message | None,
        queue: str,
        detail: str,
        deliveries: int,
    ) -> Parcel:
        raw = redelivered(envelope)
        more = ["attempts", str(deliveries)]
        if message is None:
            logger.error("a message of %s was lost with its worker too often: buried", queue)
            return self._bury(raw, queue, "undeliverable", detail, more)
        logger.error("task %s was lost with its worker %d times: buried", message.id, deliveries)
        more += ["task_id", message.id, "task", message.task]
        parcel = self._bury(raw, queue, "undeliverable", detail, more)
        if message.headers.get("ignore_result") is True:
            return parcel
        result_key = self._keys.result(message.id)
        return Parcel(parcel.where, raw, parcel.letter, result_key, _lost_meta(message, detail))

    def _bury(
        self, raw: bytes, queue: str, reason: str, detail: str, more: Sequence[str] = ()
    ) -> Parcel:
        letter = ["queue", queue, "reason", reason, "detail", detail, "at", f"{time.time():.6f}"]
        return Parcel(self._keys.dlq, raw, [*letter, *more])

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
                members = await self._steps.command("SMEMBERS", name)
            except BrokerUnavailable:
                raise
            except BrokerError as error:
                logger.warning("%s is no set of bindings: %s", name, error)
                members = []
            if members:
                return bound_queues(members, key)
        return [key] if key else []


def _text(value: Any) -> str:
    """As a key can have it: a stranger's JSON may hold anything, and characters without bytes."""
    return str(value or "").encode(errors="backslashreplace").decode()


def _task_in(envelope: dict[str, Any]) -> Message | None:
    """The message as a task's, or None where it is not one that can be read."""
    try:
        return decode(dumps(envelope).encode(), body=False)
    except MessageError:
        return None


def _is_awaited(message: Message) -> bool:
    """Whether a chord, the rest of a chain or errbacks wait for the task's end."""
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
