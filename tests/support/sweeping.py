"""Sweepers that need not have seen the server for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.broker.claiming.recovery.continuity import Continuity
from crucible.broker.claiming.recovery.sweeper import Sweeper

if TYPE_CHECKING:
    from crucible.broker.claiming.recovery.restorer import Restorer
    from crucible.broker.redis.recovery_store import RecoveryStore
    from crucible.redis_keys import Keys


class _Seen(Continuity):
    """As after a lifetime without a gap."""

    def is_whole(self, now: float) -> bool:
        return True


def seasoned_sweeper(store: RecoveryStore, keys: Keys, restorer: Restorer) -> Sweeper:
    """A sweeper that has watched the server for as long as it must."""
    return Sweeper(store, keys, restorer, continuity=_Seen())
