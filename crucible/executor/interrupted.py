"""A run that was cancelled, with what its program had come to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crucible.models import Outcome


class Interrupted(asyncio.CancelledError):
    """Whoever runs a program was cancelled while it ran; the program is killed.

    A cancellation like any other to those who know nothing of it. Whatever puts an asyncio task of
    its own between makes a plain one of it.

    Attributes:
        outcome: verdict ``cancelled``, and what had been written until then.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("a program was cancelled while it ran")
        self.outcome = outcome
