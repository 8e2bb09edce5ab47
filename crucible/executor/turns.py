"""Taking turns: whose program is next when several tenants wait. Pure.

The tenant that has fewest of what is handed out comes first, and among equals the one that was
served longest ago, so that ten thousand programs of one do not make another's one wait.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Turns:
    """Who was served when, and what that means for who is next."""

    def __init__(self) -> None:
        self._clock = itertools.count(1)
        self._served: dict[str, int] = {}

    def serve(self, tenant: str) -> None:
        """A tenant got a lane."""
        self._served[tenant] = next(self._clock)

    def next_tenant(self, waiting: Collection[str], held: Mapping[str, int]) -> str:
        """Whose program is next, of those that wait; at least one has to.

        Args:
            waiting: tenants with waiting programs.
            held: lanes of each tenant.
        """
        return min(waiting, key=lambda t: (held.get(t, 0), self._served.get(t, 0), t))

    def forget(self, known: Collection[str]) -> None:
        """Forget tenants that have neither lanes nor programs."""
        self._served = {t: at for t, at in self._served.items() if t in known}
