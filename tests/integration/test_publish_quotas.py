"""Quotas of publications: kept by the server, in one step with the push, on its clock."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from support.servers import KINDS, KindOfServer

from crucible.broker import IdempotencyRecord, Publisher
from crucible.broker.publishing.quota import InFlight, Quota, Rate
from crucible.errors import NothingStored, QueueFull, QuotaExceeded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from crucible.broker.publishing.group_commit import PublishResult
    from crucible.embedded.server import EmbeddedServer

#: Microseconds between two messages in tests that must not see one freed: ten minutes.
SLOW_US = 600e6
_numbers = itertools.count()


@pytest_asyncio.fixture(params=list(KINDS))
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A server of each kind that the project supports."""
    async with KindOfServer(tmp_path, request.param) as server:
        yield server


async def published(
    publisher: Publisher, quota: Quota | None, name: str = "", queue: str = "q"
) -> PublishResult:
    """One message; one without a name is a new one."""
    name = name or f"n{next(_numbers)}"
    record = IdempotencyRecord(f"record:{name}", b"first", 600)
    return await publisher.add(b"{}", queue, None, record, quota)


async def flush(publisher: Publisher, *quotas: Quota | None) -> Sequence[PublishResult]:
    """Messages that are sent together, each within its quota."""
    return await asyncio.gather(*(published(publisher, quota) for quota in quotas))


async def test_a_burst_and_not_one_more(server: EmbeddedServer) -> None:
    """In one flush and over several; each result says what is left."""
    quota = Quota((Rate("rate", SLOW_US, 5),))
    async with Publisher.connect(server.url) as publisher, Redis.from_url(server.url) as redis:
        first = await flush(publisher, quota, quota)
        assert [one.pushed for one in first] == [1, 1]
        assert all(one.quota is not None and one.quota.remaining == 3 for one in first)
        rest = await flush(publisher, *[quota] * 8)
        assert [one.pushed for one in rest] == [1, 1, 1, 0, 0, 0, 0, 0]
        error = rest[-1].error
        assert isinstance(error, QuotaExceeded)
        assert 590 < error.retry_after_s <= 600
        assert 2990 < error.reset_s <= 3000
        assert await redis.llen("q") == 5
        assert 0 < await redis.pttl("rate") <= 3_000_001
        # What is refused leaves nothing behind.
        assert len(await redis.keys("record:*")) == 5


async def test_what_is_free_again_may_be_used(server: EmbeddedServer) -> None:
    """A rate goes on at its interval, and is free after a pause."""
    quota = Quota((Rate("rate", 20_000.0, 2),))
    async with Publisher.connect(server.url) as publisher:
        results = await flush(publisher, quota, quota, quota)
        assert [one.pushed for one in results] == [1, 1, 0]
        error = results[-1].error
        assert isinstance(error, QuotaExceeded)
        await asyncio.sleep(error.retry_after_s)
        assert (await published(publisher, quota)).pushed == 1


async def test_keys_share_the_rate_of_their_tenant(server: EmbeddedServer) -> None:
    """In one flush as well; who has no quota is not touched by it."""
    common = Rate("tenant", SLOW_US, 3)
    one = Quota((Rate("one", SLOW_US, 2), common))
    two = Quota((Rate("two", SLOW_US, 2), common))
    async with Publisher.connect(server.url) as publisher:
        results = await flush(publisher, one, two, None, one, two, None, one)
        assert sum(result.pushed for result in results) == 2 + 3
        assert all(results[place].pushed for place in (2, 5))


async def test_a_repetition_costs_nothing(server: EmbeddedServer) -> None:
    """It finds the first one, also where nothing is left."""
    quota = Quota((Rate("rate", SLOW_US, 1),), InFlight("flight", 1, 600))
    async with Publisher.connect(server.url) as publisher:
        assert (await published(publisher, quota, "once")).pushed == 1
        again = await published(publisher, quota, "once")
        assert (again.pushed, again.existing, again.error) == (0, b"first", None)
        assert isinstance((await published(publisher, quota)).error, QuotaExceeded)


async def test_a_full_queue_costs_nothing(server: EmbeddedServer) -> None:
    """What the queue has no room for is not taken off the rate."""
    quota = Quota((Rate("rate", SLOW_US, 2),))
    async with Publisher.connect(server.url, queue_limit=1) as publisher:
        assert (await published(publisher, quota)).pushed == 1
        assert isinstance((await published(publisher, quota)).error, QueueFull)
        assert (await published(publisher, quota, queue="other")).pushed == 1


async def test_what_is_in_flight_is_bounded(server: EmbeddedServer) -> None:
    """By records in a set, whoever removes them; each is forgotten after its time."""
    quota = Quota((), InFlight("flight", 2, 600))
    async with Publisher.connect(server.url) as publisher, Redis.from_url(server.url) as redis:
        results = await flush(publisher, quota, quota, quota)
        assert [one.pushed for one in results] == [1, 1, 0]
        error = results[-1].error
        assert isinstance(error, QuotaExceeded)
        assert error.in_flight
        members: list[Any] = await redis.zrange("flight", 0, -1)
        oldest = members[0]
        assert oldest.startswith(b"record:")
        seconds, _micros = await redis.time()
        score = await redis.zscore("flight", oldest)
        assert score is not None
        assert abs(score - seconds - 600) <= 2
        assert 0 < await redis.ttl("flight") <= 600
        await redis.zrem("flight", oldest)
        assert (await published(publisher, quota)).pushed == 1
        # One that nobody removed.
        await redis.zadd("flight", {"record:lost": 1})
        await redis.zremrangebyrank("flight", 1, 1)
        assert (await published(publisher, Quota((), InFlight("flight", 9, 600)))).pushed == 1
        assert await redis.zscore("flight", "record:lost") is None


