"""The circuit breakers of a router: one for each thing it depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.errors import BrokerUnavailable, LegacyUnavailable
from crucible.migration.breaker import BreakerPolicy, CircuitBreaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.settings import Settings


class Breakers:
    """The circuit breakers of a router.

    Attributes:
        queue: publishing to the task queue server.
        records: the few words the legacy path has with that server, which must be quick.
        legacy: the legacy queue service.
    """

    def __init__(self, settings: Settings) -> None:
        policy = BreakerPolicy(
            failures=settings.breaker_failures,
            open_s=settings.breaker_open_s,
            trials=settings.breaker_trials,
        )
        self.queue = CircuitBreaker("queue", BrokerUnavailable, TimeoutError, policy=policy)
        self.records = CircuitBreaker("records", BrokerUnavailable, policy=policy)
        self.legacy = CircuitBreaker("legacy", LegacyUnavailable, policy=policy)

    def __iter__(self) -> Iterator[CircuitBreaker]:
        return iter((self.queue, self.records, self.legacy))
