"""What historians report of themselves on the event bus, for the api to show."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.breaker import BreakerState, Circuit
from crucible.broker.redis.translation import translated
from crucible.redis_keys import HISTORIANS_TTL_S

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

#: Name of the database's circuit.
HISTORY = "history"
#: Seconds between two reports, after which one counts as dead, and after which it is removed.
REPORT_S, DEAD_S, _REMOVED_S = 2.0, 10.0, 60.0


class HistorianState(msgspec.Struct, frozen=True, kw_only=True):
    """One historian.

    Attributes:
        at_s: when it reported, seconds since the epoch.
        lag_s: age of the oldest event that no historian has written; 0 where there is none.
        written: events it has written since it started.
        refused: events the database refused.
        gaps: how often events were lost before a historian could read them.
        circuit: of the database.
        trouble: why it does not write; empty where it does.
        host: name of its machine or container.
    """

    at_s: float
    lag_s: float = 0.0
    written: int = 0
    refused: int = 0
    gaps: int = 0
    circuit: Circuit = Circuit(BreakerState.CLOSED)
    trouble: str = ""
    host: str = ""


async def report(client: Redis, keys: Keys, name: str, state: HistorianState) -> None:
    """Store the state of one, and remove those that are long dead.

    Raises:
        BrokerError: the bus does not answer.
    """
    with translated():
        stored: Any = await client.hgetall(keys.historians)
        dead = [one for one, value in stored.items() if _age_s(value) > _REMOVED_S]
        async with client.pipeline(transaction=True) as pipe:
            pipe.hset(keys.historians, name, msgspec.json.encode(state))
            if dead:
                pipe.hdel(keys.historians, *dead)
            pipe.expire(keys.historians, HISTORIANS_TTL_S)
            await pipe.execute()


async def withdraw(client: Redis, keys: Keys, name: str) -> None:
    """Remove the state of one that stops.

    Raises:
        BrokerError: the bus does not answer.
    """
    with translated():
        await client.hdel(keys.historians, name)


async def read_states(client: Redis, keys: Keys) -> list[HistorianState]:
    """The historians that live.

    Raises:
        BrokerError: the bus does not answer.
    """
    with translated():
        stored: Any = await client.hgetall(keys.historians)
    states = [state for value in stored.values() if (state := _decode(value)) is not None]
    return [state for state in states if time.time() - state.at_s <= DEAD_S]


def _decode(value: bytes) -> HistorianState | None:
    try:
        return msgspec.json.decode(value, type=HistorianState)
    except msgspec.DecodeError:
        return None


def _age_s(value: bytes) -> float:
    state = _decode(value)
    return _REMOVED_S + 1 if state is None else time.time() - state.at_s
