"""The circuit breakers of a migration: one for each thing it depends on."""

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
    """The circuit breakers of a migration.

    ``/ready``, ``/metrics`` and ``migration status`` show whatever ``__iter__`` yields. Executors
    are called by workers, whose heartbeats carry the states of their circuits.

    Attributes:
        queue: publishing to the task queue server.
        records: reading and writing records there for the legacy queue, which must be fast.
        legacy: the legacy queue service.
    """

    def __init__(self, settings: Settings) -> None:
        policy = breaker_policy(settings)
        self.queue = CircuitBreaker("queue", BrokerUnavailable, TimeoutError, policy=policy)
        # The trial is made in the background and delays no client, so it comes early.
        early = replace(policy, open_s=min(policy.open_s, RECORDS_OPEN_S))
        self.records = CircuitBreaker("records", BrokerUnavailable, policy=early)
        self.legacy = CircuitBreaker("legacy", LegacyUnavailable, policy=policy)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter((self.queue, self.records, self.legacy))
