"""The task that delivers one event to one webhook, served by async and stock workers alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from crucible.errors import BrokerError
from crucible.validation import input_error
from crucible.webhooks.planning import Delivery

if TYPE_CHECKING:
    from crucible.worker import TaskContext

#: Seconds until an attempt is made again that the task queue server was away for.
_AWAY_S = 5.0


async def deliver_webhook(
    ctx: TaskContext, delivery: dict[str, Any], body: str | None = None
) -> None:
    """Make one attempt, and have the task run again where another one is due.

    Args:
        ctx: the task.
        delivery: a ``Delivery`` as plain JSON types.
        body: as it was sent before, so that every attempt sends the same; None before the first.

    Raises:
        InputError: the message is of no delivery.
    """
    try:
        wanted = msgspec.convert(delivery, Delivery)
    except msgspec.ValidationError as error:
        raise input_error(error) from None
    try:
        again = await ctx.state.webhooks.deliver(wanted, body)
    except BrokerError as error:
        raise ctx.retry(countdown=_AWAY_S, exc=error) from error
    if again is not None:
        kwargs = {"delivery": msgspec.to_builtins(again.delivery), "body": again.body}
        raise ctx.retry(countdown=again.delay_s, kwargs=kwargs)
