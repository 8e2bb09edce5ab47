"""The battle: load, faults and a ledger that tells what was lost. See ``docs/chaos.md``."""

from __future__ import annotations
