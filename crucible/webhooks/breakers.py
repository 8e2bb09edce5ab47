"""A circuit breaker before each host that deliveries go to."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from yarl import URL

from crucible.breaker import BreakerState, CircuitBreaker

if TYPE_CHECKING:
    from crucible.breaker import BreakerPolicy, Circuit

#: Hosts that are remembered, and circuits that are reported: names of hosts are the tenants' own.
_REMEMBERED, _REPORTED = 1000, 20


class HostIll(Exception):  # noqa: N818 - a state of the host
    """An attempt that failed for its host's sake; never leaves the room."""


class HostBreakers:
    """Breakers by host and port.

    Args:
        policy: when they open and close.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._by_host: OrderedDict[str, CircuitBreaker] = OrderedDict()

    def of(self, url: str) -> CircuitBreaker:
        """The breaker of a URL's host."""
        target = URL(url)
        host = f"{target.host}:{target.port}"
        breaker = self._by_host.get(host)
        if breaker is None:
            # Receivers are their tenants' business, who see each attempt in the deliveries.
            breaker = CircuitBreaker(
                f"webhook {host}", HostIll, policy=self._policy, log_level=logging.DEBUG
            )
            self._by_host[host] = breaker
            if len(self._by_host) > _REMEMBERED:
                self._by_host.popitem(last=False)
        self._by_host.move_to_end(host)
        return breaker

    def circuits(self) -> dict[str, Circuit]:
        """The circuits that have ever opened, by name: the latest called, and few of them."""
        opened = [one for one in reversed(self._by_host.values()) if one.opened_total]
        worst_first = sorted(opened, key=lambda one: one.state is BreakerState.CLOSED)
        return {one.name: one.circuit for one in worst_first[:_REPORTED]}
