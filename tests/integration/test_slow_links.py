"""A link that is slow is not taken for one that is dead, and neither costs a claim or a result."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from crucible.broker.claiming.claims import Claim, Claims, Settlement, new_worker_id
from crucible.broker.redis import deadline as deadlines
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.deadline import LARGE_BYTES, REPLY_TIMEOUT_S, Deadline, Pace, bounded
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.wire.encode import encode_task
from crucible.errors import BrokerUnavailable
from crucible.worker.settlement_writer import SettlementWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Sequence

    from redis.asyncio import Redis

    from crucible.broker.redis.claim_store import Claimed

MIB = 1024 * 1024


@pytest.fixture
async def steps(redis_url: str) -> AsyncIterator[LuaStore]:
    async with open_client(redis_url) as client:
        yield LuaStore(client)


async def test_large_messages_are_claimed_a_few_at_once(redis: Redis, steps: LuaStore) -> None:
    """One claim brings about a megabyte; what it leaves keeps its place and its bytes."""
    sent = [encode_task("t.x", ["x" * 150_000], task_id=f"a{number}") for number in range(30)]
    for raw in sent:
        await redis.lpush("celery", raw)
    claims = Claims(steps, new_worker_id(), ["celery"])
    taken: list[bytes] = []
    while len(taken) < len(sent):
        got = [claim.raw for claim in await claims.take(30)]
        assert sum(map(len, got[:-1])) < MIB
        taken += got
        assert await redis.llen("celery") == len(sent) - len(taken)
    assert taken == sent
    assert await redis.hlen("unacked") == len(sent)


async def test_small_messages_come_all_at_once(redis: Redis, steps: LuaStore) -> None:
    """Also those behind the first hundred, of several lists, in their order."""
    sent = [encode_task("t.x", task_id=f"a{number}", queue="q") for number in range(260)]
    for raw in sent:
        await redis.lpush("q", raw)
    await redis.lpush("p", sent[0])
    claims = Claims(steps, new_worker_id(), ["p", "q"])
    assert [claim.raw for claim in await claims.take(250)] == [sent[0], *sent[:249]]
    assert [claim.raw for claim in await claims.take(250)] == sent[249:]


async def test_a_message_larger_than_the_bound_is_claimed(redis: Redis, steps: LuaStore) -> None:
    """Alone, and with nothing after it."""
    big = encode_task("t.x", ["x" * 2 * MIB], task_id="big")
    await redis.lpush("celery", big, encode_task("t.x", task_id="small"))
    claims = Claims(steps, new_worker_id(), ["celery"])
    assert [claim.raw for claim in await claims.take(10)] == [big]
    assert len(await claims.take(10)) == 1


async def test_garbage_is_buried_no_faster_than_messages_are_claimed(
    redis: Redis, steps: LuaStore
) -> None:
    """A claim looks at no more messages than it asked for: the server waits meanwhile."""
    await redis.lpush("celery", *["garbage"] * 300)
    claims = Claims(steps, new_worker_id(), ["celery"])
    assert await claims.take(120) == []
    assert (await redis.xlen("crucible:dlq"), await redis.llen("celery")) == (120, 180)


class LosingStore(LuaStore):
    """A store whose replies are lost on the way while ``lost`` is set."""

    def __init__(self, client: Redis) -> None:
        super().__init__(client)
        self.lost = False
        self.asked: list[str] = []

    async def claim(self, *args: Any, **options: Any) -> Claimed:
        claimed: Claimed = await self._asked("claim", super().claim(*args, **options))
        return claimed

    async def command(self, *command: Any, long_reply: bool = False) -> Any:
        return await self._asked(command[0], super().command(*command, long_reply=long_reply))

    async def _asked(self, name: str, call: Awaitable[Any]) -> Any:
        self.asked.append(name)
        reply = await call
        if self.lost:
            raise BrokerUnavailable("lost")
        return reply


async def test_nothing_is_claimed_while_a_claim_is_in_doubt(redis: Redis, redis_url: str) -> None:
    """Else each lost reply would leave more claims that nobody knows of."""
    for number in range(9):
        await redis.lpush("celery", encode_task("t.x", task_id=f"a{number}"))
    async with open_client(redis_url) as client:
        store = LosingStore(client)
        claims = Claims(store, new_worker_id(), ["celery"])
        store.lost = True
        for _ in range(3):
            with pytest.raises(BrokerUnavailable):
                await claims.take(4)
        assert store.asked == ["claim", "HMGET", "HMGET"]
        assert await redis.hlen("unacked") == 4
        store.lost = False
        assert len(await claims.take(4)) == 4
        assert await redis.hlen("unacked") == 4
        assert len(await claims.take(5)) == 5


async def test_a_large_step_has_more_time(redis_url: str) -> None:
    """By its bytes, and more of it once one did not end in time."""
    pace = Pace()
    loop = asyncio.get_running_loop()
    async with open_client(redis_url) as client:
        async with bounded(client, pace) as step:
            assert not step.is_large

        async def miss() -> None:
            async with bounded(client, pace) as step:
                step.sending(LARGE_BYTES + 1)
                raise TimeoutError

        with pytest.raises(BrokerUnavailable):
            await miss()
    assert pace.seconds(0) == REPLY_TIMEOUT_S
    slower = pace.seconds(5 * MIB)
    assert slower > 2 * Pace().seconds(5 * MIB) - 2 * REPLY_TIMEOUT_S
    async with asyncio.timeout(REPLY_TIMEOUT_S) as timeout:
        Deadline(timeout, pace, long_reply=False).sending(5 * MIB)
        assert (timeout.when() or 0.0) > loop.time() + 20.0
    pace.met()
    assert pace.seconds(5 * MIB) < slower


@pytest.mark.parametrize(("pause_s", "comes"), [(0.1, True), (60.0, False)])
async def test_a_long_reply_may_take_as_long_as_it_arrives(
    monkeypatch: pytest.MonkeyPatch, pause_s: float, comes: bool
) -> None:
    """Twice the deadline here; one that stops arriving is given up."""
    monkeypatch.setattr(deadlines, "REPLY_TIMEOUT_S", 1.5)
    gone = asyncio.Event()
    answer = b"$30\r\n" + b"x" * 30 + b"\r\n"

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while command := await reader.read(65536):
                if b"GET" not in command:
                    writer.write(b"+OK\r\n" * command.count(b"*"))
                    continue
                for byte in answer:
                    writer.write(bytes([byte]))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(pause_s):
                            await gone.wait()
        finally:
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_client(f"redis://127.0.0.1:{port}") as client:
        steps = LuaStore(client)
        if comes:
            assert await steps.command("GET", "a", long_reply=True) == b"x" * 30
        with pytest.raises(BrokerUnavailable):
            await steps.command("GET", "a", long_reply=not comes)
        gone.set()


class Slow:
    """Claims that end no more bytes at once than a slow link brings over in time."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.flushes: list[int] = []

    async def settle(self, settlements: Sequence[Settlement]) -> int:
        self.flushes.append(len(settlements))
        if sum(len(settlement.meta) for settlement in settlements) > self.most_bytes:
            raise BrokerUnavailable("too slow")
        return len(settlements)


async def flush(slow: Slow, sizes: Sequence[int]) -> list[int]:
    """Sizes of the results in the order they were written."""
    written: list[int] = []
    claims: Any = slow
    writer = SettlementWriter(
        claims, lambda settlements: written.extend(len(s.meta) for s in settlements)
    )
    for size in sizes:
        writer.put(Settlement(Claim("f", "q", 0, b""), "k", b"x" * size))
    running = asyncio.create_task(writer.run(lambda: None))
    async with asyncio.timeout(30.0):
        await writer.flushed()
    running.cancel()
    await asyncio.wait([running])
    return written


async def test_a_flush_has_a_bound_in_bytes() -> None:
    """A result larger than that goes alone, and in its turn."""
    sizes = [400_000] * 5 + [3 * MIB, 10, 20]
    slow = Slow(10 * MIB)
    assert await flush(slow, sizes) == sizes
    assert slow.flushes == [2, 2, 1, 1, 2]


async def test_what_is_too_much_at_once_is_written_in_parts() -> None:
    """Half of it after each attempt that was too slow, until it gets through."""
    sizes = [100_000] * 8
    slow = Slow(250_000)
    assert await flush(slow, sizes) == sizes
    assert slow.flushes == [8, 4, 2, 2, 4, 2, 2]
