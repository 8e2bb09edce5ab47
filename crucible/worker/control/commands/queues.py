"""Commands about the queues served."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crucible.worker.control.controlled import ControlledWorker

logger = logging.getLogger(__name__)


async def add_consumer(
    worker: ControlledWorker,
    queue: Any,
    exchange: str | None = None,
    exchange_type: str | None = None,
    routing_key: str | None = None,
    **_: Any,
) -> dict[str, str]:
    """Serve one more queue, after the others, for what is sent to its own name.

    No binding is written: exchange and routing key, which stock clients send, are ignored.
    """
    if not isinstance(queue, str) or not queue:
        raise ValueError(f"not a queue: {queue!r}")
    queues = worker.consumer.queues
    if queue not in queues:
        await worker.consumer.serve((*queues, queue))
        logger.info("serving queue %s too", queue)
    return {"ok": f"add consumer {queue}"}


async def cancel_consumer(worker: ControlledWorker, queue: str, **_: Any) -> dict[str, str]:
    """Serve a queue no longer; what was taken from it is still run."""
    queues = worker.consumer.queues
    if queue in queues:
        await worker.consumer.serve([other for other in queues if other != queue])
        logger.info("serving queue %s no longer", queue)
    return {"ok": f"no longer consuming from {queue}"}


def active_queues(worker: ControlledWorker) -> list[dict[str, Any]]:
    """The queues served, as kombu describes a queue."""
    return [_described(queue) for queue in worker.consumer.queues]


def _described(queue: str) -> dict[str, Any]:
    exchange = {
        "name": queue,
        "type": "direct",
        "arguments": None,
        "durable": True,
        "passive": False,
        "auto_delete": False,
        "delivery_mode": None,
        "no_declare": False,
    }
    return {
        "name": queue,
        "exchange": exchange,
        "routing_key": queue,
        "queue_arguments": None,
        "binding_arguments": None,
        "consumer_arguments": None,
        "durable": True,
        "exclusive": False,
        "auto_delete": False,
        "no_ack": False,
        "alias": None,
        "bindings": [],
        "no_declare": None,
        "expires": None,
        "message_ttl": None,
        "max_length": None,
        "max_length_bytes": None,
        "max_priority": None,
    }
