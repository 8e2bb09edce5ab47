"""The chaos test: load, injected faults, and a ledger that shows losses. See ``docs/chaos.md``."""

from __future__ import annotations
