"""The way off the legacy queue: which side an evaluation goes to, and when a side is let alone.

Pure decisions; whoever dispatches does the I/O.
"""

from __future__ import annotations

from crucible.migration.breaker import BreakerPolicy, BreakerState, CircuitBreaker, Permit
from crucible.migration.routing import Decision, Mode, Side, Switches, decide, share_of
from crucible.migration.switches import parse_switches

__all__ = [
    "BreakerPolicy",
    "BreakerState",
    "CircuitBreaker",
    "Decision",
    "Mode",
    "Permit",
    "Side",
    "Switches",
    "decide",
    "parse_switches",
    "share_of",
]
