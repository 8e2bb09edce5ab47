"""The circuit breakers of a router: one for each thing it depends on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from crucible.breaker import CircuitBreaker
from crucible.errors import BrokerUnavailable, LegacyUnavailable
from crucible.evaluation.executor_settings import breaker_policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.settings import Settings


#: Seconds after which the server is tried for records again, at most.
RECORDS_OPEN_S = 1.0


class Breakers:
    """The circuit breakers of a router.

    ``/ready``, ``/metrics`` and ``migration status`` show whatever ``__iter__`` yields: a further
    downstream of the api, such as a database of past evaluations, is one more attribute and one
    more name there. Executors are called by workers, whose signs of life tell of their circuits.

    Attributes:
        queue: publishing to the task queue server.
        records: the few words the legacy path has with that server, which must be quick.
        legacy: the legacy queue service.
    """

    def __init__(self, settings: Settings) -> None:
        policy = breaker_policy(settings)
        self.queue = CircuitBreaker("queue", BrokerUnavailable, TimeoutError, policy=policy)
        # Tried again in the background, which costs no client anything: so soon.
        soon = replace(policy, open_s=min(policy.open_s, RECORDS_OPEN_S))
        self.records = CircuitBreaker("records", BrokerUnavailable, policy=soon)
        self.legacy = CircuitBreaker("legacy", LegacyUnavailable, policy=policy)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter((self.queue, self.records, self.legacy))
