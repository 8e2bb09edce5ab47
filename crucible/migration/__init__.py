"""The way off the legacy queue.

Decisions without I/O: ``routing``, ``switches``, ``comparison``. Parts of an api
process: ``watch``, ``ledger``, ``shadow``, ``follower``, ``dual``, ``sample``. What operators'
commands do: ``state``, ``verify``, ``repair``, ``recover``, ``drain``, ``both_ways``, all on
``sides``.
"""

from __future__ import annotations

from crucible.migration.routing import Decision, Mode, Side, Switches, decide, share_of
from crucible.migration.switches import parse_switches

__all__ = [
    "Decision",
    "Mode",
    "Side",
    "Switches",
    "decide",
    "parse_switches",
    "share_of",
]