async def test_spoilt_counters_stop_nobody(server: EmbeddedServer) -> None:
    """A key of another type is a rate that is free, and fails no neighbour."""
    quota = Quota((Rate("rate", SLOW_US, 2),), InFlight("flight", 2, 600))
    async with Publisher.connect(server.url) as publisher, Redis.from_url(server.url) as redis:
        await redis.lpush("rate", "x")
        await redis.set("flight", "x")
        results = await flush(publisher, quota, None)
        assert [one.pushed for one in results] == [1, 1]


async def test_a_clock_that_was_put_back_blocks_nobody_for_long(server: EmbeddedServer) -> None:
    """Of a rate no more can be used than its burst, whatever its key says."""
    quota = Quota((Rate("rate", SLOW_US, 2),))
    async with Publisher.connect(server.url) as publisher, Redis.from_url(server.url) as redis:
        await redis.set("rate", 9e15)
        error = (await published(publisher, quota)).error
        assert isinstance(error, QuotaExceeded)
        assert error.reset_s <= 1200
        await redis.set("rate", 0)
        assert (await published(publisher, quota)).pushed == 1


async def test_without_scripts_quotas_are_refused(redis_url: str) -> None:
    """Rates of each process by itself would be no rates."""
    async with Publisher.connect(redis_url, scripting=False) as publisher:
        with pytest.raises(NothingStored, match="scripts"):
            await published(publisher, Quota((Rate("rate", 1.0, 1),)))


class Model:
    """The algorithm as it is described, on a clock that is handed in; microseconds."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._free_from = 0.0

    def allows(self, now: float) -> bool:
        """Whether one message may be sent now; it then is."""
        after = max(self._free_from, now) + self._rate.interval_us
        if after - now > self._rate.capacity_us + 0.01:
            return False
        self._free_from = after
        return True


async def micros_of(redis: Any) -> float:
    """The server's clock."""
    seconds, micros = await redis.time()
    return float(seconds * 1_000_000 + micros)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.floats(50, 20_000),
    st.integers(1, 40),
    st.lists(st.tuples(st.integers(1, 60), st.floats(0, 0.02)), min_size=1, max_size=8),
)
def test_the_script_is_the_algorithm(
    redis_server: EmbeddedServer,
    interval_us: float,
    burst: int,
    flushes: list[tuple[int, float]],
) -> None:
    """Whatever is sent when, as much is allowed as the model allows, as far as the time of a flush
    is known: the server's time before and after it.
    """

    async def run() -> None:
        rate = Rate(f"rate:{next(_numbers)}", interval_us, burst)
        quota, model = Quota((rate,)), Model(rate)
        allowed = expected = 0
        doubt = 0.0
        async with (
            Publisher.connect(redis_server.url) as publisher,
            Redis.from_url(redis_server.url) as redis,
        ):
            began = await micros_of(redis)
            for count, pause_s in flushes:
                before = await micros_of(redis)
                results = await flush(publisher, *[quota] * count)
                allowed += sum(one.pushed for one in results)
                # First come, first served: after one refusal none of the flush is allowed.
                pushed = [one.pushed for one in results]
                assert pushed == sorted(pushed, reverse=True)
                assert pushed[0] or results[0].error
                after = await micros_of(redis)
                assert allowed <= burst + (after - began) / interval_us + 1e-6
                expected += sum(model.allows(before) for _ in range(count))
                doubt += (after - before) / interval_us + 1
                assert abs(allowed - expected) <= doubt
                await asyncio.sleep(pause_s)

    asyncio.run(run())


@settings(max_examples=200, deadline=None)
@given(
    st.floats(1, 1e6),
    st.integers(1, 50),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
)
def test_the_model_never_exceeds_its_rate(
    interval_us: float, burst: int, pauses_us: list[float]
) -> None:
    """In any span of time there are no more than the burst and what the rate adds to it."""
    model, now, sent = Model(Rate("", interval_us, burst)), 0.0, []
    for pause_us in pauses_us:
        now += pause_us
        if model.allows(now):
            sent.append(now)
    for start in range(len(sent)):
        for end in range(start, len(sent)):
            span = sent[end] - sent[start]
            assert end - start + 1 <= burst + span / interval_us + 0.1


async def test_a_push_that_fails_leaves_nothing_behind(server: EmbeddedServer) -> None:
    """No record, no charge, and a repetition in the same flush does not find the lost one."""
    quota = Quota((Rate("rate", SLOW_US, 5),), InFlight("flying", 5, 600))
    async with Publisher.connect(server.url) as publisher, Redis.from_url(server.url) as redis:
        await redis.set("spoilt", "x")
        lost = await asyncio.gather(
            *(published(publisher, quota, name, "spoilt") for name in ("a", "b", "a"))
        )
        assert [one.pushed for one in lost] == [0, 0, 0]
        assert all(one.error is not None and one.existing is None for one in lost)
        assert not await redis.exists("record:a", "record:b", "flying")
        found = await flush(publisher, *[quota] * 6)
        assert [one.pushed for one in found] == [1] * 5 + [0]
        assert await redis.zcard("flying") == 5
