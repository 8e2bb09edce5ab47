"""The way off the legacy queue.

Decisions without I/O: ``routing``, ``switches``, ``breaker``, ``comparison``. Parts of an api
process: ``watch``, ``ledger``, ``shadow``, ``follower``, ``dual``, ``sample``. What operators'
commands do: ``state``, ``verify``, ``repair``, ``recover``, ``drain``, ``both_ways``, all on
``sides``.
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
