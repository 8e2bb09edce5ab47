"""What waits in queues and what workers hold, a part at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from crucible.broker.wire import claim_value
from crucible.broker.wire.decode import Message, decode
from crucible.broker.wire.priority import STEPS
from crucible.errors import MessageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.commands import Commands
    from crucible.redis_keys import Keys

#: Messages read by one command.
_BATCH = 250


class Place(NamedTuple):
    """Where a listing goes on.

    Attributes:
        section: which list, in the order of queues and steps; after the last one the claims.
        at: messages of the list that were read, or the cursor of HSCAN.
    """

    section: int = 0
    at: int = 0


class Listed(NamedTuple):
    """A message that has not ended.

    Attributes:
        message: its head; the body is not decoded.
        queue: the queue it is in, or was claimed from.
        claimed: a worker holds it, or it is delayed.
    """

    message: Message
    queue: str
    claimed: bool


async def list_messages(
    store: Commands, keys: Keys, queues: Sequence[str], place: Place
) -> tuple[list[Listed], Place | None]:
    """Some more messages, and where to go on; None at the end.

    Lists are read from the side they are pushed to. What is claimed meanwhile is at the other
    side, so nothing that stays is passed over; what is pushed meanwhile has some read twice.

    Raises:
        BrokerError: the server could not be asked.
    """
    if place.section < len(queues) * len(STEPS):
        return await _waiting(store, keys, queues, place)
    cursor, pairs = await store.command("HSCAN", keys.unacked, place.at, "COUNT", _BATCH)
    found = [one for value in pairs[1::2] if (one := _claimed(value)) is not None]
    return found, Place(place.section, int(cursor)) if int(cursor) else None


async def _waiting(
    store: Commands, keys: Keys, queues: Sequence[str], place: Place
) -> tuple[list[Listed], Place]:
    queue = queues[place.section // len(STEPS)]
    key = keys.step_list(queue, STEPS[place.section % len(STEPS)])
    raws = await store.command("LRANGE", key, place.at, place.at + _BATCH - 1)
    found = [one for raw in raws if (one := _listed(raw, queue, claimed=False)) is not None]
    if len(raws) < _BATCH:
        return found, Place(place.section + 1)
    return found, Place(place.section, place.at + len(raws))


def _claimed(value: bytes) -> Listed | None:
    try:
        _, _, queue = claim_value.read(value)
        return _listed(claim_value.cut_out(value), str(queue), claimed=True)
    except ValueError:
        return None


def _listed(raw: bytes, queue: str, *, claimed: bool) -> Listed | None:
    """None for what no worker can read: it has no task."""
    try:
        return Listed(decode(raw, body=False), queue, claimed)
    except MessageError:
        return None
