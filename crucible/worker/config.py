"""The settings of a worker."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Required, TypedDict

from crucible.broker.claiming.claims import RESULT_TTL_S, VISIBILITY_TIMEOUT_S
from crucible.broker.claiming.recovery.restorer import MAX_DELIVERIES
from crucible.redis_keys import Keys
from crucible.worker.control.node_name import node_name

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How messages are claimed: by script, or by stock's blocking pop without any script.
ClaimMode = Literal["atomic", "brpop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """The settings of a worker.

    Attributes:
        broker_url: the queue server.
        result_url: the result server; None is the queue server and its database.
        queues: in the order of service, at the start; remote control may change them.
        concurrency: tasks run at once, at the start; ``Worker.resize`` changes it.
        name: node name, ``name@host``, or what ``node_name`` makes one of; None makes one of
            process id and host.
        claim: ``atomic`` loses nothing; ``brpop`` takes as stock does, for servers without
            scripting, and has stock's gap between taking and recording.
        key_prefix: ``global_keyprefix`` of the broker.
        result_prefix: the same of the result backend.
        visibility_timeout_s: seconds; as stock workers on the same server have it.
        result_ttl_s: seconds results are kept, 0 for ever.
        result_extended: keep name, arguments, worker, retries and queue with each result.
        max_deliveries: deliveries of a message that ended with their worker before it becomes a
            dead letter and its task a failure.
        drain_s: seconds that running tasks are given when the worker stops.
        events: send task events from the start; ``enable_events`` does it later.
        default_queue: where a task goes that is sent from a task and names no queue.
    """

    broker_url: str
    result_url: str | None = None
    queues: Sequence[str] = ("celery",)
    concurrency: int = 10
    name: str | None = None
    claim: ClaimMode = "atomic"
    key_prefix: str = ""
    result_prefix: str = ""
    visibility_timeout_s: float = VISIBILITY_TIMEOUT_S
    result_ttl_s: int = RESULT_TTL_S
    result_extended: bool = False
    max_deliveries: int = MAX_DELIVERIES
    drain_s: float = 30.0
    events: bool = False
    default_queue: str = "celery"
    hostname: str = field(init=False)
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        # The dataclass is frozen; what follows from the fields is worked out once, here.
        if self.name is None:
            made = f"crucible{os.getpid()}@{socket.gethostname()}"
        else:
            made = node_name(self.name)
        object.__setattr__(self, "hostname", made)
        object.__setattr__(self, "keys", Keys(self.key_prefix, self.result_prefix))

    @property
    def result_backend(self) -> str:
        """Where results are: ``result_url``, or the queue server."""
        return self.result_url or self.broker_url


class WorkerOptions(TypedDict, total=False):
    """The fields of ``WorkerConfig`` as keyword arguments of ``Worker``."""

    broker_url: Required[str]
    result_url: str | None
    queues: Sequence[str]
    concurrency: int
    name: str | None
    claim: ClaimMode
    key_prefix: str
    result_prefix: str
    visibility_timeout_s: float
    result_ttl_s: int
    result_extended: bool
    max_deliveries: int
    drain_s: float
    events: bool
    default_queue: str
