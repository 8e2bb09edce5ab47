"""A logical clock: orders what processes say to each other without comparing their watches.

Source: kombu ``clocks.py``. Every event, request and reply carries a count; a receiver goes
on from the larger of the two.
"""

from __future__ import annotations


class LamportClock:
    """Counts what this process said and heard.

    Attributes:
        value: the count now.
    """

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def forward(self) -> int:
        """Count something said; returns the count to send with it."""
        self.value += 1
        return self.value

    def adjust(self, other: object) -> int:
        """Count something heard that carried ``other``; what is no count is taken as zero."""
        heard = other if type(other) is int else 0
        self.value = max(self.value, heard) + 1
        return self.value
