"""No message waits while a slot is free: what a worker holds ahead follows what runs now."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from support.turned_clock import run_turned

from crucible.broker.claiming.claims import Claim
from crucible.worker.consumer import Consumer
from crucible.worker.settlement_writer import SettlementWriter
from crucible.worker.slots import Slots
from crucible.worker.unsettled import UnsettledRuns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from crucible.broker.claiming.claims import Claims
    from crucible.worker.run import Run
    from crucible.worker.wakeup import WakeUp

#: Seconds a message may wait while a worker with a free slot starts nothing.
MOST_IDLE_S = 0.05
#: Seconds for one call of the queue server, and between two looks at everything.
ROUND_TRIP_S, LOOK_S = 0.0005, 0.001


class Queue:
    """A list shared by workers, and what became of each message in it."""

    def __init__(self) -> None:
        self.waiting: deque[Claim] = deque()
        self.started: dict[str, int] = {}
        self.order: list[str] = []
        self.bells: list[asyncio.Event] = []
        self.unstarted: dict[str, float] = {}
        self.returned = 0

    def put(self, durations: Sequence[float]) -> None:
        """Messages, each of a task that takes so many seconds."""
        for seconds in durations:
            field = f"m{len(self.unstarted) + len(self.started)}"
            self.unstarted[field] = asyncio.get_running_loop().time()
            self.waiting.appendleft(Claim(field, "q", 0, str(seconds).encode()))
        self.ring()

    def ring(self) -> None:
        for bell in self.bells:
            bell.set()


class Member:
    """One worker: a consumer, its slots, and its view of the list."""

    queues = ("q",)
    armed = True

    def __init__(self, number: int, queue: Queue, size: int) -> None:
        self.number, self.queue, self.busy_at = number, queue, 0.0
        self.changed = asyncio.Event()
        queue.bells.append(self.changed)
        clock = asyncio.get_running_loop().time
        self.slots, unsettled = Slots(size, clock), UnsettledRuns()
        ours = cast("Claims", self)
        writer = SettlementWriter(ours)
        self.consumer = Consumer(
            *(ours, self.slots, unsettled, writer, cast("WakeUp", self), lambda: False)
        )

    is_full = False

    async def take(self, limit: int, limit_when_full: int = 0) -> list[Claim]:
        await asyncio.sleep(ROUND_TRIP_S)
        waiting = self.queue.waiting
        return [waiting.pop() for _ in range(min(limit, len(waiting)))]

    async def requeue(self, claims: Sequence[Claim]) -> int:
        await asyncio.sleep(ROUND_TRIP_S)
        self.queue.returned += len(claims)
        self.queue.waiting.extend(reversed(claims))
        self.queue.ring()
        return len(claims)

    def clear(self) -> None:
        self.changed.clear()

    async def wait(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.changed.wait()
        except TimeoutError:
            pass

    async def process(self, run: Run) -> None:
        field, self.busy_at = run.claim.field, asyncio.get_running_loop().time()
        del self.queue.unstarted[field]
        self.queue.started[field] = self.number
        self.queue.order.append(field)
        await asyncio.sleep(float(run.claim.raw))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with self.slots.serving(self.process):
            consuming = asyncio.create_task(self.consumer.run(lambda: None))
            try:
                yield
            finally:
                consuming.cancel()
                await asyncio.wait([consuming])

    @property
    def has_free_slot(self) -> bool:
        return len(self.slots.running) < self.slots.size


async def watch(queue: Queue, fleet: Sequence[Member], seconds: float) -> None:
    """Look at everything for a while: how long do messages wait beside a slot that stays free?"""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        await asyncio.sleep(LOOK_S)
        now = loop.time()
        oldest = min(queue.unstarted.values(), default=now)
        for member in fleet:
            if len(member.slots.running) == member.slots.size:
                member.busy_at = now
            # Sums of the turned clock's steps are off in their last bits: to the nanosecond.
            idle_s = round(now - max(oldest, member.busy_at), 9)
            assert idle_s <= MOST_IDLE_S, (member.number, len(queue.waiting), queue.unstarted)


@asynccontextmanager
async def fleet_of(sizes: Sequence[int]) -> AsyncIterator[tuple[Queue, list[Member]]]:
    """Workers with so many slots each on one list."""
    queue = Queue()
    async with AsyncExitStack() as stack:
        fleet = [Member(number, queue, size) for number, size in enumerate(sizes)]
        for member in fleet:
            await stack.enter_async_context(member.serving())
        yield queue, fleet


def test_long_tasks_after_a_burst_of_short_ones_are_shared() -> None:
    """Sixteen tasks of 2 s for two workers of four slots are run 8 and 8, four each at once."""

    async def main() -> None:
        async with fleet_of([4, 4]) as (queue, fleet):
            queue.put([0.0002] * 4000)
            await watch(queue, fleet, 3)
            assert not queue.unstarted
            queue.put([2.0] * 16)
            await watch(queue, fleet, 1)
            long = [queue.started[field] for field in queue.order[4000:]]
            assert (long.count(0), long.count(1)) == (4, 4)
            await watch(queue, fleet, 4)
            long = [queue.started[field] for field in queue.order[4000:]]
            assert (long.count(0), long.count(1)) == (8, 8)

    run_turned(main())


def test_what_is_held_goes_back_when_tasks_turn_slow() -> None:
    """Short tasks with long ones behind them in one list: the held ones return in their order."""

    async def main() -> None:
        async with fleet_of([4]) as (queue, (member,)):
            queue.put([0.0002] * 2000 + [2.0] * 40)
            await watch(queue, [member], 1.9)
            assert queue.returned
            assert not member.slots.holds_waiting
            left = [claim.field for claim in reversed(queue.waiting)]
            assert queue.order + left == [f"m{number}" for number in range(2040)]

    run_turned(main())


arrivals = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.001, 0.005, 0.019, 0.05, 0.3]),  # seconds since the last ones
        st.lists(st.sampled_from([0.0002, 0.001, 0.004, 0.015, 0.03, 0.4]), min_size=1, max_size=3),
        st.integers(1, 60),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), arrivals)
def test_no_message_waits_beside_a_free_slot(
    sizes: list[int], pattern: list[tuple[float, list[float], int]]
) -> None:
    """Whatever arrives when, a message waits 50 ms at most while a slot is free anywhere."""

    async def main() -> None:
        async with fleet_of(sizes) as (queue, fleet):
            queue.put([0.0002] * 300)
            for pause_s, durations, times in pattern:
                await watch(queue, fleet, pause_s)
                queue.put(durations * times)
            await watch(queue, fleet, 1.0)

    run_turned(main())
