"""What a Redis server does for the queue in one atomic operation each, as typed protocols.

==================  =================================================  ======================
protocol            operations                                         who calls it
==================  =================================================  ======================
``ClaimStore``      claim, settle_results, settle_message, delay,      ``claiming.claims``
                    requeue, renew
``RecoveryStore``   release_due, begin_sweep, restore, index_strays    ``claiming.delayed``,
                                                                       ``claiming.recovery``
``EffectStore``     settle_effects, count_chord_part                   ``claiming.effects_writer``,
                                                                       ``canvas.chord_parts``
==================  =================================================  ======================

``with_lua.store.LuaStore`` runs each as the script ``lua/<name>.lua``, whose head says what its
KEYS, ARGV and reply are; ``without_lua.store.TransactionStore`` does the same with WATCH and MULTI.
Callers ask for the narrowest protocol that has what they need, and need not know which it is.
The one script missing here, ``publish.lua``, is the group commit's (``publishing/lua_sender.py``).

Every operation raises ``BrokerUnavailable`` when there was no reply in time, so that it may have
run or not, and ``BrokerError`` when the server refused it.
"""

from __future__ import annotations

from typing import Protocol

from crucible.broker.redis.claim_store import ClaimStore
from crucible.broker.redis.effect_store import EffectStore
from crucible.broker.redis.recovery_store import RecoveryStore


class RedisStore(ClaimStore, RecoveryStore, EffectStore, Protocol):
    """All of it, as a worker and an operator need it."""
