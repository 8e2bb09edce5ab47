"""Reservations on the task queue server: one hash of all holders, changed by whoever asks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError
from crucible.evaluation.leases import changed
from crucible.pipelines.resources import Amounts, Decision, Reservation, check_amounts, decide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

#: Seconds a reservation lasts, and between its renewals. Longer than a dead worker's message takes
#: to come back (15 s), so that its pipeline goes on with what it has.
TTL_S, RENEW_S = 30.0, 5.0
#: Seconds between two looks at whether resources are free.
_LOOK_S = 0.5

_decode = msgspec.msgpack.Decoder(Reservation).decode
_encode = msgspec.msgpack.Encoder().encode


class ReservationDesk:
    """Lends resources. Every method raises ``BrokerError`` if the server does not answer.

    Args:
        client: of the task queue server.
        keys: key names.
        capacities: of each resource how much there is.
    """

    def __init__(self, client: Redis, keys: Keys, capacities: Mapping[str, int]) -> None:
        self._client = client
        # The stubs of redis-py describe blocking and asynchronous answers at once.
        self._redis: Any = client
        self._key = keys.reservations
        self.capacities = capacities

    async def ask(self, holder: str, wanted: Amounts) -> Decision:
        """Get resources, renew the lease on them, or wait in line for them.

        Raises:
            InputError: they can never be had.
        """
        check_amounts(wanted, self.capacities)
        decisions: list[Decision] = []

        async def change(pipe: Any) -> Callable[[], None]:
            await pipe.watch(self._key)
            kept = {
                name.decode(): _decode(one) for name, one in (await pipe.hgetall(self._key)).items()
            }
            seconds, micros = await self._redis.time()  # one clock for all workers
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            made = decide(holder, wanted, kept, self.capacities, now_ms, round(TTL_S * 1000))
            decisions[:] = [made]

            def write() -> None:
                if made.lapsed:
                    pipe.hdel(self._key, *made.lapsed)
                pipe.hset(self._key, holder, _encode(made.reservation))

            return write

        await changed(self._client, change)
        return decisions[0]

    async def release(self, holder: str) -> None:
        """Give everything back, or leave the line; asking again is safe."""
        with translated():
            await self._redis.hdel(self._key, holder)

    async def held(self) -> dict[str, Reservation]:
        """Every reservation, lapsed ones as well."""
        with translated():
            found = await self._redis.hgetall(self._key)
        return {name.decode(): _decode(one) for name, one in found.items()}

    @asynccontextmanager
    async def keeping(self, holder: str, wanted: Amounts) -> AsyncIterator[None]:
        """Have the resources while the context is open; they stay reserved after it.

        What lapsed, because the message waited for long, is waited for again.
        """
        # Others announce nothing when they give back, or when their leases end.
        while not (await self.ask(holder, wanted)).reservation.granted:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        renewing = asyncio.create_task(self._renew(holder, wanted), name="crucible-reservation")
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _renew(self, holder: str, wanted: Amounts) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self.ask(holder, wanted)
            except BrokerError:
                continue  # several may fail before the lease ends
